"""The provider's keys: which are taken, when they are asked for, how long they serve."""

from __future__ import annotations

import asyncio
import base64
import gzip
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.idp import RunningIdp, key
from support.running import check_request, logged
from support.scenes import OTHER_ID, OTHER_SECRET, landed, on, routes, says, verdict
from support.scripted import answer as sends
from support.scripted import drip, flood, read_request, send, silence

from authz.demo.idp import ABSENT
from authz.demo.keys import Key
from authz.demo.script import Answer
from authz.errors import Unauthenticated
from authz.oauth import jwks, jwt
from authz.oauth.key_source import RETRY_SECONDS
from authz.oauth.looks import LOOKS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from support.running import MakeAuthz, RunningAuthz
    from support.scripted import Serve


HOUR = 3_600.0
DAY = 24 * HOUR
REDISCOVERY_SECONDS = 30.0
NEVER_ANSWERS = Answer(None, times=None, hold=threading.Event())


def without(jwk: dict[str, Any], *names: str, **members: Any) -> dict[str, Any]:
    return {k: v for k, v in jwk.items() if k not in names} | members


async def asked_again(authz: RunningAuthz, idp: RunningIdp, clock: Clock) -> None:
    """Let the keys age, so that the next token makes authz ask for them again."""
    clock.advance(HOUR)
    assert (await authz.bearer(idp.issue())).allowed
    await landed(authz)


