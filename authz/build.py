"""From a checked file to a configuration that answers: everything is made once, here, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from authz.authorizer import Authorizer, FastPath, FastPathKey
from authz.cache.names import FamiliarNames
from authz.decision import Wording
from authz.errors import ConfigurationError
from authz.kong.router import Router
from authz.methods import METHODS
from authz.methods.base import MethodContext
from authz.model import Diagnostic
from authz.oauth.issuers import UndecidedKeysError
from authz.oauth.verifier import TokenVerifier
from authz.pipeline import Pipeline, Policy
from authz.policy.authorization import Authorization
from authz.policy.consumers import ConsumerDirectory, Consumers
from authz.policy.headers import UpstreamHeaders

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from authz.cache.digest import Digester
    from authz.model import Gateway, Plugin, SourcePosition
    from authz.oauth.provider import Provider, ProviderStatus
    from authz.runtime import Lease, Shared


class Configuration:
    """One configuration, built: what answers, and the providers that it asks.

    It holds its providers until it is retired and the last of its calls has ended.
    """

    def __init__(self, gateway: Gateway, authorizer: Authorizer, lease: Lease) -> None:
        self.gateway = gateway
        self.authorizer = authorizer
        self._lease = lease
        self._calls = 0
        self._retired = False

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Every identity provider that one of the plugins names, once."""
        return self._lease.providers

    def start(self) -> None:
        """Ask every provider for its keys, in the background.

        Keys that are held already serve until the new ones are there, and count no more
        from then on.
        """
        for provider in self.providers:
            provider.start()

    @property
    def ready(self) -> bool:
        """Whether keys have been seen once for at least one issuer, or none are needed."""
        return not self.providers or any(p.seen_keys.is_set() for p in self.providers)

    async def wait_ready(self) -> None:
        """Return as soon as the configuration is ready."""
        if self.ready:
            return
        waits = [asyncio.ensure_future(p.seen_keys.wait()) for p in self.providers]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def status(self) -> Sequence[ProviderStatus]:
        """Return how each provider is doing."""
        return [provider.status() for provider in self.providers]

    async def check(self, wire: bytes, deadline: float | None) -> bytes:
        """Answer a CheckRequest; see :meth:`Authorizer.check`."""
        self._calls += 1
        try:
            return await self.authorizer.check(wire, deadline)
        finally:
            self._calls -= 1
            self._end_if_unused()

    def retire(self) -> None:
        """Take no further call; give the providers back when the last one has ended."""
        self._retired = True
        self._end_if_unused()

    def _end_if_unused(self) -> None:
        if self._retired and not self._calls:
            self._lease.end()


def build(gateway: Gateway, shared: Shared) -> Configuration:
    """Build a configuration, and check all of it: whether a file is good is whether this succeeds.

    It asks nobody: :meth:`Configuration.start` begins that.  Raises
    ``ConfigurationError``, and then leaves nothing behind.
    """
    lease = shared.lease()
    try:
        return Configuration(gateway, _authorizer(gateway, shared, lease), lease)
    except BaseException:
        lease.end()
        raise


def _authorizer(gateway: Gateway, shared: Shared, lease: Lease) -> Authorizer:
    router = Router(gateway)
    directory = ConsumerDirectory(gateway.consumers)
    policies = {
        plugin.position: _policy(plugin, directory, _resources(plugin, shared, lease))
        for plugin in gateway.plugins
    }
    return Authorizer(
        Pipeline(router, policies),
        fast_paths=_fast_paths(gateway, router, policies, shared.digest),
        answers=lease.answers,
        clock=shared.clock,
        telemetry=shared.telemetry,
        log_allowed=shared.settings.log_decisions == "all",
        log_denied=shared.settings.log_decisions != "none",
    )


def _policy(plugin: Plugin, directory: ConsumerDirectory, resources: MethodContext) -> Policy:
    config = plugin.config
    headers = UpstreamHeaders(config)
    return Policy(
        plugin=plugin,
        provider=resources.provider,
        methods=tuple(m(resources) for m in METHODS if m.name in config.callers.auth_methods),
        consumers=Consumers(config, directory),
        authorization=Authorization(config),
        headers=headers,
        familiar=FamiliarNames(headers.decided_by),
        wording=Wording.of(config),
    )


def _resources(plugin: Plugin, shared: Shared, lease: Lease) -> MethodContext:
    config, provider = plugin.config, _provider(plugin, lease)
    return MethodContext(
        config=config,
        provider=provider,
        verifier=TokenVerifier(config, provider, clock=shared.clock),
        store=shared.store,
        digest=shared.digest,
        clock=shared.clock,
        telemetry=shared.telemetry,
        renewal_patience_s=shared.settings.renewal_patience_seconds,
    )


def _provider(plugin: Plugin, lease: Lease) -> Provider:
    try:
        return lease.provider(plugin.config)
    except UndecidedKeysError as error:
        message = (
            f"which of issuers_allowed has the keys of {error} cannot be told: its URL is near to"
            " none of them, or to several; write an openid-connect entry for each issuer"
        )
        problem = Diagnostic(plugin.position, "extra_jwks_uris", message)
        raise ConfigurationError([problem]) from error


def _fast_paths(
    gateway: Gateway, router: Router, policies: Mapping[SourcePosition, Policy], digest: Digester
) -> dict[FastPathKey, FastPath]:
    """Return the fast path's index: for each name that Envoy may give, the policy it leads to."""
    names: list[FastPathKey] = [(n, None) for r in gateway.routes for n in (r.name, r.id) if n]
    names += [(None, n) for s in gateway.services for n in (s.name, s.id) if n]
    names.append((None, None))
    matches = {name: router.certain(*name) for name in names}
    plugins = {name: match.plugin for name, match in matches.items() if match and match.plugin}
    fast_paths = {
        name: FastPath.of(digest.after(repr(name)), policies[plugin.position])
        for name, plugin in plugins.items()
    }
    return {name: fast_path for name, fast_path in fast_paths.items() if fast_path is not None}
