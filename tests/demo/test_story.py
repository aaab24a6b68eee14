"""The demo's own judgement: what counts as the expected answer, and what is shown."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.idp import key

from authz.demo.idp import DevelopmentIdp
from authz.demo.run import run
from authz.demo.stage import WORKSHOP
from authz.demo.story import (
    KONG_ID,
    WHILE_IT_IS_DOWN,
    WHILE_THE_PROVIDER_RUNS,
    Call,
    Reply,
    Step,
    kong_id_reached,
)

if TYPE_CHECKING:
    from support.clock import Clock


@pytest.fixture
def provider(clock: Clock) -> DevelopmentIdp:
    return DevelopmentIdp(keys=[key()], now=clock.now)


def upstream(**headers: str) -> Reply:
    """What httpbin answers: the headers it received."""
    given = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(200, json.dumps({"headers": given}).encode())


def test_the_demo_runs_the_workshops_file_byte_for_byte() -> None:
    examples = Path(__file__).parents[2] / "examples"

    assert WORKSHOP.read_bytes() == (examples / "workshop.yaml").read_bytes()


def test_the_steps_are_those_a_user_is_promised() -> None:
    steps = (*WHILE_THE_PROVIDER_RUNS, *WHILE_IT_IS_DOWN)

    assert [step.status for step in steps] == [200, 401, 401, 403, 200, 404, 200, 503]


def test_a_verified_token_and_its_consumer_are_as_expected(provider: DevelopmentIdp) -> None:
    reply = upstream(Authorization=f"Bearer {provider.issue()}", X_Consumer_Username="kong_id")

    assert kong_id_reached(reply) is None


@pytest.mark.parametrize(
    ("claims", "consumer", "fault"),
    [
        ({"extra": 1}, "kong_id", "the token's claims are not the workshop's: extra"),
        ({"client_id": "other_id"}, "kong_id", "the token is of other_id"),
        ({}, "admin", "X-Consumer-Username is admin"),
        ({}, "admin,kong_id", "X-Consumer-Username is admin,kong_id"),
    ],
)
def test_another_identity_at_the_upstream_is_a_fault(
    provider: DevelopmentIdp, claims: dict[str, Any], consumer: str, fault: str
) -> None:
    token = provider.issue(**claims)
    reply = upstream(Authorization=f"Bearer {token}", X_Consumer_Username=consumer)

    assert kong_id_reached(reply) == fault


@pytest.mark.parametrize(
    "authorization", ["", "Basic a29uZzppZA==", "Bearer opaque", "Bearer a.b.c"]
)
def test_no_readable_bearer_token_at_the_upstream_is_a_fault(authorization: str) -> None:
    reply = upstream(Authorization=authorization, X_Consumer_Username="kong_id")

    assert kong_id_reached(reply) == "the upstream received no bearer token"


def test_a_denial_that_still_reached_the_upstream_is_a_fault() -> None:
    step = Step("", Call(), 200)

    assert step.fault(upstream(Host="x")) == "the request reached the upstream"
    assert step.fault(Reply(503, b"")) == "expected 200"
    assert step.fault(Reply(200, b"{}")) is None


def test_a_call_is_shown_as_the_curl_line_that_makes_it() -> None:
    call = Call("/p", KONG_ID, (("X-A", "it's"),))

    assert call.curl("http://127.0.0.1:1") == (
        "curl -sX GET http://127.0.0.1:1/p -u kong_id:RVXO9SOJskjw4LeVupjRbIMJIAyyil8j"
        """ -H 'X-A: it'"'"'s'"""
    )


def test_a_missing_part_is_said_in_one_line(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AUTHZ_ENVOY", str(tmp_path / "envoy"))
    out = io.StringIO()

    assert run(once=True, out=out) == 1
    assert out.getvalue().startswith("envoy: ")
    assert out.getvalue().count("\n") == 1


def test_a_part_that_ends_at_once_fails_the_demo_and_is_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("ENVOY", "GUNICORN", "GRPCURL"):
        monkeypatch.setenv(f"AUTHZ_{name}", sys.executable)
    out = io.StringIO()

    assert run(once=True, out=out) == 1
    assert "httpbin ended with code" in out.getvalue()
