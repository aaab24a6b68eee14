"""Proof of possession: a token that is bound to a key is of no use without the key.

RFC 7800 (``cnf``), RFC 9449 (DPoP), RFC 8705 (client certificates).  No proof can be
checked here yet, so a bound token is refused, whichever method brought it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.errors import Reason, Unauthenticated, Unavailable
from authz.model import BearerCredential

if TYPE_CHECKING:
    from authz.errors import Refusal
    from authz.model import Claims, Credential, Identity


def check(identity: Identity, presented: Credential) -> None:
    """Refuse an identity whose token is bound to a key.

    Raises :class:`~authz.errors.Unauthenticated` if the caller presented the token,
    :class:`~authz.errors.Unavailable` if the provider gave it to us.
    """
    bound = bound_by(identity.claims)
    if bound:
        raise _refusal(presented, f"token: bound to a key ({bound}), and no proof is checked here")


def bound_by(claims: Claims) -> str:
    """Return the claim that binds a token to a key, or nothing."""
    if claims.get("cnf") is not None:
        return "cnf"
    kind = claims.get("typ")
    return "claim typ is DPoP" if isinstance(kind, str) and kind.lower() == "dpop" else ""


def _refusal(presented: Credential, detail: str) -> Refusal:
    if isinstance(presented, BearerCredential):
        return Unauthenticated(Reason.TOKEN_UNSUPPORTED, detail)
    return Unavailable(Reason.EXCHANGED_TOKEN_INVALID, f"the provider's {detail}")
