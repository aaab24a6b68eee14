"""One identity provider: its metadata, its keys, and when to ask for them again."""

from __future__ import annotations

import asyncio
import logging
import re
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from authz.cache.digest import Digester
from authz.cache.flight import SingleFlight
from authz.errors import IdpOutage, Overloaded, Reason, Unauthenticated, Unavailable
from authz.oauth import discovery, jwks, jwt
from authz.oauth.discovery import ProviderMetadata, json_object
from authz.oauth.http import within

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from authz.cache.memory import BoundedCache
    from authz.clock import Clock
    from authz.model import Claims
    from authz.oauth.http import HttpClient
    from authz.oauth.jwks import Key, KeySet
    from authz.oauth.jwt import UnverifiedToken
    from authz.telemetry import Telemetry

_log = logging.getLogger("authz.provider")

# Keys age: asked for again after Cache-Control's max-age (or cache_ttl), between
# these; kept while the provider does not answer, but not for ever.
FRESH_SECONDS: Final = (30.0, 3_600.0)
STALE_SECONDS_MAX: Final = 24 * 3_600.0
# Kong waits this long after a failed rediscovery (since 3.8).
RETRY_SECONDS: Final = 5.0
# Until the first keys are there, the first tries come faster.
WARM_UP_SECONDS: Final = (0.25, RETRY_SECONDS)

_MAX_AGE: Final = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?([0-9]{1,9})\"?\s*(?:,|$)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class ProviderConfig:
    """What makes two plugins share one provider: every parameter that it depends on.

    Times are in seconds.
    """

    issuer: str
    jwks_endpoint: str | None
    extra_jwks_uris: tuple[str, ...]
    using_pseudo_issuer: bool
    rediscovery_lifetime: float
    cache_ttl: float
    timeout: float
    ssl_verify: bool


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """What ``/readyz?verbose`` says of a provider."""

    issuer: str
    ready: bool
    detail: str


class KeySource:
    """The keys behind one URL: the last good set, and when to ask again."""

    def __init__(self, clock: Clock, *, fresh_s: float, rediscovery_s: float) -> None:
        self._clock = clock
        self._default_fresh_s = fresh_s
        self._rediscovery_s = rediscovery_s
        self._keys: KeySet | None = None
        self._fetched_at = 0.0
        self._fresh_until = 0.0
        self._ask_not_before = 0.0

    @property
    def keys(self) -> KeySet | None:
        """The last good set, unless the provider has been silent for too long."""
        return None if self.is_silent else self._keys

    @property
    def is_silent(self) -> bool:
        """Whether there was a set, so long ago that it counts no more."""
        silent_s = self._clock.monotonic() - self._fetched_at
        return self._keys is not None and silent_s > STALE_SECONDS_MAX

    @property
    def may_ask(self) -> bool:
        """Whether enough time has gone by since the last call."""
        return self._clock.monotonic() >= self._ask_not_before

    @property
    def is_stale(self) -> bool:
        """Whether it is time to ask again, even though the keys still serve."""
        return self._clock.monotonic() >= self._fresh_until and self.may_ask

    @property
    def settled_until(self) -> float:
        """When the set needs looking into next: it ages, a call is due, or it counts no more."""
        due = max(self._fresh_until, self._ask_not_before)
        return min(due, self._fetched_at + STALE_SECONDS_MAX)

    def expire(self) -> None:
        """Have the set asked for anew at the next opportunity; it serves until then."""
        self._fresh_until = self._ask_not_before = 0.0

    def failed(self) -> None:
        """Note that a call failed: the set stays, and the next call waits a little."""
        self._ask_not_before = self._clock.monotonic() + RETRY_SECONDS

    def replace(self, keys: KeySet, cache_control: str) -> bool:
        """Take a new set as a whole; return whether a key of the old one is gone."""
        lost = self._keys is not None and not all(key in keys.keys for key in self._keys.keys)
        now = self._clock.monotonic()
        self._keys, self._fetched_at = keys, now
        self._fresh_until = now + self._fresh_s(cache_control)
        self._ask_not_before = now + self._rediscovery_s
        return lost

    def _fresh_s(self, cache_control: str) -> float:
        found = _MAX_AGE.search(cache_control)
        wanted = float(found[1]) if found else self._default_fresh_s
        low, high = FRESH_SECONDS
        return min(max(wanted, low), high)


