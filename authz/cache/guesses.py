"""How often a client's secret has been guessed wrong of late."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from authz.cache.memory import BoundedCache
from authz.errors import Reason, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable

# So many different wrong secrets at once, then one in so many seconds.
GUESSES_MAX: Final = 20
SECONDS_PER_GUESS: Final = 1.0
CLIENTS_MAX: Final = 10_000

_ENTRY_BYTES: Final = 64


class Guesses:
    """A leaking bucket per client: a refused secret adds to it, time empties it.

    Only those who would have to be asked about at the provider are turned away:
    a client whose good secret is remembered does not notice who guesses at it.
    """

    def __init__(self, *, timer: Callable[[], float]) -> None:
        self._timer = timer
        # Per client, the time at which its bucket will be empty.
        self._empty_at: BoundedCache[float] = BoundedCache(
            entries_max=CLIENTS_MAX, bytes_max=CLIENTS_MAX * _ENTRY_BYTES, timer=timer
        )

    def check(self, client: bytes) -> None:
        """Raise :class:`~authz.errors.Throttled` while a client's bucket is full."""
        over_s = self._fill_s(client) - (GUESSES_MAX - 1) * SECONDS_PER_GUESS
        if over_s > 0:
            raise Throttled(
                Reason.GUESSING_THROTTLED,
                "too many wrong secrets for this client",
                retry_after=math.ceil(over_s),
            )

    def wrong(self, client: bytes) -> None:
        """Note one more refused secret."""
        fill_s = self._fill_s(client) + SECONDS_PER_GUESS
        self._empty_at.put(
            client, self._timer() + fill_s, lifetime_s=fill_s, size_bytes=_ENTRY_BYTES
        )

    def _fill_s(self, client: bytes) -> float:
        return max(0.0, (self._empty_at.get(client) or 0.0) - self._timer())
