"""The methods that ask Keycloak in our own client's name, and userinfo: with the caller's token."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.curl import Token
from support.deployment import Deployment, Edge, assert_no_secret_in, json_lines, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.curl import Reply
    from support.keycloak import Keycloak
    from support.transports import Name
    from support.upstream import Upstream

METHODS = Path(__file__).with_name("methods.yaml")
ALICE = ("alice", "down the rabbit-hole")


@pytest.fixture(scope="module")
def authz(
    transport: Name, keycloak: Keycloak, witness: Upstream, clients: dict[str, str]
) -> Iterator[Deployment]:
    with Deployment(
        METHODS,
        transport=transport,
        idp_port=keycloak.port,
        services={"seen.test:8000": witness.port},
        env={"DECK_OUR_SECRET": clients["our_id"]},
        secrets=[*clients.items(), ALICE],
    ) as running:
        yield running


@pytest.fixture(scope="module")
def envoy(authz: Deployment, clients: dict[str, str]) -> Iterator[Edge]:
    with authz.edge() as running:
        yield running
    assert_no_secret_in(running.output(), [*clients.items(), ALICE])


def post(keycloak: Keycloak, path: str, **form: str) -> bytes:
    """POST a form to an OpenID Connect endpoint of the realm; raises for an error."""
    url = keycloak.token_endpoint.removesuffix("token") + path
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(url, data, timeout=20) as response:  # noqa: S310 - loopback
        body: bytes = response.read()
    return body


@pytest.fixture
def as_kong_id(clients: dict[str, str]) -> dict[str, str]:
    """What the seed's client shows Keycloak to prove who it is."""
    return {"client_id": "kong_id", "client_secret": clients["kong_id"]}


@pytest.fixture
def access_token(keycloak: Keycloak, as_kong_id: dict[str, str]) -> str:
    """A fresh token of the seed's client."""
    answer = post(keycloak, "token", grant_type="client_credentials", **as_kong_id)
    token: str = json.loads(answer)["access_token"]
    return token


def bring(envoy: Edge, route: str, token: str) -> Reply:
    return envoy.curl(f"/{route}/x", headers=[("Authorization", f"Bearer {token}")])


def calls(authz: Deployment, endpoint: str) -> float:
    """How often authz has called an endpoint of Keycloak, whatever came of it."""
    return authz.total(f'authz_idp_request_duration_seconds_count{{endpoint="{endpoint}",')


# --- introspection: Keycloak is asked what a token stands for -------------------------------


def test_a_token_of_keycloaks_is_good_and_goes_on_to_the_upstream(
    envoy: Edge, seen: Upstream, access_token: str
) -> None:
    assert bring(envoy, "introspection", access_token).status == 200
    (request,) = seen.requests
    assert request.header("authorization") == [f"Bearer {access_token}"]
    assert request.header("x-consumer-username") == ["kong_id"]


def test_the_answer_is_kept_and_the_second_request_asks_nobody(
    envoy: Edge, authz: Deployment, access_token: str
) -> None:
    before = calls(authz, "introspection")
    assert bring(envoy, "introspection", access_token).status == 200
    assert calls(authz, "introspection") == before + 1
    assert bring(envoy, "introspection", access_token).status == 200
    assert calls(authz, "introspection") == before + 1


def test_a_token_that_was_revoked_is_401_once_the_kept_answer_has_ended(
    envoy: Edge,
    authz: Deployment,
    keycloak: Keycloak,
    as_kong_id: dict[str, str],
    access_token: str,
) -> None:
    assert bring(envoy, "introspection-kept-briefly", access_token).status == 200
    before = authz.denied("token_inactive")
    post(keycloak, "revoke", token=access_token, **as_kong_id)

    until(lambda: bring(envoy, "introspection-kept-briefly", access_token).status == 401)

    assert authz.denied("token_inactive") == before + 1


def test_a_token_of_a_session_that_was_ended_is_401_once_the_kept_answer_has_ended(
    envoy: Edge, authz: Deployment, keycloak: Keycloak, clients: dict[str, str]
) -> None:
    ours = {"client_id": "our_id", "client_secret": clients["our_id"]}
    name, password = ALICE
    session = json.loads(
        post(keycloak, "token", grant_type="password", username=name, password=password, **ours)
    )
    assert bring(envoy, "introspection-kept-briefly", session["access_token"]).status == 200
    before = authz.denied("token_inactive")
    post(keycloak, "logout", refresh_token=session["refresh_token"], **ours)

    until(lambda: bring(envoy, "introspection-kept-briefly", session["access_token"]).status == 401)

    assert authz.denied("token_inactive") == before + 1


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "x" * 2048])
def test_a_string_that_keycloak_does_not_know_is_401(
    envoy: Edge, authz: Deployment, seen: Upstream, token: str
) -> None:
    before = authz.denied("token_inactive")
    reply = bring(envoy, "introspection", token)
    assert (reply.status, seen.requests) == (401, [])
    assert reply.text == '{"message":"Unauthorized"}'
    assert reply.header("www-authenticate")[0].endswith('error="invalid_token"')
    assert authz.denied("token_inactive") == before + 1


