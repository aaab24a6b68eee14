"""What a token must hold (Kong's ``*_required`` parameters)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import Forbidden, Reason
from authz.policy.claims import walk, words
from authz.strict_json import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.model import Claims, OpenIDConnect


@dataclass(frozen=True, slots=True)
class Requirement:
    """One claim and what it must contain.

    ``parameter``: Kong's name of it.  ``alternatives``: one of them has to be there with
    all its words.  Kong writes them as an array (any of) of spaced strings (all of).
    """

    parameter: str
    reason: Reason
    path: tuple[str, ...]
    alternatives: tuple[frozenset[str], ...]

    def check(self, claims: Claims) -> None:
        """Raise :class:`~authz.errors.Forbidden` unless the claim is sufficient."""
        found = walk(claims, self.path)
        held = words(found) or frozenset()
        if not any(needed <= held for needed in self.alternatives):
            wanted = " or ".join(" ".join(sorted(needed)) for needed in self.alternatives)
            raise Forbidden(
                self.reason,
                f"the token's {'.'.join(self.path)} is {quoted(found)}, "
                f"{self.parameter} wants {quoted(wanted)}",
            )


# In Kong's order.  Each stands for the parameters ``*_claim`` and ``*_required``.
_REASONS: Final = {
    "audience": Reason.AUDIENCE_MISSING,
    "scopes": Reason.SCOPE_MISSING,
    "groups": Reason.GROUP_MISSING,
    "roles": Reason.ROLE_MISSING,
}


class Authorization:
    """Everything that one plugin requires of a token."""

    def __init__(self, config: OpenIDConnect) -> None:
        self.requirements: Final = tuple(
            Requirement(
                f"{what}_required",
                reason,
                getattr(config.access, f"{what}_claim"),
                _alternatives(required),
            )
            for what, reason in _REASONS.items()
            if (required := getattr(config.access, f"{what}_required"))
        )

    def check(self, claims: Claims) -> None:
        """Raise :class:`~authz.errors.Forbidden` at the first thing that is missing."""
        for requirement in self.requirements:
            requirement.check(claims)


def _alternatives(required: Iterable[str]) -> tuple[frozenset[str], ...]:
    # A blank item would be contained in everything: it is met by nobody.
    return tuple(frozenset(item.split() or " ") for item in required)
