"""What outlives a configuration: connections, keys, tokens, and who guesses at secrets.

The server owns one :class:`Shared` for as long as it runs.  A reload builds the next
configuration with the same one, so it forgets nothing that is still true.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from authz.clock import SystemClock
from authz.deadline_hint import DeadlineHint
from authz.errors import ConfigurationError
from authz.fast_path import CachedAnswers
from authz.model import Diagnostic, SourcePosition
from authz.oauth.door import PROBES_MAX, Door
from authz.oauth.http import HttpClient, tls_context
from authz.oauth.provider import Provider
from authz.tokens.digest import Digester
from authz.tokens.keeper import Keeper
from authz.tokens.memory import BoundedCache, MemoryTier
from authz.tokens.remembered import RememberedMethods
from authz.tokens.vouched import VouchedTokens

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from typing import Self

    from authz.clock import Clock
    from authz.model import OpenIDConnect
    from authz.oauth.issuers import SignedToken
    from authz.parameters.provider import ProviderKey
    from authz.settings import Settings
    from authz.telemetry import Telemetry
    from authz.telemetry.checks import Place


class Lease:
    """What one configuration uses of :class:`Shared`, from its building to its last call.

    ``get`` returns the provider of ``OpenIDConnect.provider_key``; ``release`` is called by
    :meth:`end`.
    """

    def __init__(
        self,
        answers: CachedAnswers,
        get: Callable[[ProviderKey], Provider],
        release: Callable[[Lease], None],
    ) -> None:
        self.answers: Final = answers
        """The cached answers of this configuration: another one may answer otherwise."""
        self._get = get
        self._release = release
        self._providers: dict[ProviderKey, Provider] = {}
        self.places: frozenset[Place] = frozenset()
        """Where this configuration decides: the series that metrics go on telling."""

    @property
    def providers(self) -> tuple[Provider, ...]:
        """Every provider that was asked for, once."""
        return tuple(self._providers.values())

    def provider(self, config: OpenIDConnect) -> Provider:
        """Return the provider that a plugin speaks with; plugins that can share one do."""
        wanted = config.provider_key
        if wanted not in self._providers:
            self._providers[wanted] = self._get(wanted)
        return self._providers[wanted]

    def uses(self, config: ProviderKey) -> bool:
        """Whether this provider was asked for."""
        return config in self._providers

    def end(self) -> None:
        """Give back what is used; may be called again."""
        self._release(self)


class Shared:
    """Everything that configurations share.  An asynchronous context manager.

    It reads the certificates of identity providers when it is made, and raises
    ``ConfigurationError`` if it cannot.  When it is left, it ends what is under way and
    closes every connection.

    A provider lives as long as a :class:`Lease` uses it.  It is closed when the last of
    these has ended, and so have the calls to it that were under way then: a later
    configuration may wait for the outcome of such a call.
    """

    def __init__(
        self, settings: Settings, telemetry: Telemetry, clock: Clock | None = None
    ) -> None:
        self.settings: Final = settings
        self.telemetry: Final = telemetry
        self.clock: Final = clock or SystemClock()
        self.digest: Final = Digester()
        self.deadline_hint: Final = DeadlineHint(settings.listener.hint_timeout_seconds)
        timer = self.clock.monotonic
        entries_max, bytes_max = settings.cache.entries, settings.cache.bytes
        self.keeper: Final = Keeper(
            MemoryTier(entries_max=entries_max, bytes_max=bytes_max, clock=self.clock),
            entries_max=entries_max,
            life_min_s=settings.cache.token_life_min_seconds,
            clock=self.clock,
            telemetry=telemetry,
        )
        self.vouched: Final = VouchedTokens(
            entries_max=entries_max, bytes_max=bytes_max, timer=timer
        )
        self.remembered: Final = RememberedMethods(timer=timer)
        self._signatures: BoundedCache[SignedToken] = BoundedCache(
            entries_max=entries_max, bytes_max=bytes_max, timer=timer
        )
        self._tls = {True: _tls_context(settings.idp.ca_file, verify=True)}
        self._providers: dict[ProviderKey, Provider] = {}
        self._leases: set[Lease] = set()
        self._closing: set[asyncio.Task[None]] = set()
        telemetry.watch_cache("signatures", self._signatures.__len__)
        telemetry.watch_cache("tokens", self.keeper.tokens_held)
        telemetry.watch_cache("refusals", self.keeper.refusals_held)
        telemetry.watch_cache("introspected", self.vouched.__len__)
        telemetry.watch_cache("answers", self._answers_held)

    def lease(self) -> Lease:
        """Return the means for one more configuration."""
        answers = CachedAnswers(
            entries_max=self.settings.cache.entries, bytes_max=self.settings.cache.bytes
        )
        lease = Lease(answers, self._provider, self._release)
        self._leases.add(lease)
        return lease

    def _provider(self, wanted: ProviderKey) -> Provider:
        if wanted not in self._providers:
            same = [one for one in self._providers.values() if one.config == wanted[0]]
            self._providers[wanted] = Provider(
                *wanted,
                self._door(wanted),
                clock=self.clock,
                signatures=self._signatures,
                telemetry=self.telemetry,
            )
            for other in same[-1:]:
                self._providers[wanted].take_over(other)
        return self._providers[wanted]

    def _door(self, wanted: ProviderKey) -> Door:
        provider, reach = wanted
        verify, places_max = provider.ssl_verify, self.settings.idp.concurrency
        if verify not in self._tls:
            self._tls[verify] = _tls_context(self.settings.idp.ca_file, verify=verify)
        http = HttpClient(
            self._tls[verify],
            connect_to=self.settings.idp.connect_to,
            connections_max=places_max + PROBES_MAX,
            timer=self.clock.monotonic,
        )
        return Door(
            http,
            issuer=provider.issuer,
            places_max=places_max,
            timeout_s=reach.timeout_s,
            clock=self.clock,
            telemetry=self.telemetry,
        )

    def _answers_held(self) -> int:
        # In one step, for metrics are read in another thread.
        return sum(len(lease.answers) for lease in tuple(self._leases))

    # --- What nobody uses any more ---------------------------------------------------

    def _release(self, lease: Lease) -> None:
        self._leases.discard(lease)
        self.telemetry.keep_places(frozenset().union(*(other.places for other in self._leases)))
        unused = [
            config
            for config in self._providers
            if not any(other.uses(config) for other in self._leases)
        ]
        for config in unused:
            task = asyncio.get_running_loop().create_task(self._retire(self._providers.pop(config)))
            self._closing.add(task)  # the loop itself keeps only weak references
            task.add_done_callback(self._closing.discard)

    async def _retire(self, provider: Provider) -> None:
        """Close a provider once the calls that are under way have ended."""
        self.keeper.release(provider)
        await self.keeper.settled()
        await self.vouched.calls.settled()
        self.keeper.release(provider)  # of the tokens too that have come meanwhile
        await self._close(provider)

    async def _close(self, provider: Provider) -> None:
        await provider.aclose()
        issuer = provider.config.issuer
        if all(other.issuer != issuer for other, _ in self._providers):
            self.telemetry.forget_issuer(issuer)

    async def aclose(self) -> None:
        """End what is under way and close everything, in the reverse of the order of its making."""
        await self.keeper.aclose()
        await self.vouched.calls.aclose()
        await asyncio.gather(*self._closing)
        while self._providers:
            await self._close(self._providers.popitem()[1])

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


def _tls_context(ca_file: str | None, *, verify: bool) -> ssl.SSLContext:
    try:
        return tls_context(ca_file, verify=verify)
    except OSError as error:  # ssl.SSLError is one
        position = SourcePosition(ca_file or "the system's certificates", 1, 1)
        message = f"cannot be read as PEM certificates: {error.strerror or 'not PEM'}"
        raise ConfigurationError([Diagnostic(position, "--idp-ca-file", message)]) from error
