"""A provider's keys: which of a JWK Set (RFC 7517) may verify which signatures.

A member that we cannot use is skipped, as RFC 7517 section 5 asks.  What is left
is a map from key id to key; the key, never the token, decides the algorithm.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from authz.errors import Reason, Unavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

KEY_SET_BYTES_MAX: Final = 256 * 1024
KEYS_MAX: Final = 100
KEY_ID_BYTES_MAX: Final = 256
RSA_BITS: Final = range(2048, 8192 + 1)
# Odd, and small enough for a verification to stay cheap (the common one is 65,537).
RSA_EXPONENTS: Final = range(65_537, 2**32, 2)

# CVE-2017-15361 (ROCA): certain chips make only primes of the form k * M + 65537^a mod M,
# where M is a product of the first primes, these among them for every size of key.
# So what their moduli leave modulo each of these is a power of 65537.  The same
# happens to any other modulus about once in 2^28.
_ROCA_GENERATOR: Final = 65_537
_ROCA_PRIMES: Final = tuple(n for n in range(3, 168) if all(n % d for d in range(2, n)))
_ROCA_REMAINDERS: Final = tuple(
    (prime, frozenset(pow(_ROCA_GENERATOR, power, prime) for power in range(prime)))
    for prime in _ROCA_PRIMES
)

_RSA: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512")
# Which algorithms a key fits, by type and curve.  Symmetric ones are in no list:
# a shared secret has no place in a published set.
_ALGORITHMS: Final[Mapping[tuple[str, str | None], tuple[str, ...]]] = {
    ("RSA", None): _RSA,
    ("EC", "P-256"): ("ES256",),
    ("EC", "P-384"): ("ES384",),
    ("EC", "P-521"): ("ES512",),
    ("OKP", "Ed25519"): ("EdDSA",),
}
_PRIVATE_MEMBERS: Final = frozenset(("d", "p", "q", "dp", "dq", "qi", "oth", "k"))

ALGORITHMS: Final = frozenset(name for names in _ALGORITHMS.values() for name in names)


@dataclass(frozen=True, slots=True)
class Key:
    """A public key and the algorithms it may be used with."""

    kid: str | None
    algorithms: tuple[str, ...]
    public_key: Any

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``signed`` (RFC 7515 section 5.2)."""
        verified: bool = jwt.get_algorithm_by_name(algorithm).verify(
            signed, self.public_key, signature
        )
        return verified


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one issuer.  ``skipped`` counts the members that are not."""

    keys: tuple[Key, ...] = ()
    skipped: int = 0

    def find(self, kid: str | None, algorithm: str) -> Key | None:
        """Return the key of this id, or ``None``; the algorithm must be one of the key's own.

        A token without a key id is accepted only if exactly one key fits.
        """
        fitting = [
            key
            for key in self.keys
            if algorithm in key.algorithms and (kid is None or key.kid == kid)
        ]
        return fitting[0] if len(fitting) == 1 else None


def parse(document: dict[str, Any]) -> KeySet:
    """Read a JWK Set.

    Raises :class:`~authz.errors.Unavailable` when it is no set, too large a set,
    or one without a single usable key: the caller then keeps what it has.
    """
    members = document.get("keys")
    if not isinstance(members, list):
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "key set: no array of keys")
    if len(members) > KEYS_MAX:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, f"key set: more than {KEYS_MAX} keys")
    keys = _unambiguous(key for key in map(_key, members) if key is not None)
    if not keys:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "key set: no usable key")
    return KeySet(keys, skipped=len(members) - len(keys))


def _unambiguous(keys: Iterable[Key]) -> tuple[Key, ...]:
    """Leave out every key whose id another key has too: nobody can say which is meant."""
    candidates = tuple(keys)
    counts = Counter(key.kid for key in candidates if key.kid is not None)
    return tuple(key for key in candidates if key.kid is None or counts[key.kid] == 1)


def _key(member: object) -> Key | None:
    """Read one JWK; ``None`` if it is not a public key for signatures that we know."""
    if not isinstance(member, dict) or not _is_for_signatures(member):
        return None
    kid, key_type = member.get("kid"), member.get("kty")
    curve = None if key_type == "RSA" else member.get("crv")
    if not isinstance(key_type, str) or not isinstance(curve, str | None):
        return None
    if not isinstance(kid, str | None) or len(kid or "") > KEY_ID_BYTES_MAX:
        return None
    algorithms = _ALGORITHMS.get((key_type, curve), ())
    if (declared := member.get("alg")) is not None:
        algorithms = tuple(name for name in algorithms if name == declared)
    public_key = _public_key(member, algorithms[0]) if algorithms else None
    return None if public_key is None else Key(kid, algorithms, public_key)


def _is_for_signatures(member: dict[str, Any]) -> bool:
    """RFC 7517 sections 4.2 and 4.3; a set with private members has been leaked."""
    # A tuple: a set would hash what the member holds, and a list has no hash.
    if member.get("use") not in (None, "sig") or _PRIVATE_MEMBERS & member.keys():
        return False
    operations = member.get("key_ops")
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _public_key(member: dict[str, Any], algorithm: str) -> Any:  # noqa: ANN401 - three key types
    try:
        public_key: Any = jwt.get_algorithm_by_name(algorithm).from_jwk(member)
    # A member is the provider's text: whatever the two libraries below make of
    # it (ValueError, TypeError, OverflowError, their own), it is no key of ours.
    except Exception:  # noqa: BLE001 - whatever a key breaks, it is skipped
        return None
    return None if isinstance(public_key, RSAPublicKey) and _weak(public_key) else public_key


def _weak(key: RSAPublicKey) -> bool:
    """Whether an RSA key is too small, absurdly large, easily factored, or oddly powered."""
    numbers = key.public_numbers()
    return (
        key.key_size not in RSA_BITS
        or numbers.n % 2 == 0
        or numbers.e not in RSA_EXPONENTS
        or has_roca_fingerprint(numbers.n)
    )


def has_roca_fingerprint(modulus: int) -> bool:
    """Whether a modulus looks as if made by a generator whose keys can be factored."""
    return all(modulus % prime in remainders for prime, remainders in _ROCA_REMAINDERS)
