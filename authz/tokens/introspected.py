"""What providers have said of tokens (RFC 7662): kept as long as it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import Overloaded, Reason
from authz.tokens.memory import BoundedCache
from authz.tokens.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

    from authz.model import Claims

# A token that is not active may be so a moment later, where providers copy their data.
INACTIVE_SECONDS_MAX: Final = 5.0
INACTIVE_ENTRIES_MAX: Final = 10_000
CALLS_MAX: Final = 4_096
# Of these, so many may be about tokens that nobody knows.
STRANGERS_MAX: Final = 3_072
# Who brings a token that was good before goes before strangers at the provider.
KNOWN_SECONDS_MAX: Final = 24 * 3_600.0
KNOWN_ENTRIES_MAX: Final = 10_000

_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Introspected:
    """What a provider said of one token.

    ``claims``: ``None`` for a token that is not active.  ``expires_at``: the token's end,
    in seconds since 1970.  ``kept_until``: until when the answer holds, in monotonic
    seconds.
    """

    claims: Claims | None
    expires_at: float = 0.0
    kept_until: float = 0.0


_INACTIVE: Final = Introspected(None)


class IntrospectedTokens:
    """Answers by digest of the token and of everything else that they depend on.

    ``token`` is the digest of the token alone: a token is known by that, or whoever has a
    good one could push out all others by varying what goes with it.

    Tokens that are not active have a cache of their own: a flood of them pushes out no
    good one.  For the event loop only, but for ``len``.
    """

    def __init__(self, *, entries_max: int, bytes_max: int, timer: Callable[[], float]) -> None:
        self.calls: Final[SingleFlight[Introspected]] = SingleFlight(calls_max=CALLS_MAX)
        self._active: BoundedCache[Introspected] = BoundedCache(
            entries_max=entries_max, bytes_max=bytes_max, timer=timer
        )
        self._inactive: BoundedCache[Introspected] = BoundedCache(
            entries_max=INACTIVE_ENTRIES_MAX,
            bytes_max=INACTIVE_ENTRIES_MAX * _DIGEST_BYTES,
            timer=timer,
        )

        self._known: BoundedCache[bool] = BoundedCache(
            entries_max=KNOWN_ENTRIES_MAX,
            bytes_max=KNOWN_ENTRIES_MAX * _DIGEST_BYTES,
            timer=timer,
        )

    def is_known(self, token: bytes) -> bool:
        """Whether a token has been active, and not been found inactive since."""
        return self._known.get(token) is not None

    async def run(
        self, key: bytes, token: bytes, call: Callable[[], Coroutine[Any, Any, Introspected]]
    ) -> Introspected:
        """Return what ``call()`` returns, once for all who ask about one token.

        Raises as :meth:`SingleFlight.run`; a token that is not known leaves room for others.
        """
        if (
            len(self.calls) >= STRANGERS_MAX
            and not self.is_known(token)
            and not self.calls.is_under_way(key)
        ):
            raise Overloaded(
                Reason.OVERLOADED,
                f"{STRANGERS_MAX} calls to providers are under way, no more for unknown tokens",
            )
        return await self.calls.run(key, call)

    def get(self, key: bytes) -> Introspected | None:
        """Return the answer that is kept, or ``None``."""
        return self._active.get(key) or self._inactive.get(key)

    def keep(self, key: bytes, token: bytes, answer: Introspected, *, lifetime_s: float) -> None:
        """Keep what was said of a token that is active; for 0 s, only that it is known."""
        self._known.put(token, value=True, lifetime_s=KNOWN_SECONDS_MAX, size_bytes=_DIGEST_BYTES)
        size_bytes = _DIGEST_BYTES + len(repr(answer.claims))
        self._active.put(key, answer, lifetime_s=lifetime_s, size_bytes=size_bytes)

    def keep_inactive(self, key: bytes, *, lifetime_s: float) -> Introspected:
        """Keep for a moment that a token is not active; return that answer."""
        self._known.drop(key)  # where nothing went with it, the key is the token's own
        lifetime_s = min(lifetime_s, INACTIVE_SECONDS_MAX)
        self._inactive.put(key, _INACTIVE, lifetime_s=lifetime_s, size_bytes=_DIGEST_BYTES)
        return _INACTIVE

    def __len__(self) -> int:
        return len(self._active)
