"""JSON Web Tokens: RFC 7519 as RFC 8725 wants it practised.

PyJWT verifies signatures (``jwks.py``).  What it lets through is decided here:
spelling, header and times, each strictly and with a bound.
"""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from authz import strict_json
from authz.errors import Reason, Unauthenticated
from authz.model import Claims
from authz.oauth import token_kind
from authz.oauth.jwks import ALGORITHMS, KEY_ID_BYTES_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.oauth.jwks import Key

TOKEN_BYTES_MAX: Final = 16_384
# The largest integer that every JSON decoder holds exactly: beyond it, times are noise.
TIME_MAX: Final = 2**53

_BASE64URL: Final = re.compile(r"[A-Za-z0-9_-]+", re.ASCII)


@dataclass(frozen=True, slots=True, repr=False)
class UnverifiedToken:
    """A token whose spelling is right and whose words nobody has vouched for.

    ``marked``: its header says that it is an access token.
    """

    algorithm: str
    kid: str | None
    marked: bool
    signed: bytes
    signature: bytes
    claims: Claims

    def verify(self, key: Key) -> Claims:
        """Return the claims if ``key`` signed them."""
        if not key.verifies(self.algorithm, self.signed, self.signature):
            raise Unauthenticated(Reason.TOKEN_SIGNATURE_INVALID, "the signature does not match")
        return self.claims


def parse(token: str) -> UnverifiedToken:
    """Take a compact JWS apart (RFC 7515 section 7.1).

    Raises :class:`~authz.errors.Unauthenticated` with the reason for whatever is
    not exactly one signed JSON object in one canonical spelling.
    """
    # Length, then dots, then alphabet: nothing is decoded before it is bounded.
    if len(token) > TOKEN_BYTES_MAX or token.count(".") != 2:  # noqa: PLR2004 - a JWS has two
        raise _malformed("not three segments, or too long")
    segments = token.split(".")
    if not all(_BASE64URL.fullmatch(segment) for segment in segments):
        raise _malformed("a segment is not base64url")
    header = _json_object(segments[0], "header")
    claims = _json_object(segments[1], "claims")
    signed, _, _ = token.rpartition(".")
    return UnverifiedToken(
        algorithm=_algorithm(header),
        kid=_kid(header),
        marked=token_kind.is_marked(header),
        signed=signed.encode("ascii"),
        signature=_decode(segments[2]),
        claims=Claims(claims),
    )


def _malformed(detail: str) -> Unauthenticated:
    return Unauthenticated(Reason.TOKEN_MALFORMED, f"token: {detail}")


def _decode(segment: str) -> bytes:
    """Decode one segment in its only spelling: no padding, no loose final bits."""
    raw = (
        base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
        if len(segment) % 4 != 1
        else b""
    )
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii") != segment:
        raise _malformed("a segment is not canonical base64url")
    return raw


def _json_object(segment: str, what: str) -> dict[str, Any]:
    try:
        document = strict_json.loads(_decode(segment))
    except strict_json.InvalidJSONError as error:
        raise _malformed(f"{what}: {error}") from None
    if not isinstance(document, dict):
        raise _malformed(f"the {what} is no JSON object")
    return document


def _algorithm(header: Mapping[str, Any]) -> str:
    """Check the header and return its ``alg`` (RFC 7515 section 4.1).

    ``jku``, ``jwk``, ``x5u`` and ``x5c`` are never looked at.  What would change
    the meaning of the rest (``crit``, ``b64``, ``zip``, ``cty``) is refused.
    """
    if not header.keys().isdisjoint(("crit", "b64", "zip", "cty")):
        raise Unauthenticated(Reason.TOKEN_UNSUPPORTED, "token: an extension of the header")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in ALGORITHMS:
        raise Unauthenticated(Reason.TOKEN_UNSUPPORTED, "token: alg is not asymmetric, or unknown")
    return algorithm


def _kid(header: Mapping[str, Any]) -> str | None:
    """Return the key id; it is looked up and never interpreted."""
    if "kid" not in header:
        return None
    kid = header["kid"]
    if not isinstance(kid, str) or len(kid) > KEY_ID_BYTES_MAX:
        raise _malformed("kid is no string, or too long")
    return kid


# --- Claims -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the registered claims must say (RFC 7519 section 4.1).

    ``issuers``: the accepted ``iss``, compared exactly but for one trailing
    slash.  ``audience``: one of these must be in ``aud``; empty: not checked.
    ``leeway_s``: how far the provider's clock may be from ours.
    """

    issuers: frozenset[str]
    audience: frozenset[str] = frozenset()
    leeway_s: float = 0

    def check_issuer(self, claims: Claims) -> None:
        """Check ``iss``, before any key is looked for: a key set belongs to one issuer."""
        issuer = claims.get("iss")
        if not isinstance(issuer, str) or _bare(issuer) not in self.issuers:
            raise Unauthenticated(Reason.TOKEN_ISSUER_REFUSED, "token: iss is not ours")

    def check(self, claims: Claims, now: float) -> None:
        """Check everything else, at ``now`` seconds since 1970."""
        if now >= expiry(claims) + self.leeway_s:
            raise Unauthenticated(Reason.TOKEN_EXPIRED, "token: exp has passed")
        # Providers write whole seconds: one that is a fraction of a second ahead of
        # us has not issued its token in the future.
        for name in ("nbf", "iat"):
            if name in claims and _time(claims, name) > math.ceil(now) + self.leeway_s:
                raise Unauthenticated(Reason.TOKEN_NOT_YET_VALID, f"token: {name} is in the future")
        for name in ("sub", "jti"):
            if not isinstance(claims.get(name, ""), str):
                raise Unauthenticated(Reason.TOKEN_CLAIM_INVALID, f"token: {name} is no string")
        self._check_audience(claims)

    def _check_audience(self, claims: Claims) -> None:
        if not self.audience:
            return
        held = claims.get("aud")
        values = held if isinstance(held, list) else [held]
        if not all(isinstance(v, str) for v in values) or self.audience.isdisjoint(values):
            raise Unauthenticated(Reason.TOKEN_AUDIENCE_REFUSED, "token: aud is not ours")


def issuers(accepted: tuple[str, ...]) -> frozenset[str]:
    """Return issuers as :class:`ClaimRules` compares them."""
    return frozenset(map(_bare, accepted))


def _bare(issuer: str) -> str:
    return issuer.removesuffix("/")


def expiry(claims: Claims) -> float:
    """Return ``exp`` in seconds since 1970; a token without one would never end."""
    return _time(claims, "exp")


def _time(claims: Claims, name: str) -> float:
    """Return a NumericDate: a JSON number, not a string of digits and not true."""
    value: Any = claims.get(name)
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not -TIME_MAX <= value <= TIME_MAX:
        raise Unauthenticated(Reason.TOKEN_CLAIM_INVALID, f"token: {name} is no time")
    return float(value)
