"""Which error gets which answer: status, body, challenges, and who may read the reason."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import unquote

import pytest

from authz.decision import Deny, Wording, for_error
from authz.errors import (
    Forbidden,
    IdpOutage,
    MalformedRequest,
    Overloaded,
    Reason,
    Refusal,
    RouteNotFound,
    Unauthenticated,
    Unavailable,
)
from authz.kong import slots
from authz.model import OpenIDConnect

REJECTED = Unauthenticated(Reason.SECRET_REJECTED, "the provider refused the client")
MISSING = Unauthenticated(Reason.CREDENTIAL_MISSING, "no suitable credentials")
NO_SCOPE = Forbidden(Reason.SCOPE_MISSING, "the token's scope lacks what is required")
TWO = MalformedRequest(Reason.CREDENTIAL_AMBIGUOUS, "more than one credential")
NO_ROUTE = RouteNotFound(Reason.ROUTE_UNMATCHED, "no route fits")
FAULT = Unavailable(Reason.INTERNAL_ERROR, "a fault of authz")
FULL = Overloaded(Reason.OVERLOADED, "no place among the calls to the provider")
DOWN = IdpOutage(Reason.IDP_THROTTLED, "the provider is overwhelmed", retry_after=17)


def answered(error: Refusal, *, grpc: bool = False, **parameters: Any) -> Deny:
    config = OpenIDConnect.of(issuer="http://keycloak.keycloak:8080/realms/kong", **parameters)
    return for_error(error, Wording.of(config, slots.every(config)), grpc=grpc)


def header(denial: Deny, name: str) -> list[str]:
    return [value for key, value in denial.headers if key == name]


@pytest.mark.parametrize(
    ("error", "status", "code", "body"),
    [
        pytest.param(TWO, 400, 3, '{"message":"Bad request"}', id="malformed"),
        pytest.param(REJECTED, 401, 16, '{"message":"Unauthorized"}', id="unauthenticated"),
        pytest.param(NO_SCOPE, 403, 7, '{"message":"Forbidden"}', id="forbidden"),
        pytest.param(
            NO_ROUTE, 404, 5, '{"message":"no Route matched with those values"}', id="no route"
        ),
        pytest.param(FAULT, 503, 14, '{"message":"Service unavailable"}', id="unavailable"),
        pytest.param(DOWN, 503, 14, '{"message":"Service unavailable"}', id="an outage"),
        pytest.param(FULL, 503, 14, '{"message":"Service unavailable"}', id="overloaded"),
    ],
)
def test_each_kind_of_error_has_kongs_status_and_body(
    error: Refusal, status: int, code: int, body: str
) -> None:
    denial = answered(error)

    assert (denial.status, denial.code, denial.body) == (status, code, body)
    assert header(denial, "content-type") == ["application/json; charset=utf-8"]
    assert header(denial, "cache-control") == ["no-store"]
    assert header(denial, "x-content-type-options") == ["nosniff"]
    assert denial.reason == error.reason


# --- Challenges ---------------------------------------------------------------------------

REALM = 'Bearer realm="keycloak.keycloak"'
BASIC = 'Basic realm="keycloak.keycloak", charset="UTF-8"'


@pytest.mark.parametrize(
    ("error", "challenges"),
    [
        pytest.param(MISSING, [REALM, BASIC], id="nothing presented"),
        pytest.param(
            Unauthenticated(Reason.SCHEME_UNSUPPORTED), [REALM, BASIC], id="another scheme"
        ),
        pytest.param(REJECTED, [f'{REALM}, error="invalid_token"', BASIC], id="refused"),
        pytest.param(NO_SCOPE, [f'{REALM}, error="insufficient_scope"'], id="forbidden"),
        pytest.param(TWO, [f'{REALM}, error="invalid_request"'], id="malformed"),
        pytest.param(NO_ROUTE, [], id="no route"),
        pytest.param(DOWN, [], id="an outage"),
        pytest.param(FULL, [], id="overloaded"),
    ],
)
def test_the_challenge_is_kongs_and_then_basic(error: Refusal, challenges: list[str]) -> None:
    assert header(answered(error), "www-authenticate") == challenges


@pytest.mark.parametrize(
    ("error", "challenges"),
    [
        pytest.param(REJECTED, [REALM, BASIC], id="refused"),
        pytest.param(NO_SCOPE, [REALM], id="forbidden"),
        pytest.param(TWO, [], id="malformed"),
    ],
)
def test_without_expose_error_code_no_error_is_named(error: Refusal, challenges: list[str]) -> None:
    assert header(answered(error, expose_error_code=False), "www-authenticate") == challenges


@pytest.mark.parametrize(
    "parameters",
    [
        pytest.param({"auth_methods": ("bearer",)}, id="no client credentials"),
        pytest.param({"client_credentials_param_type": ("query",)}, id="none in the header"),
    ],
)
def test_basic_is_asked_for_only_where_it_is_read(parameters: dict[str, Any]) -> None:
    assert header(answered(MISSING, **parameters), "www-authenticate") == [REALM]


def test_before_a_route_is_known_there_is_no_realm_to_challenge_for() -> None:
    denial = for_error(MISSING, Wording(), grpc=False, metadata={})

    assert header(denial, "www-authenticate") == []


# --- Words ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (REJECTED, "Not you"),
        (NO_SCOPE, "Not here"),
        (TWO, "Bad request"),
        (DOWN, "Service unavailable"),
    ],
)
def test_the_plugins_own_messages_stand_for_401_and_403(error: Refusal, message: str) -> None:
    denial = answered(
        error, unauthorized_error_message="Not you", forbidden_error_message="Not here"
    )

    assert json.loads(denial.body) == {"message": message}


def test_display_errors_tells_the_caller_why() -> None:
    assert answered(MISSING, display_errors=True).body == (
        '{"message":"Unauthorized (no suitable credentials)"}'
    )
    assert answered(Unauthenticated(Reason.SECRET_REJECTED), display_errors=True).body == (
        '{"message":"Unauthorized"}'
    )


def test_a_message_is_written_in_ascii_and_escaped() -> None:
    denial = answered(REJECTED, unauthorized_error_message='Zugriff "für" <Sie>')

    assert denial.body == '{"message":"Zugriff \\"f\\u00fcr\\" <Sie>"}'


@pytest.mark.parametrize(("error", "seconds"), [(FAULT, "1"), (FULL, "1"), (DOWN, "17")])
def test_unavailable_says_when_to_come_back(error: Refusal, seconds: str) -> None:
    for grpc in (False, True):
        assert header(answered(error, grpc=grpc), "retry-after") == [seconds]
    assert header(answered(REJECTED), "retry-after") == []


# --- gRPC callers -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [(TWO, "3"), (REJECTED, "16"), (NO_SCOPE, "7"), (NO_ROUTE, "5"), (DOWN, "14")],
)
def test_a_grpc_caller_gets_status_and_message_as_headers_and_no_body(
    error: Refusal, status: str
) -> None:
    denial, as_http = answered(error, grpc=True), answered(error)

    assert header(denial, "grpc-status") == [status] == [str(denial.code)]
    assert header(denial, "grpc-message") == [json.loads(as_http.body)["message"]]
    assert denial.body == ""
    assert header(denial, "content-type") == []
    assert header(denial, "www-authenticate") == header(as_http, "www-authenticate")


@pytest.mark.parametrize(
    ("message", "encoded"),
    [
        ("Not you (yet), try: /login?a=1&b", "Not you (yet), try: /login?a=1&b"),
        ("100%", "100%25"),
        ("für", "f%C3%BCr"),
        ("a\tb", "a%09b"),
    ],
)
def test_a_grpc_message_is_percent_encoded_where_it_must_be(message: str, encoded: str) -> None:
    denial = answered(REJECTED, grpc=True, unauthorized_error_message=message)

    assert header(denial, "grpc-message") == [encoded]
    assert unquote(encoded) == message
