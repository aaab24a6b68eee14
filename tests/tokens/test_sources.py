"""Where a request comes from: one source for what one host may choose among."""

from __future__ import annotations

import pytest

from authz.model import Request
from authz.tokens import sources
from authz.tokens.sources import Sources, source


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        pytest.param("192.0.2.7", "192.0.2.7", id="IPv4"),
        pytest.param("::ffff:192.0.2.7", "192.0.2.7", id="IPv4 in IPv6"),
        pytest.param("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::", id="IPv6: its /64"),
        pytest.param("2001:db8:1:2::ffff", "2001:db8:1:2::", id="the same /64"),
        pytest.param("fe80::1%eth0", "fe80::", id="with a zone"),
        pytest.param("", "", id="untold"),
        pytest.param("/run/envoy.sock", "", id="no address"),
    ],
)
def test_G16_a_source_is_what_a_stranger_cannot_choose(address: str, expected: str) -> None:
    assert source(address) == expected


def test_G16_what_is_too_long_for_an_address_is_none_and_not_kept() -> None:
    kept = sources._named.cache_info().currsize
    assert source("fe80::1%" + "x" * 60_000) == ""
    assert source("x" * 60_000) == ""
    assert sources._named.cache_info().currsize == kept


@pytest.mark.parametrize(
    ("header", "sent", "expected"),
    [
        pytest.param(None, "203.0.113.9", "192.0.2.7", id="no header is named"),
        pytest.param("x-client", "203.0.113.9", "203.0.113.9", id="the header that is named"),
        pytest.param("x-client", "2001:db8:1:2::9", "2001:db8:1:2::", id="IPv6 by /64"),
        pytest.param("x-client", None, "192.0.2.7", id="Envoy has not written it"),
        pytest.param("x-client", "203.0.113.9, 10.0.0.1", "192.0.2.7", id="no single address"),
    ],
)
def test_G16_a_source_is_what_the_edge_envoy_says_if_a_header_is_named(
    header: str | None, sent: str | None, expected: str
) -> None:
    headers = {} if sent is None else {"x-client": sent}
    request = Request(headers=headers, source_address="192.0.2.7")

    assert Sources(header).of(request) == expected
