"""Cache keys: what a secret is remembered by."""

from __future__ import annotations

import secrets
from hashlib import blake2b
from typing import Final

_KEY_BYTES: Final = 32
_DIGEST_BYTES: Final = 32


class Digester:
    """Turns the parts of a key into one keyed digest.

    The key is random per process, so a dump of the cache is no list of hashed
    secrets to guess at.  Each part goes in behind its length: ``("a:b", "c")``
    and ``("a", "b:c")`` are two keys.
    """

    def __init__(self) -> None:
        # Keyed once: a copy of this state costs the hot path less than a key.
        self._keyed = blake2b(key=secrets.token_bytes(_KEY_BYTES), digest_size=_DIGEST_BYTES)

    def __call__(self, *parts: str) -> bytes:
        """Return the digest of the parts, in their order."""
        state = self._keyed.copy()
        for part in parts:
            encoded = part.encode("utf-8", "surrogatepass")
            state.update(len(encoded).to_bytes(8, "big") + encoded)
        return state.digest()
