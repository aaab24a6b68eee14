"""Whose turn it is when more ask than there are places, without anybody waiting in line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

SOURCES_MAX: Final = 64
# A source that was told when to come again loses its turn this long after that.
LATE_SECONDS_MAX: Final = 5.0


class Turns:
    """The sources that were turned away, in the order in which they may come again.

    Nobody waits: whoever is turned away is told when to come, and finds a place left for
    it then.  One source that asks all the time has one turn among the others'.
    ``timer`` returns monotonic seconds.
    """

    def __init__(self, timer: Callable[[], float]) -> None:
        self._timer = timer
        # Per source, when it loses its turn.
        self._until: dict[str, float] = {}

    def ahead(self, source: str) -> int:
        """Return how many sources are before this one."""
        now = self._timer()
        for late in [one for one, until in self._until.items() if until <= now]:
            del self._until[late]
        return next((n for n, one in enumerate(self._until) if one == source), len(self._until))

    def wait(self, source: str, seconds: float) -> None:
        """Note that a source was told to come again in so many seconds."""
        if source in self._until or len(self._until) < SOURCES_MAX:
            self._until[source] = self._timer() + seconds + LATE_SECONDS_MAX

    def take(self, source: str) -> None:
        """Note that a source has had its turn."""
        self._until.pop(source, None)

    def __bool__(self) -> bool:
        return bool(self._until)
