"""What is counted is told once, whoever counts and whoever reads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from authz.telemetry import ALLOWED, Telemetry


def allowed(telemetry: Telemetry) -> float | None:
    labels = {"verdict": "allow", "reason": ALLOWED}
    return telemetry.registry.get_sample_value("authz_checks_total", labels)


def test_answers_from_memory_are_counted_whenever_metrics_are_read() -> None:
    telemetry = Telemetry()
    assert allowed(telemetry) == 0

    telemetry.allowed_from_cache()
    telemetry.allowed_from_cache()
    assert allowed(telemetry) == 2
    assert allowed(telemetry) == 2

    telemetry.allowed_from_cache()
    telemetry.decided("allow", ALLOWED, 0.1)
    assert allowed(telemetry) == 4


def test_no_line_tells_when_a_series_began() -> None:
    telemetry = Telemetry()
    telemetry.decided("allow", ALLOWED, 0.1)

    names = {sample.name for metric in telemetry.registry.collect() for sample in metric.samples}

    assert "authz_check_duration_seconds_count" in names
    assert not [name for name in names if name.endswith("_created")]


def test_no_answer_is_lost_while_threads_count_and_read() -> None:
    telemetry = Telemetry()

    def count(_: int) -> None:
        for _ in range(1_000):
            telemetry.allowed_from_cache()
        allowed(telemetry)

    with ThreadPoolExecutor(4) as threads:
        list(threads.map(count, range(8)))

    assert allowed(telemetry) == 8_000
