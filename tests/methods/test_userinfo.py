"""The caller brings a token, and the provider says whose it is; Kong's ``userinfo``."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from support.methods import Headers, Subject
from support.running import KONG_ID, check_request, logged
from support.scenes import OTHER_ID, OTHER_SECRET, at, says, verdict

from authz.demo.idp import ABSENT
from authz.demo.script import Answer, Recorded
from authz.oauth import http
from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from support.idp import RunningIdp
    from support.running import RunningAuthz

    MakeAuthz = Callable[..., RunningAuthz]

TOKEN = "opaque-5d19"
"""A token that says nothing of itself; the development provider knows whose it is."""


def known_to(idp: RunningIdp) -> Headers:
    """A token that the provider knows from now on."""
    idp.opaque[TOKEN] = {
        "sub": "7",
        "client_id": KONG_ID,
        "exp": int(idp.now()) + idp.token_lifetime_s,
    }
    return {"authorization": f"Bearer {TOKEN}"}


SUBJECT = Subject(
    good=known_to,
    bad=lambda _idp: {"authorization": "Bearer nobodys-0c4e"},
    refused="token_inactive",
    elsewhere=lambda _idp: {"headers": {"x-access-token": TOKEN}},
    endpoint="userinfo",
    # The answer names no end, so the file says for how long it is believed.
    parameters={"cache_ttl": 120},
)


@pytest.fixture
def known(idp: RunningIdp, clock: Clock) -> dict[str, Any]:
    """What the provider says of ``TOKEN``; a test may change it."""
    idp.now = clock.now
    claims: dict[str, Any] = {"sub": "7", "client_id": KONG_ID}
    idp.opaque[TOKEN] = claims
    return claims


@pytest.fixture
def ask(known: dict[str, Any], make_authz: MakeAuthz, clock: Clock) -> MakeAuthz:
    """Build an authz whose plugin asks the userinfo endpoint."""
    del known

    def build(**parameters: Any) -> RunningAuthz:
        return make_authz(clock=clock, **{"auth_methods": ("userinfo",), **parameters})

    return build


def asked(idp: RunningIdp) -> Recorded:
    """The last question that was asked."""
    return next(r for r in reversed(idp.requests) if r.endpoint == "userinfo")


def arguments(request: Recorded) -> list[tuple[str, str]]:
    return parse_qsl(urlsplit(request.target).query, keep_blank_values=True)


# --- What is asked ------------------------------------------------------------------------


async def test_the_question_is_a_get_with_the_callers_token(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    answer = await ask().bearer(TOKEN, path="/oidc-route/get?x=1")
    request = asked(idp)

    assert answer.allowed
    assert answer.header("authorization") == f"Bearer {TOKEN}"
    assert (request.method, request.body) == ("GET", b"")
    assert "?" not in request.target
    assert request.header("accept") == "application/json"
    assert request.header("authorization") == f"Bearer {TOKEN}"


async def test_every_parameter_of_the_question_takes_effect(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    endpoint = f"{idp.token_endpoint.removesuffix('token')}userinfo?tenant=1"
    authz = ask(
        userinfo_endpoint=endpoint,
        userinfo_headers_names=("X-Api-Key",),
        userinfo_headers_values=(Secret("k1"),),
        userinfo_headers_client=("X-Device", "x-absent"),
        userinfo_query_args_names=("detail",),
        userinfo_query_args_values=(Secret("full & all"),),
        userinfo_query_args_client=("region", "zone"),
    )
    headers = {"authorization": f"Bearer {TOKEN}", "x-device": "d1"}
    path = "/oidc-route/get?region=eu+w%26est&other=1"
    assert (await authz.ask(headers, path=path)).allowed
    request = asked(idp)

    assert arguments(request) == [("tenant", "1"), ("detail", "full & all"), ("region", "eu w&est")]
    assert (request.header("x-api-key"), request.header("x-device")) == ("k1", "d1")
    assert request.header("x-absent") is None


async def test_what_goes_with_the_question_is_not_told_in_the_log(
    idp: RunningIdp, ask: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    said = {"error": "invalid_request", "error_description": "no such key: k1-7b1d for mine-7b1d"}
    idp.userinfo_answers.append(says(said, 400))
    authz = ask(
        userinfo_query_args_names=("key",),
        userinfo_query_args_values=(Secret("k1-7b1d"),),
        userinfo_query_args_client=("tenant",),
    )
    answer = await authz.bearer(TOKEN, path="/oidc-route/get?tenant=mine-7b1d")

    assert verdict(answer) == "503 idp_request_refused"
    # authz keeps the lines of others about whole URLs off (logs.QUIET_LOGGERS).
    ours = [record for record in caplog.records if record.name.startswith("authz")]
    assert "invalid_request" in logged(ours)
    assert "7b1d" not in logged(ours)


async def test_what_goes_with_the_question_is_no_key_of_a_cache(ask: MakeAuthz) -> None:
    authz = ask(userinfo_query_args_client=("tenant",))
    assert (await authz.bearer(TOKEN, path="/oidc-route/get?tenant=first")).allowed
    keys = http._target.cache_info().misses

    assert (await authz.bearer(TOKEN, path="/oidc-route/get?tenant=second")).allowed
    assert http._target.cache_info().misses == keys


async def test_an_answer_is_kept_for_what_was_passed_on_and_for_nothing_else(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(userinfo_headers_client=("x-tenant",), userinfo_query_args_client=("x-tenant",))
    questions: list[tuple[Headers, str]] = [
        ({}, ""),
        ({"x-tenant": "1"}, ""),
        ({"x-tenant": "2"}, ""),
        ({}, "?x-tenant=1"),
    ]
    for number, (headers, query) in enumerate(questions, start=1):
        for _ in range(2):
            request = {"authorization": f"Bearer {TOKEN}", **headers}
            assert (await authz.ask(request, path=f"/oidc-route/get{query}")).allowed
            assert idp.counters["userinfo"] == number


async def test_a_provider_without_the_endpoint_is_503(idp: RunningIdp, ask: MakeAuthz) -> None:
    idp.metadata["userinfo_endpoint"] = ABSENT

    assert verdict(await ask().bearer(TOKEN)) == "503 idp_answer_invalid"


# --- What the answer must be -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        pytest.param(says({"sub": "7", "client_id": KONG_ID}), "200 allowed", id="claims"),
        pytest.param(says({"sub": "7"}), "403 consumer_claim_missing", id="nobody's"),
        pytest.param(says({"client_id": KONG_ID}), "503 idp_answer_invalid", id="no sub"),
        pytest.param(says(b'{"sub":"7","sub":"8"}'), "503 idp_answer_invalid", id="sub twice"),
        pytest.param(
            says({"error": "invalid_token"}, 401), "401 token_inactive", id="invalid_token"
        ),
        pytest.param(
            says({}, 403, ("www-authenticate", 'Bearer error="insufficient_scope"')),
            "401 token_unsupported",
            id="insufficient_scope",
        ),
        pytest.param(says(b"", 401), "503 idp_answer_invalid", id="a bare 401"),
        pytest.param(
            Answer(200, b"a.b.c", (("content-type", "application/jwt"),)),
            "503 idp_answer_invalid",
            id="a signed answer",
        ),
    ],
)
async def test_what_an_answer_means(
    idp: RunningIdp, ask: MakeAuthz, answer: Answer, expected: str
) -> None:
    idp.userinfo_answers.append(answer)

    assert verdict(await ask().bearer(TOKEN)) == expected


@pytest.mark.parametrize(
    ("claims", "parameters", "expected"),
    [
        pytest.param({"iss": "https://x.test"}, {}, "401 token_issuer_refused", id="iss"),
        pytest.param({"aud": "x"}, {"audience": ("api",)}, "401 token_audience_refused", id="aud"),
        pytest.param({}, {"audience": ("api",)}, "401 token_audience_refused", id="no aud"),
        pytest.param({"aud": "api"}, {"audience": ("api",)}, "200 allowed", id="right aud"),
        pytest.param({"exp": 1_500_000_000}, {}, "401 token_expired", id="exp"),
        pytest.param({"nbf": 9_999_999_999}, {}, "401 token_not_yet_valid", id="nbf"),
        pytest.param({"cnf": {"jkt": "x"}}, {}, "401 token_unsupported", id="cnf"),
        pytest.param({"typ": "Refresh"}, {}, "401 token_unsupported", id="typ Refresh"),
        pytest.param({}, {"scopes_required": ("orders",)}, "403 scope_missing", id="no scope"),
    ],
)
async def test_what_the_answer_says_must_be_right_as_of_a_token(
    idp: RunningIdp,
    ask: MakeAuthz,
    claims: dict[str, Any],
    parameters: dict[str, Any],
    expected: str,
) -> None:
    idp.told.update(claims)

    assert verdict(await ask(**parameters).bearer(TOKEN)) == expected


@pytest.mark.parametrize("token", ["opaque 1", "opaqué", "a,b", "", "x" * 16_385])
async def test_what_is_no_bearer_token_is_asked_nobody_about(
    idp: RunningIdp, ask: MakeAuthz, token: str
) -> None:
    assert (await ask().bearer(token)).status in {400, 401}
    assert idp.counters["userinfo"] == 0


# --- What is kept, and for how long -----------------------------------------------------------


async def test_an_answer_is_believed_for_cache_ttl(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock
) -> None:
    authz = ask(cache_ttl=60)
    wire = check_request({"authorization": f"Bearer {TOKEN}"})
    for _ in range(3):
        await authz.authorizer.check(wire, None)
    assert authz.authorizer.cached(wire) is not None
    assert idp.counters["userinfo"] == 1

    idp.revoked.add(TOKEN)
    clock.advance(59)
    assert (await authz.bearer(TOKEN)).allowed
    clock.advance(1)
    assert authz.authorizer.cached(wire) is None
    assert verdict(await authz.bearer(TOKEN)) == "401 token_inactive"


@pytest.mark.parametrize("leeway", [0, 20])
async def test_no_answer_outlives_the_end_that_a_jwt_names_itself(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock, leeway: int
) -> None:
    # The provider's word would be good for ever.
    idp.userinfo_answers.append(says({"sub": "7", "client_id": KONG_ID}, times=None))
    authz = ask(leeway=leeway)
    token = idp.issue(exp=int(clock.now()) + 60)
    assert (await authz.bearer(token)).allowed
    clock.advance(59 + leeway)
    assert (await authz.bearer(token)).allowed
    clock.advance(1)

    assert verdict(await authz.bearer(token)) == "401 token_expired"
    assert idp.counters["userinfo"] == 1


async def test_a_refusal_is_kept_for_a_moment(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock
) -> None:
    authz = ask()
    for _ in range(3):
        assert verdict(await authz.bearer("nobodys")) == "401 token_inactive"
    assert idp.counters["userinfo"] == 1

    clock.advance(5)
    assert verdict(await authz.bearer("nobodys")) == "401 token_inactive"
    assert idp.counters["userinfo"] == 2


async def test_without_cache_user_info_every_request_asks(idp: RunningIdp, ask: MakeAuthz) -> None:
    authz = ask(cache_user_info=False)
    for _ in range(3):
        assert (await authz.bearer(TOKEN)).allowed

    assert idp.counters["userinfo"] == 3


async def test_a_known_token_goes_before_strangers(idp: RunningIdp, ask: MakeAuthz) -> None:
    authz = ask(cache_user_info=False, settings={"idp_concurrency": 8})
    assert (await authz.bearer(TOKEN)).allowed
    hold = threading.Event()
    idp.userinfo_answers.append(Answer(None, hold=hold, times=None))
    strangers = [asyncio.create_task(authz.bearer(f"nobodys-{n}")) for n in range(20)]
    await idp.reached("userinfo", 8)  # the first, and all the places that are for strangers
    known = asyncio.create_task(authz.bearer(TOKEN))
    await idp.reached("userinfo", 9)
    hold.set()

    assert (await known).allowed
    await asyncio.gather(*strangers)


# --- Beside other methods, and JWTs ------------------------------------------------------------


async def test_beside_bearer_a_jwt_is_verified_and_an_opaque_token_asked_about(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(auth_methods=("userinfo", "bearer"))

    assert (await authz.bearer(idp.issue())).allowed
    assert idp.counters["userinfo"] == 0
    assert (await authz.bearer(TOKEN)).allowed
    assert idp.counters["userinfo"] == 1


async def test_beside_bearer_no_jwt_is_taken_on_the_providers_word_alone(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    idp.certs_answers.append(says({"keys": []}, times=None))
    authz = ask(auth_methods=("bearer", "userinfo"))

    assert verdict(await authz.bearer(idp.issue())) == "503 keys_unavailable"
    assert idp.counters["userinfo"] == 0


async def test_alone_it_asks_about_a_jwt_too(idp: RunningIdp, ask: MakeAuthz) -> None:
    idp.told["client_id"] = KONG_ID
    authz, token = ask(), idp.issue()

    assert (await authz.bearer(token)).allowed
    assert asked(idp).header("authorization") == f"Bearer {token}"


@pytest.mark.parametrize("kind", [{"typ": "ID"}, {"typ": "Refresh"}, {"token_use": "id"}], ids=str)
async def test_a_jwt_that_names_another_kind_is_asked_nobody_about(
    idp: RunningIdp, ask: MakeAuthz, kind: dict[str, Any]
) -> None:
    assert verdict(await ask().bearer(idp.issue(**kind))) == "401 token_unsupported"
    assert idp.counters["userinfo"] == 0


@pytest.mark.parametrize("bound", [{"cnf": {"jkt": "x"}}, {"typ": "DPoP"}], ids=str)
async def test_a_jwt_that_says_it_is_bound_to_a_key_is_refused_whatever_the_answer_leaves_out(
    idp: RunningIdp, ask: MakeAuthz, bound: dict[str, Any]
) -> None:
    idp.told["client_id"] = KONG_ID

    assert verdict(await ask().bearer(idp.issue(**bound))) == "401 token_unsupported"
    assert idp.counters["userinfo"] == 0


async def test_beside_introspection_the_issuers_verdict_is_the_last_word(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    client = {"client_id": (OTHER_ID,), "client_secret": (Secret(OTHER_SECRET),)}
    authz = ask(auth_methods=("introspection", "userinfo"), **client)

    assert (await authz.bearer(TOKEN)).allowed
    assert verdict(await authz.bearer("nobodys")) == "401 token_inactive"
    assert idp.counters["userinfo"] == 0


async def test_it_stands_in_where_introspection_cannot_tell(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    client = {"client_id": (OTHER_ID,), "client_secret": (Secret("wrong-3f9c"),)}
    authz = ask(auth_methods=("introspection", "userinfo"), **client)

    assert (await authz.bearer(TOKEN)).allowed
    assert verdict(await authz.bearer("nobodys")) == "503 own_client_rejected"


async def test_two_plugins_that_ask_otherwise_share_no_answer(
    idp: RunningIdp, ask: MakeAuthz, make_authz: MakeAuthz
) -> None:
    assert (await ask().bearer(TOKEN)).allowed
    other = make_authz(
        at(
            idp.issuer,
            auth_methods=("userinfo",),
            userinfo_headers_names=("x-a",),
            userinfo_headers_values=(Secret("b"),),
        )
    )
    assert (await other.bearer(TOKEN)).allowed
    assert idp.counters["userinfo"] == 2
