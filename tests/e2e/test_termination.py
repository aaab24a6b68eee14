"""``request-termination`` through a real Envoy: an answer of our own, and no upstream is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.deployment import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.deployment import Deployment, Edge
    from support.idp import RunningIdp
    from support.upstream import Upstream

FILE = """
_format_version: "3.0"
services:
- name: httpbin
  url: http://httpbin.kong.svc.cluster.local:8000
  routes:
  - {name: open, paths: [/open], tags: [authz-open]}
  - name: well
    paths: [/well]
    plugins:
    - {name: request-termination, config: {status_code: 200, message: all is well}}
  - name: empty
    paths: [/empty]
    plugins:
    - {name: request-termination, config: {status_code: 204}}
  - name: page
    paths: [/page]
    plugins:
    - name: request-termination
      config: {status_code: 202, body: <p>later</p>, content_type: text/html}
  - name: guarded
    paths: [/guarded]
    plugins:
    - {name: request-termination, config: {status_code: 200, message: all is well}}
    - name: openid-connect
      config:
        issuer: http://keycloak.keycloak:8080/realms/kong
        auth_methods: [client_credentials]
        client_credentials_param_type: [header]
        consumer_claim: [client_id]
        consumer_by: [username]
consumers:
- username: kong_id
"""
WELL = '{"message":"all is well"}'
JSON = "application/json; charset=utf-8"


@pytest.fixture
def authz(deploy: Callable[..., Deployment], tmp_path: Path) -> Iterator[Deployment]:
    file = tmp_path / "kong.yaml"
    file.write_text(FILE)
    with deploy(file) as running:
        yield running


@pytest.fixture
def envoy(authz: Deployment) -> Iterator[Edge]:
    with authz.edge() as running:
        yield running


def test_C_08_a_route_may_be_shut_with_a_success_and_the_upstream_is_not_asked(
    authz: Deployment, envoy: Edge, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    assert envoy.curl("/open").status == 200
    assert len(seen.requests) == 1
    seen.requests.clear()

    for reply in (
        envoy.curl("/well"),
        envoy.curl("/well/below?x=1", method="POST", body=b"a=b"),
        envoy.curl("/well", user=kong_id),
    ):
        assert (reply.status, reply.text) == (200, WELL)
        assert reply.header("content-type") == [JSON]
    page = envoy.curl("/page")
    assert (page.status, page.text) == (202, "<p>later</p>")
    assert page.header("content-type") == ["text/html"]
    empty = envoy.curl("/empty")
    assert (empty.status, empty.body) == (204, b"")

    assert seen.requests == []
    until(lambda: len(authz.denials()) == 5)
    assert set(authz.denials()) == {"request_terminated"}


def test_C_08_behind_openid_connect_only_who_may_pass_gets_the_success(
    envoy: Edge, provider: RunningIdp, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    unknown = envoy.curl("/guarded")
    wrong = envoy.curl("/guarded", user=("kong_id", "wrong"))
    known = envoy.curl("/guarded", user=kong_id)

    assert [reply.status for reply in (unknown, wrong)] == [401, 401]
    assert (known.status, known.text) == (200, WELL)
    assert provider.counters["token"] == 2
    assert seen.requests == []
