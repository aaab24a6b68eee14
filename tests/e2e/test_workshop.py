"""The workshop: its file unchanged, its request, and what happens to everybody else."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import pytest
from support.curl import Reply, curl
from support.deployment import assert_no_secret_in, authz_check, json_lines, until
from support.running import KONG_SECRET

from authz.credentials import basic
from authz.demo.parts import CHECKOUT, run_authz
from authz.demo.story import CLAIM_NAMES

if TYPE_CHECKING:
    from support.deployment import Deployment, Edge
    from support.keycloak import Keycloak
    from support.upstream import Upstream

WORKSHOP = CHECKOUT / "examples" / "workshop.yaml"
PATH = "/oidc-route/get"
URL = f"http://localhost{PATH}"

BEARER = 'Bearer realm="keycloak.keycloak"'
BEARER_REFUSED = f'{BEARER}, error="invalid_token"'
BASIC = 'Basic realm="keycloak.keycloak", charset="UTF-8"'


# --- $ curl -sX GET http://localhost/oidc-route/get -u "kong_id:RVXO…" -----------------


@pytest.fixture(scope="module")
def reply(envoy: Edge, kong_id: tuple[str, str]) -> Reply:
    """The answer to the seed's request."""
    return envoy.curl(PATH, user=kong_id)


def test_the_seeds_request_reaches_the_upstream(reply: Reply) -> None:
    assert reply.status == 200
    assert json.loads(reply.body)["url"].endswith("/get")


def test_the_upstream_receives_a_token_with_the_seeds_header(reply: Reply) -> None:
    header = reply.token.header
    assert header.keys() == {"typ", "alg", "kid"}
    assert (header["typ"], header["alg"]) == ("JWT", "RS256")
    assert header["kid"]


def test_the_token_has_exactly_the_claims_that_the_seed_prints(reply: Reply) -> None:
    assert reply.token.claims.keys() == CLAIM_NAMES


@pytest.mark.parametrize(
    ("claim", "value"),
    [
        ("acr", "1"),
        ("allowed-origins", ["/*"]),
        ("aud", "account"),
        ("azp", "kong_id"),
        ("client_id", "kong_id"),
        ("email_verified", False),
        ("iss", "http://keycloak.keycloak:8080/realms/kong"),
        ("preferred_username", "service-account-kong_id"),
        ("typ", "Bearer"),
    ],
)
def test_the_tokens_claim_has_the_seeds_value(reply: Reply, claim: str, value: Any) -> None:
    assert reply.token.claims[claim] == value


def test_the_tokens_roles_and_scopes_are_the_seeds(reply: Reply) -> None:
    claims = reply.token.claims
    assert set(claims["scope"].split()) == {"openid", "email", "profile"}
    assert set(claims["realm_access"]["roles"]) == {
        "offline_access",
        "uma_authorization",
        "default-roles-kong",
    }
    assert claims["resource_access"].keys() == {"account"}
    assert set(claims["resource_access"]["account"]["roles"]) == {
        "manage-account",
        "manage-account-links",
        "view-profile",
    }


def test_the_tokens_other_claims_have_the_seeds_form(reply: Reply) -> None:
    claims = reply.token.claims
    assert claims["exp"] - claims["iat"] == 300
    assert claims["jti"].startswith("trrtcc:")
    assert claims["clientAddress"] == claims["clientHost"] == "127.0.0.1"
    assert uuid.UUID(claims["sub"])


def test_the_upstream_learns_who_the_consumer_is(reply: Reply) -> None:
    upstream = reply.upstream
    assert upstream["x-consumer-username"] == "kong_id"
    assert uuid.UUID(upstream["x-consumer-id"]).version == 5
    assert upstream["x-credential-identifier"] == reply.token.claims["sub"]


def test_the_second_request_is_answered_without_keycloak(
    reply: Reply, envoy: Edge, workshop: Deployment, kong_id: tuple[str, str]
) -> None:
    exchanges = 'authz_idp_request_duration_seconds_count{endpoint="token",'
    before = workshop.total(exchanges)
    assert envoy.curl(PATH, user=kong_id).token == reply.token
    assert workshop.total(exchanges) == before > 0


# --- Callers who get no further --------------------------------------------------------


