"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio


class Clock:
    """Wall time and monotonic time, both in seconds.

    They start at different values, so that code which mixes them up fails.
    """

    def __init__(self, wall: float = 1_754_944_413.0, monotonic: float = 1_000.0) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        """The wall clock: seconds since 1970, as ``time.time``."""
        return self._wall

    def monotonic(self) -> float:
        """Seconds since an arbitrary start, as ``time.monotonic``."""
        return self._monotonic

    def advance(self, seconds: float) -> None:
        """Let time pass on both clocks."""
        self._wall += seconds
        self._monotonic += seconds
        due = [one for one in self._sleepers if one[0] <= self._monotonic]
        self._sleepers = [one for one in self._sleepers if one not in due]
        for _, woken in due:
            if not woken.done():
                woken.set_result(None)

    def set_wall(self, seconds: float) -> None:
        """Step the wall clock alone, as an operator or NTP does."""
        self._wall = seconds

    async def sleep(self, seconds: float) -> None:
        """Sleep until the test has let so much time pass."""
        woken = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._monotonic + seconds, woken))
        await woken