@pytest.fixture
def warm(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> Callable[..., asyncio.Task[RunningAuthz]]:
    """A maker of running configurations that have the keys; tokens live for two days."""
    idp.now, idp.token_lifetime_s = clock.now, int(2 * DAY)

    async def build(**parameters: Any) -> RunningAuthz:
        authz = make_authz(clock=clock, **parameters)
        assert (await authz.bearer(idp.issue())).allowed
        assert idp.counters["certs"] == 1
        return authz

    return lambda **parameters: asyncio.ensure_future(build(**parameters))


# --- Rotation ------------------------------------------------------------------------


async def test_JK_01_a_new_key_costs_one_refresh_and_the_old_one_stays(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    old = idp.issue()
    clock.advance(REDISCOVERY_SECONDS)
    idp.rotate()

    assert (await authz.bearer(idp.issue())).allowed
    assert (await authz.bearer(old)).allowed
    assert idp.counters["certs"] == 2


async def test_JK_02_a_key_that_is_gone_verifies_nothing_any_more(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    old = idp.issue()
    assert (await authz.bearer(old)).allowed  # and is remembered
    clock.advance(REDISCOVERY_SECONDS)
    idp.rotate(retire=True)

    assert (await authz.bearer(idp.issue())).allowed
    assert verdict(await authz.bearer(old)) == "401 token_key_unknown"


async def test_JK_02_keys_are_asked_for_again_when_they_have_aged(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    old = idp.issue()
    idp.rotate(retire=True)
    clock.advance(HOUR)

    # The last good set serves the request that finds it aged; the refresh is behind it.
    assert (await authz.bearer(old)).allowed
    await landed(authz)
    assert idp.counters["certs"] == 2
    assert verdict(await authz.bearer(old)) == "401 token_key_unknown"


async def test_JK_02_an_exchanged_token_of_a_lost_key_is_exchanged_anew(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    assert (await authz.basic()).allowed
    idp.rotate(retire=True)
    clock.advance(HOUR)
    assert (await authz.bearer(idp.issue())).allowed

    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 2


async def strangers_take_all_looks(
    authz: RunningAuthz, idp: RunningIdp, left: int = LOOKS_MAX
) -> None:
    """Bring tokens with unknown key ids until nobody is asked about them any more."""
    asked = idp.counters["certs"]
    for number in range(20):
        unknown = idp.issue(header={"kid": f"unknown-{number}"})
        assert verdict(await authz.bearer(unknown)) == "401 token_key_unknown"
    assert idp.counters["certs"] == asked + left


async def test_H7_a_key_that_is_new_within_the_pause_is_asked_for_at_once(
    idp: RunningIdp, warm: Any
) -> None:
    authz = await warm()
    for _ in range(LOOKS_MAX):
        idp.rotate()
        assert (await authz.bearer(idp.issue())).allowed
    assert idp.counters["certs"] == 1 + LOOKS_MAX


async def test_H7_the_bucket_of_looks_fills_again_one_every_45_s(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm(rediscovery_lifetime=3_000)
    await strangers_take_all_looks(authz, idp)
    idp.rotate()
    clock.advance(44)
    assert verdict(await authz.bearer(idp.issue())) == "401 token_key_unknown"
    clock.advance(1)
    assert (await authz.bearer(idp.issue())).allowed
    idp.rotate()
    assert verdict(await authz.bearer(idp.issue())) == "401 token_key_unknown"


async def test_A8_a_new_token_of_our_own_exchange_asks_for_its_key_at_once(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    await strangers_take_all_looks(authz, idp)
    idp.rotate()
    asked = idp.counters["certs"]

    assert (await authz.basic()).allowed
    assert idp.counters["certs"] == asked + 1
    # Every 5 s at most, if the key does not appear in the set.
    idp.certs_answers.append(says({"keys": [idp.keys[0].jwk]}, times=None))
    idp.rotate()
    for pause_s, looks in ((0, 0), (4, 0), (1, 1), (4, 0), (1, 1)):
        clock.advance(pause_s)
        asked = idp.counters["certs"]
        answer = await authz.basic(OTHER_ID, OTHER_SECRET)
        assert verdict(answer) == "503 exchanged_token_invalid"
        assert idp.counters["certs"] == asked + looks


async def test_A8_looks_of_our_own_exchanges_leave_those_of_callers(
    idp: RunningIdp, warm: Any
) -> None:
    authz = await warm()
    idp.rotate()
    assert (await authz.basic()).allowed

    await strangers_take_all_looks(authz, idp)


async def test_A9_keys_can_be_asked_for_anew_while_the_old_ones_serve(
    idp: RunningIdp, warm: Any
) -> None:
    authz = await warm()
    old, fresh = idp.issue(), idp.issue()
    assert (await authz.bearer(old)).allowed
    idp.rotate(retire=True)
    idp.certs_answers.append(says(b"", 500))
    [provider] = authz.configuration.providers

    provider.renew_keys()
    assert (await authz.bearer(fresh)).allowed
    await landed(authz)
    # Nothing has come yet: they still serve.
    assert (await authz.bearer(fresh)).allowed
    provider.renew_keys()
    await landed(authz)
    assert verdict(await authz.bearer(old)) == "401 token_key_unknown"
    assert verdict(await authz.bearer(fresh)) == "401 token_key_unknown"
    assert (await authz.bearer(idp.issue())).allowed


async def test_A9_a_call_that_began_before_is_not_enough(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    old = idp.issue()
    clock.advance(HOUR)
    assert (await authz.bearer(old)).allowed  # and begins a call
    [provider] = authz.configuration.providers
    provider.renew_keys()
    await landed(authz)
    await landed(authz)

    assert idp.counters["certs"] == 3


@pytest.mark.parametrize(
    ("parameters", "pause_s"),
    [
        pytest.param({}, 30, id="30 s by default"),
        pytest.param({"rediscovery_lifetime": 2}, 2, id="as configured"),
        pytest.param({"rediscovery_lifetime": 0}, 1, id="0: every second"),
    ],
)
async def test_JK_03_without_looks_left_an_unknown_key_is_asked_for_per_rediscovery_lifetime(
    idp: RunningIdp, warm: Any, clock: Clock, parameters: dict[str, Any], pause_s: float
) -> None:
    authz = await warm(**parameters)
    await strangers_take_all_looks(authz, idp)
    idp.rotate()
    asked = idp.counters["certs"]
    clock.advance(pause_s - 0.5)
    assert verdict(await authz.bearer(idp.issue())) == "401 token_key_unknown"
    assert idp.counters["certs"] == asked
    clock.advance(0.5)

    assert (await authz.bearer(idp.issue())).allowed
    assert idp.counters["certs"] == asked + 1


async def test_H5_keys_that_are_due_serve_on_from_memory_while_they_are_asked_for(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    token = idp.issue()
    assert (await authz.bearer(token)).allowed
    wire = check_request({"authorization": f"Bearer {token}"})
    idp.certs_answers.append(NEVER_ANSWERS)
    clock.advance(HOUR)
    await idp.reached("certs", 2)  # the timer asks: no request has

    assert authz.authorizer.cached(wire) is not None
    assert (await authz.bearer(idp.issue())).allowed
    clock.advance(23 * HOUR - 1)
    assert authz.authorizer.cached(wire) is not None
    clock.advance(1)
    assert authz.authorizer.cached(wire) is None


async def test_H5_the_timer_asks_for_keys_while_all_answers_come_from_memory(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    for calls in range(2, 5):
        clock.advance(HOUR)
        await landed(authz)
        assert idp.counters["certs"] == calls


async def test_C3_a_failure_of_the_keys_is_said_once_per_cause(
    idp: RunningIdp, warm: Any, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    authz = await warm()
    clock.advance(HOUR)
    for status in (500, 500, 500, 404, 404, 404):
        idp.certs_answers.append(says(b"", status))
        clock.advance(RETRY_SECONDS)
        await landed(authz)

    said = [r for r in caplog.records if r.levelname == "WARNING"]
    assert ["500" in logged([r]) for r in said] == [True, False]
    assert ["404" in logged([r]) for r in said] == [False, True]


async def test_JK_03_after_a_failed_call_the_next_one_waits_5_s(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    clock.advance(REDISCOVERY_SECONDS)
    idp.rotate()
    idp.certs_answers.append(says(b"", 500))
    assert verdict(await authz.bearer(idp.issue())) == "401 token_key_unknown"

    clock.advance(4.5)
    assert verdict(await authz.bearer(idp.issue())) == "401 token_key_unknown"
    assert idp.counters["certs"] == 2
    clock.advance(0.5)
    assert (await authz.bearer(idp.issue())).allowed
    assert idp.counters["certs"] == 3


async def test_JK_04_a_flood_of_unknown_keys_asks_once(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    clock.advance(REDISCOVERY_SECONDS)
    tokens = [idp.issue(header={"kid": f"kid-{number}"}) for number in range(300)]
    answers = await asyncio.gather(*map(authz.bearer, tokens))

    assert {verdict(answer) for answer in answers} == {"401 token_key_unknown"}
    assert (idp.counters["discovery"], idp.counters["certs"]) == (2, 2)
    await strangers_take_all_looks(authz, idp, left=LOOKS_MAX - 1)
    assert (await authz.bearer(idp.issue())).allowed


# --- Answers that are no key set -------------------------------------------------------


def bad_sets(good: dict[str, Any]) -> dict[str, Answer]:
    """Answers of the keys' endpoint from which nothing may be taken."""
    return {
        "500": says({"keys": [good]}, 500),
        "404": says({"keys": [good]}, 404),
        "201": says({"keys": [good]}, 201),
        "HTML": says(b"<html>"),
        "empty": says(b""),
        "array": says([]),
        "no keys": says({}),
        "keys null": says({"keys": None}),
        "keys an object": says({"keys": {}}),
        "keys a string": says({"keys": "x"}),
        "keys empty": says({"keys": []}),
        "keys unusable": says({"keys": [7, {"kty": "oct", "k": "c2VjcmV0"}]}),
        "keys twice": says(b'{"keys":[],"keys":[]}'),
        "truncated": says(b'{"keys":['),
        "not UTF-8": says(b'{"keys":["\xe9"]}'),
        "BOM": says(b'\xef\xbb\xbf{"keys":[]}'),
        "deep": says(b'{"keys":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        "300 kB": says({"keys": [good], "padding": "x" * 300_000}),
        "101 keys": says({"keys": [good | {"kid": f"k{n}"} for n in range(101)]}),
        "compressed": says(gzip.compress(b" " * 1_000_000), 200, ("content-encoding", "gzip")),
    }


BAD_SETS = tuple(bad_sets({}))


@pytest.mark.parametrize("name", BAD_SETS)
async def test_JK_06_the_last_good_set_stays(
    idp: RunningIdp, warm: Any, clock: Clock, name: str
) -> None:
    authz = await warm()
    idp.certs_answers.append(replace(bad_sets(idp.keys[0].jwk)[name], times=None))
    await asked_again(authz, idp, clock)

    assert (await authz.bearer(idp.issue())).allowed
    assert idp.counters["certs"] == 2  # and not a third time within 5 s


@pytest.mark.parametrize("name", BAD_SETS)
async def test_JK_06_without_any_set_nobody_is_judged(
    idp: RunningIdp, make_authz: MakeAuthz, name: str
) -> None:
    idp.certs_answers.append(replace(bad_sets(idp.keys[0].jwk)[name], times=None))
    authz = make_authz()
    answer = await authz.bearer(idp.issue())

    assert verdict(answer) == "503 keys_unavailable"
    assert answer.header("retry-after") == "1"
    assert not authz.configuration.ready


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_JK_05_a_redirect_of_the_key_set_is_not_followed(
    idp: RunningIdp, warm: Any, clock: Clock, scripted: Serve, status: int
) -> None:
    elsewhere = scripted([read_request, sends(b"{}")])
    authz = await warm()
    redirect = says(b"", status, ("location", f"{elsewhere.url}/certs"), times=None)
    idp.certs_answers.append(redirect)
    await asked_again(authz, idp, clock)

    assert (await authz.bearer(idp.issue())).allowed
    assert elsewhere.connections == []


async def test_JK_07_bad_members_are_skipped_and_counted(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    good = idp.keys[0].jwk
    members: list[Any] = [
        7,
        None,
        [],
        {},
        {"kty": "RSA"},
        {"kty": "xyz"},
        {"kty": ["RSA"]},
        without(good, n="!", kid="a"),
        without(good, e=7, kid="b"),
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA"},
        good,
    ]
    idp.certs_answers.append(says({"keys": members}))
    authz = make_authz()

    assert (await authz.bearer(idp.issue())).allowed
    told = authz.metrics()
    assert f'authz_jwks_keys{{issuer="{idp.issuer}",use="usable"}} 1.0' in told
    assert f'authz_jwks_keys{{issuer="{idp.issuer}",use="skipped"}} 11.0' in told


@pytest.mark.parametrize(
    "script",
    [
        pytest.param(
            [
                send(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"),
                flood(b"8000\r\n" + b" " * 0x8000 + b"\r\n"),
            ],
            id="endless chunks",
        ),
        pytest.param(
            [send(b"HTTP/1.1 200 OK\r\ncontent-length: 30000000\r\n\r\n"), flood(b" " * 65_536)],
            id="30 MB",
        ),
        pytest.param(
            [send(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{}")], id="wrong length"
        ),
    ],
)
async def test_JK_08_a_set_is_read_up_to_a_cap(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve, script: list[Any]
) -> None:
    server = scripted([read_request, *script])
    answer = await make_authz(jwks_endpoint=f"{server.url}/certs").bearer(idp.issue())

    assert verdict(answer) == "503 keys_unavailable"
    assert len(server.connections) == 1


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([silence], id="silence"),
        pytest.param(
            [send(b"HTTP/1.1 200 OK\r\ncontent-length: 999\r\n\r\n"), drip(b" " * 999, 0.01)],
            id="drip",
        ),
    ],
)
async def test_JK_09_a_slow_key_set_meets_the_deadline_and_holds_up_nobody(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve, script: list[Any]
) -> None:
    server = scripted([read_request, *script])
    slow = {"jwks_endpoint": f"{server.url}/certs", "timeout": 2_000}
    authz = make_authz(routes(fast=(idp, {}), slow=(idp, slow)))
    assert (await authz.basic(**on("fast"))).allowed
    waiting = asyncio.create_task(authz.bearer(idp.issue(), **on("slow")))
    await idp.reached("discovery", 2)

    assert (await authz.basic(seconds=1, **on("fast"))).allowed
    assert not waiting.done()
    assert verdict(await waiting) == "503 keys_unavailable"


# --- Members that are no keys for signatures ---------------------------------------------

TWO = key("RS256", 2)
EC = key("ES256")


THREE = key("RS256", 3)


@pytest.mark.parametrize(
    "members",
    [
        pytest.param([THREE.jwk | {"kid": TWO.kid}, TWO.jwk], id="JK-10 two RSA"),
        pytest.param([EC.jwk | {"kid": TWO.kid}, TWO.jwk], id="JK-10 RSA and EC"),
        pytest.param([TWO.jwk | {"alg": "RS512"}, TWO.jwk], id="one key, two algorithms"),
        pytest.param([TWO.jwk, TWO.jwk], id="the same twice"),
        pytest.param([TWO.jwk | {"kid": "a"}, TWO.jwk], id="one key, two ids"),
    ],
)
async def test_A3_JK_10_each_key_of_an_id_is_tried(
    idp: RunningIdp, make_authz: MakeAuthz, members: list[dict[str, Any]]
) -> None:
    idp.certs_answers.append(says({"keys": [*members, idp.keys[0].jwk]}, times=None))
    authz = make_authz()

    assert (await authz.bearer(idp.issue(key=TWO))).allowed
    assert (await authz.bearer(idp.issue())).allowed
    forged = idp.issue(key=key("RS256", 4), header={"kid": TWO.kid})
    assert verdict(await authz.bearer(forged)) == "401 token_signature_invalid"


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
async def test_A3_equal_entries_are_one_key_with_all_their_algorithms(
    idp: RunningIdp, make_authz: MakeAuthz, algorithm: str
) -> None:
    pss, rs = replace(TWO, algorithm="PS256"), TWO
    idp.certs_answers.append(says({"keys": [pss.jwk, rs.jwk]}, times=None))
    authz = make_authz()

    assert (await authz.bearer(idp.issue(key=replace(TWO, algorithm=algorithm)))).allowed
    other = idp.issue(key=replace(TWO, algorithm="RS512"))
    assert verdict(await authz.bearer(other)) == "401 token_key_unknown"
    assert authz.configuration.ready


async def test_A3_a_key_under_two_ids_is_one_key_for_a_token_without(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    members = [TWO.jwk | {"kid": name} for name in "abcdef"]
    idp.certs_answers.append(says({"keys": [*members, idp.keys[0].jwk]}, times=None))

    assert (await make_authz().bearer(idp.issue(header={"kid": ABSENT}))).allowed


async def test_A3_in_a_set_without_ids_every_key_is_tried_for_every_id(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    members = [without(TWO.jwk, "kid"), without(idp.keys[0].jwk, "kid")]
    idp.certs_answers.append(says({"keys": members}, times=None))

    assert (await make_authz().bearer(idp.issue(header={"kid": "any"}))).allowed


@pytest.mark.parametrize(
    ("before", "tried"),
    [
        pytest.param([key("RS256", n) for n in range(1, 4)], True, id="fourth"),
        pytest.param([key("RS256", n) for n in range(1, 5)], False, id="fifth"),
    ],
)
def test_A3_at_most_four_keys_are_tried_and_the_refusal_says_how_many_fit(
    before: list[Key], tried: bool
) -> None:
    mine = key("RS256", 9)
    members = [one.jwk | {"kid": "same"} for one in (*before, mine)]
    found = jwks.parse({"keys": members})
    token = jwt.parse(mine.sign({"alg": "RS256", "kid": "same"}, {"exp": 1}))
    fitting = found.fitting(token.kid, token.algorithm)

    assert len(fitting) == len(before) + 1
    if tried:
        assert token.verify(fitting) == found.keys[-1]
    else:
        with pytest.raises(Unauthenticated, match="5 keys fit, of which the first 4 were tried"):
            token.verify(fitting)


@pytest.mark.parametrize("algorithm", ["ES384", "ES512"])
def test_A3_of_dear_keys_two_are_tried(algorithm: str) -> None:
    found = jwks.parse({"keys": [key(algorithm, number).jwk for number in range(3)]})

    assert jwks.to_try(found.fitting(None, algorithm)) == found.keys[:2]


def test_A3_an_rsa_key_above_4096_bits_is_dear() -> None:
    moduli = {bits: (2**bits - 1).to_bytes(bits // 8, "big") for bits in (4_096, 4_104)}
    members = [
        {"kty": "RSA", "e": "AQAB", "n": base64.urlsafe_b64encode(modulus).decode().rstrip("=")}
        for modulus in moduli.values()
    ]

    assert [one.cost for one in jwks.parse({"keys": members}).keys] == [1, 2]


def test_A4_members_of_a_key_that_are_null_or_empty_are_absent() -> None:
    names = ("use", "key_ops", "alg", "d", "p", "q", "dp", "dq", "qi", "oth", "k", "x5c", "crv")
    null = key().jwk | dict.fromkeys(names)
    empty = TWO.jwk | {"use": "", "alg": "", "d": "", "crv": ""}
    found = jwks.parse({"keys": [null, empty, key("RS256", 3).jwk | {"kid": ""}]})

    assert found.kids == (key().kid, TWO.kid)
    assert len(found.keys) == 3
    assert found.skipped == 0


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(TWO.jwk | {"use": "enc"}, id="use enc"),
        pytest.param(TWO.jwk | {"use": 7}, id="use a number"),
        pytest.param(TWO.jwk | {"key_ops": ["encrypt"]}, id="key_ops encrypt"),
        pytest.param(TWO.jwk | {"key_ops": "verify"}, id="key_ops a string"),
        pytest.param(TWO.jwk | {"alg": "RSA-OAEP"}, id="alg RSA-OAEP"),
    ],
)
async def test_JK_11_a_key_for_something_else_verifies_nothing(
    idp: RunningIdp, make_authz: MakeAuthz, member: dict[str, Any]
) -> None:
    idp.certs_answers.append(says({"keys": [member, idp.keys[0].jwk]}, times=None))

    assert verdict(await make_authz().bearer(idp.issue(key=TWO))) == "401 token_key_unknown"


@pytest.mark.parametrize(
    "member",
    [
        pytest.param(TWO.jwk | {"d": "AQAB"}, id="d"),
        pytest.param(TWO.jwk | {"p": "AQAB", "q": "AQAB"}, id="p and q"),
        pytest.param(TWO.jwk | {"alg": "none"}, id="alg none"),
        pytest.param(TWO.jwk | {"alg": "HS256"}, id="alg HS256"),
        pytest.param(TWO.jwk | {"alg": ["RS256"]}, id="alg a list"),
    ],
)
async def test_JK_12_a_leaked_or_mislabelled_key_verifies_nothing(
    idp: RunningIdp, make_authz: MakeAuthz, member: dict[str, Any]
) -> None:
    idp.certs_answers.append(says({"keys": [member, idp.keys[0].jwk]}, times=None))
    authz = make_authz()

    assert verdict(await authz.bearer(idp.issue(key=TWO))) == "401 token_key_unknown"
    assert (await authz.bearer(idp.issue())).allowed
    assert 'use="skipped"} 1.0' in authz.metrics()


async def test_JK_13_a_key_without_alg_fits_every_algorithm_of_its_type(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    pss = Key("pss", "PS256", key().private)
    idp.certs_answers.append(says({"keys": [without(pss.jwk, "alg")]}, times=None))

    assert (await make_authz().bearer(idp.issue(key=pss))).allowed


async def test_JK_13_a_key_with_alg_fits_that_one_alone(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    pss = Key(idp.keys[0].kid, "PS256", idp.keys[0].private)

    assert verdict(await make_authz().bearer(idp.issue(key=pss))) == "401 token_key_unknown"


@pytest.mark.parametrize("kid", [7, None, ["a"], "x" * 300], ids=["int", "null", "list", "long"])
async def test_JK_14_a_key_without_a_usable_id_is_not_found_by_id(
    idp: RunningIdp, make_authz: MakeAuthz, kid: object
) -> None:
    member = without(TWO.jwk, kid=kid)
    idp.certs_answers.append(says({"keys": [member, idp.keys[0].jwk]}, times=None))

    assert verdict(await make_authz().bearer(idp.issue(key=TWO))) == "401 token_key_unknown"


# --- How long a set is fresh, and whose it is ----------------------------------------------


@pytest.mark.parametrize(
    ("cache_control", "fresh_s"),
    [
        pytest.param("max-age=600", 600, id="as said"),
        pytest.param("public, Max-Age = 600, must-revalidate", 600, id="among others"),
        pytest.param("max-age=0", 30, id="0: not under 30 s"),
        pytest.param("max-age=315360000", HOUR, id="10 years: not over 1 h"),
        pytest.param("no-store", 900, id="no-store: cache_ttl"),
        pytest.param("max-age=garbage", 900, id="garbage: cache_ttl"),
        pytest.param("s-maxage=60", 900, id="s-maxage: cache_ttl"),
    ],
)
async def test_JK_17_keys_age_by_cache_control_within_bounds(
    idp: RunningIdp, warm: Any, clock: Clock, cache_control: str, fresh_s: float
) -> None:
    key_set = {"keys": [one.jwk for one in idp.keys]}
    idp.certs_answers.append(says(key_set, 200, ("cache-control", cache_control), times=None))
    authz = await warm(cache_ttl=900)

    clock.advance(fresh_s - 1)
    assert (await authz.bearer(idp.issue())).allowed
    await landed(authz)
    assert idp.counters["certs"] == 1
    clock.advance(1)
    assert (await authz.bearer(idp.issue())).allowed
    await landed(authz)
    assert idp.counters["certs"] == 2


async def test_JK_18_a_key_set_belongs_to_one_issuer(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with RunningIdp(keys=[Key(idp.keys[0].kid, "RS256", TWO.private)]) as other:
        authz = make_authz(routes(a=(idp, {}), b=(other, {})))

        assert (await authz.bearer(idp.issue(), **on("a"))).allowed
        assert (await authz.bearer(other.issue(), **on("b"))).allowed
        forged = idp.issue(key=other.keys[0])
        assert verdict(await authz.bearer(forged, **on("a"))) == "401 token_signature_invalid"
        assert verdict(await authz.bearer(forged, **on("b"))) == "401 token_issuer_refused"


async def test_JK_18_what_one_plugin_trusts_says_nothing_to_another(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with RunningIdp(keys=[TWO]) as partner:
        trusting = {"extra_jwks_uris": (partner.jwks_uri,)}
        authz = make_authz(routes(trusting=(idp, trusting), strict=(idp, {})))
        token = idp.issue(key=TWO)

        assert (await authz.bearer(token, **on("trusting"))).allowed
        assert verdict(await authz.bearer(token, **on("strict"))) == "401 token_key_unknown"


async def test_JK_18_a_reload_that_ends_a_trust_ends_its_verdicts(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with RunningIdp(keys=[TWO]) as partner:
        authz = make_authz(routes(a=(idp, {"extra_jwks_uris": (partner.jwks_uri,)})))
        token = idp.issue(key=TWO)
        assert (await authz.bearer(token, **on("a"))).allowed

        authz.reload(routes(a=(idp, {})))
        assert verdict(await authz.bearer(token, **on("a"))) == "401 token_key_unknown"


async def test_JK_19_a_thousand_cold_tokens_cost_one_fetch(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    token = idp.issue()
    answers = await asyncio.gather(*(authz.bearer(token) for _ in range(1000)))

    assert all(answer.allowed for answer in answers)
    assert dict(idp.counters) == {"token": 0, "discovery": 1, "certs": 1}


async def test_JK_02_a_ready_answer_makes_the_keys_be_asked_for_too(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    old = idp.issue()
    assert (await authz.bearer(old)).allowed  # and is ready for the fast path
    idp.rotate(retire=True)
    clock.advance(HOUR)
    assert (await authz.bearer(old)).allowed
    await landed(authz)

    assert verdict(await authz.bearer(old)) == "401 token_key_unknown"


async def test_RL_05_a_ready_answer_counts_no_longer_than_its_key(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    token = idp.issue()
    assert (await authz.bearer(token)).allowed
    idp.certs_answers.append(says(b"", 500, times=None))
    clock.advance(DAY)
    assert (await authz.bearer(token)).allowed
    await landed(authz)
    clock.advance(1)

    assert verdict(await authz.bearer(token)) == "503 keys_unavailable"
