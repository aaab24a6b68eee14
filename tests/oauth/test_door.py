"""The door to a provider: who may ask, when, how often, and what is said of it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING

import pytest
from support.client import door
from support.scenes import verdict
from support.scripted import answer as sends
from support.scripted import read_request, reset, silence

from authz.demo.script import Answer
from authz.errors import IdpOutage, Reason, Unauthenticated, Unavailable
from authz.oauth.breaker import PROBE_SECONDS_MAX, PROBE_SECONDS_MIN, UNANSWERED_MAX
from authz.oauth.deadline import Deadline
from authz.oauth.door import REPEATS_MAX, observed
from authz.oauth.endpoints import DISCOVERY, JWKS, TOKEN
from authz.oauth.http import IDLE_SECONDS_MIN, Request
from authz.oauth.places import Asker, Priority

if TYPE_CHECKING:
    from support.client import AskedDoor
    from support.clock import Clock
    from support.idp import RunningIdp
    from support.running import MakeAuthz
    from support.scripted import Script, Serve

    from authz.oauth.http import Response


OK = sends(b"{}")
CLOSED: Script = [read_request]
RESET: Script = [read_request, reset]
DIES_IDLE: Script = [read_request, OK, read_request]
"""Answers once, and ends when it is asked again."""
IDLE_SECONDS = IDLE_SECONDS_MIN + 1
NOBODY = "http://127.0.0.1:1/"
A_STRANGER = Asker(Priority.STRANGER)
A_KNOWN_ONE = Asker(Priority.KNOWN)


# --- The one repeat ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "end", [pytest.param([read_request], id="closed"), pytest.param(RESET, id="reset")]
)
async def test_A6_what_a_dead_idle_connection_has_swallowed_is_repeated_once_on_a_new_one(
    scripted: Serve, clock: Clock, end: Script
) -> None:
    server = scripted([read_request, OK, *end], [read_request, OK])
    async with door(clock=clock) as idp:
        await idp.post(server.url, b"a=1")
        clock.advance(IDLE_SECONDS)
        assert (await idp.post(server.url, b"a=2")).status == 200
    assert [received.count(b"a=2") for received in server.received] == [1, 1]


@pytest.mark.parametrize("fault", [CLOSED, RESET], ids=["closed", "reset"])
async def test_A6_a_connection_that_was_new_is_no_stale_one_and_nothing_is_repeated(
    scripted: Serve, fault: Script
) -> None:
    server = scripted(fault)
    async with door() as idp:
        with pytest.raises(IdpOutage, match="ended before an answer"):
            await idp.post(server.url)
    assert len(server.connections) == 1


async def test_A6_a_connection_that_was_idle_for_a_moment_only_is_not_repeated_on(
    scripted: Serve, clock: Clock
) -> None:
    server = scripted(DIES_IDLE, [read_request, OK])
    async with door(clock=clock) as idp:
        await idp.post(server.url)
        clock.advance(IDLE_SECONDS_MIN)
        with pytest.raises(IdpOutage):
            await idp.post(server.url)


async def test_A6_a_request_that_may_not_be_repeated_is_not(scripted: Serve, clock: Clock) -> None:
    server = scripted(DIES_IDLE, [read_request, OK])
    async with door(clock=clock) as idp:
        await idp.post(server.url)
        clock.advance(IDLE_SECONDS)
        with pytest.raises(IdpOutage):
            await idp.ask(Request(server.url, b"refresh_token=1", repeatable=False))
    assert len(server.connections) == 1


async def test_A6_an_assertion_is_signed_anew_for_the_repeat(scripted: Serve, clock: Clock) -> None:
    server = scripted(DIES_IDLE, [read_request, OK])
    again = Request(server.url, b"jti=2")
    async with door(clock=clock) as idp:
        await idp.post(server.url)
        clock.advance(IDLE_SECONDS)
        await idp.ask(Request(server.url, b"jti=1", signed_anew=lambda: again))
    assert [server.received[n].count(b"jti=%d" % (n + 1)) for n in (0, 1)] == [1, 1]


async def test_A6_all_idle_connections_of_the_origin_go_with_the_first_that_is_dead(
    scripted: Serve, clock: Clock
) -> None:
    server = scripted(*[DIES_IDLE] * 8, [read_request, OK] * 20)
    async with door(clock=clock) as idp:
        await asyncio.gather(*(idp.post(server.url) for _ in range(8)))
        clock.advance(IDLE_SECONDS)
        assert (await idp.post(server.url)).status == 200
        await asyncio.gather(*(idp.post(server.url) for _ in range(8)))
    # One of the eight was tried; the other seven carry nothing any more.
    assert sum(received.count(b"POST") for received in server.received[:8]) == 9


async def test_A6_eight_connections_that_died_without_a_word_cost_one_wait(
    scripted: Serve, clock: Clock
) -> None:
    mute: Script = [read_request, OK, silence]
    server = scripted(*[mute] * 8, [read_request, OK] * 20)
    async with door(clock=clock) as idp:
        await asyncio.gather(*(idp.post(server.url) for _ in range(8)))
        clock.advance(IDLE_SECONDS)
        assert (await idp.post(server.url)).status == 200
        await asyncio.gather(*(idp.post(server.url) for _ in range(8)))
    assert sum(received.count(b"POST") for received in server.received[:8]) == 9


async def test_A6_who_leaves_a_silent_kept_connection_discredits_the_idle_ones(
    scripted: Serve, clock: Clock
) -> None:
    asked = threading.Event()
    mute: Script = [read_request, OK, read_request, lambda _: asked.set(), silence]
    server = scripted(mute, mute, [read_request, OK] * 3)
    async with door(clock=clock) as idp:
        await asyncio.gather(*(idp.post(server.url) for _ in range(2)))
        leaving = asyncio.create_task(idp.post(server.url))
        await asyncio.to_thread(asked.wait, 20)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        await idp.post(server.url)
    assert len(server.connections) == 3


async def test_A6_repeats_come_out_of_a_budget_of_one_in_ten_calls(
    scripted: Serve, clock: Clock
) -> None:
    server = scripted(DIES_IDLE)
    failed = 0
    async with door(clock=clock) as idp:
        for _ in range(60):
            clock.advance(IDLE_SECONDS)
            try:
                await idp.post(server.url)
            except IdpOutage:
                failed += 1
                clock.advance(PROBE_SECONDS_MAX)
    repeats = len(server.connections) - 60 // 2
    assert failed > 0
    assert repeats <= REPEATS_MAX + 60 / 10


# --- Places ----------------------------------------------------------------------------------


async def test_no_more_connections_are_open_than_there_are_places(scripted: Serve) -> None:
    server = scripted([read_request, OK] * 50)
    async with door(places_max=2) as idp:
        await asyncio.gather(*(idp.get(server.url) for _ in range(20)))
    assert len(server.connections) <= 2


async def test_a_request_that_is_cancelled_gives_its_place_back(idp: RunningIdp) -> None:
    idp.certs_answers.append(Answer(None, hold=threading.Event()))
    async with door(places_max=1) as asked:
        stuck, waiting = (asyncio.create_task(asked.get(idp.jwks_uri)) for _ in range(2))
        await idp.reached("certs")
        waiting.cancel()
        stuck.cancel()
        await asyncio.gather(stuck, waiting, return_exceptions=True)
        async with asyncio.timeout(5):
            assert (await asked.get(idp.jwks_uri)).status == 200


# --- What the answer means -------------------------------------------------------------------


def refuses(_: Response) -> None:
    raise Unauthenticated(Reason.SECRET_REJECTED, "the provider refused the client")


def nonsense(_: Response) -> None:
    raise Unavailable(Reason.IDP_ANSWER_INVALID, "not a JSON object")


@pytest.mark.parametrize("status", ["408 No", "500 No", "502 No", "503 No", "599 No"])
@pytest.mark.parametrize("says", [None, "nonsense", "refuses"])
async def test_an_outage_by_its_status_is_one_whatever_else_the_answer_says(
    scripted: Serve, status: str, says: str | None
) -> None:
    server = scripted([read_request, sends(b"{}", status)])
    reads = {None: lambda response: response, "nonsense": nonsense, "refuses": refuses}
    async with door() as idp:
        with pytest.raises(IdpOutage, match=f"HTTP status {status[:3]}"):
            await idp.read(Request(server.url), reads[says])
        assert idp.counted(TOKEN, "unavailable") == 1


async def test_what_reading_raises_names_the_outcome(scripted: Serve) -> None:
    server = scripted([read_request, OK] * 3)
    async with door() as idp:
        with pytest.raises(Unauthenticated):
            await idp.read(Request(server.url), refuses)
        with pytest.raises(Unavailable):
            await idp.read(Request(server.url), nonsense)
        await idp.post(server.url)
        outcomes = ("rejected", "invalid", "ok", "unavailable")
        assert [idp.counted(TOKEN, outcome) for outcome in outcomes] == [1, 1, 1, 0]


async def test_a_fault_says_endpoint_host_and_port_and_not_the_url(scripted: Serve) -> None:
    server = scripted([read_request, OK])
    async with door() as idp:
        with pytest.raises(Unavailable) as caught:
            await idp.read(Request(f"{server.url}/?secret=canary"), nonsense)
    where = f"token endpoint at 127.0.0.1:{server.port}"
    assert caught.value.detail == f"{where}: not a JSON object"


# --- Deadlines -------------------------------------------------------------------------------


async def test_C2_our_own_timeout_says_what_was_waited_for_and_how_long(scripted: Serve) -> None:
    server = scripted([read_request, silence])
    async with door(timeout_s=0.05) as idp:
        with pytest.raises(IdpOutage) as caught:
            await idp.post(server.url)
        where = f"token endpoint at 127.0.0.1:{server.port}"
        assert caught.value.detail == f"{where}: no answer within 0.05 s"
        assert idp.counted(TOKEN, "unavailable") == 1
        assert idp.counted(TOKEN, "cancelled") == 0


async def begun_by_one_who_had_to_leave(idp: AskedDoor, url: str) -> asyncio.Task[Response]:
    """A call in a task of its own, begun inside a deadline that has passed since."""
    begun: list[asyncio.Task[Response]] = []
    with contextlib.suppress(IdpOutage):
        async with Deadline(0.01):
            begun.append(asyncio.create_task(idp.post(url)))
            await asyncio.shield(begun[0])
    return begun[0]


async def test_C2_a_call_that_outlives_who_has_begun_it_has_its_own_deadline(
    scripted: Serve,
) -> None:
    server = scripted([read_request, silence])
    async with door(timeout_s=0.05) as idp:
        call = await begun_by_one_who_had_to_leave(idp, server.url)
        with pytest.raises(IdpOutage, match=r"within 0\.05 s"):
            await asyncio.wait_for(call, 5)


async def test_C2_a_call_that_is_ended_from_outside_is_no_outage_whoever_has_begun_it(
    scripted: Serve,
) -> None:
    server = scripted([read_request, silence])
    async with door() as idp:
        call = await begun_by_one_who_had_to_leave(idp, server.url)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert idp.counted(TOKEN, "cancelled") == 1
        assert idp.counted(TOKEN, "unavailable") == 0


async def test_C2_whoever_leaves_is_no_outage(scripted: Serve) -> None:
    asked = threading.Event()
    server = scripted([read_request, lambda _: asked.set(), silence])
    async with door() as idp:
        leaving = asyncio.create_task(idp.post(server.url))
        await asyncio.to_thread(asked.wait, 20)
        leaving.cancel()
        await asyncio.gather(leaving, return_exceptions=True)
        assert idp.counted(TOKEN, "cancelled") == 1
        assert idp.counted(TOKEN, "unavailable") == 0


async def test_C2_the_log_of_a_hanging_token_endpoint_says_what_hangs(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    authz = make_authz(timeout=300)
    assert (await authz.bearer(idp.issue())).allowed  # the keys are there
    idp.token_answers.append(Answer(None, hold=threading.Event()))

    assert verdict(await authz.basic()) == "503 idp_unavailable"
    [told] = [r for r in caplog.records if r.name == "authz.idp"]
    where = f"token endpoint at 127.0.0.1:{idp.port}"
    assert told.levelname == "WARNING"
    assert told.fields["detail"] == f"{where}: no answer within 0.3 s"  # type: ignore[attr-defined] # our lines have fields


# --- What others see of a call -----------------------------------------------------------------


async def test_calls_are_told_to_who_observes_from_their_beginning(scripted: Serve) -> None:
    asked = threading.Event()
    server = scripted([read_request, OK, read_request, lambda _: asked.set(), silence])
    async with door() as idp:
        with observed() as calls:
            await idp.post(server.url)
            waiting = asyncio.create_task(idp.get(server.url, JWKS))
            await asyncio.to_thread(asked.wait, 20)
            assert [(call.endpoint, call.outcome) for call in calls] == [
                ("token", "ok"),
                ("jwks", ""),
            ]
            assert calls[1].where == f"key set at 127.0.0.1:{server.port}"
            assert calls[1].seconds > 0
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert calls[1].outcome == "cancelled"


@pytest.mark.parametrize("endpoint", [DISCOVERY, JWKS, TOKEN], ids=lambda one: one.name)
async def test_A10_each_endpoint_is_asked_for_what_it_has(
    scripted: Serve, endpoint: object
) -> None:
    server = scripted([read_request, OK])
    async with door() as idp:
        await idp.get(server.url, endpoint)  # type: ignore[arg-type] # any row of endpoints
    media_types = {
        "jwks": b"accept: application/jwk-set+json, application/json\r\n",
    }
    wanted = media_types.get(endpoint.name, b"accept: application/json\r\n")  # type: ignore[attr-defined] # any row of endpoints
    assert wanted in server.received[0].lower()


# --- The breaker -----------------------------------------------------------------------------


async def test_H13_after_some_calls_without_an_answer_nobody_is_asked_but_by_a_probe(
    scripted: Serve, clock: Clock
) -> None:
    server = scripted(CLOSED)
    async with door(clock=clock) as idp:
        for _ in range(UNANSWERED_MAX + 20):
            with pytest.raises(IdpOutage):
                await idp.post(server.url)
        assert len(server.connections) == UNANSWERED_MAX
        clock.advance(PROBE_SECONDS_MIN)
        for _ in range(5):
            with pytest.raises(IdpOutage):
                await idp.post(server.url)
        assert len(server.connections) == UNANSWERED_MAX + 1


async def test_H13_a_refused_call_says_why_and_until_when(scripted: Serve, clock: Clock) -> None:
    server = scripted(CLOSED)
    async with door(clock=clock) as idp:
        for _ in range(UNANSWERED_MAX):
            with pytest.raises(IdpOutage):
                await idp.post(server.url)
        with pytest.raises(IdpOutage, match="not asked, as the last calls had no answer") as caught:
            await idp.post(server.url)
    assert caught.value.retry_after == 1


async def test_H13_the_first_answer_lets_everybody_through_again(
    scripted: Serve, clock: Clock
) -> None:
    server = scripted(*[CLOSED] * UNANSWERED_MAX, [read_request, OK] * 20)
    async with door(clock=clock) as idp:
        for _ in range(UNANSWERED_MAX):
            with pytest.raises(IdpOutage):
                await idp.post(server.url)
        clock.advance(PROBE_SECONDS_MIN)
        answers = await asyncio.gather(
            *(idp.post(server.url) for _ in range(3)), return_exceptions=True
        )
        assert [isinstance(one, IdpOutage) for one in answers] == [False, True, True]
        for _ in range(10):
            assert (await idp.post(server.url)).status == 200


async def test_H13_calls_that_hang_are_given_up_when_a_later_one_is_answered(
    scripted: Serve, clock: Clock
) -> None:
    hung = threading.Semaphore(0)
    hangs: Script = [read_request, lambda _: hung.release(), silence]
    places = 2
    server = scripted(*[hangs] * places, *[CLOSED] * UNANSWERED_MAX, [read_request, OK] * 20)
    async with door(clock=clock, places_max=places + 1) as idp:
        hanging = [asyncio.create_task(idp.post(server.url)) for _ in range(places)]
        for _ in range(places):
            await asyncio.to_thread(hung.acquire, timeout=20)
        for _ in range(UNANSWERED_MAX):
            with pytest.raises(IdpOutage):
                await idp.post(server.url)
        clock.advance(PROBE_SECONDS_MIN)
        assert (await idp.post(server.url)).status == 200
        async with asyncio.timeout(5):  # and not until their own deadline
            ended = await asyncio.gather(*hanging, return_exceptions=True)
        assert ["given up" in str(error) for error in ended] == [True] * places


async def test_H13_a_request_that_makes_the_provider_answer_500_shuts_out_nobody(
    scripted: Serve,
) -> None:
    server = scripted([read_request, sends(b"", "500 No")] * 20 + [read_request, OK])
    async with door() as idp:
        for _ in range(20):
            with pytest.raises(IdpOutage):
                await idp.post(server.url)
        assert (await idp.post(server.url)).status == 200


async def test_H13_one_origin_that_is_dead_says_nothing_of_another(
    scripted: Serve, clock: Clock
) -> None:
    server = scripted([read_request, OK])
    async with door(clock=clock) as idp:
        for _ in range(UNANSWERED_MAX + 1):
            with pytest.raises(IdpOutage):
                await idp.get(NOBODY, JWKS)
        assert (await idp.post(server.url)).status == 200


async def test_C3_trouble_is_a_warning_once_per_cause_and_minute(
    scripted: Serve, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    server = scripted([read_request, sends(b"", "500 No")] * 40)
    async with door(clock=clock) as idp:
        for seconds in (0, 1, 58, 1):
            clock.advance(seconds)
            with pytest.raises(IdpOutage):
                await idp.post(server.url)
    told = [record for record in caplog.records if record.name == "authz.idp"]
    assert [record.levelname for record in told] == ["WARNING"] * 2
    assert "HTTP status 500" in told[0].fields["detail"]  # type: ignore[attr-defined] # our lines have fields


async def test_the_door_is_full_for_strangers_while_others_hold_every_place(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.token_answers.append(Answer(None, times=None, hold=threading.Event()))
    authz = make_authz(settings={"idp_concurrency": 1})
    assert (await authz.bearer(idp.issue())).allowed
    first = asyncio.create_task(authz.basic("one", "a-secret-of-one"))
    await idp.reached("token")

    assert verdict(await authz.basic("two", "a-secret-of-two")) == "503 overloaded"
    first.cancel()
    await asyncio.gather(first, return_exceptions=True)


# --- Whose trouble it is ---------------------------------------------------------------------


async def test_H13_calls_of_strangers_without_an_answer_shut_out_no_known_caller(
    scripted: Serve, clock: Clock
) -> None:
    server = scripted(*[RESET] * UNANSWERED_MAX, [read_request, OK] * 20)
    async with door(clock=clock) as idp:
        for _ in range(UNANSWERED_MAX + 1):
            with pytest.raises(IdpOutage):
                await idp.get(server.url, TOKEN, A_STRANGER)
        assert len(server.connections) == UNANSWERED_MAX

        assert (await idp.get(server.url, TOKEN, A_KNOWN_ONE)).status == 200
        # The provider is there: so it is for strangers too.
        assert (await idp.get(server.url, TOKEN, A_STRANGER)).status == 200


async def test_H13_calls_of_strangers_without_an_answer_end_no_slow_call_of_a_known_caller(
    scripted: Serve, clock: Clock
) -> None:
    asked, goes_on = threading.Semaphore(0), threading.Event()

    def thinks(_: object) -> None:
        asked.release()
        goes_on.wait(20)

    slow: Script = [read_request, thinks, OK]
    server = scripted(slow, *[RESET] * UNANSWERED_MAX, [read_request, OK])
    async with door(clock=clock) as idp:
        waiting = asyncio.create_task(idp.get(server.url, TOKEN, A_KNOWN_ONE))
        await asyncio.to_thread(asked.acquire, timeout=20)
        for _ in range(UNANSWERED_MAX):
            with pytest.raises(IdpOutage):
                await idp.get(server.url, TOKEN, A_STRANGER)
        assert (await idp.get(server.url, TOKEN)).status == 200
        await asyncio.sleep(0)
        goes_on.set()

        assert (await waiting).status == 200


async def test_H13_calls_of_ours_without_an_answer_shut_out_everybody(
    scripted: Serve, clock: Clock
) -> None:
    server = scripted(RESET)
    async with door(clock=clock) as idp:
        for _ in range(UNANSWERED_MAX):
            with pytest.raises(IdpOutage):
                await idp.get(server.url, TOKEN)
        for asker in (A_STRANGER, A_KNOWN_ONE):
            with pytest.raises(IdpOutage, match="not asked, as the last calls had no answer"):
                await idp.get(server.url, TOKEN, asker)
        assert len(server.connections) == UNANSWERED_MAX


async def test_A7_a_pause_that_strangers_have_brought_about_pauses_no_known_caller(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock, cache_tokens=False)
    assert (await authz.basic()).allowed
    # A provider that limits who guesses at one of its clients.
    idp.token_answers.append(Answer(429, b"", (("retry-after", "60"),)))
    assert verdict(await authz.basic("other_id", "a guess")) == "503 idp_throttled"
    assert verdict(await authz.basic("other_id", "another guess")) == "503 idp_throttled"
    assert idp.counters["token"] == 2

    assert (await authz.basic()).allowed


async def test_C2_a_deadline_that_has_passed_is_not_given_up_once_more() -> None:
    loop, faults = asyncio.get_running_loop(), list[object]()
    loop.set_exception_handler(lambda _, context: faults.append(context["exception"]))

    async def wait() -> None:
        async with Deadline(60) as deadline:
            deadline.give_up("given up")
            # Both go off before the task that waits has heard of the first.
            loop.call_later(0, deadline.give_up, "once more")
            await asyncio.Event().wait()

    with pytest.raises(IdpOutage, match="given up"):
        await wait()
    assert faults == []
