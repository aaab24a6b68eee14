"""A provider's keys: which of a JWK Set (RFC 7517) may verify which signatures.

A member that we cannot use is skipped, as RFC 7517 section 5 asks.  The key, never
the token, decides the algorithm.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

from authz.errors import Reason, Unavailable

if TYPE_CHECKING:
    from collections.abc import Hashable, Iterable, Mapping

KEYS_MAX: Final = 100
KEY_ID_BYTES_MAX: Final = 256
RSA_BITS: Final = range(2048, 8192 + 1)
# Odd, and small enough for a verification to stay cheap (the common one is 65,537).
RSA_EXPONENTS: Final = range(65_537, 2**32, 2)
# How many keys a signature is tried with.  A dear key (P-384, P-521, RSA above 4096 bits)
# costs several times as much as the others and counts as two.
KEYS_TRIED_MAX: Final = 4
_DEAR_KEY_COUNTS: Final = 2
_DEAR_ABOVE_RSA_BITS: Final = 4096
_DEAR_ABOVE_CURVE_BITS: Final = 256

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
_PRIVATE_MEMBERS: Final = ("d", "p", "q", "dp", "dq", "qi", "oth", "k")
# RFC 9864 section 2.2 gives EdDSA with the curve Ed25519 a name of its own.
_OTHER_NAMES: Final[Mapping[str, str]] = {"Ed25519": "EdDSA"}

ALGORITHMS: Final = frozenset(name for names in _ALGORITHMS.values() for name in names)
_VERIFIERS: Final = {name: jwt.get_algorithm_by_name(name) for name in ALGORITHMS}


def algorithm_named(name: object) -> str | None:
    """Return the one name of an algorithm that we verify, or ``None`` for any other value."""
    known = _OTHER_NAMES.get(name, name) if isinstance(name, str) else None
    return known if known in ALGORITHMS else None


def algorithms_of(jwk: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the algorithms that a JWK's type and curve fit, the usual one first."""
    kind = jwk.get("kty")
    curve = None if kind == "RSA" else jwk.get("crv")
    return next((names for key, names in _ALGORITHMS.items() if key == (kind, curve)), ())


@dataclass(frozen=True, slots=True)
class Key:
    """A public key, the ids that it has, and the algorithms it may be used with.

    ``numbers`` are its type, curve and public numbers: two entries of a set that have
    them in common are one key.  ``cost`` is what one try counts (``KEYS_TRIED_MAX``).
    """

    kids: frozenset[str]
    algorithms: frozenset[str]
    numbers: Hashable
    public_key: Any = field(compare=False, repr=False)
    cost: int = field(default=1, compare=False)

    def verifies(self, algorithm: str, signed: bytes, signature: bytes) -> bool:
        """Whether ``signature`` is this key's over ``signed`` (RFC 7515 section 5.2)."""
        verified: bool = _VERIFIERS[algorithm].verify(signed, self.public_key, signature)
        return verified

    def _or(self, other: Key) -> Key:
        """Return the one key that two entries with equal numbers are."""
        return Key(
            self.kids | other.kids,
            self.algorithms | other.algorithms,
            self.numbers,
            self.public_key,
            self.cost,
        )


@dataclass(frozen=True, slots=True)
class KeySet:
    """The usable keys of one document, in its order.

    ``skipped`` counts the entries that are no key for us.
    """

    keys: tuple[Key, ...] = ()
    skipped: int = 0

    def fitting(self, kid: str | None, algorithm: str) -> tuple[Key, ...]:
        """Return the keys that may have signed a token with this header.

        A token with a key id: the keys of that id, or all keys if no key of the set has
        an id.  A token without one: all keys.  Always only those that have the algorithm.
        """
        any_key = kid is None or not any(key.kids for key in self.keys)
        return tuple(
            key for key in self.keys if algorithm in key.algorithms and (any_key or kid in key.kids)
        )

    def is_within(self, other: KeySet) -> bool:
        """Whether ``other`` has every key of this set, for all that it is good for here."""
        theirs = {key.numbers: key for key in other.keys}
        return all(
            (same := theirs.get(key.numbers)) is not None
            and key.kids <= same.kids
            and key.algorithms <= same.algorithms
            for key in self.keys
        )

    @property
    def kids(self) -> tuple[str, ...]:
        """The ids of all keys, in the order of the set."""
        return tuple(kid for key in self.keys for kid in sorted(key.kids))

    @property
    def algorithms(self) -> tuple[str, ...]:
        """The algorithms of all keys, sorted."""
        return tuple(sorted({name for key in self.keys for name in key.algorithms}))


