"""Floods, outages that come and go, and clients that leave: who is known keeps passing."""

from __future__ import annotations

import asyncio
import re
import threading
from collections import Counter
from itertools import cycle, islice
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.idp import RunningIdp
from support.running import KONG_ID
from support.scenes import claims, landed, on, routes, says, verdict

from authz.demo.script import Answer

if TYPE_CHECKING:
    from support.clock import Clock
    from support.running import MakeAuthz


NEVER_ANSWERS = Answer(None, times=None, hold=threading.Event())


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


# --- Many at once ---------------------------------------------------------------------------


async def test_DS_02_of_many_cold_clients_those_beyond_the_places_are_turned_away(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    positions = 2
    authz = make_authz(settings={"idp_concurrency": positions})
    assert (await authz.bearer(idp.issue())).allowed
    idp.token_answers.append(NEVER_ANSWERS)
    clients = [
        asyncio.create_task(authz.basic(f"client-{n}", f"a-secret-of-{n}")) for n in range(50)
    ]
    turned_away: Counter[tuple[str, str | None]] = Counter()
    for done in asyncio.as_completed(clients):
        answer = await done
        turned_away[verdict(answer), answer.header("retry-after")] += 1
        if turned_away.total() == len(clients) - positions:
            break

    # They wait for a place for a bounded time; the provider hears of none of them.
    assert turned_away == {("503 overloaded", "1"): 48}
    assert idp.counters["token"] == positions
    told = {"issuer": idp.issuer, "endpoint": "token", "outcome": "overloaded"}
    counted = authz.telemetry.registry.get_sample_value(
        "authz_idp_request_duration_seconds_count", told
    )
    assert counted == 48
    assert (await authz.bearer(idp.issue())).allowed
    for client in clients:
        client.cancel()
    await asyncio.gather(*clients, return_exceptions=True)


async def test_DS_04_callers_that_leave_at_once_leave_nothing_behind(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    # The first one waits for all the others: on a busy machine longer than the usual ten seconds.
    authz = make_authz(timeout=50_000)
    assert (await authz.bearer(idp.issue())).allowed
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    first = asyncio.create_task(authz.basic(seconds=50))
    await idp.reached("token")
    tasks, descriptors = len(asyncio.all_tasks()), open_descriptors()
    for _ in range(100):
        callers = [asyncio.create_task(authz.basic()) for _ in range(100)]
        await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await asyncio.gather(*callers, return_exceptions=True)

    assert len(asyncio.all_tasks()) == tasks
    assert open_descriptors() <= descriptors
    hold.set()
    assert (await first).allowed
    await landed(authz)
    assert authz.shared.keeper.calls_under_way() == 0
    assert idp.counters["token"] == 1


async def test_DS_07_who_guesses_at_a_client_does_not_lock_the_known_one_out(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    assert (await authz.basic()).allowed
    guesses = await asyncio.gather(*(authz.basic(KONG_ID, f"guess {n}") for n in range(100)))

    assert not any(answer.allowed for answer in guesses)
    assert {answer.status for answer in guesses} == {401, 429}
    assert (await authz.basic()).allowed


# --- A provider that comes and goes -----------------------------------------------------------


@pytest.mark.parametrize("pattern", ["up,500", "500,500,up", "up,502,503,504,up,up,500"])
async def test_RL_04_a_provider_that_flaps_hurts_no_known_caller(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, pattern: str
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    assert (await authz.basic()).allowed
    for mood in islice(cycle(pattern.split(",")), 598):  # to a second before the token's end
        idp.token_answers.clear()
        if mood != "up":
            idp.token_answers.append(says(b"", int(mood)))
        clock.advance(0.5)
        assert (await authz.basic()).allowed

    # A failed renewal waits 5 s for the next try, and twice as long each time.
    assert idp.counters["token"] <= 1 + 6


async def test_RL_07_a_provider_whose_name_leads_nowhere_is_an_outage(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with RunningIdp() as other:
        nowhere = {"token_endpoint": "http://idp.invalid/token", "timeout": 2_000}
        authz = make_authz(routes(nowhere=(idp, nowhere), other=(other, {})))

        assert verdict(await authz.basic(**on("nowhere"))) == "503 idp_unavailable"
        assert (await authz.basic(**on("other"))).allowed


async def test_RL_09_no_upstream_gets_a_token_that_is_about_to_end(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    for _ in range(200):
        left_s = claims(await authz.basic())["exp"] - clock.now()
        assert left_s > 2  # H4: renewed 17 s before its end at the latest
        clock.advance(7)
        authz.shared.keeper.renew_due()  # as its timer does
        await landed(authz)
    assert 'authz_token_waits_total{kind="renewal"} 0.0' in authz.metrics()


async def test_C2_a_provider_that_hangs_is_named_with_the_time_that_was_waited(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    idp.token_answers.append(NEVER_ANSWERS)
    authz = make_authz()

    answer = await authz.basic(seconds=0.4)

    [fields] = [
        vars(record)["fields"] for record in caplog.records if record.getMessage() == "denied"
    ]
    assert answer.reason == "deadline_exceeded"
    assert re.fullmatch(
        r"no answer within 0\.\d+ s, when Envoy stops waiting; "
        rf"waited for: token endpoint at 127\.0\.0\.1:{idp.port}",
        fields["detail"],
    )
