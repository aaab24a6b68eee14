"""A resource's metadata (RFC 9728) through a real Envoy: told to whoever asks, upstream unasked."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.deployment import Deployment, Edge
    from support.upstream import Upstream

AT = "/.well-known/oauth-protected-resource"
HOST = "api.example"
FILE = """
_format_version: "3.0"
services:
- name: httpbin
  url: http://httpbin.kong.svc.cluster.local:8000
  routes:
  - {name: mcp, paths: [/mcp]}
  - {name: named, paths: [/named], hosts: [api.example]}
  plugins:
  - name: openid-connect
    config:
      issuer: http://keycloak.keycloak:8080/realms/kong
      auth_methods: [bearer, client_credentials]
      client_credentials_param_type: [header]
      consumer_claim: [client_id]
      protected_resource_metadata:
        resource: https://api.example/mcp
        authorization_servers: ["http://keycloak.keycloak:8080/realms/kong"]
consumers:
- username: kong_id
"""


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


@pytest.mark.parametrize("path", [f"/mcp{AT}", f"{AT}/mcp", f"{AT}/mcp?a=1"])
def test_a_caller_learns_from_the_challenge_and_from_the_host_whom_to_ask_for_a_token(
    envoy: Edge, seen: Upstream, path: str
) -> None:
    headers = [("Host", f"{HOST}:8443")]
    refused = envoy.curl("/mcp", headers=headers)
    reply = envoy.curl(path, headers=headers)

    [bearer, _] = refused.header("www-authenticate")
    assert bearer.endswith(f', resource_metadata="https://{HOST}/mcp{AT}"')
    assert (reply.status, reply.header("content-type")) == (200, ["application/json"])
    assert json.loads(reply.text)["resource"] == f"https://{HOST}/mcp"
    assert seen.requests == []
