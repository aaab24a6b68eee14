"""Decisions, counted by route and plugin, and how long cached answers took.

A cached answer takes some microseconds, so it is counted for a fraction of what a counter of
prometheus-client costs, which takes a lock.  What has been counted is added up when it is read.
"""

from __future__ import annotations

import itertools
import threading
from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from authz.errors import Reason

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Mapping

    from prometheus_client import Metric

    from authz.model import Match

ALLOWED: Final = "allowed"
UNPROTECTED: Final = "unprotected"

Verdict = tuple[str, str]
"""``allow`` or ``deny``, and the reason."""

FROM_THE_START: Final[tuple[Verdict, ...]] = (
    ("allow", ALLOWED),
    ("allow", UNPROTECTED),
    *(("deny", reason.value) for reason in Reason),
)
"""What is told from the start, at 0: an alert sees the first one as an increase."""

CACHED_BUCKETS: Final = (5e-6, 1e-5, 2.5e-5, 5e-5, 1e-4, 2.5e-4, 5e-4, 1e-3, 2.5e-3, 1e-2, 0.1)


@dataclass(frozen=True, slots=True, order=True)
class Place:
    """Where in the file a request was decided: names from the file; empty: no such thing."""

    route: str = ""
    plugin: str = ""

    @classmethod
    def of(cls, match: Match) -> Place:
        """Return the place of what a request has met."""
        route, plugin = match.route, match.plugin
        return cls(
            route=(route.name or route.id) if route else "", plugin=plugin.title if plugin else ""
        )


NOWHERE: Final = Place()
"""No route has matched, or none was looked for."""


class Tally:
    """A count that any thread may raise."""

    def __init__(self) -> None:
        self._numbers = itertools.count()
        self._readings = 0
        self.add_one: Callable[[], object] = self._numbers.__next__
        """Count one: a single step in C, which no other thread can interrupt."""

    def read(self) -> int:
        """Return how many were counted; one thread at a time."""
        total = next(self._numbers) - self._readings
        self._readings += 1  # this reading took a number too
        return total


class PlaceCounts:
    """The decisions at one place."""

    def __init__(self) -> None:
        self._cached = Tally()
        self._decided: Counter[Verdict] = Counter()
        self.allowed_from_cache: Final = self._cached.add_one
        """Count a cached answer; any thread may call it."""

    def decided(self, verdict: Verdict) -> None:
        """Count a decision that was worked out; one thread at a time."""
        self._decided[verdict] += 1

    def read(self) -> Counter[Verdict]:
        """Return all that was counted; one thread at a time."""
        cached = Counter({FROM_THE_START[0]: self._cached.read()})
        return self._decided + cached


class Checks(Collector):
    """``authz_checks_total`` and ``authz_route_checks_total``: one count, told in two ways."""

    def __init__(self) -> None:
        self._places: dict[Place, PlaceCounts] = {}
        self._gone: Counter[Verdict] = Counter()
        self._lock = threading.Lock()

    def at(self, place: Place) -> PlaceCounts:
        """Return the counts of a place, for cached answers; any thread may ask."""
        counts = self._places.get(place)
        if counts is None:
            with self._lock:
                counts = self._places.setdefault(place, PlaceCounts())
        return counts

    def decided(self, verdict: Verdict, place: Place) -> None:
        """Count a decision that was worked out; any thread may call it."""
        counts = self.at(place)
        with self._lock:
            counts.decided(verdict)

    def keep(self, places: Container[Place]) -> None:
        """Tell no more of other places, but for ``NOWHERE``; the totals keep their decisions."""
        with self._lock:
            gone = [one for one in self._places if one != NOWHERE and one not in places]
            for place in gone:
                self._gone += self._places.pop(place).read()

    def describe(self) -> Iterable[Metric]:
        """Return the names."""
        return self._families({}, {})

    def collect(self) -> Iterable[Metric]:
        """Return the counters as they are now."""
        with self._lock:
            places, totals = list(self._places.items()), Counter(self._gone)
        counted = {}
        for place, counts in places:
            with self._lock:  # once a place: who decides waits for one of them, and not for all
                counted[place] = counts.read()
            totals += counted[place]
        return self._families(totals, counted)

    @staticmethod
    def _families(
        totals: Mapping[Verdict, int], places: Mapping[Place, Mapping[Verdict, int]]
    ) -> tuple[Metric, Metric]:
        everywhere = CounterMetricFamily("authz_checks", "Decisions.", labels=("verdict", "reason"))
        for verdict in {**dict.fromkeys(FROM_THE_START), **totals}:
            everywhere.add_metric(verdict, totals.get(verdict, 0))
        by_place = CounterMetricFamily(
            "authz_route_checks",
            "Decisions by route and plugin.",
            labels=("route", "plugin", "verdict", "reason"),
        )
        for place, verdicts in sorted(places.items()):
            for verdict, count in verdicts.items():
                by_place.add_metric((place.route, place.plugin, *verdict), count)
        return everywhere, by_place


class CachedSeconds(Collector):
    """How long cached answers took, from their arrival in this process."""

    def __init__(self) -> None:
        self._buckets = tuple(Tally() for _ in range(len(CACHED_BUCKETS) + 1))
        self._add_one = tuple(tally.add_one for tally in self._buckets)
        self._sum = 0.0
        self._reading = threading.Lock()

    def observe(self, seconds: float) -> None:
        """Add one.  Any thread may call it; of two at the same moment the sum may miss one."""
        self._add_one[bisect_left(CACHED_BUCKETS, seconds)]()
        self._sum += seconds

    def describe(self) -> Iterable[Metric]:
        """Return the name."""
        return (self._family(),)

    def collect(self) -> Iterable[Metric]:
        """Return the histogram as it is now."""
        with self._reading:
            totals = itertools.accumulate(tally.read() for tally in self._buckets)
            bounds = (*map(floatToGoString, CACHED_BUCKETS), "+Inf")
            family = self._family()
            family.add_metric((), list(zip(bounds, totals, strict=True)), self._sum)
        return (family,)

    @staticmethod
    def _family() -> HistogramMetricFamily:
        return HistogramMetricFamily(
            "authz_cached_check_duration_seconds",
            "Time to a cached answer, the wait for the interpreter included.",
        )
