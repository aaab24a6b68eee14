"""One identity provider: its metadata, its keys, and when to ask for them again."""

from __future__ import annotations

import asyncio
import json
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from authz import strict_json
from authz.errors import IdpOutage, Overloaded, Reason, Retryable, Unauthenticated, Unavailable
from authz.logs import log_internal_error
from authz.oauth import discovery, endpoints, issuers, jwks, jwt
from authz.oauth.deadline import Deadline
from authz.oauth.discovery import ProviderMetadata, json_object
from authz.oauth.http import Request
from authz.oauth.issuers import Issuer, Issuers, SignedToken
from authz.oauth.key_source import FRESH_SECONDS, RETRY_SECONDS, KeySource
from authz.oauth.looks import Looks
from authz.tokens.digest import Digester
from authz.tokens.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from authz.clock import Clock
    from authz.oauth.door import Door
    from authz.oauth.jwks import Key
    from authz.oauth.jwt import UnverifiedToken
    from authz.parameters.provider import ProviderParameters, ReachParameters
    from authz.telemetry import Telemetry
    from authz.tokens.memory import BoundedCache

    Fits = Callable[[], tuple[Key, ...]]

_log = logging.getLogger("authz.provider")

# Until the first keys are there, the first tries come faster.
WARM_UP_SECONDS: Final = (0.25, RETRY_SECONDS)
# The timer that asks for due keys looks this often at most, and at least.
_TIMER_SECONDS: Final = (1.0, FRESH_SECONDS[0])


@dataclass(frozen=True, slots=True)
class ProviderStatus:
    """What ``/readyz?verbose`` says of a provider.

    ``detail`` has a line for its state, one for the accepted issuers, and one for each
    key set.
    """

    issuer: str
    ready: bool
    detail: str


class _UnknownKeySetError(Unavailable):
    """The metadata do not say where the keys are, or say nothing that may be asked."""


