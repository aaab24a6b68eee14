"""Header names that the hot path need not think about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NAMES_MAX: Final = 1_024
NAME_CHARS_MAX: Final = 128


class FamiliarNames:
    """The names of headers that requests were allowed with, and that decide nothing.

    ``names`` is replaced and never changed, so any thread may read it; all else is
    for the loop.  A name that ``decides`` something is never among them.
    """

    def __init__(self, decides: Callable[[str], bool]) -> None:
        self._decides = decides
        self.names: frozenset[str] = frozenset()

    def learn(self, names: Iterable[str]) -> None:
        """Add the names of one request.

        Beyond the bound all are forgotten but these: who sends another name each
        time makes the others take the whole way once more, and nothing worse.
        """
        new = frozenset(names) - self.names
        new = frozenset(n for n in new if len(n) <= NAME_CHARS_MAX and not self._decides(n))
        if new and len(new) <= NAMES_MAX:
            everything = self.names | new
            self.names = new if len(everything) > NAMES_MAX else everything
