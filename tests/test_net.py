"""Which hosts are this machine, and what a b64token is: one answer for every room."""

from __future__ import annotations

import pytest

from authz.net import B64TOKEN, is_loopback


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1", "localhost", "LocalHost.", "a.localhost"],
)
def test_this_machine_by_address_and_by_name(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "10.0.0.1",
        "::",
        "::ffff:10.0.0.1",
        "pod.test",
        "notlocalhost",
        "localhost.test",
        "127.1",
    ],
)
def test_any_other_host_is_not_this_machine(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.parametrize("text", ["a", "a.b-c_d~e+f/g", "YQ==", "a" * 20_000])
def test_a_b64token(text: str) -> None:
    assert B64TOKEN.fullmatch(text)


@pytest.mark.parametrize("text", ["", "=", "a=b", "a b", "a\n", "ä", "a,b"])
def test_no_b64token(text: str) -> None:
    assert B64TOKEN.fullmatch(text) is None
