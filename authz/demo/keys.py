"""Signing keys of the development identity provider."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

PrivateKey = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey

RSA_BITS = 2048


def _rsa() -> PrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


_GENERATORS: Mapping[str, Callable[[], PrivateKey]] = {
    **dict.fromkeys(("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "RSA-OAEP"), _rsa),
    "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
    "ES384": lambda: ec.generate_private_key(ec.SECP384R1()),
    "ES512": lambda: ec.generate_private_key(ec.SECP521R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate,
}


@dataclass(frozen=True, slots=True)
class Key:
    """A private key, the one algorithm it is for, and the name it is published under."""

    kid: str
    algorithm: str
    private: PrivateKey = field(repr=False)

    @classmethod
    def generate(cls, algorithm: str = "RS256") -> Key:
        """Make a key for ``algorithm`` (a JWA name); its ``kid`` is made as Keycloak makes it."""
        private = _GENERATORS[algorithm]()
        der = private.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(_base64url(hashlib.sha256(der).digest()), algorithm, private)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half as a JWK (RFC 7517), with Keycloak's members."""
        encrypts = self.algorithm == "RSA-OAEP"
        family = jwt.get_algorithm_by_name("RS256" if encrypts else self.algorithm)
        members = family.to_jwk(self.private.public_key(), as_dict=True)
        members.pop("key_ops", None)
        use = "enc" if encrypts else "sig"
        return {"kid": self.kid, "alg": self.algorithm, "use": use, **members}

    @property
    def private_jwk(self) -> dict[str, Any]:
        """Both halves as a JWK: what a client that signs assertions keeps to itself."""
        family = jwt.get_algorithm_by_name(self.algorithm)
        members = family.to_jwk(self.private, as_dict=True)
        members.pop("key_ops", None)
        return {"kid": self.kid, "alg": self.algorithm, **members}

    def verifies(self, algorithm: str, kid: object, signed: str, signature: bytes) -> bool:
        """Whether a signature is this key's, made by its own algorithm and under its name."""
        if (algorithm, kid) != (self.algorithm, self.kid):
            return False
        public: Any = self.private.public_key()
        good: bool = jwt.get_algorithm_by_name(algorithm).verify(signed.encode(), public, signature)
        return good

    def sign(self, header: Mapping[str, Any] | bytes, payload: Mapping[str, Any] | bytes) -> str:
        """Return the compact JWS (RFC 7515 section 7.1) of exactly these two parts.

        Bytes are taken as they are, so a test can sign what no JSON library writes.
        The signature is always made by this key's own algorithm, whatever ``alg`` says.
        """
        signing_input = b".".join(_base64url(_json(part)).encode() for part in (header, payload))
        signature = jwt.get_algorithm_by_name(self.algorithm).sign(signing_input, self.private)
        return f"{signing_input.decode()}.{_base64url(signature)}"


def _json(part: Mapping[str, Any] | bytes) -> bytes:
    return part if isinstance(part, bytes) else json.dumps(part, separators=(",", ":")).encode()


def _base64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()
