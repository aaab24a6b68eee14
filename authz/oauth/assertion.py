"""Signing the assertions of a client (RFC 7523): the compact JWS (RFC 7515 section 7.1)."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.model import Secret

_HASHES: Final = {"HS256": hashlib.sha256, "HS384": hashlib.sha384, "HS512": hashlib.sha512}
DEFAULT_SECRET_ALGORITHM: Final = "HS256"


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


def _signing_input(header: Mapping[str, Any], claims: Mapping[str, Any]) -> bytes:
    return b".".join(
        urlsafe_b64encode(json.dumps(part, separators=(",", ":")).encode()).rstrip(b"=")
        for part in (header, claims)
    )


def _with_signature(signed: bytes, signature: bytes) -> str:
    return f"{signed.decode()}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"
