"""Kong's how-to: its plugin entry and prerequisites, the caller's values in the environment."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.deployment import Deployment, Edge, assert_no_secret_in

from authz.demo.parts import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.keycloak import Keycloak
    from support.transports import Name

    from authz.demo.parts import Httpbin

HOW_TO = CHECKOUT / "examples" / "how-to.yaml"


@pytest.fixture(scope="module")
def envoy(
    transport: Name, keycloak: Keycloak, httpbin: Httpbin, clients: dict[str, str]
) -> Iterator[Edge]:
    env = {
        "DECK_ISSUER": keycloak.issuer,
        "DECK_CLIENT_ID": "kong_id",
        "DECK_CLIENT_SECRET": clients["kong_id"],
    }
    services = {"httpbin.konghq.com:80": httpbin.port}
    with (
        Deployment(
            HOW_TO,
            transport=transport,
            idp_port=keycloak.port,
            services=services,
            env=env,
            secrets=clients.items(),
        ) as authz,
        authz.edge() as running,
    ):
        yield running
    assert_no_secret_in(running.output(), clients.items())


def test_get_anything_with_the_clients_credentials_is_200(
    envoy: Edge, kong_id: tuple[str, str]
) -> None:
    reply = envoy.curl("/anything", user=kong_id)
    assert reply.status == 200
    assert json.loads(reply.body)["url"] == "http://httpbin.konghq.com/anything"
    assert reply.token.claims["client_id"] == "kong_id"


def test_the_services_path_comes_before_what_the_route_leaves(
    envoy: Edge, kong_id: tuple[str, str]
) -> None:
    reply = envoy.curl("/anything/else?x=1", user=kong_id)
    assert json.loads(reply.body)["url"] == "http://httpbin.konghq.com/anything/else?x=1"


def test_without_consumers_every_client_of_the_realm_may_pass_and_none_is_announced(
    envoy: Edge, other_id: tuple[str, str]
) -> None:
    reply = envoy.curl("/anything", user=other_id, headers=[("X-Consumer-Username", "kong_id")])
    assert reply.status == 200
    assert reply.token.claims["client_id"] == "other_id"
    assert not [name for name in reply.upstream if name.startswith("x-consumer")]


@pytest.mark.parametrize("user", [None, ("kong_id", "wrong"), ("nobody", "x")])
def test_everybody_else_is_401(envoy: Edge, user: tuple[str, str] | None) -> None:
    reply = envoy.curl("/anything", user=user)
    assert (reply.status, reply.text) == (401, '{"message":"Unauthorized"}')


def test_the_plugins_own_client_is_never_used_for_a_caller_without_one(envoy: Edge) -> None:
    assert envoy.curl("/anything", user=("kong_id", "")).status == 401
