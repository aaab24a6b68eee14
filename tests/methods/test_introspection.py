"""The caller brings a token that the provider is asked about; Kong's ``introspection``."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.idp import key
from support.methods import Headers, Subject
from support.running import KONG_ID, logged
from support.scenes import OTHER_ID, OTHER_SECRET, says, verdict

from authz.demo.idp import ABSENT
from authz.demo.script import Answer, Recorded
from authz.parameters.client import ClientJwk
from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from support.idp import RunningIdp
    from support.running import RunningAuthz

    from authz.demo.keys import Key

    MakeAuthz = Callable[..., RunningAuthz]

TOKEN = "opaque-7f3a"
"""A token that says nothing of itself; the development provider knows what it stands for."""
OUR_CLIENT = {"client_id": (OTHER_ID,), "client_secret": (Secret(OTHER_SECRET),)}


def known_to(idp: RunningIdp) -> Headers:
    """A token that the provider knows from now on."""
    idp.opaque[TOKEN] = {"client_id": KONG_ID, "exp": int(idp.now()) + idp.token_lifetime_s}
    return {"authorization": f"Bearer {TOKEN}"}


SUBJECT = Subject(
    good=known_to,
    bad=lambda _idp: {"authorization": "Bearer nobodys-0c4e"},
    refused="token_inactive",
    elsewhere=lambda _idp: {"headers": {"x-access-token": TOKEN}},
    endpoint="introspection",
    parameters=OUR_CLIENT,
)


def client_jwk(own: Key) -> ClientJwk:
    """The private key of our own client, as the file has it."""
    members: dict[str, Any] = own.private_jwk
    return ClientJwk(**{**members, "d": Secret(members["d"])})


@pytest.fixture
def known(idp: RunningIdp, clock: Clock) -> dict[str, Any]:
    """What the provider says of ``TOKEN``; a test may change it."""
    idp.now = clock.now
    claims: dict[str, Any] = {
        "iss": idp.issuer,
        "client_id": KONG_ID,
        "sub": "7",
        "scope": "openid orders",
        "exp": int(clock.now()) + 300,
    }
    idp.opaque[TOKEN] = claims
    return claims


@pytest.fixture
def ask(known: dict[str, Any], make_authz: MakeAuthz, clock: Clock) -> Callable[..., RunningAuthz]:
    """Build an authz whose plugin introspects."""
    del known

    def build(**parameters: Any) -> RunningAuthz:
        given = {"auth_methods": ("introspection",), **OUR_CLIENT, **parameters}
        return make_authz(clock=clock, **given)

    return build


def asked(idp: RunningIdp) -> Recorded:
    """The last question that was asked."""
    return next(r for r in reversed(idp.requests) if r.endpoint == "introspection")


# --- What is asked ------------------------------------------------------------------------


async def test_an_opaque_token_is_asked_about_once_and_handed_on(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask()
    first, second = await authz.bearer(TOKEN), await authz.bearer(TOKEN)

    assert first.allowed
    assert second.wire == first.wire
    assert first.header("authorization") == f"Bearer {TOKEN}"
    assert first.header("x-consumer-username") == KONG_ID
    assert idp.counters["introspection"] == 1


async def test_the_question_is_rfc_7662s(idp: RunningIdp, ask: MakeAuthz) -> None:
    authz = ask()
    await authz.bearer(TOKEN, path="/oidc-route/get?x=1")
    request = asked(idp)

    assert (request.endpoint, request.method) == ("introspection", "POST")
    assert "?" not in request.target
    assert request.header("accept") == "application/json"
    assert request.header("content-type") == "application/x-www-form-urlencoded"
    assert request.form == {"token": TOKEN, "token_type_hint": "access_token"}
    assert (request.header("authorization") or "").startswith("Basic ")


async def test_every_parameter_of_the_question_takes_effect(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    idp.introspection_answers.append(says({"active": True, "client_id": KONG_ID}))
    authz = ask(
        introspection_endpoint=f"{idp.token_endpoint}/introspect",
        introspection_hint="refresh_token",
        introspection_token_param_name="access_token",
        introspection_headers_names=("X-Api-Key", "X-Other"),
        introspection_headers_values=(Secret("k1"), Secret("k2")),
        introspection_post_args_names=("realm", "detail"),
        introspection_post_args_values=(Secret("r1"), Secret("full")),
        introspection_endpoint_auth_method="client_secret_post",
    )
    assert (await authz.bearer(TOKEN)).allowed
    request = asked(idp)

    assert request.form == {
        "access_token": TOKEN,
        "token_type_hint": "refresh_token",
        "realm": "r1",
        "detail": "full",
        "client_id": OTHER_ID,
        "client_secret": OTHER_SECRET,
    }
    assert (request.header("x-api-key"), request.header("x-other")) == ("k1", "k2")


@pytest.mark.parametrize("method", ["client_secret_jwt", "private_key_jwt"])
async def test_our_own_client_proves_itself_with_an_assertion(
    idp: RunningIdp, ask: MakeAuthz, method: str
) -> None:
    idp.client_keys[OTHER_ID] = signs = key("ES256", 3)
    parameters = {"client_jwk": (client_jwk(signs),)} if method == "private_key_jwt" else {}
    authz = ask(introspection_endpoint_auth_method=method, **parameters)

    assert (await authz.bearer(TOKEN)).allowed
    assert "client_assertion" in asked(idp).form
    assert OTHER_SECRET.encode() not in asked(idp).body


# --- What of the caller's request goes with it ---------------------------------------------


def fields(request: Recorded) -> dict[str, str]:
    """What a question has beside the token."""
    return {n: v for n, v in request.form.items() if n not in {"token", "token_type_hint"}}


async def test_the_named_headers_and_arguments_of_the_caller_go_with_the_question(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(
        introspection_headers_client=("X-Tenant", "x-absent"),
        introspection_post_args_client=("region", "zone", "empty"),
        introspection_post_args_client_headers=("X-Device", "X-Nobody"),
    )
    answer = await authz.ask(
        {"authorization": f"Bearer {TOKEN}", "x-tenant": "t, 1", "x-device": "d&token=x"},
        path="/oidc-route/get?other=1&region=eu+w%26est%0d%0a&empty=",
    )
    request = asked(idp)

    assert answer.allowed
    assert request.header("x-tenant") == "t, 1"
    assert request.header("x-absent") is None
    assert request.header("x-device") is None
    assert request.form["token"] == TOKEN
    # Escaped: a value cannot bring a field of its own.
    assert fields(request) == {"region": "eu w&est\r\n", "empty": "", "X-Device": "d&token=x"}


@pytest.mark.parametrize(
    ("content_type", "body"),
    [
        ("application/x-www-form-urlencoded", b"x=1&region=e%75"),
        ("Application/JSON; charset=utf-8", b'{"region": "eu", "zone": null}'),
    ],
)
async def test_an_argument_may_stand_in_the_body_where_the_plugin_reads_bodies(
    idp: RunningIdp, ask: MakeAuthz, content_type: str, body: bytes
) -> None:
    known = {"introspection_post_args_client": ("region", "zone")}
    reads = ask(bearer_token_param_type=("header", "body"), hide_credentials=False, **known)
    headers = {"authorization": f"Bearer {TOKEN}", "content-type": content_type}
    assert (await reads.ask(headers, method="POST", body=body)).allowed
    assert fields(asked(idp)) == {"region": "eu"}

    # Envoy sends no bodies for this one; should it all the same, nobody has asked for them.
    assert (await ask(**known).ask(headers, method="POST", body=body)).allowed
    assert fields(asked(idp)) == {}


FORM = {"content-type": "application/x-www-form-urlencoded"}
JSON = {"content-type": "application/json"}


@pytest.mark.parametrize(
    ("headers", "request_", "reason"),
    [
        pytest.param({}, {"path": "/a?q=1&q=2"}, "request_malformed", id="twice"),
        pytest.param({}, {"path": "/a?q=1&%71=2"}, "request_malformed", id="twice, once encoded"),
        pytest.param({}, {"path": "/a?q=%ff"}, "request_malformed", id="not UTF-8"),
        pytest.param({}, {"path": "/a?q=" + "x" * 4_097}, "request_malformed", id="too long"),
        pytest.param({"x-tenant": "x" * 96}, {"path": "/a?q=" + "x" * 4_001}, "request_malformed",
                     id="too long together"),
        pytest.param({}, {"path": "/a?" + "x" * 16_385}, "request_malformed", id="a long query"),
        pytest.param({}, {"path": "/a?q=1" + 1_000 * "&"}, "request_malformed", id="many"),
        pytest.param({"x-tenant": "a\r\nx-admin: 1"}, {}, "request_malformed", id="CR LF"),
        pytest.param({"x-tenant": "a\tb"}, {}, "request_malformed", id="TAB"),
        pytest.param({"x-tenant": "\u00e9"}, {}, "request_malformed", id="not ASCII"),
        pytest.param({"x-device": "a\nb"}, {}, "request_malformed", id="LF in an argument"),
        pytest.param(FORM, {"path": "/a?q=1", "body": b"q=1"}, "request_malformed",
                     id="query and body"),
        pytest.param(FORM, {"body": b"x" * 20_000}, "body_incomplete", id="a large body"),
        pytest.param({**FORM, "x-envoy-auth-partial-body": "true"}, {"body": b"a=1"},
                     "body_incomplete", id="half a body"),
        pytest.param(JSON, {"body": b'{"q": 7}'}, "request_malformed", id="a number"),
        pytest.param(JSON, {"body": b'{"q": "\\ud800"}'}, "request_malformed", id="a surrogate"),
        pytest.param(JSON, {"body": b'{"q": "1", "q": "2"}'}, "request_malformed",
                     id="a member twice"),
    ],
)  # fmt: skip
async def test_what_cannot_be_passed_on_or_stands_for_two_things_is_400_and_asks_nobody(
    idp: RunningIdp, ask: MakeAuthz, headers: dict[str, str], request_: dict[str, Any],
    reason: str,
) -> None:  # fmt: skip
    authz = ask(
        introspection_headers_client=("x-tenant",),
        introspection_post_args_client=("q",),
        introspection_post_args_client_headers=("x-device",),
        bearer_token_param_type=("header", "body"),
        hide_credentials=False,
    )
    answer = await authz.ask({"authorization": f"Bearer {TOKEN}", **headers}, **request_)

    assert verdict(answer) == f"400 {reason}"
    assert idp.counters["introspection"] == 0


async def test_an_answer_is_kept_for_what_was_passed_on_and_for_nothing_else(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(
        introspection_headers_client=("x-tenant",),
        introspection_post_args_client=("a", "b", "x-tenant"),
        introspection_post_args_client_headers=("c",),
    )
    questions: list[tuple[dict[str, str], str]] = [
        ({}, ""),
        ({"x-tenant": ""}, ""),
        ({"x-tenant": "1"}, ""),
        ({"x-tenant": "2"}, ""),
        ({"c": "1"}, ""),
        ({}, "?x-tenant=1"),
        ({}, "?a=1"),
        ({}, "?b=1"),
        ({}, "?a=1&b=1"),
        ({}, "?a=1b1"),
        ({"x-tenant": "1"}, "?a=1"),
    ]
    for number, (headers, query) in enumerate(questions, start=1):
        for _ in range(2):
            answer = await authz.ask(
                {"authorization": f"Bearer {TOKEN}", **headers}, path=f"/oidc-route/get{query}"
            )
            assert answer.allowed
            assert idp.counters["introspection"] == number


async def test_no_answer_for_one_tenant_is_given_to_another(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(introspection_headers_client=("x-tenant",))
    bearer = {"authorization": f"Bearer {TOKEN}"}
    # So often that the fast path would know the names of all headers.
    for _ in range(3):
        assert (await authz.ask({**bearer, "x-tenant": "mine"})).allowed
        assert (await authz.ask(bearer)).allowed
    idp.introspection_answers.append(says({"active": False}))

    assert verdict(await authz.ask({**bearer, "x-tenant": "theirs"})) == "401 token_inactive"
    assert (await authz.ask({**bearer, "x-tenant": "mine"})).allowed


async def test_what_a_caller_passes_on_is_not_told_in_the_log(
    idp: RunningIdp, ask: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    said = {"error": "invalid_request", "error_description": "no such tenant: mine-7b1d"}
    idp.introspection_answers.append(says(said, 400))
    authz = ask(introspection_headers_client=("x-tenant",))
    answer = await authz.ask({"authorization": f"Bearer {TOKEN}", "x-tenant": "mine-7b1d"})

    assert verdict(answer) == "503 idp_request_refused"
    assert "invalid_request" in logged(caplog.records)
    assert "mine-7b1d" not in logged(caplog.records)


# --- What the answer must be -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param({"active": False}, "401 token_inactive", id="false"),
        pytest.param(
            {"active": False, "client_id": KONG_ID}, "401 token_inactive", id="false with claims"
        ),
        pytest.param({"active": "true"}, "503 idp_answer_invalid", id="a string"),
        pytest.param({"active": 1}, "503 idp_answer_invalid", id="one"),
        pytest.param({"active": None}, "503 idp_answer_invalid", id="null"),
        pytest.param({"client_id": KONG_ID}, "503 idp_answer_invalid", id="missing"),
        pytest.param([True], "503 idp_answer_invalid", id="a list"),
        pytest.param(b"<html>", "503 idp_answer_invalid", id="HTML"),
        pytest.param(b'{"active":true,"active":false}', "503 idp_answer_invalid", id="twice"),
        pytest.param({"active": True}, "403 consumer_claim_missing", id="nobody's"),
    ],
)
async def test_TE_29_active_counts_only_as_true(
    idp: RunningIdp, ask: MakeAuthz, answer: Any, expected: str
) -> None:
    idp.introspection_answers.append(says(answer))

    assert verdict(await ask().bearer(TOKEN)) == expected


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param({"active": True}, "200 allowed", id="true"),
        pytest.param({"active": False}, "401 token_inactive", id="false"),
        pytest.param({"active": "true"}, "503 idp_answer_invalid", id="a string"),
        pytest.param({"active": 1}, "503 idp_answer_invalid", id="one"),
        pytest.param({"active": None}, "503 idp_answer_invalid", id="null"),
        pytest.param({}, "200 allowed", id="missing"),
        pytest.param({"exp": None}, "503 idp_answer_invalid", id="missing, and exp null"),
        pytest.param({"exp": ABSENT}, "503 idp_answer_invalid", id="missing, and no exp"),
        pytest.param({"exp": "later"}, "503 idp_answer_invalid", id="missing, and exp a string"),
        pytest.param({"exp": True}, "503 idp_answer_invalid", id="missing, and exp true"),
        pytest.param({"exp": 1_500_000_000}, "401 token_expired", id="missing, and exp past"),
        pytest.param({"iss": "https://x.test"}, "401 token_issuer_refused", id="missing, and iss"),
        pytest.param({"typ": "ID"}, "401 token_unsupported", id="missing, and typ ID"),
        pytest.param({"cnf": {"jkt": "x"}}, "401 token_unsupported", id="missing, and cnf"),
        pytest.param({"error": "server_error"}, "503 idp_unavailable", id="an error"),
    ],
)
async def test_TE_29_active_may_be_missing_where_the_file_says_so_if_the_end_is_known(
    idp: RunningIdp, ask: MakeAuthz, known: dict[str, Any], answer: dict[str, Any], expected: str
) -> None:
    said = {name: value for name, value in {**known, **answer}.items() if value is not ABSENT}
    idp.introspection_answers.append(says(said))
    authz = ask(introspection_check_active=False)

    assert verdict(await authz.bearer(TOKEN)) == expected


@pytest.mark.parametrize(("after_s", "expected"), [(-1, "200 allowed"), (0, "401 token_expired")])
async def test_TE_29_an_end_that_stands_for_active_has_no_leeway(
    idp: RunningIdp, ask: MakeAuthz, known: dict[str, Any], clock: Clock, after_s: int,
    expected: str,
) -> None:  # fmt: skip
    idp.introspection_answers.append(says(known, times=None))
    authz = ask(introspection_check_active=False, leeway=60)
    clock.advance(known["exp"] + after_s - clock.now())

    assert verdict(await authz.bearer(TOKEN)) == expected
    clock.advance(1)
    assert verdict(await authz.bearer(TOKEN)) == "401 token_expired"


@pytest.mark.parametrize(
    ("claims", "parameters", "expected"),
    [
        pytest.param({"iss": "https://x.test"}, {}, "401 token_issuer_refused", id="iss"),
        pytest.param({"iss": ABSENT}, {}, "200 allowed", id="no iss"),
        pytest.param({"aud": "x"}, {"audience": ("api",)}, "401 token_audience_refused", id="aud"),
        pytest.param({}, {"audience": ("api",)}, "401 token_audience_refused", id="no aud"),
        pytest.param({"aud": ["x", "api"]}, {"audience": ("api",)}, "200 allowed", id="one aud"),
        pytest.param({"exp": 1_500_000_000}, {}, "401 token_expired", id="exp"),
        pytest.param({"exp": "later"}, {}, "401 token_claim_invalid", id="exp is no time"),
        pytest.param({"exp": ABSENT}, {}, "200 allowed", id="no exp"),
        pytest.param({"nbf": 9_999_999_999}, {}, "401 token_not_yet_valid", id="nbf"),
        pytest.param({"cnf": {"jkt": "x"}}, {}, "401 token_unsupported", id="cnf"),
        pytest.param({"token_type": "DPoP", "cnf": {"jkt": "x"}}, {}, "401 token_unsupported",
                     id="DPoP"),
        pytest.param({"typ": "Refresh"}, {}, "401 token_unsupported", id="typ Refresh"),
        pytest.param({"typ": "ID"}, {}, "401 token_unsupported", id="typ ID"),
        pytest.param({"token_use": "id"}, {}, "401 token_unsupported", id="token_use id"),
        pytest.param({"token_type": "refresh_token"}, {}, "401 token_unsupported",
                     id="token_type refresh_token"),
        pytest.param({"token_type": 7}, {}, "401 token_unsupported", id="token_type 7"),
        pytest.param({"token_type": "N_A"}, {}, "401 token_unsupported", id="token_type N_A"),
        pytest.param({"token_type": "bearer"}, {}, "200 allowed", id="token_type bearer"),
        pytest.param({"token_type": None}, {}, "200 allowed", id="token_type null"),
        pytest.param({"scope": "openid"}, {"scopes_required": ("orders",)}, "403 scope_missing",
                     id="scope"),
        pytest.param({"client_id": "nobody"}, {}, "403 consumer_unknown", id="another client"),
    ],
)  # fmt: skip
async def test_TE_29_an_answer_is_held_to_the_rules_of_a_token(
    idp: RunningIdp, ask: MakeAuthz, claims: dict[str, Any], parameters: dict[str, Any],
    expected: str,
) -> None:  # fmt: skip
    idp.introspected.update(claims)
    authz = ask(**parameters)

    assert verdict(await authz.bearer(TOKEN)) == expected
    # The same rules for the answer that was kept.
    assert verdict(await authz.bearer(TOKEN)) == expected


@pytest.mark.parametrize(
    ("header", "claims"),
    [
        pytest.param({"typ": "logout+jwt"}, {}, id="header typ logout+jwt"),
        pytest.param({"typ": "dpop+jwt"}, {}, id="header typ dpop+jwt"),
        pytest.param({}, {"typ": "ID"}, id="typ ID"),
        pytest.param({}, {"typ": "Refresh"}, id="typ Refresh"),
        pytest.param({}, {"token_use": "id"}, id="token_use id"),
        pytest.param({}, {"events": {}}, id="events"),
    ],
)
@pytest.mark.parametrize("signature", [None, "c2ln", "=", "not*base64"])
async def test_TE_29_a_jwt_that_says_it_is_of_another_kind_is_asked_nobody_about(
    idp: RunningIdp, ask: MakeAuthz, header: dict[str, str], claims: dict[str, Any],
    signature: str | None,
) -> None:  # fmt: skip
    idp.introspection_answers.append(says({"active": True, "client_id": KONG_ID}))
    token = idp.issue(header=header, **claims)
    if signature is not None:
        token = f"{token.rpartition('.')[0]}.{signature}"
    answer = await ask().bearer(token)

    assert answer.status == 401
    if signature != "not*base64":
        assert answer.reason == "token_unsupported"
    assert idp.counters["introspection"] == 0


@pytest.mark.parametrize(
    "token", ["a.b.c", "e30.e30.c2ln", "e30.W10.x", "WzFd.e30.x", "e.e.e", "..", "a.b", ".e30.x"]
)
async def test_TE_29_what_is_no_jwt_says_nothing_of_itself(
    idp: RunningIdp, ask: MakeAuthz, token: str
) -> None:
    authz = ask()
    assert verdict(await authz.bearer(token)) == "401 token_inactive"
    idp.opaque[f"{token}.good"] = {"client_id": KONG_ID}
    assert (await authz.bearer(f"{token}.good")).allowed


async def test_TE_29_the_word_of_a_jwt_on_itself_lets_nobody_in(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    token = idp.issue(header={"typ": "at+jwt"}, typ="Bearer", token_use="access")
    idp.introspection_answers.append(says({"active": True, "client_id": KONG_ID, "typ": "ID"}))

    assert verdict(await ask().bearer(token)) == "401 token_unsupported"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b"", b'{"error":"invalid_client"}', b"<html>"])
async def test_A5_a_refused_client_of_ours_is_503_and_one_warning(
    idp: RunningIdp,
    ask: MakeAuthz,
    caplog: pytest.LogCaptureFixture,
    status: int,
    body: bytes,
) -> None:
    idp.introspection_answers.append(says(body, status, times=2))
    authz = ask()

    assert verdict(await authz.bearer(TOKEN)) == "503 own_client_rejected"
    assert verdict(await authz.bearer("nobodys-77d0")) == "503 own_client_rejected"
    assert logged(caplog.records).count("own_client_rejected: callers get 503") == 1
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert (await authz.bearer(TOKEN)).allowed


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(says(b"", 500), "503 idp_unavailable", id="500"),
        pytest.param(says(b"", 429), "503 idp_throttled", id="429"),
        pytest.param(says(b"", 404), "503 idp_answer_invalid", id="404"),
        pytest.param(says({"error": "unsupported_token_type"}, 400), "503 idp_request_refused",
                     id="unsupported_token_type"),
    ],
)  # fmt: skip
async def test_trouble_is_503_and_nothing_of_it_is_kept(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock, answer: Answer, expected: str
) -> None:
    idp.introspection_answers.append(answer)
    authz = ask()

    assert verdict(await authz.bearer(TOKEN)) == expected
    clock.advance(60)  # past any pause
    assert (await authz.bearer(TOKEN)).allowed


# --- How long it is good ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "kept_s"),
    [
        pytest.param({}, 300, id="the token's own end"),
        pytest.param({"cache_ttl": 60}, 60, id="cache_ttl"),
        pytest.param({"cache_ttl_max": 30}, 30, id="cache_ttl_max"),
        pytest.param({"cache_ttl_min": 900}, 300, id="cache_ttl_min never lifts past exp"),
        pytest.param({"leeway": 60}, 300, id="no leeway"),
    ],
)
async def test_an_answer_is_kept_to_its_end_and_not_a_second_longer(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock, parameters: dict[str, Any], kept_s: float
) -> None:
    authz = ask(**parameters)
    await authz.bearer(TOKEN)
    clock.advance(kept_s - 0.1)
    await authz.bearer(TOKEN)
    assert idp.counters["introspection"] == 1
    clock.advance(0.1)
    await authz.bearer(TOKEN)
    assert idp.counters["introspection"] == 2


async def test_an_answer_without_an_end_is_kept_for_cache_ttl(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock, known: dict[str, Any]
) -> None:
    del known["exp"]
    authz = ask(cache_ttl=120)
    assert (await authz.bearer(TOKEN)).allowed
    clock.advance(119)
    assert (await authz.bearer(TOKEN)).allowed
    assert idp.counters["introspection"] == 1
    clock.advance(1)
    idp.revoked.add(TOKEN)
    assert verdict(await authz.bearer(TOKEN)) == "401 token_inactive"


async def test_without_cache_introspection_every_request_is_a_question(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(cache_introspection=False)
    assert (await authz.bearer(TOKEN)).allowed
    idp.revoked.add(TOKEN)
    assert verdict(await authz.bearer(TOKEN)) == "401 token_inactive"
    assert idp.counters["introspection"] == 2


async def test_a_token_that_is_not_active_is_remembered_for_5_s(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock
) -> None:
    authz = ask()
    assert verdict(await authz.bearer("nobodys-5b1c")) == "401 token_inactive"
    clock.advance(4.9)
    assert verdict(await authz.bearer("nobodys-5b1c")) == "401 token_inactive"
    assert idp.counters["introspection"] == 1
    clock.advance(0.1)
    await authz.bearer("nobodys-5b1c")
    assert idp.counters["introspection"] == 2


async def test_many_callers_with_one_token_are_one_question(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    hold = threading.Event()
    idp.introspection_answers.append(Answer(None, hold=hold))
    authz = ask()
    callers = [asyncio.create_task(authz.bearer(TOKEN)) for _ in range(50)]
    await idp.reached("introspection")
    hold.set()

    assert all(answer.allowed for answer in await asyncio.gather(*callers))
    assert idp.counters["introspection"] == 1


async def test_a_flood_of_unknown_tokens_pushes_no_good_one_out(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask()
    await authz.bearer(TOKEN)
    for number in range(100):
        await authz.bearer(f"nobodys-{number}")
    await authz.bearer(TOKEN)
    assert idp.counters["introspection"] == 101


async def test_a_reload_that_changes_nothing_keeps_the_answers(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask()
    await authz.bearer(TOKEN)
    authz.reload(authz.configuration.gateway)

    assert (await authz.bearer(TOKEN)).allowed
    assert idp.counters["introspection"] == 1


# --- Strangers ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "status"),
    [
        pytest.param("a b", 401, id="a space"),
        pytest.param("a&token_type_hint=x", 401, id="another argument"),
        pytest.param("a,b", 400, id="a comma"),
        pytest.param("é", 401, id="not ASCII"),
        pytest.param("=", 401, id="padding alone"),
        pytest.param("a" * 17_000, 401, id="17 kB"),
    ],
)
async def test_TE_30_what_is_no_bearer_token_is_asked_nobody_about(
    idp: RunningIdp, ask: MakeAuthz, token: str, status: int
) -> None:
    answer = await ask().ask({"authorization": f"Bearer {token}"})

    assert answer.status == status
    assert idp.counters["introspection"] == 0


# --- Beside bearer ---------------------------------------------------------------------------


async def test_a_jwt_is_for_bearer_and_an_opaque_token_for_introspection(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(auth_methods=("bearer", "introspection"))

    assert (await authz.bearer(idp.issue())).allowed
    assert idp.counters["introspection"] == 0
    assert (await authz.bearer(TOKEN)).allowed
    assert idp.counters["introspection"] == 1


async def test_introspect_jwt_tokens_refuses_one_that_was_revoked(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(auth_methods=("bearer", "introspection"), introspect_jwt_tokens=True)
    good, revoked = idp.issue(), idp.issue(jti="revoked")
    idp.revoked.add(revoked)

    assert (await authz.bearer(good)).allowed
    assert verdict(await authz.bearer(revoked)) == "401 token_inactive"
    # One that its issuer has not signed is asked nobody about.
    forged = good.rpartition(".")[0] + "." + revoked.rpartition(".")[2]
    assert verdict(await authz.bearer(forged)) == "401 token_signature_invalid"
    assert idp.counters["introspection"] == 2


async def test_without_bearer_a_jwt_is_introspected_too(idp: RunningIdp, ask: MakeAuthz) -> None:
    assert (await ask().bearer(idp.issue())).allowed
    assert idp.counters["introspection"] == 1


@pytest.mark.parametrize("leeway", [0, 30])
async def test_introspect_jwt_tokens_lets_no_jwt_outlive_its_own_end(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock, leeway: int
) -> None:
    # The provider's answer has no end, so it is kept for cache_ttl: an hour.
    idp.introspection_answers.append(says({"active": True, "client_id": KONG_ID}, times=None))
    authz = ask(auth_methods=("bearer", "introspection"), introspect_jwt_tokens=True, leeway=leeway)
    token = idp.issue(exp=int(clock.now()) + 60)
    assert (await authz.bearer(token)).allowed
    clock.advance(60 + leeway)

    assert verdict(await authz.bearer(token)) == "401 token_expired"


async def test_introspect_jwt_tokens_takes_no_jwt_on_the_issuers_word_alone(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(auth_methods=("bearer", "introspection"), introspect_jwt_tokens=True)
    idp.certs_answers.append(says({"keys": []}, times=None))

    assert verdict(await authz.bearer(idp.issue())) == "503 keys_unavailable"
    assert idp.counters["introspection"] == 0


async def test_a_known_token_goes_before_strangers_also_if_no_answer_is_kept(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(cache_introspection=False, settings={"idp_concurrency": 8})
    assert (await authz.bearer(TOKEN)).allowed
    hold = threading.Event()
    idp.introspection_answers.append(Answer(None, hold=hold, times=None))
    strangers = [asyncio.create_task(authz.bearer(f"nobodys-{n}")) for n in range(20)]
    await idp.reached("introspection", 8)  # the first, and all the places that are for strangers
    known = asyncio.create_task(authz.bearer(TOKEN))
    await idp.reached("introspection", 9)
    hold.set()

    assert (await known).allowed
    await asyncio.gather(*strangers)


async def test_introspect_jwt_tokens_caches_nothing_by_a_key_that_went_during_the_call(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    hold = threading.Event()
    good = says({"active": True, "client_id": KONG_ID})
    idp.introspection_answers.append(replace(good, hold=hold))
    authz = ask(auth_methods=("bearer", "introspection"), introspect_jwt_tokens=True)
    token = idp.issue()
    first = asyncio.create_task(authz.bearer(token))
    await idp.reached("introspection")
    idp.rotate(retire=True)
    (provider,) = authz.configuration.providers
    provider.renew_keys()
    await provider._single_flight.settled()
    hold.set()
    assert (await first).allowed

    assert verdict(await authz.bearer(token)) == "401 token_key_unknown"
