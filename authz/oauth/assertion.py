"""Signing the assertions of a client (RFC 7523): keys, algorithms, and the compact JWS."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

from authz.oauth import jwks
from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.parameters.client import ClientJwk

_HASHES: Final = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
DEFAULT_SECRET_ALGORITHM: Final = "HS256"
# RFC 7517 section 4, RFC 7518 section 6, RFC 8037 section 2.
_MEMBERS: Final = (
    "kty", "alg", "kid", "crv", "x", "y", "n", "e", "d", "p", "q", "dp", "dq", "qi", "oth",
    "use",
)  # fmt: skip


class UnusableKeyError(ValueError):
    """A ``client_jwk`` cannot sign.  The message never quotes the key."""


class Signer(Protocol):
    """What signs assertions for one client."""

    def compact(self, claims: Mapping[str, Any]) -> str:
        """Return a compact JWS of the claims (RFC 7515 section 7.1)."""


@dataclass(frozen=True, slots=True)
class SecretSigner:
    """A client's secret as the key of an HMAC (OpenID Connect Core section 9).

    Not PyJWT's: that refuses secrets that look like a PEM file, and a caller may send one.
    """

    secret: Secret = field(repr=False)
    algorithm: str = DEFAULT_SECRET_ALGORITHM

    def compact(self, claims: Mapping[str, Any]) -> str:
        """Return a compact JWS of the claims (RFC 7515 section 7.1)."""
        signed = _signing_input({"alg": self.algorithm, "typ": "JWT"}, claims)
        key = self.secret.reveal().encode()
        return _with_signature(signed, hmac.digest(key, signed, _HASHES[self.algorithm]))


@dataclass(frozen=True, slots=True)
class KeySigner:
    """A private key and the one algorithm that it signs with."""

    algorithm: str
    kid: str | None
    private_key: Any = field(repr=False)

    def compact(self, claims: Mapping[str, Any]) -> str:
        """Return a compact JWS of the claims (RFC 7515 section 7.1)."""
        header = {"alg": self.algorithm, "typ": "JWT"}
        if self.kid is not None:
            header["kid"] = self.kid
        signed = _signing_input(header, claims)
        signature = jwt.get_algorithm_by_name(self.algorithm).sign(signed, self.private_key)
        return _with_signature(signed, signature)


def members_of(jwk: ClientJwk) -> dict[str, Any]:
    """Return the members of a key from the file that a signature needs, secrets revealed."""
    found = {name: getattr(jwk, name) for name in _MEMBERS}
    return {
        name: value.reveal() if isinstance(value, Secret) else value
        for name, value in found.items()
        if value
    }


def key_signer(jwk: Mapping[str, Any], algorithm: str | None) -> KeySigner:
    """Read a private JWK (RFC 7517) that signs with ``algorithm``.

    Without one, the key's own ``alg`` decides, else its type and curve: RS256 for RSA.
    Raises :class:`UnusableKeyError` for a key that cannot sign, or not with this.
    """
    fitting = jwks.algorithms_of(jwk)
    if not fitting or "d" not in jwk or jwk.get("use", "sig") != "sig":
        raise UnusableKeyError("is no private key of a type and curve that signs (RSA, EC, OKP)")
    named = algorithm or jwk.get("alg")
    chosen = (jwks.algorithm_named(named) or named) if named else fitting[0]
    if chosen not in fitting:
        raise UnusableKeyError(f"does not sign with {chosen}; its algorithms: {', '.join(fitting)}")
    try:
        key = jwt.get_algorithm_by_name(chosen).from_jwk(dict(jwk))
    except Exception:  # noqa: BLE001 - ValueError, TypeError, their own: it is no key
        raise UnusableKeyError("cannot be read: its members do not make a key") from None
    if isinstance(key, RSAPrivateKey) and key.key_size not in jwks.RSA_BITS:
        raise UnusableKeyError(f"is an RSA key of {key.key_size} bits; at least 2048 are needed")
    return KeySigner(chosen, jwk.get("kid"), key)


def _signing_input(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bytes:
    return b".".join(
        urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).rstrip(b"=")
        for part in (header, claims)
    )


def _with_signature(signed: bytes, signature: bytes) -> str:
    return f"{signed.decode()}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"
