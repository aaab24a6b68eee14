"""What a refusal means: a verdict on the caller, on our own client, on how we ask, or none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from authz.clock import SystemClock
from authz.decision import ERROR_ROWS
from authz.errors import Reason, Refusal, Unauthenticated
from authz.oauth import grants
from authz.oauth.client_authentication import FormRequest
from authz.oauth.gate import Gate
from authz.oauth.grants import CLIENT_CREDENTIALS, INTROSPECTION, PASSWORD
from authz.oauth.http import Response
from authz.oauth.places import Priority

GUESS = "401 secret_rejected"
NOT_ALLOWED = "403 client_not_allowed"
OURS = "503 own_client_rejected"
ASKED_WRONG = "503 idp_request_refused"
NO_ANSWER = "503 idp_answer_invalid"
DOWN = "503 idp_unavailable"
PAUSE = "503 idp_throttled"

STATUSES = (200, 400, 401, 403, 404, 408, 429, 500, 503)

# For each code: what it means by grant.  Where the status decides, ``{status: …}`` does,
# and ``None`` is every other one.
Row = str | dict[int | None, str]
TABLE: dict[str | None, tuple[Row, Row, Row]] = {
    # For client_credentials, password, and introspection.
    "invalid_client": (GUESS, OURS, OURS),
    "unauthorized_client": ({401: GUESS, None: NOT_ALLOWED}, OURS, OURS),
    "invalid_grant": (
        {401: GUESS, None: NOT_ALLOWED},
        GUESS,
        {401: OURS, 403: OURS, None: ASKED_WRONG},
    ),
    "access_denied": (
        {401: GUESS, None: NOT_ALLOWED},
        {401: OURS, None: ASKED_WRONG},
        {401: OURS, 403: OURS, None: ASKED_WRONG},
    ),
    "invalid_request": (
        {401: GUESS, None: ASKED_WRONG},
        {401: OURS, None: ASKED_WRONG},
        {401: OURS, 403: OURS, None: ASKED_WRONG},
    ),
    "invalid_token": (
        {401: GUESS, None: ASKED_WRONG},
        {401: OURS, None: ASKED_WRONG},
        {401: OURS, 403: OURS, None: ASKED_WRONG},
    ),
    "invalid_scope": (ASKED_WRONG, ASKED_WRONG, ASKED_WRONG),
    "unsupported_grant_type": (ASKED_WRONG, ASKED_WRONG, ASKED_WRONG),
    "temporarily_unavailable": (DOWN, DOWN, DOWN),
    "server_error": (DOWN, DOWN, DOWN),
    "slow_down": (PAUSE, PAUSE, PAUSE),
    None: (
        NO_ANSWER,
        {401: OURS, None: NO_ANSWER},
        {401: OURS, 403: OURS, None: NO_ANSWER},
    ),
}
BY_STATUS = {408: DOWN, 429: PAUSE, 500: DOWN, 503: DOWN}
"""What these mean whatever the code is, but for ``slow_down``."""

GRANTS = (CLIENT_CREDENTIALS, PASSWORD, INTROSPECTION)
CASES = [
    pytest.param(kind, status, code, id=f"{kind}-{status}-{code}")
    for kind in GRANTS
    for code in TABLE
    for status in STATUSES
    if (status, code) != (200, None)  # a success
]


def expected(kind: str, status: int, code: str | None) -> str:
    if status in BY_STATUS and code != "slow_down":
        return BY_STATUS[status]
    row = TABLE[code][GRANTS.index(kind)]
    return row if isinstance(row, str) else row.get(status, row[None])


def refuse(
    status: int,
    document: Any,
    kind: str = CLIENT_CREDENTIALS,
    asked: FormRequest | None = None,
    **headers: str,
) -> Refusal:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    response = Response(status, headers, body)
    answer = grants.read(response, asked or FormRequest())
    assert answer.refused
    refusal = grants.verdict(answer, kind, is_caller=kind == CLIENT_CREDENTIALS)
    # As the door does.
    return Gate(SystemClock()).outage(response, refusal, Priority.OWN) or refusal


def said(refusal: Refusal) -> str:
    kind = next(kind for kind in type(refusal).__mro__ if kind in ERROR_ROWS)
    return f"{ERROR_ROWS[kind].status} {refusal.reason}"


@pytest.mark.parametrize(("kind", "status", "code"), CASES)
def test_A5_the_grant_the_status_and_the_code_decide_what_a_refusal_means(
    kind: str, status: int, code: str | None
) -> None:
    refusal = refuse(status, {} if code is None else {"error": code}, kind)

    assert said(refusal) == expected(kind, status, code)
    # Only a guess takes a place in the limiter.
    assert isinstance(refusal, Unauthenticated) is (refusal.reason is Reason.SECRET_REJECTED)


@pytest.mark.parametrize("kind", GRANTS)
def test_A5_the_code_and_a_bounded_description_are_for_the_log_alone(kind: str) -> None:
    description = 'line\r\nline "é" ' + 300 * "x"
    refusal = refuse(400, {"error": "invalid_client", "error_description": description}, kind)

    assert refusal.log_fields["idp_error"] == "invalid_client"
    logged = refusal.log_fields["idp_error_description"]
    assert logged.startswith(r"line\r\nline \"\u00e9\" xxx")
    assert len(logged) == grants.ERROR_DESCRIPTION_CHARS_MAX
    assert "invalid_client" not in refusal.detail
    assert "line" not in refusal.detail


def test_A5_what_repeats_a_secret_is_not_logged() -> None:
    asked = FormRequest(secrets=("s3cr3t",))
    refusal = refuse(
        400, {"error": "no s3cr3t", "error_description": "the secret s3cr3t is wrong"}, asked=asked
    )
    assert refusal.log_fields == {}


@pytest.mark.parametrize(
    "code",
    [
        pytest.param("ungültig", id="not ASCII"),
        pytest.param('in"valid', id="a quote"),
        pytest.param("invalid\\client", id="a backslash"),
        pytest.param("invalid\nclient", id="a line break"),
        pytest.param("x" * (grants.ERROR_CODE_CHARS_MAX + 1), id="65 characters"),
        pytest.param(["invalid_client"], id="a list"),
        pytest.param({"code": "invalid_client"}, id="an object"),
        pytest.param(7, id="a number"),
    ],
)
def test_A5_a_code_that_breaks_its_grammar_is_no_verdict(code: object) -> None:
    refusal = refuse(401, {"error": code})

    assert said(refusal) == NO_ANSWER
    assert refusal.log_fields == {}


def test_A5_a_code_of_64_characters_is_a_code() -> None:
    assert said(refuse(400, {"error": "x" * grants.ERROR_CODE_CHARS_MAX})) == ASKED_WRONG


@pytest.mark.parametrize("error", [None, ""])
def test_A4_an_error_that_is_null_or_empty_is_none(error: object) -> None:
    body = json.dumps({"error": error, "access_token": "a.b.c"}).encode()

    assert not grants.read(Response(200, {}, body), FormRequest()).refused


@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client"])
def test_a_refused_client_gets_the_hint_of_how_it_was_authenticated(code: str) -> None:
    refusal = refuse(401, {"error": code}, asked=FormRequest(hint="try that"))

    assert refusal.log_fields["hint"] == "try that"


def test_another_refusal_gets_no_hint_at_the_clients_authentication() -> None:
    refusal = refuse(400, {"error": "invalid_scope"}, asked=FormRequest(hint="try that"))

    assert "hint" not in refusal.log_fields
    assert "see the plugin's scopes" in refusal.detail
