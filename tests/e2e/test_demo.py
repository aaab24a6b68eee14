"""The demo and its parts, with everything real."""

from __future__ import annotations

import io

import pytest

from authz.demo.parts import Envoy, Httpbin, PartFailedError, answers, free_port, grpcurl
from authz.demo.run import run

BOOTSTRAP = """
admin:
  address: {{socket_address: {{address: 127.0.0.1, port_value: {admin}}}}}
"""


def test_envoy_httpbin_and_grpcurl_really_run() -> None:
    admin = free_port()
    with Httpbin() as httpbin, Envoy(BOOTSTRAP.format(admin=admin), admin) as envoy:
        assert answers(f"{httpbin.url}/get")
        assert answers(f"http://127.0.0.1:{envoy.admin}/server_info")
        assert grpcurl("-version").returncode == 0


def test_an_envoy_that_refuses_its_bootstrap_says_why() -> None:
    with pytest.raises(PartFailedError, match="nonsense"), Envoy("nonsense: true", free_port()):
        pass


def test_the_whole_demo_goes_as_expected_through_a_real_envoy() -> None:
    out = io.StringIO()

    assert run(once=True, out=out) == 0, out.getvalue()
    assert "all 8 answers as expected" in out.getvalue()
    assert "certs 1, discovery 1, token 3; callers asked 8 times" in out.getvalue()
    assert "\x1b" not in out.getvalue()
