"""A route that is shut by ``request-termination``, over real sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.configuration import load

from authz.decision import for_termination
from authz.errors import Terminated
from authz.model import SourcePosition, Termination

if TYPE_CHECKING:
    from support.idp import RunningIdp
    from support.running import MakeAuthz

    from authz.model import Gateway

FILE = """
_format_version: "3.0"
consumers: [{{username: kong_id}}]
plugins:
- name: openid-connect
  route: guarded
  config:
    issuer: "{issuer}"
    auth_methods: [client_credentials]
    consumer_claim: [client_id]
    audience: [account]
    run_on_preflight: false
routes:
- {{name: guarded, paths: [/guarded], plugins: [{shut}]}}
- {{name: shut, paths: [/shut], plugins: [{shut}]}}
- {{name: open, paths: [/open]}}
"""
SHUT = '{name: request-termination, config: {message: "moved", status_code: 410}}'


def file(idp: RunningIdp, shut: str = SHUT) -> Gateway:
    return load(FILE.format(issuer=idp.issuer, shut=shut))


async def test_C_08_a_shut_route_answers_everybody_and_asks_nobody(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(file(idp))
    for named in ({}, {"route": "shut"}):
        for answer in (
            await authz.ask(path="/shut", context=named),
            await authz.basic(path="/shut", context=named),
            await authz.ask(path="/shut", method="OPTIONS", context=named),
        ):
            assert (answer.status, answer.body) == (410, '{"message":"moved"}')
            assert answer.header("content-type") == "application/json; charset=utf-8"
            assert answer.reason == "request_terminated"

    assert (await authz.ask(path="/open")).allowed
    assert not any(idp.counters.values())
    label = 'reason="request_terminated",verdict="deny"'
    assert f"authz_checks_total{{{label}}} 6.0" in authz.metrics()


async def test_C_08_with_openid_connect_the_caller_is_asked_who_it_is_first(
    make_authz: MakeAuthz, idp: RunningIdp
) -> None:
    """Kong's priorities are 1050 and 2."""
    authz = make_authz(file(idp))
    for named in ({}, {"route": "guarded"}):
        stranger = await authz.ask(path="/guarded", context=named)
        guess = await authz.basic("kong_id", "a guess", path="/guarded", context=named)
        assert [stranger.status, guess.status] == [401, 401]
        for _ in range(3):  # none is answered from memory
            known = await authz.basic(path="/guarded", context=named)
            assert (known.status, known.reason) == (410, "request_terminated")
        preflight = await authz.ask(path="/guarded", method="OPTIONS", context=named)
        assert preflight.status == 410


async def test_C_08_a_reload_that_shuts_a_route_ends_what_was_remembered(
    make_authz: MakeAuthz, idp: RunningIdp
) -> None:
    off = SHUT.replace("config", "enabled: false, config")
    authz = make_authz(file(idp, off))
    named = {"route": "guarded"}
    for _ in range(2):
        assert (await authz.basic(path="/guarded", context=named)).allowed

    authz.reload(file(idp))

    assert (await authz.basic(path="/guarded", context=named)).status == 410


async def test_C_08_an_answer_may_be_a_success_of_its_own(
    make_authz: MakeAuthz, idp: RunningIdp
) -> None:
    own = "{status_code: 200, body: '<p>later</p>', content_type: text/html}"
    authz = make_authz(file(idp, f"{{name: request-termination, config: {own}}}"))

    answer = await authz.ask(path="/shut")

    assert (answer.allowed, answer.status, answer.body) == (False, 200, "<p>later</p>")
    assert answer.header("content-type") == "text/html"


async def test_C_08_the_log_names_the_entry_that_shuts_the_route(
    make_authz: MakeAuthz, idp: RunningIdp, caplog: pytest.LogCaptureFixture
) -> None:
    authz = make_authz(file(idp))
    await authz.ask(path="/shut")

    [fields] = [r.fields for r in caplog.records if r.getMessage() == "denied"]  # type: ignore[attr-defined] # our lines have fields
    assert fields["detail"] == "request-termination at <stdin>:15:42"
    assert (fields["reason"], fields["status"]) == ("request_terminated", 410)


# --- The answer -------------------------------------------------------------------------


def terminated(**terms: object) -> Terminated:
    return Terminated(Termination(SourcePosition("kong.yaml", 1, 1), **terms))  # type: ignore[arg-type] # of several types


@pytest.mark.parametrize(
    ("status", "message"),
    [
        (503, "Service unavailable"),
        (404, "Not found"),
        (401, "Unauthorized"),
        (405, "Method not allowed"),
    ],
)
def test_C_08_without_a_message_the_status_has_kongs(status: int, message: str) -> None:
    answer = for_termination(terminated(status=status), grpc=False)

    assert (answer.status, json.loads(answer.body)) == (status, {"message": message})


@pytest.mark.parametrize("status", [299, 599])
def test_C_08_a_status_that_nobody_has_registered_has_no_body(status: int) -> None:
    answer = for_termination(terminated(status=status), grpc=False)

    assert (answer.status, answer.body) == (status, "")
    assert "content-type" not in dict(answer.headers)


@pytest.mark.parametrize("status", [204, 205, 304])
def test_C_08_an_answer_without_content_has_none(status: int) -> None:
    assert for_termination(terminated(status=status, body="x"), grpc=False).body == ""


def test_C_08_a_body_of_its_own_is_json_unless_its_type_is_said() -> None:
    answer = for_termination(terminated(body="{}"), grpc=False)

    assert dict(answer.headers)["content-type"] == "application/json; charset=utf-8"


@pytest.mark.parametrize(("status", "code"), [(503, "14"), (401, "16"), (404, "12"), (200, "2")])
def test_C_08_a_grpc_caller_gets_a_grpc_status(status: int, code: str) -> None:
    answer = for_termination(terminated(status=status, message="é later"), grpc=True)
    headers = dict(answer.headers)

    assert (headers["grpc-status"], headers["grpc-message"]) == (code, "%C3%A9 later")
    assert (answer.body, answer.code) == ("", 7)
