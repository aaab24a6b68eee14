"""From a configuration to a running configuration: everything is made once, here, in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.authorizer import Authorizer, FastPath, FastPathKey
from authz.cache.decisions import CachedAnswers
from authz.cache.digest import Digester
from authz.cache.memory import BoundedCache
from authz.cache.names import FamiliarNames
from authz.cache.tokens import Acquaintance, TokenStore
from authz.clock import SystemClock
from authz.decision import Wording
from authz.errors import ConfigurationError
from authz.kong.router import Router
from authz.methods import METHODS
from authz.methods.base import MethodContext
from authz.model import Diagnostic, SourcePosition
from authz.oauth.http import HttpClient, tls_context
from authz.oauth.provider import Provider, ProviderConfig, ProviderStatus
from authz.oauth.verifier import TokenVerifier
from authz.pipeline import Pipeline, Policy
from authz.policy.authorization import Authorization
from authz.policy.consumers import ConsumerDirectory, Consumers
from authz.policy.headers import UpstreamHeaders

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable, Mapping, Sequence

    from authz.clock import Clock
    from authz.decision import Decision
    from authz.errors import Refusal
    from authz.model import (
        Claims,
        Consumer,
        Gateway,
        Match,
        OpenIDConnect,
        Plugin,
        Request,
    )
    from authz.settings import Settings
    from authz.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class Explanation:
    """One decision, with what led to it, for a person to read."""

    match: Match | None
    decision: Decision
    claims: Claims | None
    consumer: Consumer | None
    refusal: Refusal | None


class Shared:
    """What outlives a reload: providers, connections, keys, and who guesses at secrets.

    A reload that leaves a provider's parameters alone keeps its keys, so it
    asks the provider for nothing.  A provider is closed when the last configuration that
    uses it is: calls may still be under way in a configuration that has been replaced.
    """

    def __init__(self, settings: Settings, telemetry: Telemetry, clock: Clock) -> None:
        self.digest: Final = Digester()
        self.settings = settings
        self.telemetry = telemetry
        self.clock = clock
        self.acquaintance = Acquaintance(timer=clock.monotonic)
        self._tls: dict[bool, ssl.SSLContext] = {}
        self._providers: dict[ProviderConfig, Provider] = {}
        self._houses: Counter[ProviderConfig] = Counter()
        self._signatures: BoundedCache[Claims] = BoundedCache(
            entries_max=settings.cache_entries,
            bytes_max=settings.cache_bytes,
            timer=clock.monotonic,
        )
        telemetry.watch_cache("signatures", self._signatures.__len__)

    def provider(self, config: OpenIDConnect) -> Provider:
        """Return the provider that a plugin speaks with; plugins that can share one do."""
        wanted = _provider_config(config)
        if wanted not in self._providers:
            self._providers[wanted] = Provider(
                wanted,
                self._client(verify=config.ssl_verify),
                clock=self.clock,
                signatures=self._signatures,
                telemetry=self.telemetry,
            )
        return self._providers[wanted]

    def _client(self, *, verify: bool) -> HttpClient:
        if verify not in self._tls:
            self._tls[verify] = _tls_context(self.settings.idp_ca_file, verify=verify)
        return HttpClient(
            self._tls[verify],
            connect_to=self.settings.connect_to,
            connections_max=self.settings.idp_concurrency,
        )

    def enter(self, providers: Iterable[Provider]) -> None:
        """Note that one more configuration uses these providers."""
        self._houses.update(provider.config for provider in providers)

    async def leave(self, providers: Iterable[Provider]) -> None:
        """Note that a configuration has closed; close the providers that no other one uses."""
        self._houses.subtract(provider.config for provider in providers)
        self._houses = +self._houses  # without those that nobody uses
        await self._close(self._providers.keys() - self._houses.keys())

    async def aclose(self) -> None:
        """Close everything."""
        await self._close(self._providers.keys())

    async def _close(self, configs: Iterable[ProviderConfig]) -> None:
        unused = [self._providers.pop(config) for config in tuple(configs)]
        for provider in unused:
            await provider.aclose()


def _tls_context(ca_file: str | None, *, verify: bool) -> ssl.SSLContext:
    try:
        return tls_context(ca_file, verify=verify)
    except OSError as error:  # ssl.SSLError is one
        position = SourcePosition(ca_file or "the system's certificates", 1, 1)
        message = f"cannot be read as PEM certificates: {error.strerror or 'not PEM'}"
        raise ConfigurationError([Diagnostic(position, "--idp-ca-file", message)]) from error


def _provider_config(config: OpenIDConnect) -> ProviderConfig:
    # With nothing to discover, the first of the extra keys are the only ones.
    pseudo = config.extra_jwks_uris[:1] if config.using_pseudo_issuer else ()
    return ProviderConfig(
        issuer=config.issuer,
        jwks_endpoint=config.jwks_endpoint or next(iter(pseudo), None),
        extra_jwks_uris=config.extra_jwks_uris,
        using_pseudo_issuer=config.using_pseudo_issuer,
        rediscovery_lifetime=config.rediscovery_lifetime,
        cache_ttl=config.cache_ttl,
        timeout=config.timeout / 1000,
        ssl_verify=config.ssl_verify,
    )


class Configuration:
    """One configuration, built and alive."""

    def __init__(
        self,
        gateway: Gateway,
        service: Authorizer,
        providers: Sequence[Provider],
        store: TokenStore,
        shared: Shared,
    ) -> None:
        self.gateway = gateway
        self.authorizer = service
        self.shared = shared
        self._providers = providers
        self._store = store
        self._succeeded = False
        shared.enter(providers)

    def start(self) -> None:
        """Ask every provider for its keys, in the background."""
        for provider in self._providers:
            provider.start()

    @property
    def ready(self) -> bool:
        """Whether keys have been seen once for at least one issuer, or none are needed."""
        return not self._providers or any(p.seen_keys.is_set() for p in self._providers)

    async def wait_ready(self) -> None:
        """Return as soon as the configuration is ready."""
        if self.ready:
            return
        waits = [asyncio.ensure_future(p.seen_keys.wait()) for p in self._providers]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def status(self) -> Sequence[ProviderStatus]:
        """Return how each provider is doing."""
        return [provider.status() for provider in self._providers]

    async def explain(self, request: Request) -> Explanation:
        """Decide a request and say how it came about."""
        outcome = await self.authorizer.judge(request)
        trace = outcome.trace
        return Explanation(
            trace.match, outcome.decision, trace.claims, trace.consumer, outcome.refusal
        )

    def hand_over(self) -> None:
        """Leave what is outside to the configuration that takes over."""
        self._succeeded = True

    async def aclose(self) -> None:
        """End what is under way, in the reverse of the order in which it was made."""
        await self._store.exchanges.aclose()
        if self._succeeded:
            await self.shared.leave(self._providers)
        else:
            await self.shared.aclose()


def build(
    gateway: Gateway,
    settings: Settings,
    telemetry: Telemetry,
    *,
    previous: Configuration | None = None,
    clock: Clock | None = None,
) -> Configuration:
    """Build a configuration from a checked configuration.  No I/O: ``start`` begins that.

    With ``previous``, all that is outside is taken over; tokens and answers are not,
    so a reload is also the way to forget them all.
    """
    clock = clock or SystemClock()
    router = Router(gateway)  # first: it may refuse the configuration
    shared = previous.shared if previous else Shared(settings, telemetry, clock)
    answers = CachedAnswers(entries_max=settings.cache_entries, bytes_max=settings.cache_bytes)
    store = TokenStore(
        shared.acquaintance,
        entries_max=settings.cache_entries,
        bytes_max=settings.cache_bytes,
        timer=clock.monotonic,
    )
    telemetry.watch_cache("answers", answers.__len__)
    telemetry.watch_cache("tokens", store.tokens_held)
    telemetry.watch_cache("refusals", store.refusals_held)
    directory = ConsumerDirectory(gateway.consumers)
    policies = {
        plugin.position: _policy(plugin, directory, _resources(plugin.config, shared, store))
        for plugin in gateway.plugins
    }
    service = Authorizer(
        Pipeline(router, policies),
        fast_paths=_fast_paths(gateway, router, policies, shared.digest),
        answers=answers,
        clock=clock,
        telemetry=telemetry,
        log_allowed=settings.log_decisions == "all",
        log_denied=settings.log_decisions != "none",
    )
    providers = tuple({id(p.provider): p.provider for p in policies.values()}.values())
    configuration = Configuration(gateway, service, providers, store, shared)
    if previous is not None:
        previous.hand_over()
    return configuration


def _policy(plugin: Plugin, directory: ConsumerDirectory, resources: MethodContext) -> Policy:
    config = plugin.config
    headers = UpstreamHeaders(config)
    return Policy(
        plugin=plugin,
        provider=resources.provider,
        methods=tuple(m(resources) for m in METHODS if m.name in config.auth_methods),
        consumers=Consumers(config, directory),
        authorization=Authorization(config),
        headers=headers,
        familiar=FamiliarNames(headers.decided_by),
        wording=Wording.of(config),
    )


def _resources(config: OpenIDConnect, shared: Shared, store: TokenStore) -> MethodContext:
    provider = shared.provider(config)
    return MethodContext(
        config=config,
        provider=provider,
        verifier=TokenVerifier(config, provider, clock=shared.clock),
        store=store,
        digest=shared.digest,
        clock=shared.clock,
        telemetry=shared.telemetry,
        renewal_patience_s=shared.settings.renewal_patience_seconds,
    )


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
