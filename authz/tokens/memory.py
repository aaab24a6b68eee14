"""The memory of this process: bounded in entries, bytes and time.  The only home of cachetools."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from cachetools import Cache, TLRUCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.clock import Clock
    from authz.tokens.tier import Kept

V = TypeVar("V")

# A kept token takes its text and its decoded claims, which are about three times as long.
_SIZE_FACTOR: Final = 4


class BoundedCache(Generic[V]):
    """Least recently used values, each with its own lifetime.

    For the event loop only, but for ``len``: cachetools is not thread-safe, even
    under the GIL.
    ``timer`` returns monotonic seconds.
    """

    def __init__(
        self,
        *,
        entries_max: int,
        bytes_max: int,
        timer: Callable[[], float],
    ) -> None:
        # One number bounds both: an entry costs its bytes, but never less than
        # an equal share, so no more than entries_max of them fit.
        share = max(1, bytes_max // entries_max)
        self._cache: TLRUCache[bytes, tuple[V, int, float]] = TLRUCache(
            maxsize=min(bytes_max, share * entries_max),
            ttu=lambda _key, entry, now: now + entry[2],
            timer=timer,
            getsizeof=lambda entry: max(share, entry[1]),
        )

    def get(self, key: bytes) -> V | None:
        """Return the value, or ``None`` if there is none or it has expired."""
        if not self._cache.currsize:  # empty, as most caches of trouble are
            return None
        entry = self._cache.get(key)
        return None if entry is None else entry[0]

    def put(self, key: bytes, value: V, *, lifetime_s: float, size_bytes: int) -> None:
        """Keep a value for ``lifetime_s`` seconds; one that could never fit is not kept."""
        if lifetime_s > 0 and size_bytes <= self._cache.maxsize:
            self._cache[key] = (value, size_bytes, lifetime_s)

    def drop(self, key: bytes) -> None:
        """Forget a value, if it is there."""
        self._cache.pop(key, None)

    def clear(self) -> None:
        """Forget everything."""
        self._cache.clear()

    def __len__(self) -> int:
        # Metrics are read in another thread, and TLRUCache.__len__ sweeps.  So what
        # has expired counts until the next put.
        return Cache.__len__(self._cache)


class MemoryTier:
    """Kept tokens in the memory of this process: a :class:`~authz.tokens.tier.Tier`."""

    def __init__(self, *, entries_max: int, bytes_max: int, clock: Clock) -> None:
        self._clock = clock
        self._kept: BoundedCache[Kept] = BoundedCache(
            entries_max=entries_max, bytes_max=bytes_max, timer=clock.monotonic
        )

    async def get(self, key: bytes) -> Kept | None:
        """Return the token that is kept under a key, or ``None``.

        It has ended when either clock says so: a step of the wall clock makes no token
        live longer.
        """
        kept = self._kept.get(key)
        return None if kept is None or kept.expires_at <= self._clock.now() else kept

    async def put(self, key: bytes, kept: Kept) -> None:
        """Keep a token until its end."""
        self._kept.put(
            key,
            kept,
            lifetime_s=kept.expires_at - self._clock.now(),
            size_bytes=_SIZE_FACTOR * len(kept.token.reveal()),
        )

    async def drop(self, key: bytes) -> None:
        """Forget a token, if it is there."""
        self._kept.drop(key)

    def __len__(self) -> int:
        return len(self._kept)
