"""What happens to a request: the manual."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.errors import Reason, RouteNotFound, Terminated
from authz.policy import possession
from authz.policy.headers import OPEN_ROUTE
from authz.policy.resource_metadata import host_of

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.authentication import Authentication
    from authz.decision import Allow, Wording
    from authz.kong.router import Router
    from authz.model import Consumer, Credential, Identity, Match, OpenIDConnect, Request
    from authz.policy.authorization import Authorization
    from authz.policy.consumers import Consumers
    from authz.policy.headers import UpstreamHeaders
    from authz.policy.resource_metadata import ResourceMetadata


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """What one plugin asks for, built.  Plugins of equal parameters share one."""

    config: OpenIDConnect
    authentication: Authentication
    consumers: Consumers
    authorization: Authorization
    headers: UpstreamHeaders
    wording: Wording
    metadata: ResourceMetadata | None

    def exempts(self, request: Request) -> bool:
        """Whether a preflight passes unasked (Kong's ``run_on_preflight: false``)."""
        return request.method == "OPTIONS" and not self.config.callers.run_on_preflight


@dataclass(slots=True)
class Trace:
    """What is known of a request so far: for the log, and for what is remembered."""

    request: Request
    match: Match | None = None
    policy: Policy | None = None
    presented: Credential | None = None
    identity: Identity | None = None
    consumer: Consumer | None = None


class Pipeline:
    """The way from a request to its answer."""

    def __init__(self, router: Router, metadata: Iterable[ResourceMetadata] = ()) -> None:
        """``metadata``: of every plugin that has some, in the order of the file."""
        self._router = router
        self._metadata = {
            (one.host, path): one for one in reversed(tuple(metadata)) for path in one.paths
        }

    async def decide(self, trace: Trace) -> Allow:
        """Return the answer that lets a request pass; every other end is a Refusal."""
        trace.match = match = self._match(trace.request)
        trace.policy = match.policy
        allow = await self._admit(trace.request, trace.policy, trace)
        # Kong runs request-termination after openid-connect (priorities 2 and 1050).
        if match.termination is not None:
            raise Terminated(match.termination)
        return allow

    def _match(self, request: Request) -> Match:
        try:
            return self._router.match(request)
        except RouteNotFound as error:
            # RFC 9728 puts the metadata beside the resource, where its route need not reach.
            path = request.path.partition("?")[0]
            metadata = self._metadata.get((host_of(request), path)) if self._metadata else None
            answer = None if metadata is None else metadata.answer(request)
            if answer is None or error.reason != Reason.ROUTE_UNMATCHED:
                raise
            raise answer from None

    async def _admit(self, request: Request, policy: Policy | None, trace: Trace) -> Allow:
        """Return what the upstream is told of a caller that may pass."""
        if policy is None:
            return OPEN_ROUTE.nobody(request)
        if policy.exempts(request):
            return policy.headers.nobody(request)
        if policy.metadata is not None and (answer := policy.metadata.answer(request)):
            raise answer
        policy.headers.examine(request)
        trace.presented = presented = policy.authentication.presented(request)
        trace.identity = identity = await policy.authentication.authenticate(presented, request)
        possession.check(identity, presented)
        trace.consumer = consumer = policy.consumers.find(identity.claims)
        policy.authorization.check(identity.claims)
        return policy.headers.announce(request, identity, consumer, presented)
