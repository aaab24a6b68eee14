"""The tokens that providers have given for callers: one home for how they are had and kept.

A token that is held is handed out at once.  It is renewed ahead, in the background, by a
timer.  Whoever holds none waits for the one call that fetches it for all.  Only the
provider's verdict on the caller ends a held token before its own end: any other trouble
pauses the renewals of that token and is logged.
"""

from __future__ import annotations

import logging
import random
from contextlib import nullcontext
from dataclasses import dataclass, field
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from authz.errors import (
    Forbidden,
    Overloaded,
    Reason,
    Refusal,
    Retryable,
    Unauthenticated,
    Unavailable,
)
from authz.tokens.agenda import Agenda
from authz.tokens.guesses import GuessLimiter
from authz.tokens.memory import BoundedCache
from authz.tokens.single_flight import SingleFlight
from authz.tokens.terms import life_left_min_s, renewal_s
from authz.tokens.tier import Kept

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.clock import Clock
    from authz.model import Claims, Secret
    from authz.telemetry import Telemetry
    from authz.tokens.guesses import Guess
    from authz.tokens.terms import Terms
    from authz.tokens.tier import Tier

_log = logging.getLogger("authz.exchange")

# A secret may have been set at the provider a moment after it was refused.
REFUSED_SECONDS_MAX: Final = 5.0
REFUSED_ENTRIES_MAX: Final = 10_000
# A credential that was good need not take its place among the guesses.
KNOWN_SECONDS_MAX: Final = 24 * 3_600.0
KNOWN_ENTRIES_MAX: Final = 10_000
CALLS_MAX: Final = 4_096
# Of these, so many may be for callers that nobody knows.
STRANGERS_MAX: Final = 3_072
# Between two renewals of one token, however short its life.
RENEWAL_SECONDS_MIN: Final = 1.0
# After a renewal has failed, the next one waits so long, and twice as long each time.
PAUSE_SECONDS: Final = (5.0, 60.0)
# A pause is longer by up to this share of it: those that failed together part.
PAUSE_JITTER_SHARE: Final = 0.5
# One cause of trouble at one provider is logged once in so long, however many it concerns.
LOG_SECONDS_MIN: Final = PAUSE_SECONDS[0]
CAUSES_MAX: Final = 1_000

_DIGEST_BYTES: Final = 32
_CAUSE_BYTES: Final = 512


class Occasion(Enum):
    """Why a provider is asked for a token."""

    RENEWAL = "renewal"
    """The one that is held comes to its end; its caller waits for nothing."""
    KNOWN = "known"
    """The provider has accepted this credential before."""
    STRANGER = "stranger"
    """Nobody has accepted it yet: it may be a guess."""


@dataclass(frozen=True, slots=True)
class Granted:
    """What a provider has given, verified.

    ``expires_at``: the token's own end, in seconds since 1970.  ``expires_in``: what the
    provider said beside it, in seconds.
    """

    token: Secret
    claims: Claims
    expires_at: float
    expires_in: float | None = None


class Grant(Protocol):
    """How one caller's token is had: what a method tells the keeper."""

    @property
    def terms(self) -> Terms:
        """For how long it is kept."""

    @property
    def provider(self) -> object:
        """Whom it asks."""

    @property
    def guess(self) -> Guess:
        """Whom a refusal counts against; made anew each time, so that nothing of it is kept."""

    @property
    def log_fields(self) -> Mapping[str, str]:
        """Whose token it is, for the log."""

    async def obtain(self, occasion: Occasion, guess: Guess) -> Granted:
        """Ask the provider, under a deadline of its own, and verify what it gives.

        ``guess``: what the property has returned.  Raises
        :class:`~authz.errors.Unauthenticated` for a verdict on the caller alone.
        """

    async def vouch(self, kept: Kept) -> None:
        """Raise :class:`~authz.errors.Unauthenticated` if a kept token is good no more."""


@dataclass(slots=True, eq=False)
class _Renewal:
    """How and when a kept token is renewed: what this process alone knows.

    ``grant`` holds the caller's secret, for as long as its token is kept; ``None``: its
    provider is closed.  ``due_at`` and ``ends_at``, in monotonic seconds, are when the
    next renewal may begin and when the token has ended.  ``used``: whether it was handed
    out since it was fetched.
    """

    grant: Grant | None = field(repr=False)
    kept: Kept = field(repr=False)
    due_at: float
    ends_at: float
    used: bool
    failures: int = 0


