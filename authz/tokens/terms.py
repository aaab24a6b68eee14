"""For how long a token is kept, and when it is renewed: numbers only."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

# The last part of a token's life, in which it is renewed.
RENEWAL_SECONDS_MAX: Final = 30.0
RENEWAL_SHARE: Final = 0.25
# A token that has no more than this share of its life left is about to end.
LIFE_MIN_SHARE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Terms:
    """What a plugin says about keeping: Kong's ``cache_*`` parameters, in seconds.

    ``keep``: ``cache_tokens``.  ``min_s``, ``max_s``: ``cache_ttl_min`` and
    ``cache_ttl_max``.  ``refused_s``: ``cache_ttl_neg``.  ``resurrect_s``:
    ``cache_ttl_resurrect``, for how long a token serves on whose renewal is overdue.
    """

    keep: bool = True
    min_s: float = 0
    max_s: float = math.inf
    refused_s: float = math.inf
    resurrect_s: float = math.inf

    def life_s(self, own_life_s: float, expires_in: float | None, bound_s: float = 0) -> float:
        """Return how long a token is kept that lives for ``own_life_s`` by its own ``exp``.

        ``expires_in`` is what the provider said beside it.  ``cache_ttl_min`` lifts that,
        never past the token's own end.  ``bound_s`` as in :func:`latest_renewal_s`.
        """
        said_s = own_life_s if expires_in is None else min(own_life_s, expires_in)
        life_s = min(max(said_s, self.min_s), own_life_s, self.max_s)
        return min(life_s, latest_renewal_s(life_s, bound_s) + self.resurrect_s)


def life_left_min_s(life_s: float, bound_s: float) -> float:
    """Return how much life a token must have left to be handed on without looking for another.

    ``life_s`` is its whole life, ``bound_s`` what is asked of long-lived ones.
    """
    return min(bound_s, LIFE_MIN_SHARE * life_s)


def latest_renewal_s(life_s: float, bound_s: float) -> float:
    """Return the age at which a token's renewal has begun at the latest."""
    span_s = min(RENEWAL_SECONDS_MAX, RENEWAL_SHARE * life_s)
    return life_s - life_left_min_s(life_s, bound_s) - span_s / 2


def renewal_s(life_s: float, bound_s: float, *, first: bool, lot: float) -> float:
    """Return the age at which a token's renewal begins; ``lot`` is drawn from 0 to 1.

    A renewal begins between a whole and half a span before the time that no renewal may
    come too late for.  The ``first`` one is drawn from half the life on, so that tokens
    that began together part.
    """
    latest_s = latest_renewal_s(life_s, bound_s)
    span_s = min(RENEWAL_SECONDS_MAX, RENEWAL_SHARE * life_s)
    earliest_s = life_s / 2 if first else latest_s - span_s / 2
    return earliest_s + lot * (latest_s - earliest_s)