def to_try(fitting: Iterable[Key]) -> tuple[Key, ...]:
    """Return the first of these keys, as many as one signature may cost."""
    left, chosen = KEYS_TRIED_MAX, []
    for key in fitting:
        left -= key.cost
        if left < 0:
            break
        chosen.append(key)
    return tuple(chosen)


def parse(document: dict[str, Any]) -> KeySet:
    """Read a JWK Set.

    Raises :class:`~authz.errors.Unavailable` when it is no set, too large a set,
    or one without a single usable key: the caller then keeps what it has.
    """
    members = document.get("keys")
    if not isinstance(members, list):
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "no array of keys")
    if len(members) > KEYS_MAX:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, f"more than {KEYS_MAX} keys")
    entries = [key for key in map(_key, members) if key is not None]
    if not entries:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "no usable key")
    return KeySet(_merged(entries), skipped=len(members) - len(entries))


def _merged(entries: Iterable[Key]) -> tuple[Key, ...]:
    """Make one key of entries with equal numbers, at the place of the first.

    Providers list a key once per id or once per algorithm (RFC 7517 section 4.5).
    """
    keys: dict[Hashable, Key] = {}
    for entry in entries:
        known = keys.get(entry.numbers)
        keys[entry.numbers] = entry if known is None else known._or(entry)  # noqa: SLF001 - its own
    return tuple(keys.values())


def _key(member: object) -> Key | None:
    """Read one JWK; ``None`` if it is not a public key for signatures that we know."""
    if not isinstance(member, dict):
        return None
    # Some libraries write every member that they know, null or empty where it has no value.
    said = {name: value for name, value in member.items() if value is not None and value != ""}
    kid, key_type = said.get("kid"), said.get("kty")
    curve = None if key_type == "RSA" else said.get("crv")
    if not isinstance(key_type, str) or not isinstance(curve, str | None):
        return None
    if not isinstance(kid, str | None) or len(kid or "") > KEY_ID_BYTES_MAX:
        return None
    algorithms = _ALGORITHMS.get((key_type, curve), ()) if _is_for_signatures(said) else ()
    if (declared := said.get("alg")) is not None:
        algorithms = tuple(name for name in algorithms if name == algorithm_named(declared))
    public_key = _public_key(said, algorithms[0]) if algorithms else None
    if public_key is None:
        return None
    return Key(
        frozenset(() if kid is None else (kid,)),
        frozenset(algorithms),
        (key_type, curve, _numbers(public_key)),
        public_key,
        _cost(public_key),
    )


def _numbers(public_key: Any) -> Hashable:  # noqa: ANN401 - three key types
    if isinstance(public_key, RSAPublicKey | EllipticCurvePublicKey):
        return public_key.public_numbers()
    raw: bytes = public_key.public_bytes_raw()
    return raw


def _cost(public_key: Any) -> int:  # noqa: ANN401 - three key types
    bits = getattr(public_key, "key_size", 0)
    limit = _DEAR_ABOVE_RSA_BITS if isinstance(public_key, RSAPublicKey) else _DEAR_ABOVE_CURVE_BITS
    return _DEAR_KEY_COUNTS if bits > limit else 1


def _is_for_signatures(member: dict[str, Any]) -> bool:
    """RFC 7517 sections 4.2 and 4.3; a set with private members has been leaked."""
    # A tuple: a set would hash what the member holds, and a list has no hash.
    if member.get("use") not in (None, "sig") or any(map(member.__contains__, _PRIVATE_MEMBERS)):
        return False
    operations = member.get("key_ops")
    return operations is None or (isinstance(operations, list) and "verify" in operations)


def _public_key(member: dict[str, Any], algorithm: str) -> Any:  # noqa: ANN401 - three key types
    try:
        public_key: Any = _VERIFIERS[algorithm].from_jwk(member)
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
