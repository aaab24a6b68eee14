"""The two clocks, passed to whoever needs the time."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time judges what a token says of itself; monotonic time ages what we keep."""

    def now(self) -> float:
        """Return the seconds since 1970, as ``exp`` counts them (RFC 7519 section 2)."""

    def monotonic(self) -> float:
        """Return seconds that never jump, from an arbitrary start."""

    async def sleep(self, seconds: float) -> None:
        """Return after so many monotonic seconds."""


class SystemClock:
    """The machine's clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(asyncio.sleep)
