"""Is this an access token, and one that its bearer may use?  An allow-list.

One key signs all that a provider issues: ID tokens, logout tokens, proofs.  Each kind
must be told from the others (RFC 8725 section 3.12), and providers mark theirs in
three ways: the header's ``typ`` (RFC 9068), Keycloak's claim ``typ``, Cognito's
``token_use``.  What names another kind is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from authz import strict_json
from authz.errors import Reason, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.model import Claims

# "JOSE" says no more than that it is a JWS (RFC 7515 section 4.1.9).
_HEADER_TYPES: Final = frozenset(("jose", "jwt", "at+jwt"))
_ACCESS_TOKEN: Final = "at+jwt"
_BEARER: Final = "bearer"
_DPOP: Final = "dpop"
_TOKEN_USES: Final = ("access", "access_token")
# OpenID Connect Core section 3.1.3.6 and 3.3.2.11: an ID token has these; but so have
# the access tokens of some providers.
_OF_ID_TOKENS: Final = ("nonce", "at_hash", "c_hash")


def is_marked(header: Mapping[str, Any], tell: Callable[[object], str] = strict_json.kind) -> bool:
    """Whether a JOSE header says that this is an access token.

    ``tell`` puts a value that was found into words.  Raises
    :class:`~authz.errors.Unauthenticated` if the header says that it is something else.
    """
    name = header.get("typ", "JWT")
    # A media type, so without regard to case, its "application/" left out or not.
    kind = name.lower().removeprefix("application/") if isinstance(name, str) else None
    if kind not in _HEADER_TYPES:
        raise _unsupported(f"the header's typ is {tell(name)}, wanted JWT or at+jwt")
    return kind == _ACCESS_TOKEN


def check(
    claims: Claims,
    *,
    marked: bool,
    from_exchange: bool = False,
    audience_asked: bool = False,
    tell: Callable[[object], str] = strict_json.quoted,
) -> None:
    """Check the claims that tell one kind of token from another.

    ``marked``: the header says access token.  ``from_exchange``: the provider has just
    given it to us as one.  ``audience_asked``: the plugin accepts only tokens that are
    meant for its API.  ``tell`` puts a value that was found into words: not more than
    its kind, if nobody has vouched for it.
    """
    kind, use = _word(claims, "typ"), _said(claims, "token_use")
    if kind not in {None, _BEARER, _DPOP}:
        raise _unsupported(f"claim typ is {tell(claims['typ'])}, an access token's is Bearer")
    if use is not None and use not in _TOKEN_USES:
        raise _unsupported(f"token_use is {tell(use)}, an access token's is access")
    if claims.get("events") is not None:
        # RFC 8417: a security event, such as a logout.
        raise _unsupported("events, so a security event and not an access token")
    if not (marked or kind or use or from_exchange or audience_asked):
        _check_is_no_id_token(claims)


def _check_is_no_id_token(claims: Claims) -> None:
    for name in _OF_ID_TOKENS:
        if _said(claims, name) is not None:
            raise _unsupported(
                f"{name}, as ID tokens have, and nothing says access token (header typ at+jwt,"
                " claim typ Bearer, token_use); if it is one, set audience_required"
            )


def _said(claims: Claims, name: str) -> object:
    """Return a claim that is meant to be a string; null and the empty one say nothing."""
    value: object = claims.get(name)
    return None if value == "" else value


def _word(claims: Claims, name: str) -> str | None:
    value = _said(claims, name)
    if value is not None and not isinstance(value, str):
        raise Unauthenticated(
            Reason.TOKEN_CLAIM_INVALID,
            f"token: {name} is {strict_json.kind(value)}, wanted a string",
        )
    return None if value is None else value.lower()


def _unsupported(detail: str) -> Unauthenticated:
    return Unauthenticated(Reason.TOKEN_UNSUPPORTED, f"token: {detail}")
