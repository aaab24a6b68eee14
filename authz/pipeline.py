"""What happens to a request: the manual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz import credentials
from authz.errors import Reason, Unauthenticated
from authz.policy.headers import OPEN_ROUTE

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.cache.names import FamiliarNames
    from authz.decision import Allow, Wording
    from authz.kong.router import Router
    from authz.methods.base import Method
    from authz.model import (
        AccessToken,
        Claims,
        Consumer,
        Credential,
        Match,
        Plugin,
        Request,
        SourcePosition,
    )
    from authz.oauth.provider import Provider
    from authz.policy.authorization import Authorization
    from authz.policy.consumers import Consumers
    from authz.policy.headers import UpstreamHeaders


@dataclass(frozen=True, slots=True)
class Policy:
    """One plugin, built: everything that its parameters ask for."""

    plugin: Plugin
    provider: Provider
    methods: tuple[Method, ...]
    consumers: Consumers
    authorization: Authorization
    headers: UpstreamHeaders
    familiar: FamiliarNames
    wording: Wording

    def exempts(self, request: Request) -> bool:
        """Whether a preflight passes unasked (Kong's ``run_on_preflight: false``)."""
        return request.method == "OPTIONS" and not self.plugin.config.callers.run_on_preflight

    def credential(self, request: Request) -> tuple[Method, Credential]:
        """Return the one credential of the request and the method that it is for."""
        if not self.methods:
            raise Unauthenticated(
                Reason.METHODS_FOR_BROWSERS, "auth_methods names only what browsers use"
            )
        positions = credentials.Places(request)
        found = [(m, c) for m in self.methods if (c := m.extract(positions)) is not None]
        presented = credentials.only(found)
        if presented is None:
            raise credentials.missing(request)
        return presented


@dataclass(slots=True)
class Trace:
    """What is known of a request so far: for the log, and for what is remembered."""

    request: Request
    match: Match | None = None
    policy: Policy | None = None
    method: Method | None = None
    token: AccessToken | None = None
    claims: Claims | None = None
    consumer: Consumer | None = None


class Pipeline:
    """The way from a request to its answer."""

    def __init__(self, router: Router, policies: Mapping[SourcePosition, Policy]) -> None:
        self._router = router
        self._policies = policies

    async def decide(self, trace: Trace) -> Allow:
        """Return the answer that lets a request pass; every other end is a Refusal."""
        request = trace.request
        trace.match = self._router.match(request)
        if trace.match.plugin is None:
            return OPEN_ROUTE.nobody(request)
        trace.policy = policy = self._policies[trace.match.plugin.position]
        if policy.exempts(request):
            return policy.headers.nobody(request)
        policy.headers.examine(request)
        trace.method, credential = policy.credential(request)
        trace.token = await trace.method.obtain(credential)
        trace.claims = await trace.method.verify(trace.token, credential)
        trace.consumer = policy.consumers.find(trace.claims)
        policy.authorization.check(trace.claims)
        return policy.headers.upstream(
            request, trace.token, trace.claims, trace.consumer, credential
        )
