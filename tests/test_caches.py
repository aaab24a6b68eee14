"""What is remembered, for how long, for whom; and what happens while the provider is out."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.idp import RunningIdp, key
from support.running import KONG_CONSUMER, KONG_ID, KONG_SECRET, POSITION, check_request, gateway
from support.scenes import OTHER_ID, OTHER_SECRET, claims, landed, on, routes, says, verdict

from authz.credentials import basic
from authz.demo.script import Answer
from authz.model import Consumer, Secret
from authz.tokens.guesses import GUESSES_MAX
from authz.tokens.keeper import REFUSED_SECONDS_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from support.running import MakeAuthz, RunningAuthz


HOUR = 3_600
# A token of 300 s is renewed for the first time between these, and then in the last 15 s of it.
RENEWED_SECONDS = (150, 283)
OTHER_CONSUMER = Consumer("6f7fca37-1a8c-5b7e-9d5c-5a3f0b6f9b10", OTHER_ID, None, POSITION)
REFUSED = "401 secret_rejected"


@pytest.fixture
def warm(idp: RunningIdp, make_authz: MakeAuthz, clock: Clock) -> Callable[..., Any]:
    """A maker of running configurations whose client has a token, on the clock of the test."""
    idp.now = clock.now

    async def build(**parameters: Any) -> RunningAuthz:
        authz = make_authz(clock=clock, **parameters)
        assert (await authz.basic()).allowed
        assert idp.counters["token"] == 1
        return authz

    return build


# --- Whose entry it is -----------------------------------------------------------------


async def test_CA_01_ids_and_secrets_that_join_to_one_text_are_two_callers(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.clients = {"a": "b:c", "ab": ":c", KONG_ID: KONG_SECRET}
    authz = make_authz(
        consumers=[Consumer("1", "a", None, POSITION), Consumer("2", "ab", None, POSITION)]
    )

    one, other = await authz.basic("a", "b:c"), await authz.basic("ab", ":c")
    assert (one.header("x-consumer-username"), other.header("x-consumer-username")) == ("a", "ab")
    assert (claims(one)["client_id"], claims(other)["client_id"]) == ("a", "ab")
    assert idp.counters["token"] == 2


async def test_CA_02_a_wrong_secret_never_finds_the_right_ones_token(
    idp: RunningIdp, warm: Any
) -> None:
    authz = await warm()

    assert verdict(await authz.basic(KONG_ID, "wrong")) == REFUSED
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 2


async def test_CA_03_a_refused_secret_is_no_hindrance_to_the_right_one(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()

    assert verdict(await authz.basic(KONG_ID, "wrong")) == REFUSED
    assert (await authz.basic()).allowed


async def test_CA_04_a_rotated_secret_ends_with_the_tokens_renewal(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    idp.clients[KONG_ID] = "the-new-secret"

    assert (await authz.basic(KONG_ID, "the-new-secret")).allowed
    clock.advance(RENEWED_SECONDS[0] - 1)
    assert (await authz.basic()).allowed
    clock.advance(RENEWED_SECONDS[1] - RENEWED_SECONDS[0] + 1)
    await authz.basic()  # it is renewed in the background
    await landed(authz)
    assert verdict(await authz.basic()) == REFUSED
    assert (await authz.basic(KONG_ID, "the-new-secret")).allowed


@pytest.mark.parametrize(
    ("parameters", "renewed_s"),
    [
        pytest.param({}, RENEWED_SECONDS, id="until the renewal"),
        pytest.param({"cache_ttl_max": 100}, (50, 85.5), id="cache_ttl_max is nearer"),
    ],
)
async def test_CA_05_a_client_that_is_removed_passes_no_longer_than_its_token_is_kept(
    idp: RunningIdp,
    warm: Any,
    clock: Clock,
    parameters: dict[str, Any],
    renewed_s: tuple[float, float],
) -> None:
    authz = await warm(**parameters)
    del idp.clients[KONG_ID]

    clock.advance(renewed_s[0] - 1)
    assert (await authz.basic()).allowed
    clock.advance(renewed_s[1] - renewed_s[0] + 1)
    authz.shared.keeper.renew_due()  # as its timer does
    await landed(authz)
    assert verdict(await authz.basic()) == REFUSED


async def test_CA_05_a_new_salt_and_a_reload_forget_every_token_at_once(
    idp: RunningIdp, warm: Any
) -> None:
    authz = await warm()
    del idp.clients[KONG_ID]
    authz.reload(gateway(idp, cache_tokens_salt=Secret("another salt")))

    assert verdict(await authz.basic()) == REFUSED


@pytest.mark.parametrize("method", ["basic", "bearer"])
async def test_G_17_a_credential_takes_two_places_at_most_however_it_is_spelled(
    idp: RunningIdp, make_authz: MakeAuthz, method: str
) -> None:
    text = basic(KONG_ID, KONG_SECRET) if method == "basic" else f"Bearer {idp.issue()}"
    known = basic(OTHER_ID, OTHER_SECRET)
    idp.clients[OTHER_ID] = OTHER_SECRET
    authz = make_authz(consumers=[KONG_CONSUMER, OTHER_CONSUMER], settings={"cache_entries": 3})
    assert (await authz.ask({"authorization": known})).allowed

    scheme, _, rest = text.partition(" ")
    for cases in itertools.product(*zip(scheme.lower(), scheme.upper(), strict=True)):
        for spaces in (" ", "  "):
            spelled = {"authorization": "".join(cases) + spaces + rest}
            assert (await authz.ask(spelled)).header("x-consumer-username") == KONG_ID

    assert authz.authorizer.cached(check_request({"authorization": known})) is not None
    for common in (f"{scheme} ", f"{scheme.lower()} "):
        assert authz.authorizer.cached(check_request({"authorization": common + rest})) is not None


async def test_CA_06_one_pair_at_two_providers_is_two_entries(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with RunningIdp() as other:
        authz = make_authz(routes(a=(idp, {}), b=(other, {})))
        for _ in range(2):
            one, two = await authz.basic(**on("a")), await authz.basic(**on("b"))
            assert (claims(one)["iss"], claims(two)["iss"]) == (idp.issuer, other.issuer)
        assert (idp.counters["token"], other.counters["token"]) == (1, 1)

        other.clients[KONG_ID] = "another"
        authz = make_authz(routes(a=(idp, {}), b=(other, {})))
        assert (await authz.basic(**on("a"))).allowed
        assert verdict(await authz.basic(**on("b"))) == REFUSED


@pytest.mark.parametrize(
    "difference",
    [
        pytest.param({"scopes": ("openid", "email")}, id="scopes"),
        pytest.param({"audience": ("account",)}, id="audience"),
        pytest.param({"token_endpoint_auth_method": "client_secret_post"}, id="client auth"),
        pytest.param({"cache_ttl_max": 60}, id="cache_ttl_max"),
        pytest.param({"cache_tokens": False}, id="cache_tokens"),
        pytest.param({"leeway": 5}, id="leeway"),
    ],
)
async def test_CA_06_plugins_that_differ_in_what_a_token_depends_on_share_none(
    idp: RunningIdp, make_authz: MakeAuthz, difference: dict[str, Any]
) -> None:
    authz = make_authz(routes(a=(idp, {}), b=(idp, difference)))

    assert (await authz.basic(**on("a"))).allowed
    assert (await authz.basic(**on("b"))).allowed
    assert idp.counters["token"] == 2


async def test_CA_06_plugins_that_differ_in_nothing_of_it_share_one(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(routes(a=(idp, {}), b=(idp, {"display_errors": True})))

    assert (await authz.basic(**on("a"))).allowed
    assert (await authz.basic(**on("b"))).allowed
    assert idp.counters["token"] == 1


async def test_CA_18_flights_of_right_and_wrong_secrets_never_cross(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    asked = [authz.basic(), *(authz.basic(KONG_ID, "wrong") for _ in range(99))]
    right, *wrong = await asyncio.gather(*asked)

    assert right.allowed
    assert {verdict(answer) for answer in wrong} == {REFUSED}
    assert idp.counters["token"] == 2


async def test_CA_19_interleaved_callers_get_each_their_own_identity(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(consumers=(KONG_CONSUMER, OTHER_CONSUMER))
    pairs = [(KONG_ID, KONG_SECRET), (OTHER_ID, OTHER_SECRET)] * 100
    answers = await asyncio.gather(*(authz.basic(*pair) for pair in pairs))

    for (client_id, _), answer in zip(pairs, answers, strict=True):
        assert answer.header("x-consumer-username") == client_id
        assert claims(answer)["client_id"] == client_id


# --- How long --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("life_s", "earliest_s", "latest_s"),
    [
        pytest.param(300, *RENEWED_SECONDS, id="17 s before its end at the latest"),
        pytest.param(60, 30, 50.5, id="an eighth of its life, and 2 s, before its end"),
        pytest.param(10 * HOUR, 5 * HOUR, 10 * HOUR - 17, id="never more than 17 s"),
    ],
)
async def test_CA_07_a_token_is_renewed_before_its_end(
    idp: RunningIdp,
    make_authz: MakeAuthz,
    clock: Clock,
    *,
    life_s: int,
    earliest_s: float,
    latest_s: float,
) -> None:
    idp.now, idp.token_lifetime_s = clock.now, life_s
    authz = make_authz(clock=clock)
    first = await authz.basic()

    clock.advance(earliest_s - 1)
    assert (await authz.basic()).wire == first.wire
    assert idp.counters["token"] == 1
    clock.advance(latest_s - earliest_s + 1)
    assert claims(await authz.basic()) == claims(first)  # nobody waits for it
    await landed(authz)
    assert claims(await authz.basic())["iat"] == int(clock.now())
    assert idp.counters["token"] == 2


async def test_CA_08_a_bearer_verdict_ends_with_its_token(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock, leeway=10)
    token = idp.issue()
    assert (await authz.bearer(token)).allowed

    clock.advance(309)
    assert (await authz.bearer(token)).allowed
    clock.advance(1)
    assert verdict(await authz.bearer(token)) == "401 token_expired"


async def test_CA_08_another_token_finds_no_verdict_of_this_one(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    token = idp.issue()
    assert (await authz.bearer(token)).allowed
    head, _, signature = token.rpartition(".")
    twin = ("B" if signature[0] == "A" else "A") + signature[1:]

    assert verdict(await authz.bearer(f"{head}.{twin}")) == "401 token_signature_invalid"


async def test_CA_09_a_flood_of_wrong_secrets_pushes_out_no_token(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(settings={"cache_entries": 4})
    await authz.basic()
    for number in range(20):
        assert verdict(await authz.basic(KONG_ID, f"wrong-{number}")) == REFUSED

    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 21


@pytest.mark.parametrize("jump_s", [HOUR, -HOUR], ids=["forward", "back"])
async def test_CA_16_a_jump_of_the_wall_clock_makes_no_token_immortal(
    idp: RunningIdp, warm: Any, clock: Clock, jump_s: int
) -> None:
    authz = await warm()
    clock.set_wall(clock.now() + jump_s)

    assert (await authz.basic()).allowed
    before = idp.counters["token"]
    clock.advance(300)  # by the clock that never jumps
    assert claims(await authz.basic())["iat"] == int(clock.now())
    assert idp.counters["token"] == before + 1


async def test_CA_17_after_a_failed_exchange_the_next_caller_tries_again(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.token_answers.append(says(b"", 500))
    authz = make_authz()

    assert verdict(await authz.basic()) == "503 idp_unavailable"
    assert authz.shared.keeper.calls_under_way() == 0
    assert (await authz.basic()).allowed


@pytest.mark.parametrize(
    ("parameters", "end_s"),
    [
        pytest.param({"cache_ttl_max": 50}, 50, id="cache_ttl_max shortens"),
        pytest.param({"cache_ttl_max": 5000}, 300, id="cache_ttl_max lengthens nothing"),
        pytest.param({"cache_ttl": 10}, 300, id="cache_ttl is for what has no end"),
        pytest.param({"cache_ttl_min": 5000}, 300, id="cache_ttl_min never lifts past exp"),
    ],
)
async def test_kongs_cache_ttl_parameters_bound_a_tokens_life(
    idp: RunningIdp, warm: Any, clock: Clock, parameters: dict[str, Any], end_s: int
) -> None:
    authz = await warm(**parameters)
    idp.token_answers.append(says(b"", 500, times=None))

    clock.advance(end_s - 0.1)
    assert (await authz.basic()).allowed
    clock.advance(0.1)
    assert verdict(await authz.basic()) == "503 idp_unavailable"


async def test_cache_ttl_min_lifts_a_short_expires_in(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    idp.members["expires_in"] = 10
    authz = await warm(cache_ttl_min=100)

    clock.advance(49)  # half of it
    await authz.basic()
    assert idp.counters["token"] == 1


async def test_with_cache_tokens_false_every_request_is_a_new_exchange(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(cache_tokens=False)
    for count in (1, 2, 3):
        assert (await authz.basic()).allowed
        assert idp.counters["token"] == count


async def test_with_cache_tokens_false_equal_requests_at_one_time_still_share_one(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(cache_tokens=False)
    answers = await asyncio.gather(*(authz.basic() for _ in range(50)))

    assert all(answer.allowed for answer in answers)
    assert idp.counters["token"] == 1


# --- While the provider is out -----------------------------------------------------------


async def test_RL_01_while_the_provider_is_down_those_who_are_known_pass(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(consumers=(KONG_CONSUMER, OTHER_CONSUMER))
    assert (await authz.basic()).allowed
    assert (await authz.basic(OTHER_ID, OTHER_SECRET)).allowed
    idp.stop()

    assert (await authz.basic()).allowed
    assert (await authz.basic(OTHER_ID, OTHER_SECRET)).allowed
    assert (await authz.bearer(idp.issue())).allowed
    unknown = await authz.basic(KONG_ID, "never seen")
    assert verdict(unknown) == "503 idp_unavailable"
    assert unknown.header("retry-after") == "1"

    idp.start()
    assert verdict(await authz.basic(KONG_ID, "never seen")) == REFUSED


@pytest.mark.parametrize(
    ("status", "reason"),
    [(500, "idp_unavailable"), (503, "idp_unavailable"), (429, "idp_throttled")],
)
async def test_CA_07_during_an_outage_a_token_is_served_on_to_its_own_end(
    idp: RunningIdp, warm: Any, clock: Clock, status: int, reason: str
) -> None:
    authz = await warm()
    idp.token_answers.append(says(b"", status, times=None))

    clock.advance(290)
    for _ in range(10):
        assert (await authz.basic()).allowed
        await landed(authz)
    assert idp.counters["token"] == 2
    clock.advance(9.9)
    assert (await authz.basic()).allowed
    await landed(authz)
    clock.advance(0.1)
    assert verdict(await authz.basic()) == f"503 {reason}"


async def test_CA_07_during_an_outage_the_renewal_is_tried_again_after_a_pause(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    idp.token_answers.append(says(b"", 500))
    clock.advance(RENEWED_SECONDS[1])
    for advance_s, count in ((0, 2), (4.9, 2), (2.6, 3)):  # 5 to 7.5 s
        clock.advance(advance_s)
        assert (await authz.basic()).allowed
        await landed(authz)
        assert idp.counters["token"] == count

    # The last one has worked: its token serves from here on.
    assert claims(await authz.basic())["iat"] == int(clock.now())


@pytest.mark.parametrize(
    ("parameters", "members", "end_s"),
    [
        pytest.param({"cache_ttl_max": 100}, {}, 100, id="cache_ttl_max"),
        pytest.param({"cache_ttl_resurrect": 3}, {}, 286, id="cache_ttl_resurrect"),
        pytest.param({}, {"expires_in": 100}, 100, id="expires_in"),
    ],
)
async def test_CA_07_no_answer_is_served_on_past_the_end_of_what_was_kept(
    idp: RunningIdp,
    warm: Any,
    clock: Clock,
    *,
    parameters: dict[str, Any],
    members: dict[str, Any],
    end_s: float,
) -> None:
    idp.members.update(members)
    authz = await warm(**parameters)
    idp.token_answers.append(says(b"", 500, times=None))

    clock.advance(end_s - 0.5)
    assert (await authz.basic()).allowed  # with a renewal that has just failed
    clock.advance(0.5)
    assert verdict(await authz.basic()) == "503 idp_unavailable"


# --- Trouble that is not the caller's: trials A1, A2, A5, A13 -------------------------------


def another_client(idp: RunningIdp) -> Answer:
    return says({"access_token": idp.issue(OTHER_ID), "token_type": "Bearer"})


def unknown_key(idp: RunningIdp) -> Answer:
    token = idp.issue(key=key("RS256", 7))
    return says({"access_token": token, "token_type": "Bearer"})


def from_the_future(idp: RunningIdp) -> Answer:
    ahead = int(idp.now()) + HOUR
    return says({"access_token": idp.issue(nbf=ahead), "token_type": "Bearer"})


TROUBLE = [
    pytest.param(lambda _: says(b"<html>", 200), id="a maintenance page"),
    pytest.param(lambda _: says(b"", 302, ("location", "/login")), id="a redirect"),
    pytest.param(lambda _: says(b"<html>", 403), id="403 in HTML"),
    pytest.param(lambda _: says(b"<html>", 404), id="404 in HTML"),
    pytest.param(lambda _: says(b"", 401), id="a bare 401"),
    pytest.param(lambda _: says({}), id="an empty object"),
    pytest.param(lambda _: says(b"", 408), id="408"),
    pytest.param(lambda _: says(b"", 500), id="500"),
    pytest.param(lambda _: says(b"", 429), id="429"),
    pytest.param(lambda _: says({"error": "temporarily_unavailable"}, 400), id="unavailable"),
    pytest.param(lambda _: says({"error": "invalid_scope"}, 400), id="invalid_scope"),
    pytest.param(lambda _: says({"error": "access_denied"}, 403), id="access_denied"),
    pytest.param(lambda _: says({"error": "unauthorized_client"}, 400), id="not allowed"),
    pytest.param(unknown_key, id="a kid not known yet"),
    pytest.param(from_the_future, id="nbf ahead"),
    pytest.param(another_client, id="another client's token"),
]


@pytest.mark.parametrize("scripted", TROUBLE)
async def test_A1_known_callers_are_not_hurt_by_trouble_that_is_not_theirs(
    idp: RunningIdp,
    warm: Any,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    scripted: Callable[[RunningIdp], Answer],
) -> None:
    authz = await warm()
    first = await authz.basic()
    idp.token_answers.append(replace(scripted(idp), times=None))
    clock.advance(290)
    for _ in range(10):
        assert claims(await authz.basic()) == claims(first)
        await landed(authz)

    assert idp.counters["token"] == 2  # and not one call per request
    assert 'authz_token_waits_total{kind="renewal"} 0.0' in authz.metrics()
    assert 'authz_token_renewals_total{outcome="failed"} 1.0' in authz.metrics()
    # A2: one warning a pause, with its cause.
    told: list[Any] = [
        record.fields  # type: ignore[attr-defined] # our lines have fields
        for record in caplog.records
        if "could not be renewed" in record.getMessage()
    ]
    assert [(fields["presented_client"], bool(fields["detail"])) for fields in told] == [
        (KONG_ID, True)
    ]


@pytest.mark.parametrize("code", ["invalid_client", "unauthorized_client"])
async def test_A1_the_verdict_on_the_caller_ends_its_token(
    idp: RunningIdp, warm: Any, clock: Clock, code: str
) -> None:
    authz = await warm()
    idp.token_answers.append(says({"error": code}, 401))
    clock.advance(290)
    await authz.basic()
    await landed(authz)

    assert verdict(await authz.basic()) == REFUSED
    assert 'authz_token_renewals_total{outcome="refused"} 1.0' in authz.metrics()


async def test_A5_a_client_that_is_not_allowed_is_remembered_and_is_no_guess(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    idp.token_answers.append(says({"error": "access_denied"}, 403, times=None))
    for _ in range(10):
        assert verdict(await authz.basic()) == "403 client_not_allowed"
    assert idp.counters["token"] == 1
    for number in range(2 * GUESSES_MAX):
        assert (await authz.basic(client_secret=f"secret {number}")).status == 403

    idp.token_answers.clear()
    clock.advance(REFUSED_SECONDS_MAX)
    assert (await authz.basic()).allowed


async def test_RL_02_a_silent_provider_costs_each_new_caller_one_deadline(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(timeout=1_500)
    assert (await authz.bearer(idp.issue())).allowed
    idp.token_answers.append(Answer(None, times=None, hold=threading.Event()))
    answers = await asyncio.gather(*(authz.basic() for _ in range(20)))

    assert {verdict(answer) for answer in answers} == {"503 idp_unavailable"}
    assert idp.counters["token"] == 1  # one call for all of them, so one deadline


async def test_RL_02_a_silent_provider_holds_up_no_other(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with RunningIdp() as other:
        authz = make_authz(
            routes(silent=(idp, {}), other=(other, {})), settings={"idp_concurrency": 1}
        )
        hold = threading.Event()
        idp.discovery_answers.append(Answer(None, hold=hold))
        waiting = asyncio.create_task(authz.basic(**on("silent")))
        await idp.reached("discovery")

        assert (await authz.basic(**on("other"))).allowed
        assert not waiting.done()
        hold.set()
        assert (await waiting).allowed


async def test_RL_03_a_renewal_that_takes_its_time_holds_up_nobody_who_has_a_token(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    clock.advance(290)
    old = await authz.basic()
    assert claims(old)["exp"] == clock.now() + 10
    assert (await authz.basic()).wire == old.wire

    hold.set()
    await landed(authz)
    assert claims(await authz.basic())["exp"] > clock.now() + 200
    assert idp.counters["token"] == 2
    assert 'authz_token_waits_total{kind="renewal"} 0.0' in authz.metrics()


async def test_H3_a_caller_whose_token_ends_waits_for_the_renewal_that_is_under_way(
    idp: RunningIdp, warm: Any, clock: Clock
) -> None:
    authz = await warm()
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    clock.advance(290)
    await authz.basic()  # begins the renewal
    clock.advance(10)
    late = asyncio.create_task(authz.basic())
    await idp.reached("token", 2)
    assert not late.done()
    hold.set()

    assert (await late).allowed
    assert idp.counters["token"] == 2


async def test_H2_forty_known_clients_through_their_renewals_wait_for_nothing(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    pairs = [(f"client-{n}", f"a-secret-of-{n}") for n in range(40)]
    idp.clients |= dict(pairs)
    authz = make_authz(clock=clock, consumer_optional=True)
    for pair in pairs:
        assert (await authz.basic(*pair)).allowed
    for _ in range(120):  # in 600 s each token is renewed twice
        clock.advance(5)
        authz.shared.keeper.renew_due()
        for pair in pairs:
            assert (await authz.basic(*pair)).allowed
        await landed(authz)

    assert idp.counters["token"] == 3 * len(pairs)
    assert 'authz_token_waits_total{kind="renewal"} 0.0' in authz.metrics()
    assert f'authz_token_waits_total{{kind="first"}} {len(pairs)}.0' in authz.metrics()


async def test_H1_of_many_that_are_cold_at_once_each_gets_an_answer_of_ours(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    pairs = [(f"client-{n}", f"a-secret-of-{n}") for n in range(600)]
    idp.clients |= dict(pairs)
    authz = make_authz(consumer_optional=True, timeout=60_000)
    answers = await asyncio.gather(*(authz.basic(*pair) for pair in pairs))

    assert set(map(verdict, answers)) <= {"200 allowed", "503 overloaded"}
    served = sum(answer.allowed for answer in answers)
    assert idp.counters["token"] == served
    # A second round loses nobody who was served in the first, and a reload forgets none.
    authz.reload(authz.configuration.gateway)
    again = await asyncio.gather(
        *(authz.basic(*p) for p, a in zip(pairs, answers, strict=True) if a.allowed)
    )
    assert all(answer.allowed for answer in again)
    assert idp.counters["token"] == served


async def test_DS_03_the_exchange_outlives_the_caller_who_began_it(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    authz = make_authz()
    assert (await authz.bearer(idp.issue())).allowed

    late = await authz.basic(seconds=1)
    assert verdict(late) == "503 deadline_exceeded"
    hold.set()
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 1


async def test_RL_03_the_second_try_finds_the_token_of_the_first(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    hold = threading.Event()
    idp.discovery_answers.append(Answer(None, hold=hold))
    authz = make_authz()

    assert verdict(await authz.basic(seconds=1)) == "503 deadline_exceeded"
    hold.set()
    await landed(authz)
    assert (await authz.basic()).allowed
    assert dict(idp.counters) == {"token": 1, "discovery": 1, "certs": 1}


@pytest.mark.parametrize(
    ("skew_s", "basic", "bearer"),
    [
        pytest.param(30, "200 allowed", "200 allowed", id="30 s ahead"),
        pytest.param(-30, "200 allowed", "200 allowed", id="30 s behind"),
        pytest.param(
            600, "503 exchanged_token_invalid", "401 token_not_yet_valid", id="10 min ahead"
        ),
        pytest.param(-600, "503 exchanged_token_invalid", "401 token_expired", id="10 min behind"),
    ],
)
async def test_RL_08_leeway_absorbs_a_providers_clock_that_is_off(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, *, skew_s: int, basic: str, bearer: str
) -> None:
    idp.now = lambda: clock.now() + skew_s
    authz = make_authz(clock=clock, leeway=30)

    assert verdict(await authz.basic()) == basic
    assert verdict(await authz.bearer(idp.issue())) == bearer


# --- Reload ----------------------------------------------------------------------------


async def test_RL_13_a_consumer_that_is_removed_is_refused_at_once(
    idp: RunningIdp, warm: Any
) -> None:
    authz = await warm()
    authz.reload(gateway(idp, consumers=()))

    assert verdict(await authz.basic()) == "403 consumer_unknown"


async def test_RL_13_a_changed_audience_holds_at_once_for_known_tokens(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    token = idp.issue()
    assert (await authz.bearer(token)).allowed
    authz.reload(gateway(idp, audience=("api",)))

    assert verdict(await authz.bearer(token)) == "401 token_audience_refused"


async def test_H1_a_reload_forgets_no_token_of_what_has_not_changed(
    idp: RunningIdp, warm: Any
) -> None:
    authz = await warm()
    authz.reload(gateway(idp, display_errors=True))

    assert authz.configuration.ready
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 1


@pytest.mark.parametrize(
    "difference",
    [
        pytest.param({"scopes": ("openid", "email")}, id="scopes"),
        pytest.param({"token_endpoint_auth_method": "client_secret_post"}, id="authentication"),
        pytest.param({"cache_ttl_max": 60}, id="cache_ttl_max"),
    ],
)
async def test_H1_a_reload_that_changes_what_a_token_is_made_of_ends_it(
    idp: RunningIdp, warm: Any, difference: dict[str, Any]
) -> None:
    authz = await warm()
    authz.reload(gateway(idp, **difference))

    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 2


async def test_H1_a_reload_forgets_no_refusal(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    authz = make_authz()
    assert verdict(await authz.basic(client_secret="wrong")) == REFUSED
    authz.reload(gateway(idp, display_errors=True))

    assert verdict(await authz.basic(client_secret="wrong")) == REFUSED
    assert idp.counters["token"] == 1


async def test_CA_06_who_joins_a_call_is_held_to_its_own_plugins_audience_claim(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    strict = {"audience": ("account",), "audience_claim": ("meant_for",)}
    authz = make_authz(routes(a=(idp, {"audience": ("account",)}), b=(idp, strict)))
    first = asyncio.create_task(authz.basic(**on("a")))
    await idp.reached("token")
    second = asyncio.create_task(authz.basic(**on("b")))
    await asyncio.sleep(0)
    hold.set()

    assert (await first).allowed
    assert verdict(await second) == "503 exchanged_token_invalid"
    # Nor does it end the token of the other plugin.
    before = idp.counters["token"]
    assert (await authz.basic(**on("a"))).allowed
    assert idp.counters["token"] == before
