"""Which of several methods has authenticated a pair: learnt by asking the provider."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.tokens.memory import BoundedCache

if TYPE_CHECKING:
    from collections.abc import Callable

PAIRS_MAX: Final = 10_000
PAIR_SECONDS_MAX: Final = 24 * 3_600.0

_NAME_BYTES: Final = 32


class RememberedMethods:
    """The name of a method by digest of the pair and of all that the method's token depends on.

    For the event loop only.  ``timer`` returns monotonic seconds.
    """

    def __init__(self, *, timer: Callable[[], float]) -> None:
        self._names: BoundedCache[str] = BoundedCache(
            entries_max=PAIRS_MAX, bytes_max=PAIRS_MAX * _NAME_BYTES, timer=timer
        )

    def get(self, key: bytes) -> str | None:
        """Return the method that has authenticated a pair last, or ``None``."""
        return self._names.get(key)

    def put(self, key: bytes, name: str) -> None:
        """Remember the method that has authenticated a pair."""
        self._names.put(key, name, lifetime_s=PAIR_SECONDS_MAX, size_bytes=_NAME_BYTES)

    def drop(self, key: bytes) -> None:
        """Forget it: the pair was refused."""
        self._names.drop(key)
