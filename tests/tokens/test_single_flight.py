"""One call for all who want the same thing at the same time, and nothing left behind."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import Overloaded, Reason, Unauthenticated, Unavailable
from authz.tokens.single_flight import SingleFlight

if TYPE_CHECKING:
    from collections.abc import Iterable

REFUSED = Unauthenticated(Reason.SECRET_REJECTED, "the provider refused the client")


class Call:
    """A call that ends when the test says so."""

    def __init__(self, result: str | Exception = "answer") -> None:
        self.count = 0
        self.ended_by_cancel = False
        self._result = result
        self.started = asyncio.Event()
        self._go = asyncio.Event()

    async def __call__(self) -> str:
        self.count += 1
        self.started.set()
        try:
            await self._go.wait()
        except asyncio.CancelledError:
            self.ended_by_cancel = True
            raise
        if isinstance(self._result, Exception):
            raise self._result
        return self._result

    def end(self) -> None:
        self._go.set()


def flights(calls_max: int = 10) -> SingleFlight[str]:
    return SingleFlight(calls_max=calls_max)


def passengers(of: SingleFlight[str], call: Call, count: int = 1) -> list[asyncio.Task[str]]:
    return [asyncio.create_task(of.run("key", call)) for _ in range(count)]


async def outcomes(tasks: Iterable[asyncio.Task[str]]) -> list[Any]:
    return await asyncio.gather(*tasks, return_exceptions=True)


async def test_all_share_one_call_and_its_answer() -> None:
    shared, call = flights(), Call()
    waiting = passengers(shared, call, 50)
    await call.started.wait()
    call.end()

    assert await outcomes(waiting) == ["answer"] * 50
    assert call.count == 1
    assert len(shared) == 0


async def test_all_share_one_error() -> None:
    shared, call = flights(), Call(REFUSED)
    waiting = passengers(shared, call, 50)
    await call.started.wait()
    call.end()

    assert await outcomes(waiting) == [REFUSED] * 50
    assert call.count == 1
    assert len(shared) == 0


async def test_different_keys_are_different_calls() -> None:
    shared, one, two = flights(), Call("one"), Call("two")
    waiting = [
        asyncio.create_task(shared.run("1", one)),
        asyncio.create_task(shared.run("2", two)),
    ]
    await one.started.wait()
    await two.started.wait()
    assert len(shared) == 2

    one.end()
    two.end()
    assert await outcomes(waiting) == ["one", "two"]


async def test_CA_17_a_call_that_has_ended_is_not_remembered() -> None:
    shared, failing, working = flights(), Call(REFUSED), Call()
    failing.end()
    working.end()
    with pytest.raises(Unauthenticated):
        await shared.run("key", failing)

    assert await shared.run("key", working) == "answer"
    assert await shared.run("key", working) == "answer"
    assert working.count == 2


async def test_DS_03_the_leader_that_is_cancelled_takes_nobody_along() -> None:
    shared, call = flights(), Call()
    leader, *others = passengers(shared, call, 50)
    await call.started.wait()
    leader.cancel()
    await asyncio.sleep(0)
    call.end()

    assert await outcomes(others) == ["answer"] * 49
    assert leader.cancelled()
    assert call.count == 1
    assert not call.ended_by_cancel


async def test_DS_03_a_call_that_everyone_left_goes_on_and_is_joined_again() -> None:
    shared, call = flights(), Call()
    waiting = passengers(shared, call, 5)
    await call.started.wait()
    for task in waiting:
        task.cancel()
    await outcomes(waiting)
    assert len(shared) == 1

    [late] = passengers(shared, call)
    await asyncio.sleep(0)
    call.end()
    assert await late == "answer"
    assert call.count == 1
    assert len(shared) == 0


async def test_an_error_that_nobody_waits_for_is_no_unheard_one(
    caplog: pytest.LogCaptureFixture,
) -> None:
    shared, call = flights(), Call(REFUSED)
    call.end()
    await asyncio.wait([shared.start("key", call)])
    assert len(shared) == 0

    gc.collect()
    assert caplog.records == []


async def test_more_calls_than_allowed_are_our_own_overload_and_no_outage() -> None:
    shared, call = flights(calls_max=1), Call()
    [waiting] = passengers(shared, call)
    await call.started.wait()

    with pytest.raises(Overloaded) as caught:
        await shared.run("another key", Call())
    assert caught.value.reason is Reason.OVERLOADED
    [joining] = passengers(shared, call)  # joining is no call
    await asyncio.sleep(0)
    call.end()
    assert await outcomes([waiting, joining]) == ["answer"] * 2


async def test_closing_ends_the_calls_and_tells_who_waits() -> None:
    shared, call = flights(), Call()
    waiting = passengers(shared, call, 3)
    await call.started.wait()
    await shared.aclose()

    told = await outcomes(waiting)
    assert [type(error) for error in told] == [Unavailable] * 3
    assert call.ended_by_cancel
    assert len(shared) == 0


async def test_closing_hides_no_cancellation_of_the_caller() -> None:
    shared, started = flights(), asyncio.Event()

    async def call() -> str:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            caller.cancel()  # at the very moment in which the call ends
        return "never"

    caller = asyncio.create_task(shared.run("key", call))
    await started.wait()
    await shared.aclose()

    [told] = await outcomes([caller])
    assert isinstance(told, asyncio.CancelledError)


async def test_closing_twice_is_no_error() -> None:
    shared = flights()
    await shared.aclose()
    await shared.aclose()
