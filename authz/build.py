"""From a checked file to a configuration that answers: everything is made once, here, in order."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from authz.authentication import Authentication
from authz.authorizer import Authorizer
from authz.decision import Wording
from authz.envoy import check, route_metadata
from authz.errors import ConfigurationError
from authz.fast_path import FastPath
from authz.kong import slots
from authz.kong.router import Router
from authz.methods import METHODS
from authz.methods.base import MethodContext
from authz.model import Diagnostic
from authz.oauth.assertion import UnusableKeyError
from authz.oauth.issuers import UndecidedKeysError
from authz.oauth.verifier import TokenVerifier
from authz.pipeline import Pipeline, Policy
from authz.policy.authorization import Authorization
from authz.policy.consumers import ConsumerDirectory, Consumers
from authz.policy.headers import UpstreamHeaders
from authz.policy.resource_metadata import ResourceMetadata
from authz.telemetry.checks import Place
from authz.tokens.sources import Sources

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.fast_path import FastPathKey
    from authz.model import Gateway, Plugin
    from authz.oauth.provider import Provider, ProviderStatus
    from authz.runtime import Lease, Shared
    from authz.tokens.remembered import RememberedMethods


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

    async def check(self, wire: bytes, deadline: float | None, waited_s: float = 0.0) -> bytes:
        """Answer a CheckRequest; see :meth:`Authorizer.check`."""
        self._calls += 1
        try:
            return await self.authorizer.check(wire, deadline, waited_s)
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
    directory = ConsumerDirectory(gateway.consumers)
    # Plugins of equal parameters share one policy.
    policies = {
        config: _policy(_context(plugin, shared, lease), directory, plugin, shared.remembered)
        for config, plugin in {plugin.config: plugin for plugin in gateway.plugins}.items()
    }
    is_told = shared.settings.listener.route_metadata is not None
    names = route_metadata.envoy_gateway if is_told else check.context_extensions
    router = Router(gateway, lambda plugin: policies[plugin.config], must_be_named=is_told)
    lease.places = frozenset(map(Place.of, router.matches()))
    certain = _certain(gateway, router)
    return Authorizer(
        Pipeline(router, [p.metadata for p in policies.values() if p.metadata is not None]),
        fast_path=FastPath(certain, lease.answers, shared.digest, shared.clock, names),
        clock=shared.clock,
        telemetry=shared.telemetry,
        names=names,
        hint=shared.deadline_hint,
        log_allowed=shared.settings.log.decisions == "all",
        log_denied=shared.settings.log.decisions != "none",
    )


def _policy(
    context: MethodContext,
    directory: ConsumerDirectory,
    plugin: Plugin,
    remembered: RememberedMethods,
) -> Policy:
    config = context.config
    of_methods = slots.of(config)
    try:
        methods = [(m(context), of_methods[m.name]) for m in METHODS if m.name in of_methods]
    except UnusableKeyError as error:
        problem = Diagnostic(plugin.position, "client_jwk", str(error))
        raise ConfigurationError([problem]) from None
    authentication = Authentication(
        methods,
        context.digest.after(*config.exchange_key),
        remembered,
    )
    metadata = ResourceMetadata.of(config)
    return Policy(
        config=config,
        authentication=authentication,
        consumers=Consumers(config, directory),
        authorization=Authorization(config),
        headers=UpstreamHeaders(config, authentication.slots),
        wording=Wording.of(
            config, authentication.slots, "" if metadata is None else metadata.challenge
        ),
        metadata=metadata,
    )


def _context(plugin: Plugin, shared: Shared, lease: Lease) -> MethodContext:
    config, provider = plugin.config, _provider(plugin, lease)
    return MethodContext(
        config=config,
        provider=provider,
        verifier=TokenVerifier(config, provider, clock=shared.clock),
        keeper=shared.keeper,
        vouched=shared.vouched,
        sources=Sources(shared.settings.listener.client_address_header),
        digest=shared.digest,
        clock=shared.clock,
        telemetry=shared.telemetry,
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


def _certain(gateway: Gateway, router: Router) -> dict[FastPathKey, Policy]:
    """Return, for each name that Envoy may give, the policy that every such request meets."""
    names: list[FastPathKey] = [(n, None) for r in gateway.routes for n in (r.name, r.id) if n]
    names += [(None, n) for s in gateway.services for n in (s.name, s.id) if n]
    names.append((None, None))
    matches = ((name, router.certain_match(*name)) for name in names)
    return {name: match.policy for name, match in matches if match and match.policy}
