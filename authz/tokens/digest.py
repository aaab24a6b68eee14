"""Cache keys: what a secret is remembered by."""

from __future__ import annotations

import secrets
from hashlib import blake2b
from struct import Struct
from typing import Final

_KEY_BYTES: Final = 32
_DIGEST_BYTES: Final = 32
_length: Final = Struct(">Q").pack


class Digester:
    """Turns the parts of a key into one keyed digest.

    The key is random per process, so a dump of the cache is no list of hashed
    secrets to guess at.  Each part goes in behind its length: ``("a:b", "c")``
    and ``("a", "b:c")`` are two keys.
    """

    def __init__(self, begun: blake2b | None = None) -> None:
        # Keyed once: a copy of this state costs the fast path less than a key.
        self._begun = begun or blake2b(
            key=secrets.token_bytes(_KEY_BYTES), digest_size=_DIGEST_BYTES
        )

    def after(self, *parts: str) -> Digester:
        """Return one that has these parts already: it digests what follows them."""
        begun = self._begun.copy()
        for part in parts:
            encoded = part.encode("utf-8", "surrogatepass")
            begun.update(_length(len(encoded)) + encoded)
        return Digester(begun)

    def last(self, part: str) -> bytes:
        """Return the digest of one more part, the last: it needs no length before it.

        For the fast path, whose keys are a lane's name and this.  They are in one map with
        no keys of ``__call__``.
        """
        state = self._begun.copy()
        state.update(part.encode())
        return state.digest()

    def __call__(self, *parts: str) -> bytes:
        """Return the digest of the parts, in their order."""
        state = self._begun.copy()
        for part in parts:
            encoded = part.encode("utf-8", "surrogatepass")
            state.update(_length(len(encoded)) + encoded)
        return state.digest()
