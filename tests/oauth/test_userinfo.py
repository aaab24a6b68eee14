"""What an answer of the userinfo endpoint means (OpenID Connect Core section 5.3)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from authz.clock import SystemClock
from authz.decision import ERROR_ROWS
from authz.errors import Refusal, Unauthenticated
from authz.oauth import userinfo
from authz.oauth.client_authentication import FormRequest
from authz.oauth.gate import Gate
from authz.oauth.http import Response
from authz.oauth.places import Priority

INACTIVE = "401 token_inactive"
OF_NOBODY = "401 token_unsupported"
ASKED_WRONG = "503 idp_request_refused"
NO_ANSWER = "503 idp_answer_invalid"
DOWN = "503 idp_unavailable"
PAUSE = "503 idp_throttled"


def refusal_of(response: Response, asked: FormRequest | None = None) -> Refusal:
    """What a response is refused with, as the door says it."""
    with pytest.raises(Refusal) as caught:
        userinfo.read(response, asked or FormRequest())
    return Gate(SystemClock()).outage(response, caught.value, Priority.OWN) or caught.value


def said(refusal: Refusal) -> str:
    kind = next(kind for kind in type(refusal).__mro__ if kind in ERROR_ROWS)
    return f"{ERROR_ROWS[kind].status} {refusal.reason}"


def response(status: int, document: Any, **headers: str) -> Response:
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    return Response(status, headers, body)


def test_the_claims_of_an_answer_are_those_that_say_something() -> None:
    answer = response(200, {"sub": "7", "name": "Alice", "typ": "", "nbf": None})

    assert userinfo.read(answer, FormRequest()) == {"sub": "7", "name": "Alice"}


@pytest.mark.parametrize(
    "document",
    [
        pytest.param({"name": "Alice"}, id="no sub"),
        pytest.param({"sub": ""}, id="an empty sub"),
        pytest.param({"sub": None}, id="sub is null"),
        pytest.param({"sub": 7}, id="sub is a number"),
        pytest.param({"sub": ["7"]}, id="sub is a list"),
        pytest.param(["7"], id="a list"),
        pytest.param(b"<html>", id="HTML"),
        pytest.param(b'{"sub":"7","sub":"8"}', id="sub twice"),
        pytest.param(b"", id="nothing"),
    ],
)
def test_an_answer_that_tells_of_nobody_is_no_verdict(document: Any) -> None:
    assert said(refusal_of(response(200, document))) == NO_ANSWER


def test_a_signed_answer_is_refused_by_name() -> None:
    answer = Response(200, {"content-type": "application/JWT; charset=utf-8"}, b"a.b.c")
    refusal = refusal_of(answer)

    assert said(refusal) == NO_ANSWER
    assert "application/jwt" in refusal.detail
    assert "userinfo_signed_response_alg" in refusal.detail


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (401, "invalid_token", INACTIVE),
        (403, "invalid_token", INACTIVE),
        (400, "invalid_token", ASKED_WRONG),
        (200, "invalid_token", ASKED_WRONG),
        (500, "invalid_token", DOWN),
        (429, "invalid_token", PAUSE),
        (403, "insufficient_scope", OF_NOBODY),
        (401, "insufficient_scope", OF_NOBODY),
        (400, "insufficient_scope", ASKED_WRONG),
        (400, "invalid_request", ASKED_WRONG),
        (401, "invalid_request", ASKED_WRONG),
        (403, "access_denied", ASKED_WRONG),
        (401, "invalid_client", ASKED_WRONG),
        (401, "temporarily_unavailable", DOWN),
        (401, None, NO_ANSWER),
        (403, None, NO_ANSWER),
        (404, None, NO_ANSWER),
        (302, None, NO_ANSWER),
        (408, None, DOWN),
        (503, None, DOWN),
    ],
)
def test_only_a_verdict_on_the_token_is_one(status: int, code: str | None, expected: str) -> None:
    challenge = f'Bearer realm="kong", error="{code}", error_description="x"'
    answers = [response(status, {"error": code} if code else {})]
    if code is not None and status in {401, 403}:
        answers.append(response(status, {}, **{"www-authenticate": challenge}))

    for answer in answers:
        refusal = refusal_of(answer)
        assert said(refusal) == expected
        assert isinstance(refusal, Unauthenticated) is (expected in {INACTIVE, OF_NOBODY})


@pytest.mark.parametrize(
    ("challenge", "expected"),
    [
        ('Bearer error="invalid_token"', INACTIVE),
        ("bearer error=invalid_token", INACTIVE),
        ('Basic realm="x", Bearer realm="y",error="invalid_token"', INACTIVE),
        ('Bearer realm="kong", error_description="error=invalid_token"', NO_ANSWER),
        ("Bearer", NO_ANSWER),
        ('Bearer realm="kong"', NO_ANSWER),
        ('Basic realm="x", error="invalid_token"', NO_ANSWER),
        ('Negotiate, DPoP error="invalid_token"', NO_ANSWER),
        ('NotBearer error="invalid_token"', NO_ANSWER),
    ],
)
def test_the_code_is_the_one_of_the_bearer_challenge(challenge: str, expected: str) -> None:
    answer = Response(401, {"www-authenticate": challenge}, b"")

    assert said(refusal_of(answer)) == expected


def test_the_challenge_goes_before_the_body() -> None:
    answer = response(
        401, {"error": "invalid_request"}, **{"www-authenticate": 'Bearer error="invalid_token"'}
    )
    assert said(refusal_of(answer)) == INACTIVE


def test_what_repeats_the_token_is_not_logged() -> None:
    asked = FormRequest(secrets=("t0k3n",))
    document = {"error": "invalid_token", "error_description": "t0k3n is not known"}

    assert refusal_of(response(401, document), asked).log_fields == {"idp_error": "invalid_token"}
