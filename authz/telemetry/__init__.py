"""Metrics.  Names and labels are listed in docs/metrics.md; every label is a closed set."""

from __future__ import annotations

import contextlib
import time
from collections import defaultdict
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Final, Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    Info,
    ProcessCollector,
    disable_created_metrics,
)

from authz import __version__
from authz.errors import IdpOutage, Overloaded, Refusal, Unauthenticated, Unavailable
from authz.telemetry.checks import NOWHERE, CachedSeconds, Checks

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator

    from authz.telemetry.checks import Place, PlaceCounts

# One line more a series, and nobody's: Prometheus sees a counter's restart by its value.
disable_created_metrics()  # type: ignore[no-untyped-call] # the library says no types for it

ReloadOutcome = Literal["ok", "failed", "would_open"]
"""``would_open``: valid, and kept out because it opens a route and does not say so."""

WaitKind = Literal["first", "renewal"]
"""``first``: the caller had no token.  ``renewal``: one that is about to end."""

RenewalOutcome = Literal["ok", "failed", "refused"]
"""``refused``: the provider's verdict on the caller; ``failed``: any other trouble."""

_CHECK_BUCKETS: Final = (0.0001, 0.001, 0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
_CALL_BUCKETS: Final = (0.005, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
# Searched in this order: the first that fits names the outcome of a call.
_OUTCOMES: Final = (
    (Overloaded, "overloaded"),
    (IdpOutage, "unavailable"),
    (Unavailable, "invalid"),
    (Unauthenticated, "rejected"),
)


@dataclass(slots=True)
class IdpCall:
    """One call to a provider: which endpoint, ``where`` in words, how long, how it ended.

    Until it ends ``outcome`` is empty, and ``seconds`` is the time since its beginning.
    """

    endpoint: str
    where: str
    outcome: str = ""
    _began: float = field(default_factory=time.perf_counter)
    _took_s: float | None = None

    @property
    def seconds(self) -> float:
        """Return how long it took, or has taken until now."""
        return time.perf_counter() - self._began if self._took_s is None else self._took_s

    def end(self, outcome: str) -> None:
        """Note how it ended, unless that has been said already."""
        self._took_s = self.seconds
        self.outcome = self.outcome or outcome


class Telemetry:
    """All metrics of one process."""

    def __init__(self, registry: CollectorRegistry | None = None) -> None:
        self.registry = registry or CollectorRegistry()
        self._checks = Checks()
        self.registry.register(self._checks)
        cached_seconds = CachedSeconds()
        self.registry.register(cached_seconds)
        self.answered_from_cache = cached_seconds.observe
        """Note how long a cached answer took, in seconds; any thread may call it."""
        check_seconds = Histogram(
            "authz_check_duration_seconds",
            "Time from Envoy's question to the answer; cached answers are counted apart.",
            ["verdict"],
            buckets=_CHECK_BUCKETS,
            registry=self.registry,
        )
        self._calls = Histogram(
            "authz_idp_request_duration_seconds",
            "Calls to identity providers.",
            ["issuer", "endpoint", "outcome"],
            buckets=_CALL_BUCKETS,
            registry=self.registry,
        )
        cache_events = Counter(
            "authz_cache_events", "Cache look-ups.", ["cache", "event"], registry=self.registry
        )
        self._cache_entries = Gauge(
            "authz_cache_entries", "Entries held.", ["cache"], registry=self.registry
        )
        self._token_waits = Counter(
            "authz_token_waits",
            "Callers that waited for a token, by what they had.",
            ["kind"],
            registry=self.registry,
        )
        self._token_renewals = Counter(
            "authz_token_renewals",
            "Renewals of kept tokens that have ended, and how.",
            ["outcome"],
            registry=self.registry,
        )
        self._keys = Gauge(
            "authz_jwks_keys", "Keys held.", ["issuer", "use"], registry=self.registry
        )
        self._keys_fetched = Gauge(
            "authz_jwks_fetched_timestamp_seconds",
            "When the keys were last fetched, in seconds since 1970.",
            ["issuer"],
            registry=self.registry,
        )
        self._clock_ahead = Gauge(
            "authz_idp_clock_ahead_seconds",
            "How far ahead of this clock the last exchanged token was dated, beyond leeway.",
            ["issuer"],
            registry=self.registry,
        )
        self._mismatches = Counter(
            "authz_identity_mismatches",
            "Exchanged tokens that were not of the client that was presented.",
            ["differs"],
            registry=self.registry,
        )
        self._reloads = Counter(
            "authz_config_reloads", "Configurations read.", ["outcome"], registry=self.registry
        )
        self._reload_ok = Gauge(
            "authz_config_last_reload_successful",
            "1 if the configuration in use is the last one that was read.",
            registry=self.registry,
        )
        self._reload_ok.set(1)  # what is running was read at the start
        Info("authz_build", "What is running.", registry=self.registry).info(
            {"version": __version__}
        )
        ProcessCollector(registry=self.registry)
        # A look-up of prometheus-client's takes a lock, and ten times as long.
        self._check_seconds = cache(check_seconds.labels)
        self._call = cache(self._calls.labels)
        self._called: defaultdict[str, set[tuple[str, str]]] = defaultdict(set)
        self._cache_event = cache(cache_events.labels)
        self._token_wait = cache(self._token_waits.labels)
        # Every series of a few exists from the start, at 0.
        for differs in ("case", "client"):
            self._mismatches.labels(differs)
        for outcome in get_args(ReloadOutcome):
            self._reloads.labels(outcome)
        for kind in get_args(WaitKind):
            self._token_waits.labels(kind)
        for renewal in get_args(RenewalOutcome):
            self._token_renewals.labels(renewal)

    def decided(self, verdict: str, reason: str, seconds: float, place: Place = NOWHERE) -> None:
        """Count a decision that was worked out; any thread may call it."""
        self._checks.decided((verdict, reason), place)
        self._check_seconds(verdict).observe(seconds)

    def at(self, place: Place) -> PlaceCounts:
        """Return the counts of a place (of the configuration: a closed set)."""
        return self._checks.at(place)

    def keep_places(self, places: Container[Place]) -> None:
        """Drop the series of routes and plugins that no configuration has any more."""
        self._checks.keep(places)

    @contextlib.contextmanager
    def idp_call(
        self, issuer: str, endpoint: str, where: str, observer: list[IdpCall] | None = None
    ) -> Iterator[IdpCall]:
        """Time a call to a provider; how it ends names its outcome, unless that is set before.

        ``issuer`` is of the configuration, so of a closed set.  ``observer`` gets the call as
        soon as it begins.
        """
        call = IdpCall(endpoint, where)
        if observer is not None:
            observer.append(call)
        try:
            yield call
        except Refusal as error:
            outcome = next((name for kind, name in _OUTCOMES if isinstance(error, kind)), "invalid")
            call.end(outcome)
            raise
        except BaseException:
            call.end("cancelled")  # who asked has left, or the process ends
            raise
        else:
            call.end("ok")
        finally:
            self._called[issuer].add((endpoint, call.outcome))
            self._call(issuer, endpoint, call.outcome).observe(call.seconds)

    def identity_mismatch(self, differs: str) -> None:
        """Count a token of another client: one by its ``case`` alone, or another ``client``."""
        self._mismatches.labels(differs).inc()

    def token_waited(self, kind: WaitKind) -> None:
        """Count a caller that waits for a token."""
        self._token_wait(kind).inc()

    def token_renewed(self, outcome: RenewalOutcome) -> None:
        """Count a renewal that has ended."""
        self._token_renewals.labels(outcome).inc()

    def cache(self, name: str, event: str) -> None:
        """Count a look-up in a cache: ``hit``, ``miss`` or ``stale``."""
        self._cache_event(name, event).inc()

    def watch_cache(self, name: str, entries: Callable[[], int]) -> None:
        """Report the size of a cache whenever metrics are read."""
        self._cache_entries.labels(name).set_function(entries)

    def keys_fetched(self, issuer: str, usable: int, skipped: int) -> None:
        """Note a new key set of an issuer (of the configuration, so a closed set)."""
        self._keys.labels(issuer, "usable").set(usable)
        self._keys.labels(issuer, "skipped").set(skipped)
        self._keys_fetched.labels(issuer).set_to_current_time()

    def forget_issuer(self, issuer: str) -> None:
        """Drop the series of an issuer that the configuration names no more."""
        for use in ("usable", "skipped"):
            self._keys.remove(issuer, use)
        self._keys_fetched.remove(issuer)
        self._clock_ahead.remove(issuer)
        for endpoint, outcome in self._called.pop(issuer, ()):
            self._calls.remove(issuer, endpoint, outcome)
        self._call.cache_clear()

    def idp_clock_ahead(self, issuer: str, seconds: float) -> None:
        """Note how far ahead the clock of an issuer is (of the configuration: a closed set)."""
        self._clock_ahead.labels(issuer).set(seconds)

    def reloaded(self, outcome: ReloadOutcome) -> None:
        """Note that a configuration was read and taken, or kept out and why."""
        self._reloads.labels(outcome).inc()
        self._reload_ok.set(outcome == "ok")
