"""One time per key, one timer for all."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from authz.clock import SystemClock
from authz.tokens.agenda import Agenda

if TYPE_CHECKING:
    from support.clock import Clock


async def test_a_key_is_due_once_at_its_last_time(clock: Clock) -> None:
    agenda = Agenda(clock, lambda: None)
    now = clock.monotonic()
    agenda.put(b"one", now + 10)
    agenda.put(b"one", now + 20)
    agenda.put(b"two", now + 15)
    agenda.put(b"dropped", now + 1)
    agenda.drop(b"dropped")

    clock.advance(14)
    assert agenda.due() == []
    clock.advance(6)
    assert agenda.due() == [b"two", b"one"]
    assert agenda.due() == []
    agenda.stop()


async def test_times_that_count_no_longer_are_bounded(clock: Clock) -> None:
    agenda = Agenda(clock, lambda: None)
    for number in range(10_000):
        agenda.put(b"one", clock.monotonic() + 10 + number)

    assert len(agenda._heap) < 100
    clock.advance(20_000)
    assert agenda.due() == [b"one"]
    agenda.stop()


async def test_the_timer_wakes_at_the_nearest_time() -> None:
    clock, woken = SystemClock(), asyncio.Event()
    agenda = Agenda(clock, woken.set)
    agenda.put(b"late", clock.monotonic() + 3_600)
    agenda.put(b"now", clock.monotonic())

    async with asyncio.timeout(10):
        await woken.wait()
    assert agenda.due() == [b"now"]
    agenda.stop()


async def test_a_stopped_one_wakes_nobody() -> None:
    clock, woken = SystemClock(), asyncio.Event()
    agenda = Agenda(clock, woken.set)
    agenda.put(b"now", clock.monotonic())
    agenda.stop()
    turn = asyncio.Event()
    asyncio.get_running_loop().call_later(0, turn.set)
    await turn.wait()

    assert not woken.is_set()
