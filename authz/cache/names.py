"""Header names that the fast path need not think about."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

NAMES_MAX: Final = 1_024
NAME_CHARS_MAX: Final = 128


class FamiliarNames:
    """The names of headers that requests were allowed with, and that decide nothing.

    A name that ``decides`` something is never among them.
    """

    def __init__(self, decides: Callable[[str], bool]) -> None:
        self._decides = decides
        self._use(frozenset())

    def _use(self, names: frozenset[str]) -> None:
        self._names = names
        self.hold: Callable[[Iterable[str]], bool] = names.issuperset
        """Tell whether all names of a request are familiar; any thread may ask."""

    def learn(self, names: Iterable[str]) -> None:
        """Add the names of one request; for the loop.

        Beyond the bound all are forgotten but these: who sends another name each
        time makes the others take the whole way once more, and nothing worse.
        """
        sent = frozenset(names)
        unknown = sent - self._names
        new = frozenset(n for n in unknown if len(n) <= NAME_CHARS_MAX and not self._decides(n))
        if new and len(sent) <= NAMES_MAX:
            everything = self._names | new
            fits = len(everything) <= NAMES_MAX
            self._use(everything if fits else everything & sent)
