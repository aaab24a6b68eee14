"""What a token must hold (Kong's ``*_required`` parameters)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.errors import Forbidden, Reason
from authz.policy.claims import walk, words

if TYPE_CHECKING:
    from authz.model import Claims, OpenIDConnect


@dataclass(frozen=True, slots=True)
class Requirement:
    """One claim and what it must contain.

    ``alternatives``: one of them has to be there with all its words.  Kong
    writes them as an array (any of) of spaced strings (all of).
    """

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
        declared = (
            (
                Reason.AUDIENCE_MISSING,
                config.access.audience_claim,
                config.access.audience_required,
            ),
            (Reason.SCOPE_MISSING, config.access.scopes_claim, config.access.scopes_required),
        )
        self._requirements = tuple(
            # A blank item would be contained in everything: it is met by nobody.
            Requirement(reason, path, tuple(frozenset(item.split() or " ") for item in required))
            for reason, path, required in declared
            if required
        )

    def check(self, claims: Claims) -> None:
        """Raise :class:`~authz.errors.Forbidden` at the first thing that is missing."""
        for requirement in self._requirements:
            requirement.check(claims)
