"""Where a request comes from: one source for what one host may choose among."""

from __future__ import annotations

import pytest

from authz.tokens.sources import source


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
