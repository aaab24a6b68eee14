"""What is counted is told once, whoever counts and whoever reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest

from authz.model import Match, OpenIDConnect, Plugin, Route, Service, SourcePosition
from authz.telemetry import Telemetry
from authz.telemetry.checks import ALLOWED, CACHED_BUCKETS, NOWHERE, Place

POSITION = SourcePosition("kong.yaml", 1, 1)
ORDERS = Place("orders", "global")
STOCK = Place("stock", "route stock")


def value(telemetry: Telemetry, name: str, **labels: str) -> float | None:
    return telemetry.registry.get_sample_value(name, labels)


def allowed(telemetry: Telemetry) -> float | None:
    return value(telemetry, "authz_checks_total", verdict="allow", reason=ALLOWED)


def at(telemetry: Telemetry, place: Place, verdict: str, reason: str) -> float | None:
    where = {"route": place.route, "plugin": place.plugin}
    return value(telemetry, "authz_route_checks_total", **where, verdict=verdict, reason=reason)


def test_cached_answers_are_counted_whenever_metrics_are_read() -> None:
    telemetry = Telemetry()
    count = telemetry.at(ORDERS).allowed_from_cache
    assert allowed(telemetry) == 0

    count()
    count()
    assert allowed(telemetry) == 2
    assert allowed(telemetry) == 2

    count()
    telemetry.decided("allow", ALLOWED, 0.1, ORDERS)
    assert allowed(telemetry) == 4


def test_every_decision_is_counted_in_all_and_at_its_place() -> None:
    telemetry = Telemetry()
    telemetry.at(ORDERS).allowed_from_cache()
    telemetry.decided("allow", ALLOWED, 0.1, ORDERS)
    telemetry.decided("allow", ALLOWED, 0.1, STOCK)
    telemetry.decided("deny", "secret_rejected", 0.1, STOCK)
    telemetry.decided("deny", "route_unmatched", 0.1)

    assert allowed(telemetry) == 3
    assert at(telemetry, ORDERS, "allow", ALLOWED) == 2
    assert at(telemetry, STOCK, "allow", ALLOWED) == 1
    assert at(telemetry, STOCK, "deny", "secret_rejected") == 1
    assert at(telemetry, NOWHERE, "deny", "route_unmatched") == 1
    totals = [value(telemetry, "authz_checks_total", verdict="deny", reason="route_unmatched")]
    assert totals == [1]


def test_a_place_that_has_gone_is_told_no_more_and_no_total_falls() -> None:
    telemetry = Telemetry()
    telemetry.at(STOCK).allowed_from_cache()
    telemetry.decided("allow", ALLOWED, 0.1, ORDERS)
    telemetry.decided("allow", ALLOWED, 0.1)

    telemetry.keep_places({ORDERS})

    assert allowed(telemetry) == 3
    assert at(telemetry, STOCK, "allow", ALLOWED) is None
    assert at(telemetry, ORDERS, "allow", ALLOWED) == 1
    assert at(telemetry, NOWHERE, "allow", ALLOWED) == 1


def test_a_place_is_named_as_in_the_file() -> None:
    openid_connect = OpenIDConnect.of(issuer="https://idp.example")
    service = Service("id-of-s", "shop", POSITION, host="shop")
    route = Route("id-of-r", "orders", POSITION, service)
    nameless = Route("id-of-n", None, POSITION, service)
    plugin = Plugin(POSITION, openid_connect)

    assert plugin.title == "global"
    assert replace(plugin, service=service).title == "service shop"
    assert replace(plugin, route=nameless).title == "route id-of-n"
    assert replace(plugin, service=service, route=route).title == "service shop, route orders"
    assert replace(plugin, route=route, instance_name="machines").title == "machines"
    assert Place.of(Match(route, service, plugin)) == Place("orders", "global")
    assert Place.of(Match(nameless, service, None)) == Place("id-of-n", "")
    assert Place.of(Match(None, None, plugin)) == Place("", "global")


@pytest.mark.parametrize("bound", CACHED_BUCKETS)
def test_the_time_of_a_cached_answer_stands_in_each_bucket_that_reaches_it(bound: float) -> None:
    telemetry = Telemetry()
    telemetry.answered_from_cache(bound)
    telemetry.answered_from_cache(7)

    name = "authz_cached_check_duration_seconds"
    buckets = {le: value(telemetry, f"{name}_bucket", le=str(le)) for le in CACHED_BUCKETS}
    assert buckets == {le: float(le >= bound) for le in CACHED_BUCKETS}
    assert value(telemetry, f"{name}_bucket", le="+Inf") == value(telemetry, f"{name}_count") == 2
    assert value(telemetry, f"{name}_sum") == 7 + bound


def test_no_line_tells_when_a_series_began() -> None:
    telemetry = Telemetry()
    telemetry.decided("allow", ALLOWED, 0.1)
    telemetry.answered_from_cache(0.1)

    names = {sample.name for metric in telemetry.registry.collect() for sample in metric.samples}

    assert "authz_check_duration_seconds_count" in names
    assert not [name for name in names if name.endswith("_created")]


def test_the_process_tells_its_own_memory_time_and_descriptors() -> None:
    names = {metric.name for metric in Telemetry().registry.collect()}

    assert {
        "process_resident_memory_bytes",
        "process_cpu_seconds",
        "process_open_fds",
        "process_max_fds",
        "process_start_time_seconds",
    } <= names


def test_no_answer_is_lost_while_threads_count_and_read() -> None:
    telemetry = Telemetry()

    def count(number: int) -> None:
        place = (ORDERS, STOCK)[number % 2]
        for _ in range(1_000):
            telemetry.at(place).allowed_from_cache()
            telemetry.decided("deny", "overloaded", 0.0, place)
        allowed(telemetry)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(8)))

    assert allowed(telemetry) == 8_000
    assert at(telemetry, ORDERS, "deny", "overloaded") == 4_000
    assert at(telemetry, STOCK, "allow", ALLOWED) == 4_000
