"""JSON Web Tokens: RFC 7519 as RFC 8725 wants it practised.

PyJWT verifies signatures (``jwks.py``).  What it lets through is decided here:
spelling, header and times, each strictly and with a bound.
"""

from __future__ import annotations

import binascii
import math
import re
from dataclasses import dataclass
from sys import intern
from typing import TYPE_CHECKING, Any, Final

from authz import strict_json
from authz.errors import Reason, Unauthenticated
from authz.model import Claims
from authz.oauth import jwks, token_kind
from authz.oauth.jwks import ALGORITHMS, KEY_ID_BYTES_MAX
from authz.policy import possession
from authz.policy.claims import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from authz.oauth.jwks import Key

    Tell = Callable[[object], str]

TOKEN_BYTES_MAX: Final = 16_384
TELLING_BYTES_MAX: Final = 2_048
"""Of a header, in base64url, that is read to tell a JWT from an opaque token."""
# The largest integer that every JSON decoder holds exactly: beyond it, times are noise.
TIME_MAX: Final = 2**53
# How far ahead of ours the clock of a provider may be whose token we have just been given.
AHEAD_SECONDS_MAX: Final = 60.0

_JWS: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)")
_SEGMENT: Final = re.compile(rb"[A-Za-z0-9_-]+")
# All that a signature is over, and the dot behind it.
_SIGNED: Final = re.compile(rb"([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]+)\.")
_STANDARD_ALPHABET: Final = bytes.maketrans(b"-_", b"+/")
# By the length of a segment modulo 4: the last characters that leave no loose bit (RFC 4648
# section 3.5), and the padding that a decoder wants.  A length of 1 is no spelling at all.
_LAST_LETTERS: Final[Mapping[int, tuple[bytes, bytes]]] = {
    0: (b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_", b""),
    2: (b"AQgw", b"=="),
    3: (b"AEIMQUYcgkosw048", b"="),
}
_SIGNED_DOTS: Final = 2  # RFC 7515 section 7.1
_ENCRYPTED_DOTS: Final = 4  # RFC 7516 section 7.1
# Claims that a token may leave out.  Some providers write null or "" instead.
_OPTIONAL_TEXTS: Final = ("sub", "jti", "typ", "scope")
_OPTIONAL_VALUES: Final = ("iat", "nbf", "cnf", "events")


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

    def verify(self, fitting: Sequence[Key]) -> Key:
        """Return which of these keys has signed the token; raise if none has."""
        tried = jwks.to_try(fitting)
        for key in tried:
            if key.verifies(self.algorithm, self.signed, self.signature):
                return key
        count = f"{len(fitting)} keys fit" if len(fitting) > 1 else "one key fits"
        if len(tried) < len(fitting):
            count += f", of which the first {len(tried)} were tried"
        raise Unauthenticated(
            Reason.TOKEN_SIGNATURE_INVALID,
            f"token: the signature does not match ({count} its kid and alg)",
        )


def parse(token: str, tell: Tell = strict_json.kind) -> UnverifiedToken:
    """Take a compact JWS apart (RFC 7515 section 7.1).

    ``tell`` puts a value that was found into words: not more than its kind, if the
    caller has brought the token.  Raises :class:`~authz.errors.Unauthenticated` with
    the reason for whatever is not exactly one signed JSON object in one canonical
    spelling.
    """
    # Length, then dots, then alphabet: nothing is decoded before it is bounded.
    if not _has_its_shape(token):
        raise not_signed(token)
    text = token.encode("ascii", "replace")
    found = _JWS.fullmatch(text)
    if found is None:
        raise _malformed("a segment is not base64url")
    header = _json_object(found[1], "header")
    claims = _json_object(found[2], "claims")
    return UnverifiedToken(
        algorithm=_algorithm(header, tell),
        kid=_kid(header),
        marked=token_kind.is_marked(header, tell),
        signed=text[: found.end(2)],
        signature=_decode(found[3]),
        claims=without_empty(claims),
    )


def _what_else(token: str) -> str:
    """Say what a text is that is no signed JWT, and what can be done about it."""
    dots = token.count(".")
    if dots == _ENCRYPTED_DOTS:
        return (
            "encrypted (five segments, a JWE), and authz has no key to open it; let the issuer"
            " sign access tokens without encrypting them, or use introspection or userinfo"
        )
    found = f"{dots + 1} segments; a signed JWT has three"
    if dots == _SIGNED_DOTS:
        found = f"three segments as a signed JWT has, but {_fault_of_header(token)}"
    return (
        f"opaque ({found}), so only its issuer can read it;"
        " let the issuer give out JWTs, or use introspection or userinfo"
    )


def is_signed(token: str) -> bool:
    """Whether a text is a signed token as far as its header tells, good or bad.

    It has the length and the segments of one, and the first is a strict JSON object in
    base64url.  Other tokens have two dots, too (PASETO's ``v4.public.…``); they are opaque.
    A header over ``TELLING_BYTES_MAX`` is not read here, for :func:`parse` reads it again:
    it counts as one.
    """
    return _has_its_shape(token) and (
        token.index(".") > TELLING_BYTES_MAX or _fault_of_header(token) is None
    )


def _has_its_shape(token: str) -> bool:
    """Whether a text has the length and the segments of a signed token; nothing is decoded."""
    return len(token) <= TOKEN_BYTES_MAX and token.count(".") == _SIGNED_DOTS


def _fault_of_header(token: str) -> str | None:
    """Say why the first segment is no header of a JWT; ``None``: it is one."""
    segment = token.partition(".")[0].encode("ascii", "replace")
    if _SEGMENT.fullmatch(segment) is None:
        return "the first is not base64url"
    try:
        _json_object(segment, "header")
    except Unauthenticated as refusal:
        return f"the first is no header of one ({refusal.detail.removeprefix('token: ')})"
    return None


def check_kind(token: str) -> float:
    """Refuse a JWT that says itself that it is no access token, or bound to a key.

    No call to its issuer is needed.  Nobody has vouched for its words, so they refuse and
    never accept.  A text that is no JWT says nothing of itself.  Return the end that it
    names itself, in seconds since 1970; infinity if it names none.  Raises
    :class:`~authz.errors.Unauthenticated`.
    """
    found = _SIGNED.match(token.encode("ascii", "replace"))
    if found is None:
        return math.inf
    try:
        header, claims = _json_object(found[1], "header"), _json_object(found[2], "claims")
    except Unauthenticated:
        return math.inf
    token_kind.is_marked(header)
    token_kind.check(without_empty(claims), marked=True, tell=strict_json.kind)
    # The answer about it may not say so.
    if bound := possession.bound_by(Claims(claims)):
        raise _unsupported(f"bound to a key ({bound}), and no proof is checked here")
    return float(claims["exp"]) if _is_time(claims.get("exp")) else math.inf


def not_signed(token: str) -> Unauthenticated:
    """Return what to say of a token that is none by :func:`is_signed`."""
    if len(token) > TOKEN_BYTES_MAX:
        return _malformed(
            f"too long: over {TOKEN_BYTES_MAX} characters; let the issuer put fewer claims into it"
        )
    return _malformed(_what_else(token))


def _malformed(detail: str) -> Unauthenticated:
    return Unauthenticated(Reason.TOKEN_MALFORMED, f"token: {detail}")


def without_empty(claims: dict[str, Any]) -> Claims:
    """Leave out optional claims that say nothing: null, or "" where a string is meant."""
    for name in _OPTIONAL_TEXTS:
        if name in claims and claims[name] in (None, ""):
            del claims[name]
    for name in _OPTIONAL_VALUES:
        if name in claims and claims[name] is None:
            del claims[name]
    return Claims(claims)


def with_shared_names(claims: Claims) -> Claims:
    """Return claims whose names are the same objects in every token that is kept.

    json makes them anew for each document: a kilobyte a token.
    """
    return Claims({intern(name): value for name, value in claims.items()})


def _decode(segment: bytes) -> bytes:
    """Decode one segment in its only spelling: no padding, no loose final bits."""
    allowed, padding = _LAST_LETTERS.get(len(segment) % 4, (b"", b""))
    if segment[-1] not in allowed:
        raise _malformed("a segment is not canonical base64url")
    return binascii.a2b_base64(segment.translate(_STANDARD_ALPHABET) + padding)


def _json_object(segment: bytes, what: str) -> dict[str, Any]:
    try:
        document = strict_json.loads(_decode(segment))
    except strict_json.InvalidJSONError as error:
        raise _malformed(f"{what}: {error}") from None
    if not isinstance(document, dict):
        raise _malformed(f"the {what} is no JSON object")
    return document


def _algorithm(header: Mapping[str, Any], tell: Tell) -> str:
    """Check the header and return its ``alg`` (RFC 7515 section 4.1).

    ``jku``, ``jwk``, ``x5u`` and ``x5c`` are never looked at.  What would change the
    meaning of the rest is refused: ``crit`` (section 4.1.11), ``b64`` (RFC 7797) and a
    nested token (``cty: JWT``, RFC 7519 section 5.2).  ``zip`` and any other ``cty``
    mean nothing in a signed token and are ignored (RFC 7515 section 4).
    """
    for name in ("crit", "b64"):
        if name in header:
            raise _unsupported(f"the header has {name}, which asks for an extension of JWS")
    content = header.get("cty")
    if isinstance(content, str) and content.lower().removeprefix("application/") == "jwt":
        raise _unsupported("the header's cty is JWT, so another token is inside of this one")
    algorithm = jwks.algorithm_named(header.get("alg"))
    if algorithm is None:
        found = tell(header["alg"]) if "alg" in header else "absent"
        raise _unsupported(f"alg is {found}, wanted one of {', '.join(sorted(ALGORITHMS))}")
    return algorithm


def _unsupported(detail: str) -> Unauthenticated:
    return Unauthenticated(Reason.TOKEN_UNSUPPORTED, f"token: {detail}")


def _kid(header: Mapping[str, Any]) -> str | None:
    """Return the key id; it is looked up and never interpreted."""
    if "kid" not in header:
        return None
    kid = header["kid"]
    if not isinstance(kid, str):
        raise _malformed(f"kid is {strict_json.kind(kid)}, wanted a string")
    if len(kid) > KEY_ID_BYTES_MAX:
        raise _malformed(f"kid is too long: over {KEY_ID_BYTES_MAX} characters")
    return kid


# --- Claims -------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ClaimRules:
    """What the registered claims of a signed token must say (RFC 7519 section 4.1).

    ``iss`` is not among them: it has chosen the keys (``issuers.py``).
    ``audience``: one of these must be in the claim ``audience_claim``; empty: not
    checked.  ``leeway_s``: how far the caller's provider's clock may be from ours.
    """

    audience: frozenset[str] = frozenset()
    audience_claim: tuple[str, ...] = ("aud",)
    leeway_s: float = 0

    def check(self, claims: Claims, now: float, *, ahead_s_max: float = 0) -> float:
        """Check everything, at ``now`` seconds since 1970.

        ``iat`` and ``nbf`` may be ahead by ``leeway_s``, or by ``ahead_s_max`` if that
        is more.  Return by how many seconds they are ahead of what ``leeway_s`` allows.
        """
        over_s = now - expiry(claims)
        if over_s >= self.leeway_s:
            raise expired(over_s, self.leeway_s)
        ahead_s = self._ahead(claims, now, max(self.leeway_s, ahead_s_max))
        for name in ("sub", "jti"):
            if not isinstance(claims.get(name, ""), str):
                raise _claim_invalid(name, claims, "a string")
        self._check_audience(claims)
        return ahead_s

    def _ahead(self, claims: Claims, now: float, allowed_s: float) -> float:
        most_s = 0.0
        for name in ("nbf", "iat"):
            if name not in claims:
                continue
            # Providers write whole seconds: one that is a fraction of a second ahead of
            # us has not issued its token in the future.
            ahead_s = _time(claims, name) - math.ceil(now)
            if ahead_s > allowed_s:
                raise Unauthenticated(
                    Reason.TOKEN_NOT_YET_VALID,
                    f"token: {name} is {_seconds(ahead_s)} in the future"
                    f" (allowed: {allowed_s:g} s); compare the issuer's clock with this one",
                )
            most_s = max(most_s, ahead_s)
        return most_s if most_s > self.leeway_s else 0.0

    def _check_audience(self, claims: Claims) -> None:
        if not self.audience:
            return
        held = walk(claims, self.audience_claim)
        values = held if isinstance(held, list) else [held]
        if not all(isinstance(v, str) for v in values) or self.audience.isdisjoint(values):
            raise Unauthenticated(
                Reason.TOKEN_AUDIENCE_REFUSED,
                f"token: {'.'.join(self.audience_claim)} is {strict_json.quoted(held)},"
                f" wanted one of {strict_json.quoted(sorted(self.audience))} (the file's audience)",
            )


def expired(over_s: float, leeway_s: float) -> Unauthenticated:
    """Return what to say of a token whose ``exp`` was so many seconds ago."""
    return Unauthenticated(
        Reason.TOKEN_EXPIRED,
        f"token: exp was {_seconds(over_s)} ago (leeway {leeway_s:g} s);"
        " fetch a new token, or compare the clocks",
    )


def expiry(claims: Claims) -> float:
    """Return ``exp`` in seconds since 1970; a token without one would never end."""
    return _time(claims, "exp")


def _time(claims: Claims, name: str) -> float:
    """Return a NumericDate: a JSON number, not a string of digits and not true."""
    value: Any = claims.get(name)
    if not _is_time(value):
        raise _claim_invalid(name, claims, "a number of seconds since 1970")
    return float(value)


def _is_time(value: Any) -> bool:  # noqa: ANN401 - any JSON
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return is_number and -TIME_MAX <= value <= TIME_MAX


def _claim_invalid(name: str, claims: Claims, wanted: str) -> Unauthenticated:
    found = strict_json.quoted(claims[name]) if name in claims else "absent"
    return Unauthenticated(Reason.TOKEN_CLAIM_INVALID, f"token: {name} is {found}, wanted {wanted}")


def _seconds(seconds: float) -> str:
    return f"{math.ceil(seconds):,} s" if seconds < TIME_MAX else "ages"
