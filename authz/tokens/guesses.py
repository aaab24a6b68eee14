"""How often a client's secret has been guessed wrong of late."""

from __future__ import annotations

import contextlib
import math
import unicodedata
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from authz.errors import Reason, Throttled, Unauthenticated
from authz.tokens.memory import BoundedCache
from authz.tokens.turns import Turns

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.model import Secret
    from authz.tokens.digest import Digester

V = TypeVar("V")

# So many different wrong secrets at once, then one in so many seconds.  So a bucket is
# never fuller than 20 s, and a client that nobody guesses at any more is let in by then.
GUESSES_MAX: Final = 20
SECONDS_PER_GUESS: Final = 1.0
CLIENTS_MAX: Final = 10_000
# For how long a guess that was counted is not counted again: several methods may ask
# about one pair.
COUNTED_SECONDS_MAX: Final = 5.0
COUNTED_ENTRIES_MAX: Final = 10_000
ATTACKED_CLIENTS_MAX: Final = 1_000

_ENTRY_BYTES: Final = 64
_TURNS_BYTES: Final = 8_192


@dataclass(frozen=True, slots=True)
class Guess:
    """Whom a refused credential counts against: digests of the folded id and of the pair.

    ``source``: where the request comes from.
    """

    client: bytes
    pair: bytes
    source: str = ""

    @classmethod
    def of(cls, digest: Digester, issuer: str, pair: tuple[str, Secret], source: str) -> Guess:
        """Return the guess that an id and its secret are, whichever method presents them."""
        name, secret = pair
        return cls(digest(issuer, fold(name)), digest(issuer, name, secret.reveal()), source)


class GuessLimiter:
    """A leaking bucket per client: a wrong secret adds to it, time empties it.

    An exchange that is under way counts as if it had been refused already: of a thousand
    that begin at once all would else be let in before the first is refused.

    While a bucket is full its free places go in turn to the sources that ask for one, so
    that an attacker keeps no other source out.  ``timer`` returns monotonic seconds.
    """

    def __init__(self, *, timer: Callable[[], float]) -> None:
        self._timer = timer
        # Per client, the time at which its bucket will be empty.
        self._empty_at: BoundedCache[float] = _cache(CLIENTS_MAX, _ENTRY_BYTES, timer)
        # Per client, how many exchanges are under way; the keeper bounds their number.
        self._under_way: Counter[bytes] = Counter()
        self._turns: BoundedCache[Turns] = _cache(ATTACKED_CLIENTS_MAX, _TURNS_BYTES, timer)
        self._counted: BoundedCache[bool] = _cache(COUNTED_ENTRIES_MAX, _ENTRY_BYTES, timer)

    @contextlib.contextmanager
    def place(self, guess: Guess) -> Iterator[None]:
        """Hold a place during an exchange; if that is refused, it was a guess.

        A pair that has been refused a moment ago, as another method asked about it, takes no
        second place.  If it is accepted now, it was no guess: what it added is given back.

        Raises :class:`~authz.errors.Throttled`, and adds nothing, if the bucket is full.
        """
        if self._counted.get(guess.pair):
            yield
            self.take_back(guess)
            return
        client = guess.client
        self._take(client, guess.source)
        try:
            yield
        except Unauthenticated:
            self._put(client, self._debt_s(client) + SECONDS_PER_GUESS)
            self._counted.put(
                guess.pair, value=True, lifetime_s=COUNTED_SECONDS_MAX, size_bytes=_ENTRY_BYTES
            )
            raise
        finally:
            self._under_way[client] -= 1
            if not self._under_way[client]:
                del self._under_way[client]

    def _take(self, client: bytes, source: str) -> None:
        fill_s = self._debt_s(client) + self._under_way[client] * SECONDS_PER_GUESS
        turns = self._turns.get(client)
        ahead = turns.ahead(source) if turns else 0
        over_s = fill_s - (GUESSES_MAX - 1 - ahead) * SECONDS_PER_GUESS
        if over_s > 0:
            self._turn_away(client, source, over_s)
        if turns is not None:
            turns.take(source)
        self._under_way[client] += 1

    @property
    def counts_any(self) -> bool:
        """Whether any pair may have been counted of late."""
        return bool(len(self._counted))

    def take_back(self, guess: Guess) -> None:
        """Give back, once, what a pair has added that is good after all.

        One that is not counted any more has leaked out by itself.
        """
        if self._counted.get(guess.pair):
            self._counted.drop(guess.pair)
            self._put(guess.client, self._debt_s(guess.client) - SECONDS_PER_GUESS)

    def _turn_away(self, client: bytes, source: str, over_s: float) -> None:
        turns = self._turns.get(client) or Turns(self._timer)
        turns.wait(source, over_s)
        self._turns.put(client, turns, lifetime_s=over_s + GUESSES_MAX, size_bytes=_TURNS_BYTES)
        raise Throttled(
            Reason.GUESSING_THROTTLED,
            f"{GUESSES_MAX} wrong secrets for this client of late, wanted fewer: somebody guesses "
            "at it; a pair that was good within a day passes",
            retry_after=math.ceil(over_s),
        )

    def _put(self, client: bytes, debt_s: float) -> None:
        self._empty_at.drop(client)  # no debt is kept as nothing
        self._empty_at.put(
            client, self._timer() + debt_s, lifetime_s=debt_s, size_bytes=_ENTRY_BYTES
        )

    def _debt_s(self, client: bytes) -> float:
        return max(0.0, (self._empty_at.get(client) or 0.0) - self._timer())


def _cache(entries_max: int, entry_bytes: int, timer: Callable[[], float]) -> BoundedCache[V]:
    return BoundedCache(entries_max=entries_max, bytes_max=entries_max * entry_bytes, timer=timer)


def fold(client_id: str) -> str:
    """Return what ids have in common that a provider may take for one.

    Providers look ids up in databases that ignore case, width, accents, or spaces at
    the end; a guesser must not have a bucket for each spelling.  Two clients whose ids
    fold to one share a bucket, and nothing else.
    """
    if client_id.isascii():
        return client_id.lower().strip()
    folded = unicodedata.normalize("NFKD", unicodedata.normalize("NFKD", client_id).casefold())
    return "".join(c for c in folded if not unicodedata.combining(c)).strip()
