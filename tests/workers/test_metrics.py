"""What several processes have counted, as one."""

from __future__ import annotations

import json

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from authz.telemetry import Telemetry
from authz.workers.metrics import (
    COUNTERS,
    RULES,
    Metrics,
    counters,
    merge,
    packed,
    registry_of,
    snapshot,
    unpacked,
)


def process(requests: int, entries: int, seconds: tuple[float, ...] = ()) -> Metrics:
    registry = CollectorRegistry()
    Counter("authz_checks", "Decisions.", ["verdict"], registry=registry).labels("allow").inc(
        requests
    )
    gauge = Gauge("authz_cache_entries", "Entries.", ["cache"], registry=registry)
    gauge.labels("tokens").set(entries)
    histogram = Histogram("authz_seconds", "Time.", buckets=(0.1, 1), registry=registry)
    for value in seconds:
        histogram.observe(value)
    return snapshot(registry)


def values(metrics: Metrics) -> dict[str, float]:
    return {
        " ".join((sample.name, *sample.labels.values())): sample.value
        for metric in metrics
        for sample in metric.samples
    }


def gauge(name: str, *values: float) -> float:
    """Return what ``merge`` makes of a gauge's value in each process."""
    told = []
    for value in values:
        registry = CollectorRegistry()
        Gauge(name, "Of one process.", registry=registry).set(value)
        told.append(snapshot(registry))
    [merged] = merge(told)
    return merged.samples[0].value


def test_counters_and_every_bucket_of_a_histogram_are_summed() -> None:
    merged = values(merge([process(2, 1, (0.05,)), process(3, 1, (0.5, 7))]))

    assert merged["authz_checks_total allow"] == 5
    assert merged["authz_seconds_bucket 0.1"] == 1
    assert merged["authz_seconds_bucket 1.0"] == 2
    assert merged["authz_seconds_bucket +Inf"] == merged["authz_seconds_count"] == 3
    assert merged["authz_seconds_sum"] == 7.55


def test_gauges_are_merged_by_what_they_mean() -> None:
    assert gauge("authz_cache_entries", 3, 4) == 7
    assert gauge("authz_config_last_reload_successful", 1, 0, 1) == 0
    assert gauge("authz_jwks_fetched_timestamp_seconds", 10, 30, 20) == 30
    assert gauge("authz_jwks_keys", 2, 0) == 0


def test_every_gauge_has_a_rule() -> None:
    summed = {metric.name for metric in snapshot(Telemetry().registry) if metric.type in COUNTERS}
    names = {metric.name for metric in snapshot(Telemetry().registry)}

    assert names - summed <= RULES.keys() <= names


def test_a_series_that_one_process_lacks_is_the_others() -> None:
    other = CollectorRegistry()
    Counter("authz_checks", "Decisions.", ["verdict"], registry=other).labels("deny").inc()
    merged = values(merge([process(2, 1), snapshot(other)]))

    assert (merged["authz_checks_total allow"], merged["authz_checks_total deny"]) == (2, 1)


def test_what_has_ended_keeps_its_counters_and_has_no_gauges() -> None:
    assert {metric.name for metric in counters(process(2, 1, (0.5,)))} == {
        "authz_checks",
        "authz_seconds",
    }


def test_metrics_survive_the_way_through_json_and_merging_alone_to_the_last_byte() -> None:
    # One reading: the process's own values change from one to the next.
    read = snapshot(Telemetry().registry)
    told = json.loads(json.dumps(packed(read)))
    merged = registry_of(lambda: merge([unpacked(told)]))

    assert generate_latest(merged) == generate_latest(registry_of(lambda: read))
