"""Where kept tokens lie, and the value that lies there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from authz.model import Claims, Secret


@dataclass(frozen=True, slots=True)
class Kept:
    """A token that a provider gave for a caller, and what it says.

    Both times are seconds since 1970, so that another process can read them.
    ``expires_at``: when it may be handed on no longer; that of the token itself or sooner.
    """

    token: Secret
    claims: Claims
    issued_at: float
    expires_at: float


class Tier(Protocol):
    """A bounded store of kept tokens.  Keys are keyed digests: no secret is ever one.

    It may forget a token at any time, and never returns one at or past its
    ``expires_at``.  ``len()`` may be asked in any thread, everything else on the loop.
    """

    async def get(self, key: bytes) -> Kept | None:
        """Return the token that is kept under a key, or ``None``."""

    async def put(self, key: bytes, kept: Kept) -> None:
        """Keep a token in the place of the one before; one that is too large is not kept."""

    async def drop(self, key: bytes) -> None:
        """Forget a token, if it is there."""

    def __len__(self) -> int: ...
