"""Routes for https alone or for http alone, and a proxy before Envoy that ends TLS."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.deployment import Deployment, Edge
    from support.upstream import Upstream

FILE = """
_format_version: "3.0"
services:
- name: httpbin
  url: http://httpbin.kong.svc.cluster.local:8000
  routes:
  - {name: both, paths: [/both]}
  - {name: plain, paths: [/plain], protocols: [http]}
  - {name: upgrade, paths: [/tls], protocols: [https]}
  - {name: moved, paths: [/moved], protocols: [https], https_redirect_status_code: 301}
  - {name: other, paths: [/other], protocols: [https], https_redirect_status_code: 308}
  - {name: guarded, paths: [/guarded], protocols: [https], plugins: [
      {name: openid-connect, config: {issuer: "http://keycloak.keycloak:8080/realms/kong"}}]}
  - {name: any, paths: [/]}
"""
TLS = [
    ("X-Forwarded-Proto", "https"),
    ("X-Forwarded-Port", "443"),
    ("X-Forwarded-For", "192.0.2.7"),
]


@pytest.fixture
def edge(deploy: Callable[..., Deployment], tmp_path: Path) -> Iterator[Callable[[int], Edge]]:
    """A maker of Envoys behind so many trusted proxies."""
    file = tmp_path / "kong.yaml"
    file.write_text(FILE)

    with deploy(file) as authz:

        def make(hops: int) -> Edge:
            flags = ("--trusted-hops", str(hops))
            return deploy(file, listen=authz.listen, envoy_flags=flags).edge()

        yield make


@pytest.mark.parametrize("headers", [[], TLS])
def test_E9_without_trusted_proxies_nobody_can_say_that_there_was_tls(
    edge: Callable[[int], Edge], seen: Upstream, headers: list[tuple[str, str]]
) -> None:
    with edge(0) as envoy:
        assert envoy.curl("/both", headers=headers).status == 200
        [request] = seen.requests
        assert request.header("x-forwarded-proto") == ["http"]
        seen.requests.clear()
        for path in ("/tls", "/tls/below?a=1", "/guarded"):
            reply = envoy.curl(path, headers=headers)
            assert (reply.status, reply.text) == (426, '{"message":"Please use HTTPS protocol"}')
        moved = envoy.curl("/moved/below?a=1", headers=[*headers, ("Host", "api.example")])
        other = envoy.curl("/other", headers=[*headers, ("Host", "api.example")])
    assert (moved.status, moved.header("location")) == (
        301,
        ["https://api.example/moved/below?a=1"],
    )
    assert (other.status, other.header("location")) == (308, ["https://api.example/other"])
    assert seen.requests == []


def test_E9_a_trusted_proxy_says_whether_there_was_tls_and_who_asks(
    edge: Callable[[int], Edge], seen: Upstream
) -> None:
    with edge(1) as envoy:
        with_tls = {
            path: envoy.curl(path, headers=TLS).status for path in ("/tls", "/moved", "/plain")
        }
        guarded = envoy.curl("/guarded", headers=TLS)
        plain = [("X-Forwarded-Proto", "http")]
        without = {path: envoy.curl(path, headers=plain).status for path in ("/tls", "/plain")}
        unsaid = envoy.curl("/tls").status

    # Kong compares the protocol of the best route, and never looks for the next one.
    assert with_tls == {"/tls": 200, "/moved": 200, "/plain": 404}
    assert guarded.status == 401
    assert without == {"/tls": 426, "/plain": 200}
    assert unsaid == 426
    first = seen.requests[0]
    assert first.header("x-forwarded-proto") == ["https"]
    assert first.header("x-forwarded-port") == ["443"]
    assert first.header("x-real-ip") == ["192.0.2.7"]
