"""Kong's ``cors`` in the Envoy that is written: preflights, and what browsers are told."""

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
  plugins:
  - name: cors
    config:
      origins: ["https://Shop.test:443", "https://.*\\\\.shop\\\\.test"]
      methods: [GET, PUT]
      headers: [Authorization, X-Mode]
      exposed_headers: [X-Total]
      credentials: true
      max_age: 60
  routes:
  - name: guarded
    paths: [/guarded]
    plugins:
    - {name: openid-connect, config: {issuer: "http://keycloak.keycloak:8080/realms/kong"}}
  - name: any
    paths: [/any]
    plugins: [{name: cors}]
  - name: tls
    paths: [/tls]
    protocols: [https]
"""
PREFLIGHT = [("Access-Control-Request-Method", "PUT")]


@pytest.fixture
def edge(deploy: Callable[..., Deployment], tmp_path: Path) -> Iterator[Edge]:
    file = tmp_path / "kong.yaml"
    file.write_text(FILE)
    with deploy(file) as authz, authz.edge() as envoy:
        yield envoy


@pytest.mark.parametrize("origin", ["https://shop.test", "https://a.shop.test"])
def test_E5_a_preflight_is_answered_though_it_has_no_credential(
    edge: Edge, seen: Upstream, origin: str
) -> None:
    reply = edge.curl("/guarded", method="OPTIONS", headers=[("Origin", origin), *PREFLIGHT])
    assert (reply.status, seen.requests) == (200, [])
    said = {name: reply.header(f"access-control-{name}") for name in ALLOWED}
    assert said == {name: [value or origin] for name, value in ALLOWED.items()}


ALLOWED = {
    "allow-origin": "",
    "allow-methods": "GET,PUT",
    "allow-headers": "Authorization,X-Mode",
    "allow-credentials": "true",
    "max-age": "60",
}


def test_E5_a_page_may_read_why_it_was_refused(edge: Edge) -> None:
    reply = edge.curl("/guarded", headers=[("Origin", "https://shop.test")])
    assert reply.status == 401
    assert reply.header("access-control-allow-origin") == ["https://shop.test"]
    assert reply.header("access-control-expose-headers") == ["X-Total"]


@pytest.mark.parametrize("origin", ["https://evil.test", "https://shop.test.evil", "null"])
def test_E5_another_origin_is_told_nothing(edge: Edge, seen: Upstream, origin: str) -> None:
    headers = [("Origin", origin)]
    asked = edge.curl("/guarded", method="OPTIONS", headers=[*headers, *PREFLIGHT])
    assert not asked.header("access-control-allow-origin")
    refused = edge.curl("/guarded", headers=headers)
    assert (refused.status, seen.requests) == (401, [])
    assert not refused.header("access-control-allow-origin")


def test_E5_the_nearest_cors_applies_alone(edge: Edge) -> None:
    headers = [("Origin", "https://evil.test"), *PREFLIGHT]
    reply = edge.curl("/any", method="OPTIONS", headers=headers)
    assert reply.header("access-control-allow-origin") == ["https://evil.test"]
    assert reply.header("access-control-allow-headers") == ["*,authorization"]
    assert not reply.header("access-control-allow-credentials")


def test_E5_a_preflight_of_another_scheme_than_the_routes_is_not_answered_for_it(
    edge: Edge,
) -> None:
    headers = [("Origin", "https://shop.test"), *PREFLIGHT]
    assert edge.curl("/tls", method="OPTIONS", headers=headers).status == 426