def refused(reply: Reply, status: int, message: str, challenges: list[str]) -> bool:
    """Whether the answer is Kong's to the letter, and says nothing of who the caller might be."""
    assert reply.status == status
    assert reply.text == f'{{"message":"{message}"}}'
    assert reply.header("content-type") == ["application/json; charset=utf-8"]
    assert reply.header("cache-control") == ["no-store"]
    assert reply.header("x-content-type-options") == ["nosniff"]
    assert reply.header("www-authenticate") == challenges
    return not [name for name, _ in reply.headers if name.startswith(("x-consumer", "x-cred"))]


def test_no_credential_is_401_and_told_how_to_come_back(envoy: Edge) -> None:
    assert refused(envoy.curl(PATH), 401, "Unauthorized", [BEARER, BASIC])


@pytest.mark.parametrize(
    "user",
    [
        pytest.param(("kong_id", "wrong"), id="a wrong secret"),
        pytest.param(("nobody", KONG_SECRET), id="an unknown client"),
        pytest.param(("KONG_ID", KONG_SECRET), id="an id in capitals"),
        pytest.param(("kong_id", f"{KONG_SECRET} "), id="one space too many"),
        pytest.param(("kong_id", ""), id="an empty secret"),
    ],
)
def test_who_keycloak_refuses_is_401(envoy: Edge, user: tuple[str, str]) -> None:
    assert refused(envoy.curl(PATH, user=user), 401, "Unauthorized", [BEARER_REFUSED, BASIC])


def test_LG_08_an_unknown_client_reads_the_same_as_a_wrong_secret(envoy: Edge) -> None:
    unknown, wrong = (envoy.curl(PATH, user=(name, "x")) for name in ("nobody", "kong_id"))
    told = [
        {name: value for name, value in reply.headers if name != "date"}
        for reply in (unknown, wrong)
    ]
    assert (told[0], unknown.body) == (told[1], wrong.body)


def test_a_client_that_is_no_consumer_is_403(envoy: Edge, other_id: tuple[str, str]) -> None:
    challenge = f'{BEARER}, error="insufficient_scope"'
    assert refused(envoy.curl(PATH, user=other_id), 403, "Forbidden", [challenge])


MALFORMED = {
    "no base64": "Basic kong_id:secret",
    "nothing after the scheme": "Basic",
    "no colon": "Basic a29uZ19pZA==",
    "no padding": "Basic a29uZ19pZDp4eA",
    "an empty id": "Basic OnNlY3JldA==",
    "not UTF-8": "Basic a29uZ19pZDr/",
}


@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED)
def test_basic_that_breaks_its_grammar_is_401(envoy: Edge, value: str) -> None:
    reply = envoy.curl(PATH, headers=[("Authorization", value)])
    assert refused(reply, 401, "Unauthorized", [BEARER_REFUSED, BASIC])


@pytest.mark.parametrize("value", ['Digest username="kong_id"', "Negotiate YII=", "Bearer a.b.c"])
def test_a_scheme_that_the_plugin_does_not_read_is_401(envoy: Edge, value: str) -> None:
    reply = envoy.curl(PATH, headers=[("Authorization", value)])
    assert refused(reply, 401, "Unauthorized", [BEARER, BASIC])


@pytest.mark.parametrize("other", ["Basic b3RoZXI6c2VjcmV0", "Bearer a.b.c"])
def test_CP_21_two_authorization_headers_are_400(
    envoy: Edge, kong_id: tuple[str, str], other: str
) -> None:
    reply = envoy.curl(PATH, user=kong_id, headers=[("Authorization", other)])
    assert refused(reply, 400, "Bad request", [f'{BEARER}, error="invalid_request"'])


def test_an_unknown_path_is_404_in_kongs_words(envoy: Edge, kong_id: tuple[str, str]) -> None:
    reply = envoy.curl("/nowhere", user=kong_id)
    assert reply.status == 404
    assert reply.text == '{"message":"no Route matched with those values"}'
    assert reply.header("content-type") == ["application/json; charset=utf-8"]


@pytest.mark.parametrize("agent", ["kube-probe/1.29", "GoogleHC/1.0", "ELB-HealthChecker/2.0"])
def test_HS_12_no_user_agent_lets_anybody_in(envoy: Edge, agent: str) -> None:
    assert envoy.curl(PATH, headers=[("User-Agent", agent), ("X-Health", "1")]).status == 401


