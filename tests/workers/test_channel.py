"""What crosses between supervisor and worker."""

from __future__ import annotations

from io import BytesIO
from typing import TYPE_CHECKING

import pytest

from authz.kong.files import Sources
from authz.oauth.provider import ProviderStatus
from authz.settings import Settings
from authz.telemetry import Telemetry
from authz.workers.channel import (
    Reload,
    ReloadCertificates,
    Report,
    ReportRequest,
    Start,
    Stop,
    next_order,
    written,
)
from authz.workers.metrics import packed, snapshot

if TYPE_CHECKING:
    from authz.workers.channel import Order

SOURCES = Sources((("kong.yaml", b"_format_version: '3.0'\n\xff"),))


def test_orders_arrive_as_they_were_given_and_then_the_end() -> None:
    orders: list[Order] = [
        Start(Settings.of(workers=2), SOURCES),
        ReportRequest(),
        ReloadCertificates(),
        Reload(SOURCES),
        Stop(),
    ]
    channel = BytesIO(b"".join(map(written, orders)))

    assert [next_order(channel) for _ in orders] == orders
    assert next_order(channel) is None


def test_an_order_that_breaks_off_is_the_end_wherever_it_does() -> None:
    whole = written(Start(Settings(), SOURCES))

    assert {next_order(BytesIO(whole[:size])) for size in range(len(whole))} == {None}


def test_a_report_is_one_line_and_arrives_as_it_was_given() -> None:
    provider = ProviderStatus("http://keycloak.test", ready=True, detail="2\nkeys")
    report = Report(True, [provider], snapshot(Telemetry().registry))  # noqa: FBT003 - one of three
    line = report.line()
    read = Report.of(line)

    assert line.find(b"\n") == len(line) - 1
    assert (read.ready, read.providers) == (True, [provider])
    assert packed(read.metrics) == packed(report.metrics)


@pytest.mark.parametrize("line", [b"", b"{", b"null", b"[]", b"[1, 2, 3]", b'[true, [["a"]], []]'])
def test_what_is_no_report_is_a_value_error(line: bytes) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - json has its own kinds of it
        Report.of(line)
