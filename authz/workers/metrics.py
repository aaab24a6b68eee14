"""The metrics of all workers merged into one page for Prometheus."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    Rule = Callable[[float, float], float]

Metrics = list[Metric]
"""The metrics of one process at one moment."""

RULES: Final[dict[str, Rule]] = {
    "authz_build": max,
    "authz_cache_entries": operator.add,
    "authz_config_last_reload_successful": min,
    # The supervisor reads the files once, and each worker counts that reload.
    "authz_config_reloads": max,
    "authz_idp_clock_ahead_seconds": max,
    "authz_jwks_fetched_timestamp_seconds": max,
    "authz_jwks_keys": min,
    "process_max_fds": min,
    "process_open_fds": operator.add,
    "process_resident_memory_bytes": operator.add,
    "process_start_time_seconds": min,
    "process_virtual_memory_bytes": operator.add,
}
"""How the values of two processes are merged, by metric.  All others are added."""

COUNTERS: Final = frozenset({"counter", "histogram"})
"""Types whose values stay true when their process has ended."""


class WorkerTelemetry:
    """What the supervisor counts about its workers."""

    def __init__(self, registry: CollectorRegistry) -> None:
        listening = Gauge("authz_workers", "Workers that listen.", registry=registry)
        restarts = Counter(
            "authz_worker_restarts", "Workers that ended and were replaced.", registry=registry
        )
        missed = Counter(
            "authz_worker_reports_missed",
            "Times that a worker did not report in time.",
            registry=registry,
        )
        self.listening = listening.set
        self.restarted = restarts.inc
        self.missed = missed.inc


class _Merged(Collector):
    def __init__(self, collect: Callable[[], Metrics]) -> None:
        self._collect = collect

    def collect(self) -> Iterable[Metric]:
        return self._collect()


def registry_of(collect: Callable[[], Metrics]) -> CollectorRegistry:
    """Return a registry that holds what ``collect`` returns, whenever it is read."""
    registry = CollectorRegistry()
    registry.register(_Merged(collect))
    return registry


def snapshot(registry: CollectorRegistry) -> Metrics:
    """Return what a registry holds now."""
    return list(registry.collect())


def merge(processes: Iterable[Metrics]) -> Metrics:
    """Merge the values that several processes have for the same series."""
    kinds: dict[str, Metric] = {}
    values: dict[str, dict[tuple[str, tuple[tuple[str, str], ...]], float]] = {}
    for metric in (metric for process in processes for metric in process):
        kinds.setdefault(metric.name, metric)
        series = values.setdefault(metric.name, {})
        for sample in metric.samples:
            key = sample.name, tuple(sample.labels.items())
            rule: Rule = RULES.get(metric.name, operator.add)
            series[key] = rule(series[key], sample.value) if key in series else sample.value
    return [
        _metric(
            kind.name,
            kind.documentation,
            kind.type,
            ((name, dict(labels), value) for (name, labels), value in values[kind.name].items()),
        )
        for kind in kinds.values()
    ]


def counters(metrics: Metrics) -> Metrics:
    """Return what a process has counted: it stays true when the process cannot be asked.

    Without it totals would fall when a process ends, and Prometheus would take
    that for a restart and count what the others have a second time.
    """
    return [metric for metric in metrics if metric.type in COUNTERS]


def packed(metrics: Metrics) -> list[Any]:
    """Return metrics as JSON can hold them."""
    return [
        (
            metric.name,
            metric.documentation,
            metric.type,
            [(sample.name, sample.labels, sample.value) for sample in metric.samples],
        )
        for metric in metrics
    ]


def unpacked(given: Sequence[Any]) -> Metrics:
    """Read what ``packed`` made; raises ``ValueError`` or ``TypeError`` for anything else."""
    return [_metric(*one) for one in given]


def _metric(
    name: str, documentation: str, kind: str, samples: Iterable[tuple[str, dict[str, str], float]]
) -> Metric:
    metric = Metric(name, documentation, kind)
    for sample in samples:
        metric.add_sample(*sample)
    return metric