class Keeper:
    """Hands out tokens by key, a digest of everything that a token depends on.

    ``life_min_s``: a token that has less life left than this, or than a tenth of its
    whole life, is handed out only if no better one can be had.  ``lot`` draws a number
    from 0 to 1.
    """

    def __init__(
        self,
        tier: Tier,
        *,
        entries_max: int,
        life_min_s: float,
        clock: Clock,
        telemetry: Telemetry,
        lot: Callable[[], float] = random.random,
    ) -> None:
        self._tier = tier
        self._entries_max = entries_max
        self._life_min_s = life_min_s
        self._clock = clock
        self._telemetry = telemetry
        self._lot = lot
        timer = clock.monotonic
        self._calls: SingleFlight[Kept] = SingleFlight(calls_max=CALLS_MAX)
        self._guesses = GuessLimiter(timer=timer)
        # Refusals and good credentials have caches of their own: a flood of wrong secrets
        # pushes out no good token, and a credential is known without its token.
        self._refused: BoundedCache[Refusal] = BoundedCache(
            entries_max=REFUSED_ENTRIES_MAX,
            bytes_max=REFUSED_ENTRIES_MAX * _DIGEST_BYTES,
            timer=timer,
        )
        self._known: BoundedCache[bool] = BoundedCache(
            entries_max=KNOWN_ENTRIES_MAX, bytes_max=KNOWN_ENTRIES_MAX * _DIGEST_BYTES, timer=timer
        )
        self._logged: BoundedCache[bool] = BoundedCache(
            entries_max=CAUSES_MAX, bytes_max=CAUSES_MAX * _CAUSE_BYTES, timer=timer
        )
        self._renewals: dict[bytes, _Renewal] = {}
        self._agenda = Agenda(clock, self.renew_due)

    # --- Handing out -----------------------------------------------------------------

    async def token(self, key: bytes, grant: Grant) -> Kept:
        """Return the token that is held for a key, or the one that the provider gives now.

        Raises what the provider's answer means, :class:`~authz.errors.Throttled` for one
        guess too many and :class:`~authz.errors.Overloaded` when too many calls are under
        way.  It waits as long as its caller does: the call goes on without it.
        """
        held = await self._held(key, grant)
        if held is None:
            return await self._wait(key, grant)
        if self._guesses.counts_any:  # which pair this is costs two digests
            self._guesses.take_back(grant.guess)
        renewal = self._use(key, grant, held)
        now = self._clock.monotonic()
        if now < renewal.due_at:
            self._telemetry.cache("tokens", "stale" if renewal.failures else "hit")
            return held
        self._telemetry.cache("tokens", "stale")
        # After a failure the held token is the best there is.
        if self._is_about_to_end(held) and not renewal.failures:
            return await self._wait_for_better(key, renewal)
        self._renew(key, renewal)
        return held

    def reusable_until(self, key: bytes) -> float:
        """Return until when the same token would be handed out, in monotonic seconds.

        0: it is not kept, or its renewal is under way.
        """
        renewal = self._renewals.get(key)
        if renewal is None or self._calls.is_under_way(key):
            return 0.0
        return min(renewal.due_at, renewal.ends_at)

    async def _held(self, key: bytes, grant: Grant) -> Kept | None:
        """Return the token that is kept, if it is still vouched for; else forget it."""
        if not grant.terms.keep or (kept := await self._tier.get(key)) is None:
            return None
        try:
            await grant.vouch(kept)
        except Unauthenticated:
            await self._forget(key)
            return None
        return kept

    def _use(self, key: bytes, grant: Grant, held: Kept) -> _Renewal:
        """Note that a token is handed out; it may be another process that has fetched it."""
        renewal = self._renewals.get(key)
        if renewal is None or renewal.kept != held:
            renewal = self._plan(key, grant, held, first=True)
        renewal.grant, renewal.used = grant, True
        return renewal

    def _is_about_to_end(self, kept: Kept) -> bool:
        left_min_s = life_left_min_s(kept.expires_at - kept.issued_at, self._life_min_s)
        return kept.expires_at - self._clock.now() <= left_min_s

    async def _wait(self, key: bytes, grant: Grant) -> Kept:
        """Wait for the provider: nothing is held."""
        if (refusal := self._refused.get(key)) is not None:
            self._telemetry.cache("refusals", "hit")
            raise refusal.again()
        self._telemetry.cache("tokens", "miss")
        occasion = Occasion.KNOWN if self._known.get(key) else Occasion.STRANGER
        if (
            occasion is Occasion.STRANGER
            and len(self._calls) >= STRANGERS_MAX
            and not self._calls.is_under_way(key)
        ):
            raise Overloaded(
                Reason.OVERLOADED,
                f"{STRANGERS_MAX} calls to providers are under way, no more for unknown callers",
            )
        self._telemetry.token_waited("first")
        return await self._calls.run(key, partial(self._fetch, key, grant, occasion))

    async def _wait_for_better(self, key: bytes, renewal: _Renewal) -> Kept:
        """Wait for a renewal that is late; if it fails, the held token serves to its end."""
        self._telemetry.token_waited("renewal")
        try:
            return await self._calls.run(key, partial(self._fetch_anew, key, renewal))
        except Unauthenticated:
            raise
        except Refusal:
            if renewal.kept.expires_at <= self._clock.now():
                raise
            return renewal.kept

    # --- Asking the provider -----------------------------------------------------------

    async def _fetch(self, key: bytes, grant: Grant, occasion: Occasion) -> Kept:
        """Ask, and remember what comes of it; this runs once for all who wait."""
        guess = grant.guess
        place = self._guesses.place(guess) if occasion is Occasion.STRANGER else nullcontext()
        try:
            with place:
                granted = await grant.obtain(occasion, guess)
        except Refusal as error:
            await self._remember_refusal(key, grant, error)
            raise
        if occasion is Occasion.KNOWN:
            # Another method may have counted it, which asked first.
            self._guesses.take_back(guess)
        self._known.put(key, value=True, lifetime_s=KNOWN_SECONDS_MAX, size_bytes=_DIGEST_BYTES)
        return await self._keep(key, grant, granted, first=occasion is not Occasion.RENEWAL)

    async def _remember_refusal(self, key: bytes, grant: Grant, error: Refusal) -> None:
        """Remember a verdict on a credential; only one on the caller ends what is held."""
        if isinstance(error, Unauthenticated):
            self._known.drop(key)
            await self._forget(key)
        elif not (isinstance(error, Forbidden) or error.reason is Reason.IDENTITY_MISMATCH):
            return
        self._refused.put(
            key,
            error,
            lifetime_s=min(grant.terms.refused_s, REFUSED_SECONDS_MAX),
            size_bytes=_DIGEST_BYTES,
        )

    async def _keep(self, key: bytes, grant: Grant, granted: Granted, *, first: bool) -> Kept:
        """Keep a token as long as its plugin and the token itself allow."""
        now = self._clock.now()
        own_life_s = granted.expires_at - now
        life_s = grant.terms.life_s(own_life_s, granted.expires_in, self._life_min_s)
        keeps = grant.terms.keep and life_s > 0
        expires_at = now + life_s if keeps else granted.expires_at
        kept = Kept(granted.token, granted.claims, issued_at=now, expires_at=expires_at)
        if keeps:
            await self._tier.put(key, kept)
            self._plan(key, grant, kept, first=first)
        return kept

    async def _forget(self, key: bytes) -> None:
        self._drop_renewal(key)
        await self._tier.drop(key)

    # --- Renewing ahead ------------------------------------------------------------------

    def _plan(self, key: bytes, grant: Grant, kept: Kept, *, first: bool) -> _Renewal:
        """Put a token's renewal down for a time of its own."""
        now, age_s = self._clock.monotonic(), self._clock.now() - kept.issued_at
        life_s = kept.expires_at - kept.issued_at
        at_age_s = renewal_s(life_s, self._life_min_s, first=first, lot=self._lot())
        renewal = _Renewal(
            grant,
            kept,
            due_at=now + max(at_age_s - age_s, RENEWAL_SECONDS_MIN),
            ends_at=now + life_s - age_s,
            used=first,
        )
        self._drop_renewal(key)  # the newest stand last
        self._renewals[key] = renewal
        while len(self._renewals) > self._entries_max:
            self._drop_renewal(next(iter(self._renewals)))
        self._agenda.put(key, min(renewal.due_at, renewal.ends_at))
        return renewal

    def _drop_renewal(self, key: bytes) -> None:
        self._renewals.pop(key, None)
        self._agenda.drop(key)

    def renew_due(self) -> None:
        """Begin the renewals whose time has come, of tokens that were used; a timer calls it."""
        now = self._clock.monotonic()
        for key in self._agenda.due():
            renewal = self._renewals[key]
            if now >= renewal.ends_at:
                self._drop_renewal(key)
                continue
            self._agenda.put(key, renewal.ends_at)
            if renewal.used:
                self._renew(key, renewal)

    def _renew(self, key: bytes, renewal: _Renewal) -> None:
        """Begin a renewal in the background, unless one is under way."""
        if renewal.grant is not None:
            try:
                self._calls.start(key, partial(self._fetch_anew, key, renewal))
            except Overloaded as error:
                self._pause(key, renewal, error)

    async def _fetch_anew(self, key: bytes, renewal: _Renewal) -> Kept:
        """Renew a token; trouble pauses its renewals and leaves it as it is."""
        grant = renewal.grant
        if grant is None:
            raise Unavailable(Reason.IDP_UNAVAILABLE, "the provider is in no configuration")
        try:
            kept = await self._fetch(key, grant, Occasion.RENEWAL)
        except Unauthenticated as error:
            self._telemetry.token_renewed("refused")
            _log.info(
                "a kept token has ended: the provider refuses its client",
                extra={"fields": {**grant.log_fields, "reason": str(error.reason)}},
            )
            raise
        except Refusal as error:
            self._pause(key, renewal, error)
            raise
        except Exception as error:
            _log.exception("internal error")
            trouble = Unavailable(
                Reason.INTERNAL_ERROR, f"a fault of authz ({type(error).__name__})"
            )
            self._pause(key, renewal, trouble)
            raise trouble from error
        self._telemetry.token_renewed("ok")
        return kept

    def _pause(self, key: bytes, renewal: _Renewal, error: Refusal) -> None:
        """Put the next try off: each failure twice as long as the one before."""
        self._telemetry.token_renewed("failed")
        shortest_s, longest_s = PAUSE_SECONDS
        pause_s = min(shortest_s * 2.0 ** min(renewal.failures, 16), longest_s)
        if isinstance(error, Retryable):
            pause_s = max(pause_s, error.retry_after)
        pause_s *= 1 + PAUSE_JITTER_SHARE * self._lot()
        renewal.failures += 1
        renewal.due_at = self._clock.monotonic() + pause_s
        if self._renewals.get(key) is renewal:
            self._agenda.put(key, min(renewal.due_at, renewal.ends_at))
        self._log_pause(renewal, error, pause_s)

    def _log_pause(self, renewal: _Renewal, error: Refusal, pause_s: float) -> None:
        """Say once a pause why tokens are not renewed; one line stands for all of one cause."""
        grant = renewal.grant
        if grant is None:
            return
        cause = f"{id(grant.provider)} {error.reason} {error.detail}".encode()
        if self._logged.get(cause):
            return
        self._logged.put(cause, value=True, lifetime_s=LOG_SECONDS_MIN, size_bytes=len(cause))
        _log.warning(
            "a token could not be renewed: the one that is held serves on, to its end",
            extra={
                "fields": {
                    **grant.log_fields,
                    "reason": str(error.reason),
                    "detail": error.detail,
                    **error.log_fields,
                    "next_try_in_s": round(pause_s, 1),
                    "token_ends_in_s": round(renewal.ends_at - self._clock.monotonic(), 1),
                }
            },
        )

    # --- Life ----------------------------------------------------------------------------

    def release(self, provider: object) -> None:
        """Renew no more tokens of a provider that is about to be closed."""
        for renewal in self._renewals.values():
            if renewal.grant is not None and renewal.grant.provider is provider:
                renewal.grant = None

    async def settled(self) -> None:
        """Return once the calls that are under way now have ended."""
        await self._calls.settled()

    async def aclose(self) -> None:
        """End what is under way."""
        self._agenda.stop()
        await self._calls.aclose()

    def tokens_held(self) -> int:
        """Return the number of tokens; any thread may ask."""
        return len(self._tier)

    def refusals_held(self) -> int:
        """Return the number of refusals; any thread may ask."""
        return len(self._refused)

    def calls_under_way(self) -> int:
        """Return the number of calls to providers; any thread may ask."""
        return len(self._calls)
