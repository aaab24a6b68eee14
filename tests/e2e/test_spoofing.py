"""What a caller says about themselves does not reach the upstream, however it is spelled."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import pytest
from support.deployment import ext_authz, upstream

from authz.credentials import basic
from authz.header_names import AUTHORIZATION, IDENTITY

if TYPE_CHECKING:
    from support.deployment import Deployment, Edge
    from support.upstream import Received, Upstream

PATH = "/oidc-route/get"
OURS = {"authorization", "x-consumer-id", "x-consumer-username", "x-credential-identifier"}
GUARDED = {*IDENTITY, AUTHORIZATION}
SPOOF = "spoofed-by-the-caller"


def mixtures(name: str) -> list[str]:
    """Every spelling of a name that a CGI-style upstream takes for the same."""
    letters = [("-", "_") if letter == "-" else (letter,) for letter in name]
    return ["".join(spelling) for spelling in product(*letters)]


def received(seen: Upstream) -> Received:
    """The one request that reached the upstream, with nothing of the caller's in it."""
    (request,) = seen.requests
    assert SPOOF not in str(request)
    return request


@pytest.mark.parametrize("name", sorted(GUARDED - {"authorization"}))
def test_HS_01_HS_02_HS_06_a_guarded_header_is_ours_or_gone(
    envoy_before_seen: Edge, seen: Upstream, kong_id: tuple[str, str], name: str
) -> None:
    spoofed = [(name.title(), SPOOF), (name.upper(), SPOOF), (name, f"{SPOOF}, twice")]
    assert envoy_before_seen.curl(PATH, user=kong_id, headers=spoofed).status == 200
    assert len(received(seen).header(name)) == (1 if name in OURS else 0)


@pytest.mark.parametrize("name", sorted(GUARDED))
def test_HS_03_no_twin_with_underscores_reaches_the_upstream(
    envoy_before_seen: Edge, seen: Upstream, kong_id: tuple[str, str], name: str
) -> None:
    twins = [(twin, SPOOF) for twin in mixtures(name) if twin != name]
    assert envoy_before_seen.curl(PATH, user=kong_id, headers=twins).status == 200
    assert not set(received(seen).names) & dict(twins).keys()


@pytest.mark.parametrize("first", ["close", "keep-alive", "x-b"])
def test_HS_10_connection_cannot_name_our_headers_away(
    envoy_before_seen: Edge, seen: Upstream, kong_id: tuple[str, str], first: str
) -> None:
    hop_by_hop = [("Connection", ", ".join([first, *sorted(OURS - {"authorization"})]))]
    assert envoy_before_seen.curl(PATH, user=kong_id, headers=hop_by_hop).status == 200
    request = received(seen)
    assert request.header("x-consumer-username") == ["kong_id"]
    assert all(len(request.header(name)) == 1 for name in OURS)


def test_HS_10_who_names_authorization_away_has_presented_nothing(
    envoy_before_seen: Edge, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    hop_by_hop = [("Connection", "close, authorization")]
    assert envoy_before_seen.curl(PATH, user=kong_id, headers=hop_by_hop).status == 401
    assert seen.requests == []


@pytest.mark.parametrize(
    "header",
    [
        ("X-Envoy-Original-Path", "/nowhere"),
        ("X-Original-Url", "/nowhere"),
        ("X-Forwarded-Uri", "/nowhere"),
        ("X-Forwarded-Host", "evil.example"),
        ("X-Envoy-Auth-Partial-Body", "true"),
        ("X-Http-Method-Override", "OPTIONS"),
    ],
    ids=lambda header: str(header[0]),
)
@pytest.mark.parametrize("known", [True, False], ids=["kong_id", "nobody"])
def test_HS_11_no_header_changes_the_verdict(
    envoy_before_seen: Edge,
    kong_id: tuple[str, str],
    header: tuple[str, str],
    known: bool,
) -> None:
    reply = envoy_before_seen.curl(PATH, user=kong_id if known else None, headers=[header])
    assert reply.status == (200 if known else 401)


@pytest.mark.parametrize("host", ["evil.example,for=127.0.0.1", "LOCALHOST:1", "localhost."])
def test_HS_18_the_host_is_nobodys_identity(
    envoy_before_seen: Edge, kong_id: tuple[str, str], host: str
) -> None:
    assert envoy_before_seen.curl(PATH, headers=[("Host", host)]).status == 401
    assert envoy_before_seen.curl(PATH, user=kong_id, headers=[("Host", host)]).status == 200


@pytest.mark.parametrize(
    "path",
    [
        "/oidc-route/../oidc-route/get",
        "/nowhere/%2e%2e/oidc-route/get",
        "//oidc-route//get",
        "/oidc-route;x=1/get",
        "/oidc-route%2fget",
        "/oidc-route?/../nowhere",
    ],
)
def test_HS_19_no_spelling_of_the_path_gets_past_the_question(
    envoy_before_seen: Edge, seen: Upstream, kong_id: tuple[str, str], path: str
) -> None:
    assert envoy_before_seen.curl(path).status == 401
    assert seen.requests == []
    assert envoy_before_seen.curl(path, user=kong_id).status == 200
    assert received(seen).header("x-consumer-username") == ["kong_id"]


def test_HS_16_the_callers_secret_is_nowhere_in_what_the_upstream_receives(
    envoy_before_seen: Edge, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    assert envoy_before_seen.curl(PATH, user=kong_id).status == 200
    request = received(seen)
    assert basic(*kong_id).removeprefix("Basic ") not in str(request)
    assert kong_id[1] not in str(request)
    (authorization,) = request.header("authorization")
    assert authorization.startswith("Bearer eyJ")


# --- An Envoy that forbids us to change Authorization: why the README says not to ----------


@pytest.mark.parametrize(
    ("is_error", "outcome"), [(True, (500, "no secret")), (False, (200, "the secret"))]
)
def test_HS_17_a_rule_against_authorization_must_be_an_error_or_the_secret_goes_on(
    workshop: Deployment,
    seen: Upstream,
    kong_id: tuple[str, str],
    is_error: bool,
    outcome: tuple[int, str],
) -> None:
    rules = {
        "disallow_expression": {"regex": "authorization"},
        "disallow_is_error": is_error,
    }
    forbidding = ext_authz(decoder_header_mutation_rules=rules)
    with workshop.edge(upstream("httpbin-service", seen.port), forbidding) as envoy:
        status = envoy.curl(PATH, user=kong_id).status
    values = [value for request in seen.requests for value in request.header("authorization")]
    arrived = "the secret" if basic(*kong_id) in values else "no secret"
    assert (status, arrived) == outcome
