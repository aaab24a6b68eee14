"""How long a provider wants to be left alone, from whatever it says that with."""

from __future__ import annotations

import random
import re
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.clock import Clock

PAUSE_SECONDS_MIN: Final = 1.0
PAUSE_SECONDS_MAX: Final = 60.0
# A pause is longer by up to this share of it, drawn by lot: those who were told the same
# number of seconds must not come back in the same moment.
JITTER_SHARE: Final = 0.1

_TOO_MANY_REQUESTS: Final = 429
_REQUEST_TIMEOUT: Final = 408
_UNAVAILABLE: Final = 503
_SERVER_ERRORS: Final = range(500, 600)
# X-RateLimit-Reset is seconds since 1970 for some (Okta, Auth0), seconds from now for others.
_EPOCH_SECONDS_MIN: Final = 1_000_000_000

_DIGITS: Final = re.compile(r"[0-9]{1,18}")
# RateLimit, draft-ietf-httpapi-ratelimit-headers: from -08 on a list of items
# ("default";r=0;t=30), before that a list of pairs (limit=10, remaining=0, reset=30).
_ITEM_REMAINING: Final = re.compile(r";\s*r\s*=\s*([0-9]{1,18})")
_ITEM_RESET: Final = re.compile(r";\s*t\s*=\s*([0-9]{1,18})")
_PAIR_RESET: Final = re.compile(r"(?:^|,)\s*reset\s*=\s*([0-9]{1,18})")


def seconds_asked_for(status: int, headers: Mapping[str, str], now: float) -> float | None:
    """Return how long the provider wants no call, ``None`` if it does not say.

    ``headers`` with lower-case names; ``now`` in seconds since 1970.  Only an answer that
    tells of the provider's own trouble counts: Retry-After beside a verdict on one client
    concerns that client, and Okta sends its rate-limit headers with every answer.
    """
    if status in {_TOO_MANY_REQUESTS, _REQUEST_TIMEOUT} or status in _SERVER_ERRORS:
        seconds = _retry_after(headers, now)
        if seconds is None and status in {_TOO_MANY_REQUESTS, _UNAVAILABLE}:
            seconds = _rate_limit_reset(headers, now)
        return seconds
    return None


def _retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """Read Retry-After (RFC 9110 section 10.2.3): seconds, or a date."""
    value = headers.get("retry-after", "").strip()
    if _DIGITS.fullmatch(value):
        return float(value)
    date = _date(value)
    if date is None:
        return None
    # By the provider's own clock, where it tells the time: ours may differ.
    told = _date(headers.get("date", ""))
    return date - (now if told is None else told)


def _rate_limit_reset(headers: Mapping[str, str], now: float) -> float | None:
    for name in ("x-rate-limit-reset", "x-ratelimit-reset", "ratelimit-reset"):
        value = headers.get(name, "").strip()
        if _DIGITS.fullmatch(value):
            seconds = float(value)
            return seconds - now if seconds >= _EPOCH_SECONDS_MIN else seconds
    return _rate_limit(headers.get("ratelimit", ""))


def _rate_limit(value: str) -> float | None:
    """Read RateLimit: the longest wait among the limits that are used up, else among all."""
    waits = []
    for item in value.split(","):
        remaining, reset = _ITEM_REMAINING.search(item), _ITEM_RESET.search(item)
        if reset:
            used_up = remaining is not None and int(remaining[1]) == 0
            waits.append((used_up, float(reset[1])))
    if waits:
        return max(waits)[1]
    pair = _PAIR_RESET.search(value)
    return float(pair[1]) if pair else None


def _date(value: str) -> float | None:
    try:
        return parsedate_to_datetime(value).timestamp()
    # Whatever the text is, OverflowError for a year that no clock has included.
    except (ValueError, TypeError, OverflowError, IndexError):
        return None


class Pause:
    """When a provider may be asked again that wants to be left alone.

    ``lot`` draws a number from 0 to 1.
    """

    def __init__(self, clock: Clock, lot: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._lot = lot
        self._until = 0.0
        self._wordless = 0

    @property
    def left_s(self) -> float:
        """How many seconds are left of it; 0 or less: none."""
        return self._until - self._clock.monotonic()

    def begin(self, asked_s: float | None) -> float:
        """Begin a pause and return its length in seconds.

        Without a word from the provider the first takes a second, and each that follows
        twice as long as the one before, until :meth:`end`.
        """
        if asked_s is None:
            asked_s = PAUSE_SECONDS_MIN * 2.0 ** min(self._wordless, 16)
            self._wordless += 1
        seconds = min(max(asked_s, PAUSE_SECONDS_MIN), PAUSE_SECONDS_MAX)
        until = self._clock.monotonic() + seconds * (1 + JITTER_SHARE * self._lot())
        self._until = max(self._until, until)
        return seconds

    def end(self) -> None:
        """Note a success: the next pause is a first one."""
        self._wordless = 0
