"""What is to be done when: one time per key, and one timer for all."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.clock import Clock

# Beyond twice the keys and these, the heap is made anew without what counts no longer.
_STALE_ENTRIES_MAX: Final = 64


class Agenda:
    """Calls ``wake`` when a time has come that a key was put down for.

    Times are monotonic seconds.  :meth:`due` says whose time has come; a test that moves
    the clock calls ``wake`` itself.
    """

    def __init__(self, clock: Clock, wake: Callable[[], None]) -> None:
        self._clock = clock
        self._wake = wake
        self._times: dict[bytes, float] = {}
        self._heap: list[tuple[float, int, bytes]] = []
        self._numbers = itertools.count()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0

    def put(self, key: bytes, at: float) -> None:
        """Put a key down for a time, in the place of the one before."""
        self._times[key] = at
        heapq.heappush(self._heap, (at, next(self._numbers), key))
        if len(self._heap) > 2 * len(self._times) + _STALE_ENTRIES_MAX:
            self._heap = [(at, next(self._numbers), key) for key, at in self._times.items()]
            heapq.heapify(self._heap)
        self._arm()

    def drop(self, key: bytes) -> None:
        """Strike a key out."""
        self._times.pop(key, None)

    def due(self) -> list[bytes]:
        """Take out the keys whose time has come, and return them."""
        now, due = self._clock.monotonic(), list[bytes]()
        while self._heap and self._heap[0][0] <= now:
            at, _, key = heapq.heappop(self._heap)
            if self._times.get(key) == at:
                del self._times[key]
                due.append(key)
        self._arm()
        return due

    def _arm(self) -> None:
        """Set the timer to the next time, unless it goes off before that anyway."""
        if not self._heap:
            return
        at = self._heap[0][0]
        if self._timer is not None and self._timer_at <= at:
            return
        self.stop()
        self._timer_at = at
        wait_s = max(0.0, at - self._clock.monotonic())
        self._timer = asyncio.get_running_loop().call_later(wait_s, self._went_off)

    def _went_off(self) -> None:
        self._timer = None
        self._wake()

    def stop(self) -> None:
        """Wake nobody any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