@pytest.mark.parametrize("name", ["Proxy-Authorization", "X-Api-Key", "Cookie", "Access-Token"])
def test_CP_26_a_header_that_the_plugin_does_not_read_is_no_credential(
    envoy: Edge, kong_id: tuple[str, str], name: str
) -> None:
    reply = envoy.curl(PATH, headers=[(name, basic(*kong_id))])
    assert refused(reply, 401, "Unauthorized", [BEARER, BASIC])


def test_HS_04_a_refused_request_reaches_no_upstream(
    envoy_before_seen: Edge, seen: Upstream, other_id: tuple[str, str]
) -> None:
    refusals = [
        envoy_before_seen.curl(PATH),
        envoy_before_seen.curl(PATH, user=("kong_id", "wrong")),
        envoy_before_seen.curl(PATH, user=other_id),
        envoy_before_seen.curl("/nowhere"),
    ]
    assert [reply.status for reply in refusals] == [401, 401, 403, 404]
    assert seen.requests == []


# --- What stands in the operator's logs --------------------------------------------------


def test_envoys_access_log_names_reason_and_consumer_and_no_credential(
    workshop: Deployment, kong_id: tuple[str, str], other_id: tuple[str, str]
) -> None:
    with workshop.edge() as envoy:
        envoy.curl(PATH, user=kong_id)
        envoy.curl(f"{PATH}?secret=hunter2", user=("kong_id", "wrong"))
        envoy.curl(PATH)
        envoy.curl(PATH, user=other_id)
        envoy.curl("/nowhere")
    lines = envoy.access_log()
    assert [(line["status"], line["route"], line["reason"]) for line in lines] == [
        (200, "oidc-route", "allowed"),
        (401, "oidc-route", "secret_rejected"),
        (401, "oidc-route", "credential_missing"),
        (403, "oidc-route", "consumer_unknown"),
        (404, None, None),
    ]
    assert lines[1]["path"] == PATH
    assert [line["consumer"] for line in lines] == ["kong_id", None, None, None, None]
    assert [line["consumer_id"] is None for line in lines] == [False, True, True, True, True]
    decided = [line["decision_id"] for line in lines]
    assert decided[-1] is None  # Envoy's own answer
    logged = workshop.authz.output()
    assert [decision in logged for decision in decided[1:-1]] == [True, True, True]
    assert "hunter2" not in envoy.output()
    assert basic(*kong_id).removeprefix("Basic ") not in envoy.output()


def test_authz_logs_each_denial_with_its_reason_and_the_plugins_place(
    envoy: Edge, workshop: Deployment
) -> None:
    heard = len(workshop.denials())
    envoy.curl(PATH)
    until(lambda: len(workshop.denials()) > heard)
    line = json_lines(workshop.authz.output())[-1]
    assert line["reason"] == "credential_missing"
    assert line["status"] == 401
    assert line["route"] == "oidc-route"
    assert line["plugin"].endswith("workshop.yaml:16:7")
    assert line["consumer"] is None
    assert uuid.UUID(line["request_id"])  # Envoy's: its access log has the same
    assert line["duration_ms"] > 0


# --- $ authz check, authz health: other processes with the same file ----------------------


def test_authz_check_comes_to_the_same_answer_in_a_process_of_its_own(
    reply: Reply, keycloak: Keycloak, kong_id: tuple[str, str]
) -> None:
    code, told = authz_check(WORKSHOP, keycloak.port, kong_id, URL)
    assert code == 0
    assert told[0] == "allow"
    # The file gives no id: every process must derive the same one.
    assert f"sets header: x-consumer-id: {reply.upstream['x-consumer-id']}" in told
    assert "sets header: authorization: Bearer ***" in told
    assert_no_secret_in("\n".join(told), [kong_id])


def test_authz_check_exits_with_3_for_a_denial(
    keycloak: Keycloak, other_id: tuple[str, str]
) -> None:
    code, told = authz_check(WORKSHOP, keycloak.port, other_id, URL)
    assert code == 3
    assert told[0].startswith("deny 403: consumer_unknown")


def test_authz_health_says_serving(workshop: Deployment) -> None:
    assert run_authz("health", "--address", workshop.listen) == f"{workshop.listen} SERVING\n"


def test_readyz_names_keycloak(workshop: Deployment) -> None:
    reply = curl(workshop.admin_port, "/readyz?verbose")
    assert reply.status == 200
    assert "[+] http://keycloak.keycloak:8080/realms/kong" in reply.text