def test_our_clients_wrong_secret_is_our_fault_and_503(
    envoy: Edge, authz: Deployment, access_token: str
) -> None:
    before = authz.denied("own_client_rejected")
    reply = bring(envoy, "introspection-wrong-secret", access_token)
    assert (reply.status, reply.text) == (503, '{"message":"Service unavailable"}')
    assert reply.header("www-authenticate") == []
    assert authz.denied("own_client_rejected") == before + 1
    until(lambda: warnings_of_our_client(authz))
    (warning,) = warnings_of_our_client(authz)
    assert warning["issuer"] == "http://keycloak.keycloak:8080/realms/kong"


def warnings_of_our_client(authz: Deployment) -> list[dict[str, Any]]:
    lines = json_lines(authz.authz.output())
    return [line for line in lines if line["message"].startswith("own_client_rejected")]


# --- userinfo: Keycloak is asked with the caller's token --------------------------------------


@pytest.fixture
def openid_token(keycloak: Keycloak, as_kong_id: dict[str, str]) -> str:
    """A fresh token of the seed's client, with the scope that the userinfo endpoint asks for."""
    answer = post(keycloak, "token", grant_type="client_credentials", scope="openid", **as_kong_id)
    token: str = json.loads(answer)["access_token"]
    return token


def test_whom_keycloak_tells_of_is_who_the_caller_is(
    envoy: Edge, authz: Deployment, seen: Upstream, openid_token: str
) -> None:
    before = calls(authz, "userinfo")
    assert bring(envoy, "userinfo", openid_token).status == 200
    (request,) = seen.requests
    assert request.header("authorization") == [f"Bearer {openid_token}"]
    assert request.header("x-consumer-username") == ["service-account-kong_id"]

    assert bring(envoy, "userinfo", openid_token).status == 200
    assert calls(authz, "userinfo") == before + 1


def test_a_token_without_the_scope_openid_tells_of_nobody(
    envoy: Edge, authz: Deployment, access_token: str
) -> None:
    before = authz.denied("token_unsupported")
    assert bring(envoy, "userinfo", access_token).status == 401
    assert authz.denied("token_unsupported") == before + 1


@pytest.mark.parametrize("token", ["opaque", "a.b.c", "x" * 2048])
def test_a_token_that_is_nobodys_is_401(
    envoy: Edge, authz: Deployment, seen: Upstream, token: str
) -> None:
    before = authz.denied("token_inactive")
    assert (bring(envoy, "userinfo", token).status, seen.requests) == (401, [])
    assert authz.denied("token_inactive") == before + 1


def test_keycloak_tells_of_nobody_for_a_token_that_was_revoked(
    envoy: Edge,
    authz: Deployment,
    keycloak: Keycloak,
    as_kong_id: dict[str, str],
    openid_token: str,
) -> None:
    assert bring(envoy, "userinfo-kept-briefly", openid_token).status == 200
    before = authz.denied("token_inactive")
    post(keycloak, "revoke", token=openid_token, **as_kong_id)

    until(lambda: bring(envoy, "userinfo-kept-briefly", openid_token).status == 401)

    assert authz.denied("token_inactive") == before + 1


# --- password beside client_credentials: the how-to's FAQ -----------------------------------


def claims(seen: Upstream) -> dict[str, Any]:
    """The claims of the token that reached the upstream, which is all that did."""
    (request,) = seen.requests
    (authorization,) = request.header("authorization")
    return Token(authorization.removeprefix("Bearer ")).claims


def test_a_users_password_is_exchanged_for_a_token_of_the_user(envoy: Edge, seen: Upstream) -> None:
    assert envoy.curl("/password/x", user=ALICE).status == 200
    token = claims(seen)
    assert (token["preferred_username"], token["azp"]) == ("alice", "our_id")


def test_a_clients_secret_is_exchanged_for_a_token_of_the_client(
    envoy: Edge, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    assert envoy.curl("/password/x", user=kong_id).status == 200
    assert claims(seen)["client_id"] == "kong_id"


@pytest.mark.parametrize("user", ["alice", "other_id"])
def test_the_second_request_asks_nobody_whichever_method_took_the_first(
    envoy: Edge, authz: Deployment, clients: dict[str, str], user: str
) -> None:
    pair = ALICE if user == "alice" else (user, clients[user])
    assert envoy.curl("/password/x", user=pair).status == 200
    before = calls(authz, "token")
    assert envoy.curl("/password/x", user=pair).status == 200
    assert calls(authz, "token") == before


@pytest.mark.parametrize("user", [("alice", "wrong"), ("kong_id", "wrong"), ("nobody", "x")])
def test_a_pair_that_is_neither_a_users_nor_a_clients_is_401(
    envoy: Edge, authz: Deployment, seen: Upstream, user: tuple[str, str]
) -> None:
    before = authz.denied("secret_rejected")
    reply = envoy.curl("/password/x", user=user)
    assert (reply.status, reply.text, seen.requests) == (401, '{"message":"Unauthorized"}', [])
    assert authz.denied("secret_rejected") == before + 1