class Provider:
    """A provider's metadata and keys, fetched once for everybody and kept.

    ``version`` counts how often a key has gone, or discovery has named another issuer:
    what was verified before has to be looked into again.

    Raises :class:`~authz.oauth.issuers.UndecidedKeysError` if the configuration does not
    say whose keys are whose.
    """

    def __init__(
        self,
        config: ProviderParameters,
        reach: ReachParameters,
        door: Door,
        *,
        clock: Clock,
        signatures: BoundedCache[SignedToken],
        telemetry: Telemetry,
    ) -> None:
        self.config = config
        self._reach = reach
        self.door = door
        # A plain attribute: every cached answer reads it.
        self.version = 0
        self.seen_keys = asyncio.Event()
        self._clock = clock
        # A key of its own: providers may share an issuer and not the keys they trust,
        # so what one of them has verified says nothing to another.
        self._digest = Digester()
        self._signatures = signatures
        self._telemetry = telemetry
        self._sources = tuple(
            KeySource(url, clock, fresh_s=reach.cache_ttl)
            for url in (None, *config.extra_jwks_uris)
        )
        self._primary = self._sources[issuers.PRIMARY]
        self._looks = Looks(clock, rediscovery_s=reach.rediscovery_lifetime)
        # One call for each key set, and one to ask for all of them anew.
        self._single_flight: SingleFlight[None] = SingleFlight(calls_max=1 + len(self._sources))
        self._warm_up: asyncio.Task[None] | None = None
        self._timer: asyncio.Task[None] | None = None
        self._failure: Retryable | None = None
        self._is_ahead = False
        allowed = config.issuers_allowed
        self._issuers = self._accepted(allowed) if allowed else None
        # Kong's using_pseudo_issuer: nothing is discovered, the issuer is what is written.
        self._metadata: ProviderMetadata | None = None
        if config.using_pseudo_issuer:
            self._take(ProviderMetadata(discovery.issuer_url(config.issuer)))

    def take_over(self, other: Provider) -> None:
        """Hold what another one knows of the same provider, reached otherwise.

        So a reload that changes how long to wait turns nobody away during an outage.
        """
        if other._metadata is not None:
            self._take(other._metadata)
        for source, its in zip(self._sources, other._sources, strict=True):
            source.take_over(its)
        if other.seen_keys.is_set():
            self.seen_keys.set()

    def _accepted(self, names: Sequence[str]) -> Issuers:
        """Return the issuers of these names with their keys."""
        config = self.config
        owners = issuers.owners(config.issuer, names, config.extra_jwks_uris, config.jwks_endpoint)
        return Issuers(
            [
                Issuer(name, tuple(self._sources[place] for place in places))
                for name, places in owners.items()
            ]
        )

    # --- What it knows -----------------------------------------------------------

    async def metadata(self) -> ProviderMetadata:
        """Return the metadata, asking for them if nobody has yet."""
        if self._metadata is None and self._primary.may_ask:
            await self._ask(self._primary)
        if self._metadata is None:
            failure = self._failure
            if failure is not None:
                raise failure.again()
            raise IdpOutage(Reason.IDP_UNAVAILABLE, "discovery: no answer yet")
        return self._metadata

    async def issuers(self) -> Issuers:
        """Return the accepted issuers: as configured, else the one that discovery names."""
        return self._issuers or self._take(await self.metadata())

    @property
    def expires_at(self) -> float:
        """Until when a verdict by the keys that are held stands, in monotonic seconds."""
        return min((one.expires_at for one in self._sources if one.keys), default=0.0)

    def digest(self, text: str) -> bytes:
        """Return what a token is remembered by."""
        return self._digest(text)

    def remembered(self, digest: bytes) -> SignedToken | None:
        """Return a token whose signature was verified before, if its key is still there."""
        self._ask_for_due_keys()
        signed = self._signatures.get(digest)
        self._telemetry.cache("signatures", "miss" if signed is None else "hit")
        if signed is None or self._issuers is None or not signed.is_vouched_for:
            return None
        # Discovery may name another issuer by now.
        return signed if self._issuers.find(signed.issuer.name) is signed.issuer else None

    def remember(self, digest: bytes, signed: SignedToken, *, size_bytes: int) -> None:
        """Remember that a signature is good, until the token's own end."""
        life_s = jwt.expiry(signed.claims) - self._clock.now()
        self._signatures.put(digest, signed, lifetime_s=life_s, size_bytes=size_bytes)

    async def verify(
        self, token: UnverifiedToken, issuer: Issuer, *, from_exchange: bool = False
    ) -> SignedToken:
        """Verify the signature of a token of this issuer.

        Raises :class:`~authz.errors.Unauthenticated` if no key of the issuer has made it
        and :class:`~authz.errors.Unavailable` if there are no keys.
        """
        fitting = issuer.fitting(token.kid, token.algorithm)
        # A token without a key id never has an unknown one: its key may be new.
        if fitting and token.kid is not None and not from_exchange:
            key = token.verify(fitting)
        else:
            key = await self._signer(token, issuer, from_exchange=from_exchange)
        claims = jwt.with_shared_names(token.claims)
        return SignedToken(claims, token.marked, token.kid, token.algorithm, issuer, key)

    async def _signer(self, token: UnverifiedToken, issuer: Issuer, *, from_exchange: bool) -> Key:
        """Return the key that has signed a token, asking for keys where that may help."""
        fits = partial(issuer.fitting, token.kid, token.algorithm)
        refusal = None
        asked = () if fits() else await self._ask_for_missing_keys(issuer, fits)
        if fits():
            try:
                return token.verify(fits())
            except Unauthenticated as error:
                if token.kid is not None and not from_exchange:
                    raise
                refusal = error
        again = [source for source in issuer.sources if source not in asked]
        if await self._look_again(again, fits, refusal, from_exchange=from_exchange) and fits():
            return token.verify(fits())
        raise refusal or self._no_key(token, issuer, trusted=from_exchange)

    async def _ask_for_missing_keys(self, issuer: Issuer, fits: Fits) -> Sequence[KeySource]:
        """Ask for sets that are not held, until a key fits; return which were asked for."""
        asked = []
        for source in issuer.sources:
            if source.keys is None and source.may_ask:
                asked.append(source)
                await self._ask(source)
                if fits():
                    break
        return asked

    async def _look_again(
        self, sources: Sequence[KeySource], fits: Fits, refusal: object, *, from_exchange: bool
    ) -> bool:
        """Ask again for sets that are held; return whether any was asked for.

        Stop at the first that has a key that fits, unless those that fit were refused.
        Whoever finds a call under way joins it, without a look of its own.
        """
        may_look = asked = False
        for source in sources:
            if not source.may_ask:
                continue
            if not self._single_flight.is_under_way(source):
                may_look = may_look or self._looks.take(from_exchange=from_exchange)
                if not may_look:
                    break
            await self._ask(source)
            asked = True
            if refusal is None and fits():
                break
        return asked

    def _no_key(
        self, token: UnverifiedToken, issuer: Issuer, *, trusted: bool
    ) -> Unauthenticated | Unavailable:
        if not issuer.has_keys:
            detail = self._failure.detail if self._failure else "not fetched yet"
            return Unavailable(Reason.KEYS_UNAVAILABLE, f"no keys of {issuer.name}: {detail}")
        tell = strict_json.quoted if trusted else strict_json.kind
        kid = "absent" if token.kid is None else tell(token.kid)
        held = [source for source in issuer.sources if source.keys]
        kids = [kid for source in held if source.keys for kid in source.keys.kids]
        age_s = min(source.age_s for source in held)
        return Unauthenticated(
            Reason.TOKEN_KEY_UNKNOWN,
            f"token: no key of the issuer fits: kid is {kid}, alg {token.algorithm}; its keys"
            f" have the kids {strict_json.quoted(kids)} and were fetched {age_s:.0f} s ago",
        )

    def report_ahead(self, seconds: float) -> None:
        """Note how far ahead of ours the clock is that has dated a token of our exchange.

        Upstreams look at these times too, so it is said once.
        """
        self._telemetry.idp_clock_ahead(self.config.issuer, seconds)
        if seconds > 0 and not self._is_ahead:
            _log.warning(
                "the provider's clock is ahead of this one: its new tokens are accepted here,"
                " upstreams may refuse them",
                extra={"fields": {"issuer": self.config.issuer, "seconds": round(seconds, 1)}},
            )
        self._is_ahead = self._is_ahead or seconds > 0

    # --- Asking the provider -------------------------------------------------------

    def renew_keys(self) -> None:
        """Ask for all keys anew, in the background; the old ones serve until the new are there.

        For SIGHUP: a key that was taken back at the provider counts no more then.
        """
        self._single_flight.start("all", self._ask_for_all_anew)

    async def _ask_for_all_anew(self) -> None:
        for source in self._sources:
            if source is self._primary or source.fetched:
                if self._single_flight.is_under_way(source):
                    await self._ask(source)  # it may have begun before the key was taken back
                source.refresh_at = 0.0  # due until it is there: a call that fails is repeated
                await self._ask(source)

    def _ask_for_due_keys(self) -> None:
        """Ask again in the background: the keys that are held serve until then."""
        for source in self._sources:
            if source.due:
                self._single_flight.start(source, partial(self._fetch, source))

    async def _ask(self, source: KeySource) -> None:
        await self._single_flight.run(source, partial(self._fetch, source))

    async def _fetch(self, source: KeySource) -> None:
        if source is self._primary:
            await self._attempt(source, self._fetch_primary)
        else:
            await self._attempt(source, partial(self._fetch_keys, source, source.url or ""))

    async def _fetch_primary(self) -> None:
        """Discover, then fetch the keys; what is there stays if either fails.

        Where the keys are may be known without discovery: from the file, or from the last
        time.  They are fetched then though it fails.
        """
        trouble: Retryable | None = None
        try:
            await self._discover()
        except (Unavailable, Overloaded) as error:
            if not self._knows_jwks_uri:
                raise
            trouble = error
        await self._fetch_keys(self._primary, self._jwks_uri())
        if self._issuers is not None:  # else they are nobody's keys yet
            self.seen_keys.set()
        if trouble is not None:
            self._primary.refresh_at = 0.0  # due until discovery answers, too
            raise trouble
        self._failure = None

    async def _attempt(self, source: KeySource, fetch: Callable[[], Awaitable[None]]) -> None:
        """Fetch; any failure is noted, so that the next call waits."""
        try:
            await fetch()
        except (Unavailable, Overloaded) as error:
            self._failed(source, error)
        # A fault of ours must not end the warm-up, nor go unheard in the background.
        except Exception as error:  # noqa: BLE001 - as said
            log_internal_error(_log, error)
            detail = f"a fault of authz ({type(error).__name__})"
            self._failed(source, Unavailable(Reason.INTERNAL_ERROR, detail))

    def _failed(self, source: KeySource, error: Retryable) -> None:
        if source is self._primary:
            self._failure = error
        is_new = source.failed(error.detail)
        # How a call has failed is said by the door.
        if is_new and isinstance(error, Overloaded | _UnknownKeySetError):
            _log.warning(
                "the provider's keys could not be asked for",
                extra={
                    "fields": {
                        "issuer": self.config.issuer,
                        "keys": source.url or "as discovered",
                        "detail": error.detail,
                    }
                },
            )

    async def _discover(self) -> None:
        if self.config.using_pseudo_issuer:
            return
        async with Deadline(self._reach.timeout_s):
            found = await discovery.discover(self.door, self.config.issuer)
        if self._metadata is None and found.issuer != discovery.issuer_url(self.config.issuer):
            _log.info(
                "notice: tokens must carry the issuer that discovery names, not the configured URL",
                extra={"fields": {"issuer": self.config.issuer, "discovered": found.issuer}},
            )
        self._take(found)

    def _take(self, metadata: ProviderMetadata) -> Issuers:
        """Take new metadata; with them the accepted issuer, if the file does not name any."""
        self._metadata = metadata
        known, by_file = self._issuers, bool(self.config.issuers_allowed)
        if known is None or not (by_file or known.find(metadata.issuer)):
            self.version += known is not None
            known = self._issuers = self._accepted((metadata.issuer,))
        return known

    @property
    def _knows_jwks_uri(self) -> bool:
        return self.config.primary_jwks_uri is not None or self._metadata is not None

    def _jwks_uri(self) -> str:
        uri = self.config.primary_jwks_uri
        try:
            if not uri and self._metadata is not None:
                uri = self._metadata.url_of(endpoints.JWKS)
        except Unavailable as error:
            raise _UnknownKeySetError(error.reason, error.detail) from error
        if not uri:
            raise _UnknownKeySetError(Reason.IDP_ANSWER_INVALID, "discovery: no jwks_uri")
        return uri

    async def _fetch_keys(self, source: KeySource, url: str) -> None:
        async with Deadline(self._reach.timeout_s):
            keys, cache_control = await self.door.ask(
                endpoints.JWKS,
                Request(url),
                lambda response: (
                    jwks.parse(json_object(response)),
                    response.headers.get("cache-control", ""),
                ),
            )
        self.version += source.replace(keys, cache_control)
        held = [one.keys for one in self._sources if one.keys]
        self._telemetry.keys_fetched(
            self.config.issuer,
            sum(len(one.keys) for one in held),
            sum(one.skipped for one in held),
        )
        self._start_timer()

    # --- Life ------------------------------------------------------------------------

    def start(self) -> None:
        """Ask for metadata and keys in the background, until there are some.

        Those that are held already are asked for anew.
        """
        if self.seen_keys.is_set():
            self.renew_keys()
            self._start_timer()
        elif self._warm_up is None:
            self._warm_up = asyncio.get_running_loop().create_task(self._until_keys_are_seen())

    async def _until_keys_are_seen(self) -> None:
        pause_s, pause_s_max = WARM_UP_SECONDS
        while not self.seen_keys.is_set():
            await self._ask(self._primary)
            if not self.seen_keys.is_set():
                await asyncio.sleep(pause_s)
                pause_s = min(2 * pause_s, pause_s_max)

    def _start_timer(self) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().create_task(self._keep_keys_fresh())

    async def _keep_keys_fresh(self) -> None:
        """Ask for keys that are due, also while every answer is a cached one."""
        low, high = _TIMER_SECONDS
        while True:
            self._ask_for_due_keys()
            due_at = min(source.due_at for source in self._sources if source.fetched)
            pause_s = due_at - self._clock.monotonic()
            await self._clock.sleep(min(max(pause_s, low), high))

    def status(self) -> ProviderStatus:
        """Return what an operator wants to know of this provider."""
        keys = self._primary.keys
        state = f"{len(keys.keys)} keys" if keys else "no keys yet"
        if self._failure:
            state += f"; last call failed: {self._failure.detail}"
        names = self._issuers.names if self._issuers else ("not discovered yet",)
        sets = [_told(source) for source in self._sources]
        detail = "\n".join((state, f"accepts iss: {_listed(names)}", *sets))
        return ProviderStatus(self.config.issuer, ready=self.seen_keys.is_set(), detail=detail)

    async def aclose(self) -> None:
        """End everything that is under way, and close the connections."""
        tasks = [task for task in (self._warm_up, self._timer) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._single_flight.aclose()
        await self.door.aclose()


def _told(source: KeySource) -> str:
    """Say in one line what one key set is."""
    name = f"keys of {source.url}" if source.url else "keys as discovered"
    if source.keys is None:
        return f"{name}: {'expired' if source.expired else 'not fetched'}"
    kids = _listed(source.keys.kids) or "none"
    algorithms = _listed(source.keys.algorithms)
    due = ", due" if source.due else ""
    return f"{name}: {source.age_s:.0f} s old{due}; algorithms {algorithms}; kids {kids}"


def _listed(names: Sequence[str]) -> str:
    """Return names in one line; those of a provider's documents may have any characters."""
    return ", ".join(json.dumps(name)[1:-1] for name in names)
