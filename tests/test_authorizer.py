"""The seam: whatever happens inside, bytes come out, and they say nothing they should not."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from typing import TYPE_CHECKING, cast

import pytest
from support.clock import Clock
from support.running import KONG_ID, KONG_SECRET, check_request, logged, read, without_id
from support.scenes import routes

from authz.authorizer import DEADLINE_SECONDS_DEFAULT, Authorizer
from authz.clock import SystemClock
from authz.credentials import basic
from authz.deadline_hint import DeadlineHint
from authz.decision import Allow
from authz.fast_path import CachedAnswers, FastPath
from authz.logs import DECISIONS
from authz.model import Request, Secret
from authz.policy.headers import OPEN_ROUTE
from authz.telemetry import Telemetry
from authz.telemetry.checks import NOWHERE, Place
from authz.tokens.digest import Digester

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from support.idp import RunningIdp
    from support.running import MakeAuthz

    from authz.pipeline import Pipeline, Trace

SECRET_TEXT = "secret=hunter2"


class Deciding:
    """A pipeline that does what the test says."""

    def __init__(self, decide: Callable[[Trace], Awaitable[Allow]]) -> None:
        self.decide = decide


def service(
    decide: Callable[[Trace], Awaitable[Allow]],
    telemetry: Telemetry | None = None,
    under_way_max: int = 10,
) -> Authorizer:
    return Authorizer(
        cast("Pipeline", Deciding(decide)),
        fast_path=FastPath(
            {}, CachedAnswers(entries_max=1, bytes_max=1_000), Digester(), SystemClock()
        ),
        clock=SystemClock(),
        telemetry=telemetry or Telemetry(),
        hint=DeadlineHint(0),
        under_way_max=under_way_max,
    )


def in_seconds(seconds: float) -> float:
    return asyncio.get_running_loop().time() + seconds


@pytest.mark.parametrize(
    "fault",
    [
        ValueError(SECRET_TEXT),
        RecursionError(SECRET_TEXT),
        ExceptionGroup(SECRET_TEXT, [KeyError(SECRET_TEXT)]),
        UnicodeEncodeError("utf-8", SECRET_TEXT, 0, 1, SECRET_TEXT),
    ],
    ids=lambda fault: type(fault).__name__,
)
async def test_GR_09_a_fault_of_ours_is_a_503_that_does_not_quote_it(
    fault: Exception, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def decide(_trail: Trace) -> Allow:
        raise fault

    wire = await service(decide).check(check_request(), None)
    answer = read(wire)

    assert (answer.status, answer.code, answer.reason) == (503, 14, "internal_error")
    assert b"hunter2" not in wire
    assert "hunter2" not in logged(caplog.records)
    assert "test_authorizer.py" in logged(caplog.records)


async def test_GR_09_an_answer_that_no_header_can_carry_is_a_fault_of_ours() -> None:
    async def decide(_trail: Trace) -> Allow:
        return Allow(headers={"x-token": "a\r\nx-admin: 1"}, reason="allowed")

    assert read(await service(decide).check(check_request(), None)).reason == "internal_error"


async def test_GR_09_a_fault_beside_the_decision_is_a_503_too() -> None:
    class Broken(Telemetry):
        def decided(
            self, verdict: str, reason: str, seconds: float, place: Place = NOWHERE
        ) -> None:
            raise OSError(SECRET_TEXT)

    async def decide(_trail: Trace) -> Allow:
        return Allow(reason="allowed")

    wire = await service(decide, Broken()).check(check_request(), None)

    assert (read(wire).status, read(wire).reason) == (503, "internal_error")
    assert b"hunter2" not in wire


async def test_GR_08_the_callers_own_cancellation_is_handed_on() -> None:
    started = asyncio.Event()

    async def decide(_trail: Trace) -> Allow:
        started.set()
        await asyncio.Event().wait()
        return Allow()

    task = asyncio.create_task(service(decide).check(check_request(), None))
    await started.wait()
    task.cancel()

    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("seconds", [0.02, 0.001, 0.0, -1.0])
async def test_GR_07_our_503_comes_before_the_callers_deadline(seconds: float) -> None:
    async def decide(_trail: Trace) -> Allow:
        await asyncio.Event().wait()
        return Allow()

    answer = read(await service(decide).check(check_request(), in_seconds(seconds)))

    assert (answer.status, answer.reason) == (503, "deadline_exceeded")
    assert answer.header("retry-after") == "1"


class MovedLoop(asyncio.SelectorEventLoop):
    """A loop whose time a test moves on."""

    moved_s = 0.0

    def time(self) -> float:
        return super().time() + self.moved_s


def test_GR_07_a_caller_without_a_deadline_gets_one_of_ours() -> None:
    async def late(loop: MovedLoop) -> bytes:
        began = asyncio.Event()

        async def decide(_trail: Trace) -> Allow:
            began.set()
            await asyncio.Event().wait()
            return Allow()

        answer = asyncio.create_task(service(decide).check(check_request(), None))
        await began.wait()
        loop.moved_s = DEADLINE_SECONDS_DEFAULT - 1
        for _ in range(10):
            await asyncio.sleep(0)
        assert not answer.done()
        loop.moved_s = DEADLINE_SECONDS_DEFAULT
        return await answer

    with asyncio.Runner(loop_factory=MovedLoop) as runner:
        answer = read(runner.run(late(cast("MovedLoop", runner.get_loop()))))

    assert (answer.status, answer.reason) == (503, "deadline_exceeded")


async def test_GR_02_bytes_that_are_no_question_get_an_answer() -> None:
    async def decide(_trail: Trace) -> Allow:
        raise AssertionError("nothing to decide")

    asked = service(decide)

    assert asked.cached(b"\xff\xff") is None
    assert read(await asked.check(b"\xff\xff", None)).reason == "request_unreadable"


async def test_GR_16_a_denial_is_short_and_repeats_nothing_of_the_request(
    make_authz: MakeAuthz,
) -> None:
    answer = await make_authz(display_errors=True).ask(
        {"authorization": 'Basic "><script>', "x-request-id": '"><script>'},
        path='/"><script>alert(1)</script>',
        host="<script>",
    )

    told = answer.body + json.dumps(dict(answer.headers)) + json.dumps(answer.metadata)
    assert "<script>" not in told
    assert len(answer.body) <= 1024
    assert answer.header("content-type") == "application/json; charset=utf-8"
    assert answer.header("x-content-type-options") == "nosniff"
    assert answer.header("cache-control") == "no-store"


async def test_GR_17_dynamic_metadata_names_the_consumer_and_nothing_secret(
    make_authz: MakeAuthz,
) -> None:
    allowed = await make_authz().basic()

    assert allowed.metadata.keys() == {
        "reason",
        "consumer_id",
        "consumer_username",
        "decision_id",
        "expires_at",
    }
    refused = await make_authz().basic(client_secret="wrong-secret")
    assert refused.metadata.keys() == {"decision_id", "reason"}
    assert refused.reason == "secret_rejected"


# --- decision_id: what the log calls a decision ---------------------------------------------


async def test_each_decision_has_an_id_and_a_cached_answer_that_of_the_one_it_repeats(
    make_authz: MakeAuthz,
) -> None:
    authz = make_authz()
    headers = {"authorization": basic(KONG_ID, KONG_SECRET)}
    wires = [check_request(headers, path=path) for path in ("/a", "/b")]

    refused, first, repeated = [
        (await authz.ask_wire(wire)).metadata["decision_id"]
        for wire in (check_request(), wires[0], wires[1])
    ]
    again = read(await authz.authorizer.check(wires[0], None)).metadata["decision_id"]

    assert first == repeated
    assert len({refused, first, again}) == 3
    assert all(re.fullmatch("[0-9a-f]{16}", each) for each in (refused, first, again))


async def test_the_log_names_a_decision_by_its_id(
    make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    authz = make_authz(settings={"log_decisions": "all"})
    ids = [
        (await authz.ask(headers)).metadata["decision_id"]
        for headers in (None, *[{"authorization": basic(KONG_ID, KONG_SECRET)}] * 2)
    ]

    told = [record.__dict__["fields"] for record in caplog.records if record.name == DECISIONS]
    assert [fields["decision_id"] for fields in told] == ids
    assert told[1]["route"] == told[2]["route"]
    assert told[2]["duration_ms"] > 0


# --- --hint-timeout: callers that wait for less than an exchange may take -----------------------


def hints(records: Sequence[logging.LogRecord]) -> list[str]:
    return [r.getMessage() for r in records if r.name == "authz.deadline_hint"]


async def test_RL_19_a_wait_that_is_shorter_than_an_exchange_may_take_is_logged_once(
    make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    authz = make_authz(settings={"hint_timeout": 1})
    headers = {"authorization": basic(KONG_ID, "wrong-secret")}
    await authz.ask(headers, seconds=5)
    await authz.ask(headers)
    await authz.ask(None, seconds=0.5)  # nothing presented: nothing to exchange
    assert hints(caplog.records) == []

    await authz.ask(headers, seconds=0.5)
    await authz.ask(headers, seconds=0.25)

    [told] = hints(caplog.records)
    assert told.startswith("Envoy waits only 0.5 s for authz, and at least 1 s are wanted")


async def test_RL_19_zero_asks_for_no_hint(
    make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    authz = make_authz(settings={"hint_timeout": 0})
    await authz.basic(client_secret="wrong-secret", seconds=0.5)

    assert hints(caplog.records) == []


# --- expires_at: until when the same request may be given this answer again ------------------

LIFE_SECONDS = 100


@pytest.fixture
def timed(idp: RunningIdp) -> Clock:
    """A clock that the provider shares, whose tokens live for ``LIFE_SECONDS``."""
    clock = Clock()
    idp.now, idp.token_lifetime_s = clock.now, LIFE_SECONDS
    return clock


@pytest.mark.parametrize(
    ("parameters", "seconds"),
    [
        pytest.param({}, LIFE_SECONDS, id="the token's end"),
        pytest.param({"leeway": 60}, LIFE_SECONDS, id="the token's end, without leeway"),
        pytest.param({"cache_ttl_max": 10}, 10, id="the end of what may be remembered"),
        pytest.param({"cache_ttl_max": 500}, LIFE_SECONDS, id="never past exp"),
    ],
)
async def test_an_allow_says_until_when_a_data_plane_may_give_it_again(
    make_authz: MakeAuthz,
    idp: RunningIdp,
    timed: Clock,
    parameters: dict[str, int],
    seconds: int,
) -> None:
    allowed = await make_authz(clock=timed, **parameters).bearer(idp.issue())

    assert allowed.metadata["expires_at"] == int(timed.now()) + seconds


async def test_an_allow_by_an_exchange_ends_when_the_token_is_renewed(
    make_authz: MakeAuthz, timed: Clock
) -> None:
    allowed = await make_authz(clock=timed).basic()

    assert timed.now() < allowed.metadata["expires_at"] < timed.now() + LIFE_SECONDS


async def test_an_allow_by_a_token_that_lives_by_leeway_alone_is_over_already(
    make_authz: MakeAuthz, idp: RunningIdp, timed: Clock
) -> None:
    authz, token = make_authz(clock=timed, leeway=60), idp.issue()
    timed.advance(LIFE_SECONDS + 1)

    allowed = await authz.bearer(token)

    assert allowed.allowed
    assert allowed.metadata["expires_at"] < timed.now()


async def test_an_allow_that_is_asked_for_each_time_may_not_be_given_again(
    make_authz: MakeAuthz, idp: RunningIdp, timed: Clock
) -> None:
    authz = make_authz(
        clock=timed,
        auth_methods=("introspection",),
        client_id=("c",),
        client_secret=(Secret("s"),),
        introspection_post_args_client=("region",),
    )
    idp.clients["c"] = "s"

    assert (await authz.bearer(idp.issue())).metadata["expires_at"] == 0


async def test_two_tokens_of_one_consumer_have_each_its_own_end(
    make_authz: MakeAuthz, idp: RunningIdp, timed: Clock
) -> None:
    authz, tokens = make_authz(clock=timed), []
    for life_s in (40, 50):
        idp.token_lifetime_s = life_s
        tokens.append(idp.issue())

    ends = [(await authz.bearer(token)).metadata["expires_at"] - timed.now() for token in tokens]

    assert ends == [40, 50]


async def test_a_remembered_allow_never_names_a_later_end_than_the_whole_way(
    make_authz: MakeAuthz, idp: RunningIdp, timed: Clock
) -> None:
    authz = make_authz(clock=timed, cache_ttl_max=10)
    wire = check_request({"authorization": f"Bearer {idp.issue()}"})
    first = await authz.ask_wire(wire)
    timed.advance(9)

    remembered, anew = authz.authorizer.cached(wire), await authz.authorizer.check(wire, None)

    assert without_id(remembered) == first.wire
    ends = [read(answer).metadata["expires_at"] for answer in (remembered, anew)]
    assert ends == [int(timed.now()) + 1, int(timed.now()) + 10]


async def test_a_refusal_names_no_end(make_authz: MakeAuthz) -> None:
    assert "expires_at" not in (await make_authz().bearer("no token")).metadata


async def test_the_hot_path_is_silent_rather_than_wrong_when_it_fails(
    make_authz: MakeAuthz,
) -> None:
    class Broken:
        def now(self) -> float:
            raise OSError(SECRET_TEXT)

        monotonic = now

    authz = make_authz()
    await authz.basic()
    wire = check_request({"authorization": basic("kong_id", KONG_SECRET)})
    assert authz.authorizer.cached(wire) is not None
    authz.authorizer._fast_path._clock = Broken()

    assert authz.authorizer.cached(wire) is None


async def test_DS_02_more_decisions_than_the_bound_are_turned_away_at_once() -> None:
    started, go_on = asyncio.Event(), asyncio.Event()

    async def decide(_trail: Trace) -> Allow:
        started.set()
        await go_on.wait()
        return OPEN_ROUTE.nobody(Request())

    asked = service(decide, under_way_max=1)
    first = asyncio.create_task(asked.check(check_request(), None))
    await started.wait()

    assert read(await asked.check(check_request(), None)).reason == "overloaded"
    go_on.set()
    assert read(await first).allowed


async def test_C4_a_denial_names_the_request_and_the_id_that_was_presented(
    make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    authz = make_authz()
    await authz.basic("stranger", "wrong", method="POST", host="a.test", path="/x?client_secret=s")

    [fields] = [
        vars(record)["fields"] for record in caplog.records if record.getMessage() == "denied"
    ]
    assert fields["request"] == "POST a.test/x"
    assert (fields["presented_client"], fields["client"]) == ("stranger", None)


async def test_C4_a_request_that_no_route_fits_is_named(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    authz = make_authz(routes(known=(idp, {})))
    answer = await authz.ask(path="/elsewhere?token=s", host="a.test")

    [fields] = [
        vars(record)["fields"] for record in caplog.records if record.getMessage() == "denied"
    ]
    assert answer.reason == "route_unmatched"
    assert fields["request"] == "GET a.test/elsewhere"
    assert "presented_client" not in fields
