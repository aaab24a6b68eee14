"""Whatever the token endpoint answers, the caller gets one of three verdicts and no error."""

from __future__ import annotations

import asyncio
import gc
import gzip
import json
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.idp import RunningIdp, key
from support.running import KONG_ID, KONG_SECRET, logged
from support.scenes import OTHER_ID, OTHER_SECRET, landed, on, routes, says, verdict
from support.scripted import (
    answer as sends,
)
from support.scripted import (
    drip,
    flood,
    read_request,
    reset,
    send,
    silence,
)
from support.tls import authority, ca_file, server_context

from authz.credentials import basic
from authz.demo.idp import ABSENT
from authz.demo.script import Answer
from authz.oauth.pause import JITTER_SHARE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from pathlib import Path

    from support.clock import Clock
    from support.running import MakeAuthz, RunningAuthz
    from support.scripted import Serve


def refuses(error: Any, status: int = 400, description: str = "") -> Answer:
    return says({"error": error, "error_description": description}, status)


def token_answer(idp: RunningIdp, client_id: str = KONG_ID, **members: Any) -> bytes:
    """What the endpoint would answer, as bytes to put into a script."""
    answer = {"access_token": idp.issue(client_id), "token_type": "Bearer", **members}
    return json.dumps(answer).encode()


async def told(idp: RunningIdp, authz: RunningAuthz, scripted: Answer) -> str:
    """Let the endpoint answer once by the script; return the verdict.

    The question is asked only once; and since nothing of the answer may be kept,
    the same client passes right after.
    """
    idp.token_answers.append(scripted)
    first = await authz.basic()
    assert idp.counters["token"] == 1
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 2
    return verdict(first)


# --- What a success must look like -------------------------------------------------


@pytest.mark.parametrize("spelling", ["Bearer", "bearer", "BEARER"])
async def test_TE_01_token_type_is_compared_without_case(
    idp: RunningIdp, make_authz: MakeAuthz, spelling: str
) -> None:
    idp.members["token_type"] = spelling
    authz = make_authz()

    assert (await authz.basic()).allowed
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 1


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param("DPoP", id="DPoP"),
        pytest.param("mac", id="mac"),
        pytest.param("N_A", id="N_A"),
        pytest.param(7, id="number"),
        pytest.param(False, id="false"),
        pytest.param([], id="list"),
    ],
)
async def test_TE_02_only_a_bearer_token_is_handed_on(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture, kind: object
) -> None:
    document = {"access_token": idp.issue(), "expires_in": 300, "token_type": kind}

    assert await told(idp, make_authz(), says(document)) == "503 idp_answer_invalid"
    assert f"token_type is {json.dumps(kind)}; only Bearer is done" in logged(caplog.records)


@pytest.mark.parametrize("kind", [ABSENT, None, ""], ids=["missing", "null", "empty"])
async def test_A14_a_token_without_a_type_is_taken_for_bearer_with_one_notice(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture, kind: object
) -> None:
    idp.members["token_type"] = kind
    authz = make_authz()

    assert (await authz.basic()).allowed
    assert verdict(await authz.basic(OTHER_ID, OTHER_SECRET)) == "403 consumer_unknown"
    assert logged(caplog.records).count("have no token_type") == 1


@pytest.mark.parametrize(
    "token",
    [
        pytest.param(ABSENT, id="missing"),
        pytest.param("", id="empty"),
        pytest.param(None, id="null"),
        pytest.param(7, id="number"),
        pytest.param(["a.b.c"], id="list"),
        pytest.param("a.b.c\r\nx-admin: 1", id="CR LF"),
        pytest.param("a.b .c", id="space"),
        pytest.param("a.b.é", id="not ASCII"),
        pytest.param("a" * 17_000, id="over the header cap"),
        pytest.param("a" * 65_536, id="64 kB"),
    ],
)
async def test_TE_03_an_unusable_access_token_is_the_providers_fault(
    idp: RunningIdp, make_authz: MakeAuthz, token: object
) -> None:
    document = {"token_type": "Bearer", "expires_in": 300}
    if token is not ABSENT:
        document["access_token"] = token
    assert await told(idp, make_authz(), says(document)) == "503 idp_answer_invalid"


