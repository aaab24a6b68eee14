"""What a token must hold (Kong's ``*_required`` parameters)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import Forbidden, Reason
from authz.policy.claims import walk, words

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
        held = words(walk(claims, self.path)) or frozenset()
        if not any(needed <= held for needed in self.alternatives):
            claim = ".".join(self.path)
            raise Forbidden(self.reason, f"the token's {claim} lacks what is required")


class Authorization:
    """Everything that one plugin requires of a token."""

    def __init__(self, config: OpenIDConnect) -> None:
        access = config.access
        audience = access.audience_claim, access.audience_required
        scopes = access.scopes_claim, access.scopes_required
        declared = (
            ("audience_required", Reason.AUDIENCE_MISSING, *audience),
            ("scopes_required", Reason.SCOPE_MISSING, *scopes),
        )
        self.requirements: Final = tuple(
            Requirement(parameter, reason, path, _alternatives(required))
            for parameter, reason, path, required in declared
            if required
        )

    def check(self, claims: Claims) -> None:
        """Raise :class:`~authz.errors.Forbidden` at the first thing that is missing."""
        for requirement in self.requirements:
            requirement.check(claims)


def _alternatives(required: Iterable[str]) -> tuple[frozenset[str], ...]:
    # A blank item would be contained in everything: it is met by nobody.
    return tuple(frozenset(item.split() or " ") for item in required)
