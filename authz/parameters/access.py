"""What a valid token must hold for the request to pass."""

from __future__ import annotations

from dataclasses import dataclass

from authz.parameters.common import CLAIM, FILLED, TEXTS, TURNS_AWAY
from authz.parameters.declaration import DONE, param, refused


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessParameters:
    """What a valid token must hold for the request to pass.

    Of each ``*_required`` list one item is enough; all words of an item are needed.
    """

    audience_claim: tuple[str, ...] = param(
        CLAIM, ("aud",), becomes=DONE, about="the path to the audience"
    )
    audience_required: tuple[str, ...] = param(
        FILLED, becomes=DONE, about="the audiences of which a token must hold one"
    )
    scopes_claim: tuple[str, ...] = param(
        CLAIM, ("scope",), becomes=DONE, about="the path to the scopes"
    )
    scopes_required: tuple[str, ...] = param(
        FILLED, becomes=DONE, about="the scopes of which a token must hold one"
    )
    groups_claim: tuple[str, ...] = param(
        CLAIM, ("groups",), becomes=DONE, about="the path to the groups"
    )
    groups_required: tuple[str, ...] = param(
        FILLED, becomes=DONE, about="the groups of which a token must hold one"
    )
    roles_claim: tuple[str, ...] = param(
        CLAIM, ("roles",), becomes=DONE, about="the path to the roles"
    )
    roles_required: tuple[str, ...] = param(
        FILLED, becomes=DONE, about="the roles of which a token must hold one"
    )
    claims_forbidden: tuple[str, ...] = param(
        TEXTS, becomes=refused(TURNS_AWAY), about="claims that a token must not hold"
    )