@pytest.mark.parametrize(
    ("members", "claims", "parameters"),
    [
        pytest.param({"access_token": "opaque"}, {}, {}, id="not a JWT"),
        pytest.param({}, {"iss": "https://elsewhere.test"}, {}, id="wrong iss"),
        pytest.param({}, {}, {"audience": ("api",)}, id="wrong aud"),
        pytest.param({}, {"exp": 1_500_000_000}, {}, id="expired"),
        pytest.param({}, {"exp": ABSENT}, {}, id="without exp"),
    ],
)
async def test_TE_04_an_exchanged_token_is_verified_like_any_other(
    idp: RunningIdp,
    make_authz: MakeAuthz,
    members: dict[str, Any],
    claims: dict[str, Any],
    parameters: dict[str, Any],
) -> None:
    idp.members, idp.claims = members, claims
    answer = await make_authz(**parameters).basic()

    assert verdict(answer) == "503 exchanged_token_invalid"
    assert idp.counters["token"] == 1


async def test_TE_04_a_token_with_a_wrong_signature_is_the_providers_fault(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    head, _, _ = idp.issue().rpartition(".")
    _, _, signature = idp.issue(jti="another").rpartition(".")
    idp.members["access_token"] = f"{head}.{signature}"

    assert verdict(await make_authz().basic()) == "503 exchanged_token_invalid"
    assert idp.counters["token"] == 1


async def test_TE_04_another_clients_token_is_never_handed_on(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.members["access_token"] = idp.issue("other_id")

    assert verdict(await make_authz().basic()) == "503 identity_mismatch"


# --- How long it is good -----------------------------------------------------------


@pytest.mark.parametrize(
    ("expires_in", "exchanges"),
    [
        pytest.param("300", 1, id="number"),
        pytest.param('"300"', 1, id="string of digits"),
        pytest.param("300.7", 1, id="fraction"),
        pytest.param("null", 1, id="null"),
        pytest.param("true", 1, id="true"),
        pytest.param('"abc"', 1, id="text"),
        pytest.param('"-5"', 1, id="text with a sign"),
        pytest.param("315360000", 1, id="10 years"),
        pytest.param("1" + 400 * "0", 1, id="10**400"),
        pytest.param("0", 2, id="zero"),
        pytest.param("-5", 2, id="negative"),
        pytest.param("-1" + 400 * "0", 2, id="-10**400"),
    ],
)
async def test_TE_05_expires_in_bounds_a_life_or_is_as_good_as_absent(
    idp: RunningIdp, make_authz: MakeAuthz, expires_in: str, exchanges: int
) -> None:
    token = idp.issue()
    body = f'{{"access_token":"{token}","token_type":"Bearer","expires_in":{expires_in}}}'
    idp.token_answers.append(says(body.encode(), times=None))
    authz = make_authz()

    assert (await authz.basic()).allowed
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == exchanges


async def test_TE_05_without_expires_in_the_tokens_own_end_counts(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    idp.members["expires_in"] = ABSENT
    authz = make_authz(clock=clock)
    await authz.basic()

    clock.advance(149)
    await authz.basic()
    assert idp.counters["token"] == 1
    clock.advance(151)
    await authz.basic()
    assert idp.counters["token"] == 2


@pytest.mark.parametrize("number", ["1e400", "NaN", "Infinity", "9" * 5000])
async def test_TE_05_what_is_no_number_of_json_spoils_the_answer(
    idp: RunningIdp, make_authz: MakeAuthz, number: str
) -> None:
    body = f'{{"access_token":"{idp.issue()}","token_type":"Bearer","expires_in":{number}}}'

    assert await told(idp, make_authz(), says(body.encode())) == "503 idp_answer_invalid"


@pytest.mark.parametrize(
    ("expires_in", "life_s"),
    [pytest.param(3600, 60, id="exp is nearer"), pytest.param(60, 3600, id="expires_in is nearer")],
)
async def test_TE_06_the_nearer_of_expires_in_and_exp_wins(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, expires_in: int, life_s: int
) -> None:
    idp.now, idp.token_lifetime_s = clock.now, life_s
    idp.members["expires_in"] = expires_in
    authz = make_authz(clock=clock)
    await authz.basic()

    clock.advance(29)  # half of 60 s: no renewal begins before
    await authz.basic()
    assert idp.counters["token"] == 1
    clock.advance(31)
    await authz.basic()
    assert idp.counters["token"] == 2


# --- Answers that are no answer ----------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>Sign in</html>", id="login page"),
        pytest.param(b"", id="empty"),
        pytest.param(b"[]", id="array"),
        pytest.param(b"null", id="null"),
        pytest.param(b'{"access_token":', id="truncated"),
        pytest.param(b'\xef\xbb\xbf{"token_type":"Bearer"}', id="BOM"),
        pytest.param('{"token_type":"Bearer"}'.encode("utf-16"), id="UTF-16"),
        pytest.param(b'{"expires_in":NaN}', id="NaN"),
        pytest.param(b'{"access_token":"a","access_token":"b"}', id="name twice"),
        pytest.param(b'{"token_type":"Bearer"}x', id="trailing bytes"),
        pytest.param(b'{"a":' * 10_000 + b"1" + b"}" * 10_000, id="deep"),
        pytest.param('{"scope":"é"}'.encode("latin-1"), id="Latin-1"),
    ],
)
async def test_TE_07_a_success_that_is_no_strict_json_object_is_503(
    idp: RunningIdp, make_authz: MakeAuthz, body: bytes
) -> None:
    assert await told(idp, make_authz(), says(body)) == "503 idp_answer_invalid"


@pytest.mark.parametrize("error", [None, ""], ids=["null", "empty"])
async def test_A4_an_error_member_that_says_nothing_spoils_no_token(
    idp: RunningIdp, make_authz: MakeAuthz, error: object
) -> None:
    idp.members["error"] = error

    assert (await make_authz().basic()).allowed


async def test_TE_08_an_error_member_wins_over_status_200(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.token_answers.append(says({"error": "invalid_client", "access_token": idp.issue()}))

    assert verdict(await make_authz().basic()) == "401 secret_rejected"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([sends(b"x" * 100_000)], id="100 kB"),
        pytest.param(
            [send(b"HTTP/1.1 200 OK\r\ncontent-length: 99999999999\r\n\r\n"), flood(b"x" * 65_536)],
            id="100 GB announced",
        ),
        pytest.param(
            [
                send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
                flood(b"8000\r\n" + b" " * 0x8000 + b"\r\n"),
            ],
            id="endless chunks",
        ),
        pytest.param(
            [sends(gzip.compress(b" " * 1_000_000), "200 OK", "content-encoding: gzip")],
            id="gzip bomb",
        ),
    ],
)
async def test_TE_09_an_answer_is_read_up_to_a_cap_and_never_unpacked(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve, script: list[Any]
) -> None:
    server = scripted([read_request, *script])
    answer = await make_authz(token_endpoint=f"{server.url}/token").basic()

    assert verdict(answer) == "503 idp_answer_invalid"
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            [send(b"HTTP/1.1 200 OK\r\n"), flood(b"x-junk: " + b"x" * 65_536 + b"\r\n")],
            id="endless headers",
        ),
        pytest.param([send(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"), silence], id="another protocol"),
    ],
)
async def test_TE_09_what_is_no_http_is_not_asked_twice(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve, script: list[Any]
) -> None:
    server = scripted([read_request, *script])
    answer = await make_authz(token_endpoint=f"{server.url}/token").basic()

    assert verdict(answer) == "503 idp_unavailable"
    assert len(server.connections) == 1


@pytest.mark.parametrize("status", [201, 202, 206])
async def test_TE_10_only_200_is_a_success(
    idp: RunningIdp, make_authz: MakeAuthz, status: int
) -> None:
    scripted = says(token_answer(idp), status)

    assert await told(idp, make_authz(), scripted) == "503 idp_answer_invalid"


@pytest.mark.parametrize("status", [204, 304])
async def test_TE_10_a_status_without_a_body_is_no_success(
    idp: RunningIdp, make_authz: MakeAuthz, status: int
) -> None:
    assert await told(idp, make_authz(), says(b"", status)) == "503 idp_answer_invalid"


# --- Verdicts on the caller ----------------------------------------------------------


@pytest.mark.parametrize("status", [400, 401])
async def test_TE_11_invalid_client_is_the_callers_and_remembered_for_5_s(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, status: int
) -> None:
    idp.token_answers.append(refuses("invalid_client", status))
    authz = make_authz(clock=clock)
    idp.now = clock.now

    assert verdict(await authz.basic()) == "401 secret_rejected"
    clock.advance(4.9)
    assert verdict(await authz.basic()) == "401 secret_rejected"
    assert idp.counters["token"] == 1
    clock.advance(0.1)
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 2


async def test_TE_11_exactly_this_pair_is_remembered_as_refused(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.token_answers.append(refuses("invalid_client", 401))
    authz = make_authz()
    await authz.basic()

    assert verdict(await authz.basic(OTHER_ID, OTHER_SECRET)) == "403 consumer_unknown"
    assert verdict(await authz.basic(KONG_ID, "another")) == "401 secret_rejected"
    assert idp.counters["token"] == 3


@pytest.mark.parametrize(
    ("cache_ttl_neg", "exchanges"),
    [
        pytest.param(0, 2, id="0: not at all"),
        pytest.param(2, 2, id="2: shorter"),
        pytest.param(60, 1, id="60: never longer than 5 s"),
    ],
)
async def test_TE_11_cache_ttl_neg_may_only_shorten_the_memory(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, cache_ttl_neg: float, exchanges: int
) -> None:
    authz = make_authz(clock=clock, cache_ttl_neg=cache_ttl_neg)
    await authz.basic(KONG_ID, "wrong")
    clock.advance(2)
    await authz.basic(KONG_ID, "wrong")
    assert idp.counters["token"] == exchanges

    clock.advance(5)
    await authz.basic(KONG_ID, "wrong")
    assert idp.counters["token"] == exchanges + 1


@pytest.mark.parametrize(
    ("client_id", "secret"),
    [
        pytest.param(KONG_ID, "wrong", id="wrong secret"),
        pytest.param("nobody", KONG_SECRET, id="unknown client"),
    ],
)
async def test_TE_12_keycloaks_refusals_are_401(
    idp: RunningIdp, make_authz: MakeAuthz, client_id: str, secret: str
) -> None:
    assert verdict(await make_authz().basic(client_id, secret)) == "401 secret_rejected"
    assert idp.counters["token"] == 1


@pytest.mark.parametrize(
    ("error", "description"),
    [
        ("unauthorized_client", "Client not enabled to retrieve service account"),
        ("unauthorized_client", "Public client not allowed to retrieve service account"),
        ("unauthorized_client", "Bearer-only not allowed to retrieve service account"),
        ("invalid_grant", "Account is disabled"),
        ("access_denied", "Refused by policy"),
    ],
)
async def test_TE_13_any_refusal_of_the_client_is_the_same_401(
    idp: RunningIdp, make_authz: MakeAuthz, error: str, description: str
) -> None:
    idp.token_answers.append(refuses(error, 401, description))
    authz = make_authz()
    answer = await authz.basic()

    assert verdict(answer) == "401 secret_rejected"
    assert answer.body == '{"message":"Unauthorized"}'
    assert description not in authz.metrics()


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("error", ["access_denied", "invalid_grant", "unauthorized_client"])
async def test_A5_a_client_that_may_have_no_token_is_403_and_no_guess(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, error: str, status: int
) -> None:
    idp.now = clock.now
    idp.token_answers.append(replace(refuses(error, status, "Realm not enabled"), times=None))
    authz = make_authz(clock=clock)

    answer = await authz.basic()
    assert verdict(answer) == "403 client_not_allowed"
    assert answer.body == '{"message":"Forbidden"}'
    # Remembered for the pair: the provider is not asked again for 5 s.
    assert verdict(await authz.basic()) == "403 client_not_allowed"
    assert idp.counters["token"] == 1
    # More of these than the limiter has places for guesses, and none is taken.
    for number in range(25):
        refused = await authz.basic(KONG_ID, f"secret {number}")
        assert verdict(refused) == "403 client_not_allowed"
    idp.token_answers.clear()
    clock.advance(5)
    assert (await authz.basic()).allowed


async def test_A5_a_client_that_may_have_no_new_token_keeps_the_one_it_has(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    assert (await authz.basic()).allowed
    idp.token_answers.append(replace(refuses("access_denied", 403), times=None))

    clock.advance(283)
    assert (await authz.basic()).allowed
    await landed(authz)
    assert idp.counters["token"] == 2
    clock.advance(16)
    assert (await authz.basic()).allowed
    clock.advance(1)  # the token's end
    assert verdict(await authz.basic()) == "403 client_not_allowed"


async def test_A5_the_providers_words_are_in_the_log_and_nowhere_else(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    idp.token_answers.append(refuses("invalid_client", 401, "No such client, said the provider"))
    authz = make_authz(display_errors=True)
    answer = await authz.basic()

    (line,) = [vars(r)["fields"] for r in caplog.records if r.name == "authz.decision"]
    assert line["idp_error"] == "invalid_client"
    assert line["idp_error_description"] == "No such client, said the provider"
    assert b"No such client" not in answer.wire
    assert b"invalid_client" not in answer.wire
    assert "invalid_client" not in authz.metrics()


async def test_a_refused_secret_that_was_form_encoded_gets_a_hint_in_the_log(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    idp.token_answers.append(replace(refuses("invalid_client", 401), times=2))
    authz = make_authz()
    await authz.basic(KONG_ID, "plain")
    assert "client_secret_post" not in logged(caplog.records)

    answer = await authz.basic(KONG_ID, "a+b/c")
    assert "try client_secret_post" in logged(caplog.records)
    assert b"client_secret_post" not in answer.wire


async def test_TE_14_a_disabled_service_account_is_401(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    description = "User 'service-account-kong_id' disabled"
    idp.token_answers.append(refuses("invalid_request", 401, description))

    assert verdict(await make_authz().basic()) == "401 secret_rejected"


# --- Faults of the provider, or of ours ----------------------------------------------


async def test_TE_15_invalid_scope_is_a_fault_of_the_configuration(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(scopes=("openid", "no-such-scope"))

    assert verdict(await authz.basic()) == "503 idp_request_refused"
    assert verdict(await authz.basic()) == "503 idp_request_refused"
    assert idp.counters["token"] == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        pytest.param("invalid_request", "idp_request_refused", id="invalid_request"),
        pytest.param("unsupported_grant_type", "idp_request_refused", id="unsupported_grant_type"),
        pytest.param("no_such_error", "idp_request_refused", id="unknown"),
        # The code has a grammar (RFC 6749 section 5.2): what breaks it is none.
        pytest.param("ungültig", "idp_answer_invalid", id="not ASCII"),
        pytest.param(["invalid_client"], "idp_answer_invalid", id="list"),
        pytest.param({"code": "invalid_client"}, "idp_answer_invalid", id="object"),
        pytest.param(None, "idp_answer_invalid", id="null"),
    ],
)
async def test_TE_16_any_other_error_is_503(
    idp: RunningIdp, make_authz: MakeAuthz, error: object, reason: str
) -> None:
    assert await told(idp, make_authz(), refuses(error)) == f"503 {reason}"


@pytest.mark.parametrize(
    ("scripted", "pause_s"),
    [
        pytest.param(refuses("slow_down"), 1, id="slow_down"),
        pytest.param(says(b"", 429), 1, id="429 alone"),
        pytest.param(says(b"", 429, ("retry-after", "5")), 5, id="5"),
        pytest.param(says(b"", 429, ("retry-after", "0")), 1, id="0"),
        pytest.param(says(b"", 429, ("retry-after", "1000000000")), 60, id="ten digits"),
        pytest.param(says(b"", 429, ("retry-after", "999999999")), 60, id="30 years"),
        pytest.param(says(b"", 429, ("retry-after", "abc")), 1, id="abc"),
        pytest.param(says(b"", 429, ("retry-after", "-1")), 1, id="negative"),
        pytest.param(
            says(b"", 429, ("retry-after", "Wed, 21 Oct 2026 07:28:00 GMT")), 60, id="date"
        ),
    ],
)
async def test_TE_17_a_throttling_provider_is_left_alone_by_all_clients(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, scripted: Answer, pause_s: int
) -> None:
    idp.now = clock.now
    idp.token_answers.append(scripted)
    authz = make_authz(clock=clock)
    first = await authz.basic()
    assert verdict(first) == "503 idp_throttled"
    assert first.header("retry-after") == str(pause_s)

    clock.advance(pause_s - 0.5)
    during = await authz.basic(OTHER_ID, OTHER_SECRET)
    assert verdict(during) == "503 idp_throttled"
    assert 1 <= int(during.header("retry-after") or 0) <= 1 + JITTER_SHARE * pause_s
    assert idp.counters["token"] == 1

    clock.advance(0.5 + JITTER_SHARE * pause_s)
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 2


async def test_TE_17_the_pause_holds_for_every_plugin_of_the_provider(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.token_answers.append(says(b"", 429, ("retry-after", "60")))
    authz = make_authz(routes(a=(idp, {}), b=(idp, {"scopes": ("openid", "email")})))

    assert verdict(await authz.basic(**on("a"))) == "503 idp_throttled"
    assert verdict(await authz.basic(**on("b"))) == "503 idp_throttled"
    assert idp.counters["token"] == 1


@pytest.mark.parametrize(
    "scripted",
    [
        pytest.param(says(b"", 500), id="500"),
        pytest.param(says(b"<html>", 502), id="502"),
        pytest.param(says(b"", 503), id="503"),
        pytest.param(says(b"", 504), id="504"),
        pytest.param(says(b"", 408), id="408"),
        pytest.param(refuses("temporarily_unavailable"), id="temporarily_unavailable"),
        pytest.param(refuses("server_error", 401), id="server_error with 401"),
        pytest.param(says({"error": "invalid_client"}, 500), id="500 with an error object"),
        pytest.param(says(b"x" * 100_000, 502), id="502 with a long page"),
        pytest.param(
            says(gzip.compress(b"<html>"), 502, ("content-encoding", "gzip")), id="502 compressed"
        ),
    ],
)
async def test_A7_TE_18_a_server_error_is_an_outage_and_not_repeated(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Answer
) -> None:
    assert await told(idp, make_authz(), scripted) == "503 idp_unavailable"


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<html>401</html>", id="HTML"),
        pytest.param(b'{"message":"Unauthorized"}', id="JSON without error"),
        pytest.param(b'"invalid_client"', id="JSON string"),
        pytest.param(b'{"error":"invalid_client","error":"x"}', id="name twice"),
    ],
)
async def test_TE_19_a_bare_401_is_no_proof_of_a_wrong_secret(
    idp: RunningIdp, make_authz: MakeAuthz, body: bytes
) -> None:
    assert await told(idp, make_authz(), says(body, 401)) == "503 idp_answer_invalid"


@pytest.mark.parametrize(
    ("scripted", "reason"),
    [
        pytest.param(says(b"<html>blocked", 403), "idp_answer_invalid", id="403 of a WAF"),
        pytest.param(refuses("Realm does not exist", 404), "idp_request_refused", id="404"),
        pytest.param(refuses("HTTP 405", 405), "idp_request_refused", id="405"),
        pytest.param(says(b"", 415), "idp_answer_invalid", id="415"),
    ],
)
async def test_TE_20_any_other_status_is_503(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Answer, reason: str
) -> None:
    assert await told(idp, make_authz(), scripted) == f"503 {reason}"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_TE_21_a_redirect_is_never_followed(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve, status: int
) -> None:
    elsewhere = scripted([read_request, sends(b"{}")])
    redirect = says(b"", status, ("location", f"{elsewhere.url}/token"))

    assert await told(idp, make_authz(), redirect) == "503 idp_answer_invalid"
    assert elsewhere.connections == []


# --- Faults of the network -----------------------------------------------------------


async def test_TE_22_a_refused_connection_is_an_outage(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    await authz.bearer(idp.issue())  # the keys are there
    idp.stop()

    answer = await authz.basic()
    assert verdict(answer) == "503 idp_unavailable"
    assert answer.header("retry-after") == "1"


@pytest.mark.parametrize(
    ("script", "connections"),
    [
        pytest.param([send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"), reset], 1, id="reset"),
        pytest.param(
            [send(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n{}")], 1, id="end in the body"
        ),
        pytest.param([reset], 1, id="reset before any answer"),
        pytest.param([], 1, id="end before any answer"),
    ],
)
async def test_TE_22_a_broken_answer_is_an_outage(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve, script: list[Any], connections: int
) -> None:
    server = scripted([read_request, *script])
    answer = await make_authz(token_endpoint=f"{server.url}/token").basic()

    assert verdict(answer) == "503 idp_unavailable"
    # A connection that was new is no stale one: there is nothing to repeat.
    assert len(server.connections) == connections


@pytest.mark.parametrize(
    "tls",
    [
        pytest.param(lambda: server_context("127.0.0.1"), id="valid"),
        pytest.param(lambda: server_context("idp.test"), id="wrong name"),
        pytest.param(lambda: server_context("127.0.0.1", expired=True), id="expired"),
        pytest.param(lambda: server_context("127.0.0.1", ca=authority("nobody")), id="unknown CA"),
        pytest.param(lambda: None, id="plaintext"),
    ],
)
async def test_TE_22_only_a_certificate_in_order_gets_the_secret(
    idp: RunningIdp,
    make_authz: MakeAuthz,
    tmp_path: Path,
    tls: Callable[[], ssl.SSLContext | None],
    request: pytest.FixtureRequest,
) -> None:
    with RunningIdp(tls=tls(), issuer=idp.issuer, keys=idp.keys) as secured:
        authz = make_authz(
            settings={"idp_ca_file": str(ca_file(tmp_path))},
            token_endpoint=secured.token_endpoint.replace("http://", "https://"),
        )
        answer = await authz.basic()

        if "valid" in request.node.name:
            assert answer.allowed
        else:
            assert verdict(answer) == "503 idp_unavailable"
            assert secured.counters["token"] == 0


async def test_TE_23_a_kept_connection_that_was_closed_is_replaced_once(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve, clock: Clock
) -> None:
    idp.now = clock.now
    server = scripted(
        [read_request, sends(token_answer(idp)), read_request],
        [read_request, sends(token_answer(idp, "other_id"))],
    )
    authz = make_authz(clock=clock, token_endpoint=f"{server.url}/token")
    await authz.basic()
    clock.advance(2)
    answer = await authz.basic(OTHER_ID, OTHER_SECRET)

    assert verdict(answer) == "403 consumer_unknown"
    assert [received.count(b"POST /token") for received in server.received] == [2, 1]


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([silence], id="silence"),
        pytest.param([drip(b"HTTP/1.1 200 OK\r\nx-junk: " + b"x" * 60_000, 0.01)], id="headers"),
        pytest.param(
            [
                send(b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n"),
                drip(b"x" * 60_000, 0.01),
            ],
            id="body",
        ),
    ],
)
async def test_TE_24_one_deadline_covers_the_whole_exchange(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve, script: list[Any]
) -> None:
    server = scripted([read_request, *script], [read_request, sends(token_answer(idp, "other_id"))])
    authz = make_authz(
        token_endpoint=f"{server.url}/token", timeout=1_500, settings={"idp_concurrency": 1}
    )

    # The drip would go on for minutes: the caller's own deadline would have come before.
    assert verdict(await authz.basic()) == "503 idp_unavailable"
    # The only connection is free again.
    assert verdict(await authz.basic(OTHER_ID, OTHER_SECRET)) == "403 consumer_unknown"


async def test_TE_25_an_answer_that_comes_too_late_serves_the_next_caller(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    authz = make_authz()
    caller = asyncio.create_task(authz.basic())
    await idp.reached("token")
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)

    hold.set()
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 1


async def test_TE_25_a_refusal_that_nobody_waits_for_is_no_unheard_error(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    hold = threading.Event()
    idp.token_answers.append(Answer(500, hold=hold))
    authz = make_authz()
    caller = asyncio.create_task(authz.basic())
    await idp.reached("token")
    caller.cancel()
    await asyncio.gather(caller, return_exceptions=True)

    hold.set()
    await landed(authz)
    assert authz.shared.keeper.calls_under_way() == 0
    gc.collect()
    assert not [r for r in caplog.records if r.name == "asyncio" and r.levelname == "ERROR"]


# --- What is sent, and what is kept ----------------------------------------------------


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
async def test_TE_26_a_token_request_authenticates_the_client_in_one_way(
    idp: RunningIdp, make_authz: MakeAuthz, method: str
) -> None:
    authz = make_authz(token_endpoint_auth_method=method, audience=("account", "api"))
    await authz.ask(
        {
            "authorization": basic(KONG_ID, KONG_SECRET),
            "cookie": "session=1",
            "x-forwarded-for": "203.0.113.7",
        }
    )
    request = idp.requests[-1]

    assert request.endpoint == "token"
    assert request.method == "POST"
    assert "?" not in request.target
    assert request.header("content-type") == "application/x-www-form-urlencoded"
    assert request.header("accept-encoding") == "identity"
    assert request.header("cookie") is None
    assert request.header("x-forwarded-for") is None
    assert request.form["grant_type"] == "client_credentials"
    assert request.form["scope"] == "openid"
    if method == "client_secret_basic":
        assert request.header("authorization") == basic(KONG_ID, KONG_SECRET)
        assert not {"client_id", "client_secret"} & request.form.keys()
    else:
        assert request.header("authorization") is None
        assert (request.form["client_id"], request.form["client_secret"]) == (KONG_ID, KONG_SECRET)


async def test_client_secret_jwt_never_sends_the_callers_secret(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(token_endpoint_auth_method="client_secret_jwt")

    assert (await authz.basic()).allowed
    assert verdict(await authz.basic(KONG_ID, "wrong")) == "401 secret_rejected"
    asked = [request for request in idp.requests if request.endpoint == "token"]
    assert len(asked) == 2
    for request in asked:
        assert request.header("authorization") is None
        assert KONG_SECRET.encode() not in request.body
        assert request.form["client_id"] == KONG_ID


@pytest.mark.parametrize(
    ("supported", "basic_is_used"),
    [
        pytest.param(ABSENT, True, id="unsaid"),
        pytest.param(["client_secret_post"], False, id="post alone"),
        pytest.param(["client_secret_post", "client_secret_basic"], True, id="both"),
        pytest.param(["private_key_jwt"], True, id="none that is done"),
        pytest.param("client_secret_post", True, id="no list"),
    ],
)
async def test_TE_26_without_a_choice_the_metadata_decide(
    idp: RunningIdp, make_authz: MakeAuthz, supported: object, basic_is_used: bool
) -> None:
    idp.metadata["token_endpoint_auth_methods_supported"] = supported
    await make_authz().basic()

    assert (idp.requests[-1].header("authorization") is not None) is basic_is_used


async def test_TE_26_a_cookie_of_one_exchange_is_not_carried_into_another(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    idp.token_answers.append(says(token_answer(idp), 200, ("set-cookie", "AUTH_SESSION=kong_id")))
    await authz.basic()
    await authz.basic(OTHER_ID, OTHER_SECRET)

    assert [request.header("cookie") for request in idp.requests] == [None] * 4


async def test_TE_27_refresh_and_id_tokens_are_dropped(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    refresh, identity = idp.issue(typ="Refresh"), idp.issue(typ="ID")
    idp.members.update(refresh_token=refresh, id_token=identity)
    authz = make_authz()

    for answer in (await authz.basic(), await authz.basic()):
        assert answer.allowed
        assert refresh.encode() not in answer.wire
        assert identity.encode() not in answer.wire


@pytest.mark.parametrize(
    ("claimed", "said", "expected"),
    [
        pytest.param("openid orders", "openid", "200 allowed", id="only the token has it"),
        pytest.param("openid", "openid orders", "403 scope_missing", id="only the answer has it"),
    ],
)
async def test_TE_28_scopes_are_judged_on_the_tokens_own_claim(
    idp: RunningIdp, make_authz: MakeAuthz, claimed: str, said: str, expected: str
) -> None:
    idp.claims["scope"], idp.members["scope"] = claimed, said

    assert verdict(await make_authz(scopes_required=("orders",)).basic()) == expected


async def test_keys_of_another_algorithm_verify_exchanged_tokens_too(make_authz: MakeAuthz) -> None:
    with RunningIdp(keys=[key("ES256")]) as other:
        authz = make_authz(routes(a=(other, {})))
        assert (await authz.basic(**on("a"))).allowed
