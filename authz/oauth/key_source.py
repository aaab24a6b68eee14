"""The keys behind one URL: the last good set, how long it counts, and when to ask again."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.oauth.jwks import KeySet

# Keys are due after Cache-Control's max-age (or cache_ttl), between these; they serve on
# while the provider does not answer, but not for ever.
FRESH_SECONDS: Final = (30.0, 3_600.0)
STALE_SECONDS_MAX: Final = 24 * 3_600.0
# Kong waits this long after a failed rediscovery (since 3.8).
RETRY_SECONDS: Final = 5.0

_MAX_AGE: Final = re.compile(r"(?:^|,)\s*max-age\s*=\s*\"?([0-9]{1,9})\"?\s*(?:,|$)", re.IGNORECASE)


class KeySource:
    """The keys behind one URL.  All times are monotonic, in seconds.

    ``url`` is ``None`` for the set that discovery names.  ``fresh_s``: how long a set is
    fresh if the answer does not say.  ``refresh_at``: when the set is due; it serves on
    then.  ``expires_at``: when it counts no more.  ``retry_at``: until when a failed call
    is not repeated.
    """

    def __init__(self, url: str | None, clock: Clock, *, fresh_s: float) -> None:
        self.url = url
        self.fetched_at = 0.0
        self.refresh_at = 0.0
        self.expires_at = 0.0
        self.retry_at = 0.0
        self._clock = clock
        self._fresh_s_default = fresh_s
        self._keys: KeySet | None = None
        self._cause: str | None = None

    @property
    def keys(self) -> KeySet | None:
        """The last good set, unless there is none or it has expired."""
        return None if self.expired else self._keys

    @property
    def fetched(self) -> bool:
        """Whether there was a good set once."""
        return self._keys is not None

    @property
    def expired(self) -> bool:
        """Whether there was a set, so long ago that it counts no more."""
        return self.fetched and self._clock.monotonic() > self.expires_at

    @property
    def due(self) -> bool:
        """Whether it is time to ask for the set again, which still serves."""
        return self.fetched and self._clock.monotonic() >= self.due_at

    @property
    def due_at(self) -> float:
        """When the set is to be asked for again, the last failure considered."""
        return max(self.refresh_at, self.retry_at)

    @property
    def may_ask(self) -> bool:
        """Whether the last call did not fail just now."""
        return self._clock.monotonic() >= self.retry_at

    @property
    def age_s(self) -> float:
        """How long ago the set was fetched, in seconds."""
        return self._clock.monotonic() - self.fetched_at

    def failed(self, cause: str) -> bool:
        """Note that a call failed: the set stays, and the next call waits a little.

        Return whether the last call did not fail for this cause.
        """
        self.retry_at = self._clock.monotonic() + RETRY_SECONDS
        is_new, self._cause = cause != self._cause, cause
        return is_new

    def take_over(self, other: KeySource) -> None:
        """Hold what another source of the same URL holds, for as long; it is due at once."""
        self._keys, self.fetched_at = other._keys, other.fetched_at
        self.expires_at = other.expires_at

    def replace(self, keys: KeySet, cache_control: str) -> bool:
        """Take a new set as a whole; return whether a key of the old one has gone."""
        lost = self._keys is not None and not self._keys.is_within(keys)
        now = self._clock.monotonic()
        self._keys, self.fetched_at = keys, now
        self.refresh_at = now + self._fresh_s(cache_control)
        self.expires_at = now + STALE_SECONDS_MAX
        self.retry_at, self._cause = 0.0, None
        return lost

    def _fresh_s(self, cache_control: str) -> float:
        found = _MAX_AGE.search(cache_control)
        wanted = float(found[1]) if found else self._fresh_s_default
        low, high = FRESH_SECONDS
        return min(max(wanted, low), high)
