"""What providers have said of tokens when they were asked: kept as long as it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import Overloaded, Reason, Unauthenticated
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
# What is forwarded with a token is its caller's to choose: so many answers about one token.
VARIANTS_MAX: Final = 64
# The tokens whose variants are counted: those that were asked about last.
VARIED_ENTRIES_MAX: Final = 10_000

_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Vouched:
    """What a provider said of one token that is active.

    ``expires_at``: the token's end, in seconds since 1970.  ``kept_until``: until when the
    answer holds, in monotonic seconds.
    """

    claims: Claims
    expires_at: float = 0.0
    kept_until: float = 0.0


Answer = Vouched | Unauthenticated


class VouchedTokens:
    """Answers by digest of the token and of everything else that they depend on.

    Of a token that is not active: the refusal, to be raised as ``again()``.

    ``token`` is the digest of the token alone: a token is known by that, or whoever has a
    good one could push out all others by varying what goes with it.  For the same reason
    no more than ``VARIANTS_MAX`` answers about one token are kept: its oldest goes.

    Tokens that are not active have a cache of their own: a flood of them pushes out no
    good one.  For the event loop only, but for ``len``.
    """

    def __init__(self, *, entries_max: int, bytes_max: int, timer: Callable[[], float]) -> None:
        self.calls: Final[SingleFlight[Answer]] = SingleFlight(calls_max=CALLS_MAX)
        self._active: BoundedCache[Vouched] = BoundedCache(
            entries_max=entries_max, bytes_max=bytes_max, timer=timer
        )
        self._timer = timer
        # Of each token the keys of its answers, the oldest first, and until when they are kept.
        self._variants: BoundedCache[dict[bytes, float]] = BoundedCache(
            entries_max=VARIED_ENTRIES_MAX,
            bytes_max=VARIED_ENTRIES_MAX * VARIANTS_MAX * _DIGEST_BYTES,
            timer=timer,
        )
        self._inactive: BoundedCache[Unauthenticated] = BoundedCache(
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
        self, key: bytes, token: bytes, call: Callable[[], Coroutine[Any, Any, Answer]]
    ) -> Answer:
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

    def get(self, key: bytes) -> Answer | None:
        """Return the answer that is kept, or ``None``."""
        return self._active.get(key) or self._inactive.get(key)

    def keep(self, key: bytes, token: bytes, answer: Vouched, *, lifetime_s: float) -> None:
        """Keep what was said of a token that is active; for 0 s, only that it is known."""
        self._known.put(token, value=True, lifetime_s=KNOWN_SECONDS_MAX, size_bytes=_DIGEST_BYTES)
        size_bytes = _DIGEST_BYTES + len(repr(answer.claims))
        self._active.put(key, answer, lifetime_s=lifetime_s, size_bytes=size_bytes)
        if key != token and lifetime_s > 0:
            self._count(key, token, lifetime_s)

    def _count(self, key: bytes, token: bytes, lifetime_s: float) -> None:
        """Count an answer among those about its token, and drop the oldest of too many."""
        now = self._timer()
        counted = self._variants.get(token) or {}
        variants = {k: until for k, until in counted.items() if until > now and k != key}
        variants[key] = now + lifetime_s
        if len(variants) > VARIANTS_MAX:
            oldest = next(iter(variants))
            del variants[oldest]
            self._active.drop(oldest)
        self._variants.put(
            token,
            variants,
            lifetime_s=max(variants.values()) - now,
            size_bytes=len(variants) * _DIGEST_BYTES,
        )

    def keep_inactive(
        self, key: bytes, refusal: Unauthenticated, *, lifetime_s: float
    ) -> Unauthenticated:
        """Keep for a moment why a token is not active; return that, for everybody who waits."""
        # Neither the frames that the exception holds are kept, nor what the provider wrote.
        refusal = Unauthenticated(refusal.reason, refusal.detail)
        self._known.drop(key)  # where nothing went with it, the key is the token's own
        lifetime_s = min(lifetime_s, INACTIVE_SECONDS_MAX)
        self._inactive.put(key, refusal, lifetime_s=lifetime_s, size_bytes=_DIGEST_BYTES)
        return refusal

    def __len__(self) -> int:
        return len(self._active)
