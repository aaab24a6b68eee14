"""When a token whose key nobody knows yet may make a provider be asked for its keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from authz.clock import Clock

# Callers' tokens: a bucket of looks, which fills again one by one.
LOOKS_MAX: Final = 4
LOOK_SECONDS: Final = 45.0
# Tokens that the provider itself has just given to us.
EXCHANGE_LOOK_SECONDS: Final = 5.0
# Kong's rediscovery_lifetime may be 0: "always".
REDISCOVERY_SECONDS_MIN: Final = 1.0


class Looks:
    """The looks of one provider that are left.  ``rediscovery_s``: Kong's parameter."""

    def __init__(self, clock: Clock, *, rediscovery_s: float) -> None:
        self._clock = clock
        self._rediscovery_s = max(REDISCOVERY_SECONDS_MIN, rediscovery_s)
        self._left = float(LOOKS_MAX)
        self._filled_at = clock.monotonic()
        self._looked_at = -float("inf")
        self._exchange_at = -float("inf")

    def take(self, *, from_exchange: bool) -> bool:
        """Take a look, and return whether there was one.

        A token of our own exchange has its own, for anybody can bring a token whose key
        is unknown.  A caller's comes out of the bucket; if that is empty, one is given
        ``rediscovery_lifetime`` after the last.
        """
        now = self._clock.monotonic()
        if from_exchange:
            if now < self._exchange_at:
                return False
            self._exchange_at = now + EXCHANGE_LOOK_SECONDS
            return True
        self._left = min(LOOKS_MAX, self._left + (now - self._filled_at) / LOOK_SECONDS)
        self._filled_at = now
        if self._left < 1 and now < self._looked_at + self._rediscovery_s:
            return False
        self._left = max(0.0, self._left - 1)
        self._looked_at = now
        return True