class Provider:
    """An issuer's metadata and keys, fetched once for everybody and kept.

    ``version`` counts how often a key has gone: what was verified before has to
    be verified again.  ``paused_until`` is when the token endpoint may be asked
    again, in monotonic seconds.
    """

    def __init__(
        self,
        config: ProviderConfig,
        http: HttpClient,
        *,
        clock: Clock,
        signatures: BoundedCache[Claims],
        telemetry: Telemetry,
    ) -> None:
        self.config = config
        self.http = http
        self.version = 0
        self.paused_until = 0.0
        self.seen_keys = asyncio.Event()
        self._clock = clock
        # A key of its own: providers may share an issuer and not the keys they trust,
        # so what one of them has verified says nothing to another.
        self._digest = Digester()
        self._signatures = signatures
        self._telemetry = telemetry
        self._primary = self._key_source()
        self._extra = {url: self._key_source() for url in config.extra_jwks_uris}
        self._single_flight: SingleFlight[None] = SingleFlight(calls_max=1 + len(self._extra))
        self._warm_up: asyncio.Task[None] | None = None
        self._failure: Unavailable | Overloaded | None = None
        # Kong's using_pseudo_issuer: nothing is discovered, the issuer is what is written.
        self._metadata = (
            ProviderMetadata(discovery.issuer_url(config.issuer))
            if config.using_pseudo_issuer
            else None
        )

    def _key_source(self) -> KeySource:
        config = self.config
        return KeySource(
            self._clock, fresh_s=config.cache_ttl, rediscovery_s=config.rediscovery_lifetime
        )

    # --- What it knows -----------------------------------------------------------

    async def metadata(self) -> ProviderMetadata:
        """Return the metadata, asking for them if nobody has yet."""
        if self._metadata is None and self._primary.may_ask:
            await self._refresh()
        if self._metadata is None:
            raise self._failure or IdpOutage(Reason.IDP_UNAVAILABLE, "discovery: no answer yet")
        return self._metadata

    async def verify(self, token: UnverifiedToken, text: str) -> Claims:
        """Return the claims of a token that one of this provider's keys has signed.

        A signature is checked once; a later call with the same text takes the
        answer from memory, as long as no key has gone.
        """
        self._renew_stale_keys()
        remembered = self._digest(str(self.version), text)
        claims = self._signatures.get(remembered)
        if claims is None or any(source.is_silent for source in self._sources()):
            claims = token.verify(await self._key(token.kid, token.algorithm))
            life_s = jwt.expiry(claims) - self._clock.now()
            self._signatures.put(remembered, claims, lifetime_s=life_s, size_bytes=4 * len(text))
        return claims

    @property
    def settled_until(self) -> float:
        """Until when a verdict need not be asked for again, in monotonic seconds."""
        return min((s.settled_until for s in self._sources() if s.keys is not None), default=0.0)

    async def _key(self, kid: str | None, algorithm: str) -> Key:
        """Find a key: among those held, else by asking again where that is not too soon."""
        if key := self._held(kid, algorithm):
            return key
        if self._primary.may_ask:
            await self._refresh()
            if key := self._held(kid, algorithm):
                return key
        for url, source in self._extra.items():
            if source.may_ask:
                await self._single_flight.run(url, partial(self._fetch_extra, url))
                if key := self._held(kid, algorithm):
                    return key
        if self._primary.keys is None:
            detail = self._failure.detail if self._failure else "not fetched yet"
            raise Unavailable(Reason.KEYS_UNAVAILABLE, f"no keys: {detail}")
        raise Unauthenticated(Reason.TOKEN_KEY_UNKNOWN, "token: no key of the issuer fits")

    def _sources(self) -> tuple[KeySource, ...]:
        return (self._primary, *self._extra.values())

    def _held(self, kid: str | None, algorithm: str) -> Key | None:
        for source in self._sources():
            if source.keys and (key := source.keys.find(kid, algorithm)):
                return key
        return None

    # --- Asking the provider -------------------------------------------------------

    def _renew_stale_keys(self) -> None:
        """Ask again in the background: the keys that are held serve until then."""
        if self._primary.is_stale:
            self._single_flight.start("primary", self._fetch_primary)
        for url, source in self._extra.items():
            if source.keys is not None and source.is_stale:
                self._single_flight.start(url, partial(self._fetch_extra, url))

    async def _refresh(self) -> None:
        await self._single_flight.run("primary", self._fetch_primary)

    async def _fetch_primary(self) -> None:
        """Discover, then fetch the keys; keep what is there if either fails."""

        async def fetch() -> None:
            await self._discover()
            await self._fetch(self._primary, self._jwks_uri())
            self._failure = None
            self.seen_keys.set()

        await self._attempt(self._primary, fetch)

    async def _fetch_extra(self, url: str) -> None:
        source = self._extra[url]
        await self._attempt(source, partial(self._fetch, source, url))

    async def _attempt(self, source: KeySource, fetch: Callable[[], Awaitable[None]]) -> None:
        """Fetch under the deadline; any failure is noted, so that the next call waits."""
        try:
            async with within(self.config.timeout):
                await fetch()
        except (Unavailable, Overloaded) as error:
            self._failed(source, error)
        # A fault of ours must not end the warm-up, nor go unheard in the background.
        except Exception as error:  # noqa: BLE001 - as said
            _log.exception("internal error")
            detail = f"a fault of authz ({type(error).__name__})"
            self._failed(source, Unavailable(Reason.INTERNAL_ERROR, detail))

    def _failed(self, source: KeySource, error: Unavailable | Overloaded) -> None:
        source.failed()
        if source is self._primary:
            self._failure = error
        _log.warning(
            "the provider's metadata or keys could not be fetched",
            extra={"fields": {"issuer": self.config.issuer, "detail": error.detail}},
        )

    async def _discover(self) -> None:
        if self.config.using_pseudo_issuer:
            return
        with self._telemetry.idp_call("discovery"):
            found = await discovery.discover(self.http, self.config.issuer)
        if self._metadata is None and found.issuer != discovery.issuer_url(self.config.issuer):
            _log.info(
                "notice: tokens must carry the issuer that discovery names, not the configured URL",
                extra={"fields": {"issuer": self.config.issuer, "discovered": found.issuer}},
            )
        self._metadata = found

    def _jwks_uri(self) -> str:
        uri = self.config.jwks_endpoint or (self._metadata and self._metadata.jwks_uri)
        if not uri:
            raise Unavailable(Reason.IDP_ANSWER_INVALID, "discovery: no jwks_uri")
        return uri

    async def _fetch(self, source: KeySource, url: str) -> None:
        with self._telemetry.idp_call("jwks"):
            answer = await self.http.get(url, bytes_max=jwks.KEY_SET_BYTES_MAX)
            keys = jwks.parse(json_object(answer, "key set"))
        if source.replace(keys, answer.headers.get("cache-control", "")):
            self.version += 1
        self._telemetry.keys_fetched(self.config.issuer, len(keys.keys), keys.skipped)

    # --- Life ------------------------------------------------------------------------

    def start(self) -> None:
        """Ask for metadata and keys in the background, until there are some.

        Those that are held already are asked for anew, and serve until the new ones are
        there: a key that the provider has withdrawn counts no more from then on.
        """
        if self.seen_keys.is_set():
            for source in self._sources():
                source.expire()
            self._renew_stale_keys()
        elif self._warm_up is None:
            self._warm_up = asyncio.get_running_loop().create_task(self._until_keys_are_seen())

    async def _until_keys_are_seen(self) -> None:
        pause_s, pause_s_max = WARM_UP_SECONDS
        while not self.seen_keys.is_set():
            await self._refresh()
            if not self.seen_keys.is_set():
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, pause_s_max)

    def status(self) -> ProviderStatus:
        """Return what an operator wants to know of this provider."""
        keys = self._primary.keys
        held = f"{len(keys.keys)} keys" if keys else "no keys yet"
        detail = f"{held}; last call failed: {self._failure.detail}" if self._failure else held
        return ProviderStatus(self.config.issuer, ready=self.seen_keys.is_set(), detail=detail)

    async def aclose(self) -> None:
        """End everything that is under way, and close the connections."""
        if self._warm_up is not None:
            self._warm_up.cancel()
            await asyncio.gather(self._warm_up, return_exceptions=True)
        await self._single_flight.aclose()
        await self.http.aclose()
