"""The errors and notices about a configuration, collected until all of it is read."""

from __future__ import annotations

import difflib
from collections import defaultdict
from typing import TYPE_CHECKING

from authz.errors import ConfigurationError
from authz.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.model import SourcePosition

SUGGESTIONS_MAX = 20
"""Of one load: each looks at every known name, and a wrong file can have thousands."""
PLACES_MAX = 3
"""Named in a notice that stands for several equal ones; the others are counted."""


class Problems:
    """Errors and notices, each of them once.

    A shared YAML node (an alias, a ``_plugin_configs`` entry) is read once for
    every use and would otherwise be reported as often.
    """

    def __init__(
        self, errors: Iterable[Diagnostic] = (), notices: Iterable[Diagnostic] = ()
    ) -> None:
        self._errors: dict[Diagnostic, None] = dict.fromkeys(errors)
        self._notices: dict[Diagnostic, None] = dict.fromkeys(notices)
        self._suggestions_left = SUGGESTIONS_MAX

    def error(self, position: SourcePosition, parameter: str, message: str) -> None:
        """Record something that keeps the configuration from being used."""
        self._errors[Diagnostic(position, parameter, message)] = None

    def notice(self, position: SourcePosition, parameter: str, message: str) -> None:
        """Record something that the operator should know and may leave as it is."""
        self._notices[Diagnostic(position, parameter, message)] = None

    @property
    def errors(self) -> tuple[Diagnostic, ...]:
        """All errors, by place."""
        return tuple(sorted(self._errors))

    @property
    def notices(self) -> tuple[Diagnostic, ...]:
        """All notices, by their first place; equal ones are one, with their count and places."""
        places: defaultdict[tuple[str, str], list[SourcePosition]] = defaultdict(list)
        for notice in sorted(self._notices):
            places[notice.parameter, notice.message].append(notice.position)
        return tuple(
            Diagnostic(first, parameter, message + _repeated(others))
            for (parameter, message), (first, *others) in places.items()
        )

    def raise_errors(self) -> None:
        """Raise ``ConfigurationError`` with every error by place, if there is one."""
        if self._errors:
            raise ConfigurationError(self.errors)

    def did_you_mean(self, name: str, known: Iterable[str]) -> str:
        """Return ``"; did you mean 'x'?"`` for the nearest known name, or nothing."""
        if not self._suggestions_left:
            return ""
        self._suggestions_left -= 1
        nearest = difflib.get_close_matches(name, list(known), n=1)
        return f"; did you mean '{nearest[0]}'?" if nearest else ""


def _repeated(others: list[SourcePosition]) -> str:
    """Return what a notice says of the further places where it stands too."""
    if not others:
        return ""
    named = ", ".join(map(str, others[: PLACES_MAX - 1]))
    unnamed = len(others) - (PLACES_MAX - 1)
    more = f" and {unnamed} more" if unnamed > 0 else ""
    return f" ({len(others) + 1} times: also at {named}{more})"
