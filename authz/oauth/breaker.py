"""When to stop asking a provider that does not answer, and how to find out that it is back."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from authz.clock import Clock

# So many calls in a row without an answer open the breaker.
UNANSWERED_MAX: Final = 5
# The time between two probes: doubled after each that has no answer either.  It is also
# how long callers are refused after the provider is back.
PROBE_SECONDS_MIN: Final = 0.5
PROBE_SECONDS_MAX: Final = 5.0
# Each is shorter by up to this share of it, drawn by lot, so that instances take turns.
JITTER_SHARE: Final = 0.5


class Breaker:
    """A circuit breaker for one origin.

    Only calls without an answer count: refused, timed out, cut off, or answered by a
    gateway in the provider's place.  Any other answer shows that the provider is alive,
    so a request that makes it answer 500 shuts out nobody else.

    ``lot`` draws a number from 0 to 1.
    """

    def __init__(self, clock: Clock, lot: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._lot = lot
        self._unanswered = 0
        self._pause_s = PROBE_SECONDS_MIN
        self._probe_at = 0.0
        self._probing: set[Hashable] = set()
        self.cause = ""
        """Why the last call had no answer."""

    @property
    def is_open(self) -> bool:
        """Whether calls are refused but for probes."""
        return self._unanswered >= UNANSWERED_MAX

    @property
    def left_s(self) -> float:
        """How many seconds until the next probe."""
        return max(0.0, self._probe_at - self._clock.monotonic())

    def probe(self, kind: Hashable) -> bool:
        """Whether a call may find out if the provider is back; one at a time of each kind.

        Kinds are apart so that a call that hangs for one caller keeps nobody else's back.
        """
        if self.left_s > 0 or kind in self._probing:
            return False
        self._probing.add(kind)
        return True

    def probed(self, kind: Hashable) -> None:
        """Note that a probe has ended, in whatever way."""
        self._probing.discard(kind)

    def answered(self) -> bool:
        """Note an answer; return whether that closes the breaker."""
        was_open = self.is_open
        self._unanswered = 0
        self._pause_s = PROBE_SECONDS_MIN
        return was_open

    def unanswered(self, cause: str, *, probe: bool) -> bool:
        """Note a call without an answer; ``probe``: one that :meth:`probe` had let through.

        Returns whether that opens the breaker.
        """
        self._unanswered += 1
        self.cause = cause
        # Others may have begun before it opened: they say nothing that is new.
        opens = self._unanswered == UNANSWERED_MAX
        if probe or opens:
            shorter = 1 - JITTER_SHARE * self._lot()
            self._probe_at = self._clock.monotonic() + self._pause_s * shorter
            self._pause_s = min(2 * self._pause_s, PROBE_SECONDS_MAX)
        return opens
