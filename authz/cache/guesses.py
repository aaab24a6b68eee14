"""How often a client's secret has been guessed wrong of late."""

from __future__ import annotations

import contextlib
import math
import unicodedata
from typing import TYPE_CHECKING, Final

from authz.cache.memory import BoundedCache
from authz.errors import Reason, Throttled, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# So many different wrong secrets at once, then one in so many seconds.  So a bucket is
# never fuller than 20 s, and a client that nobody guesses at any more is let in by then.
GUESSES_MAX: Final = 20
SECONDS_PER_GUESS: Final = 1.0
CLIENTS_MAX: Final = 10_000

_ENTRY_BYTES: Final = 64


class GuessLimiter:
    """A leaking bucket per client: an exchange that may be a guess adds to it, time empties it.

    What an exchange adds is taken back unless the provider refuses it: the place is
    taken before it begins, for a thousand that begin at once have all been let in
    before the first is refused.
    """

    def __init__(self, *, timer: Callable[[], float]) -> None:
        self._timer = timer
        # Per client, the time at which its bucket will be empty.
        self._empty_at: BoundedCache[float] = BoundedCache(
            entries_max=CLIENTS_MAX, bytes_max=CLIENTS_MAX * _ENTRY_BYTES, timer=timer
        )

    @contextlib.contextmanager
    def place(self, client: bytes) -> Iterator[None]:
        """Hold a place during an exchange; it stays taken if that was refused.

        Raises :class:`~authz.errors.Throttled`, and adds nothing, if the bucket is full.
        """
        self._take(client)
        try:
            yield
        except Unauthenticated:
            raise
        except BaseException:
            self._give_back(client)
            raise
        self._give_back(client)

    def _take(self, client: bytes) -> None:
        fill_s = self._fill_s(client)
        over_s = fill_s - (GUESSES_MAX - 1) * SECONDS_PER_GUESS
        if over_s > 0:
            raise Throttled(
                Reason.GUESSING_THROTTLED,
                "too many wrong secrets for this client",
                retry_after=math.ceil(over_s),
            )
        self._put(client, fill_s + SECONDS_PER_GUESS)

    def _give_back(self, client: bytes) -> None:
        self._put(client, self._fill_s(client) - SECONDS_PER_GUESS)

    def _put(self, client: bytes, fill_s: float) -> None:
        if fill_s <= 0:
            self._empty_at.drop(client)
        else:
            self._empty_at.put(
                client, self._timer() + fill_s, lifetime_s=fill_s, size_bytes=_ENTRY_BYTES
            )

    def _fill_s(self, client: bytes) -> float:
        return max(0.0, (self._empty_at.get(client) or 0.0) - self._timer())


def fold(client_id: str) -> str:
    """Return what ids have in common that a provider may take for one.

    Providers look ids up in databases that ignore case, width, accents, or spaces at
    the end; a guesser must not have a bucket for each spelling.  Two clients whose ids
    fold to one share a bucket, and nothing else.
    """
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", client_id).casefold())
    return "".join(c for c in folded if not unicodedata.combining(c)).strip()
