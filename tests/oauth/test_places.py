"""Whose turn it is when all places are taken."""

from __future__ import annotations

import asyncio

import pytest

from authz.errors import Overloaded
from authz.oauth.places import PLACES_PER_RESERVED, WAITING_MAX, Asker, Places, Priority

KNOWN = Asker(Priority.KNOWN)


def stranger(source: str, client: str = "") -> Asker:
    return Asker(Priority.STRANGER, source, client)


async def order_of(places: Places, waiting: list[tuple[str, Asker]]) -> list[str]:
    """Let all of these wait in this order; return in which order they have their turns."""
    order: list[str] = []

    async def call(name: str, asker: Asker) -> None:
        await places.take(asker)
        order.append(name)
        places.give_back()

    tasks = [asyncio.create_task(call(name, asker)) for name, asker in waiting]
    await asyncio.sleep(0)
    assert order == []
    places.give_back()
    await asyncio.gather(*tasks)
    return order


async def full(places_max: int = 1) -> Places:
    places = Places(places_max)
    for _ in range(places_max):
        await places.take(KNOWN)
    return places


async def test_G_16_renewals_go_before_known_callers_and_these_before_strangers() -> None:
    waiting = [
        ("stranger", stranger("a")),
        ("known", KNOWN),
        ("own", Asker(Priority.OWN)),
        ("another stranger", stranger("b")),
        ("another known", KNOWN),
    ]
    order = await order_of(await full(), waiting)
    assert order == ["own", "known", "another known", "stranger", "another stranger"]


async def test_G_16_sources_take_turns_and_within_one_its_clients() -> None:
    flood = [(f"flood {n}", stranger("attacker", f"id {n % 2}")) for n in range(6)]
    waiting = [*flood, ("honest 1", stranger("office")), ("honest 2", stranger("office"))]

    order = await order_of(await full(), waiting)

    assert order[:4] == ["flood 0", "honest 1", "flood 1", "honest 2"]
    # The first of each id, then the second of each.
    assert [name for name in order if "flood" in name] == [f"flood {n}" for n in range(6)]


async def test_G_16_one_source_alone_may_use_all_that_is_free() -> None:
    places = Places(PLACES_PER_RESERVED - 1)
    for _ in range(PLACES_PER_RESERVED - 1):
        await asyncio.wait_for(places.take(stranger("one")), 5)


async def test_G_16_strangers_leave_a_place_for_those_who_are_known() -> None:
    places = Places(PLACES_PER_RESERVED)
    for _ in range(PLACES_PER_RESERVED - 1):
        await places.take(stranger("one"))
    waiting = asyncio.create_task(places.take(stranger("one")))
    await asyncio.sleep(0)

    await asyncio.wait_for(places.take(KNOWN), 5)
    assert not waiting.done()
    places.give_back()
    places.give_back()
    await asyncio.wait_for(waiting, 5)


async def test_the_queue_is_bounded_and_one_source_cannot_fill_it() -> None:
    places = await full()
    waiting = [asyncio.create_task(places.take(stranger("attacker"))) for _ in range(WAITING_MAX)]
    await asyncio.sleep(0)
    refused = [task for task in waiting if task.done()]
    assert len(refused) == WAITING_MAX // 2
    with pytest.raises(Overloaded, match="wait for a place already"):
        await places.take(stranger("attacker"))

    honest = asyncio.create_task(places.take(stranger("office")))
    await asyncio.sleep(0)
    assert not honest.done()
    for task in (*waiting, honest):
        task.cancel()
    ended = await asyncio.gather(*waiting, honest, return_exceptions=True)
    assert sum(isinstance(one, Overloaded) for one in ended) == WAITING_MAX // 2


async def test_who_waits_in_vain_is_told_that_we_are_overloaded_and_leaves_nothing_behind() -> None:
    places = await full()
    with pytest.raises(Overloaded, match="no place among the calls"):
        await places.take(stranger("one"))
    places.give_back()
    await asyncio.wait_for(places.take(stranger("two")), 5)


async def test_a_turn_that_comes_as_its_waiter_leaves_goes_to_the_next() -> None:
    places = await full()
    leaving = asyncio.create_task(places.take(KNOWN))
    staying = asyncio.create_task(places.take(KNOWN))
    await asyncio.sleep(0)
    places.give_back()  # the turn of the first
    leaving.cancel()

    await asyncio.wait_for(staying, 5)
    assert leaving.cancelled()


async def test_a_turn_of_one_that_has_just_given_up_goes_to_the_next() -> None:
    places = await full()
    leaving, staying = (asyncio.create_task(places.take(KNOWN)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()  # it stands in the queue until it runs again
    places.give_back()

    await staying
    await asyncio.gather(leaving, return_exceptions=True)
    assert leaving.cancelled()
    places.give_back()
    async with asyncio.timeout(5):
        await places.take(KNOWN)  # no place was lost, and none was made
    late = asyncio.create_task(places.take(KNOWN))
    await asyncio.sleep(0)
    assert not late.done()
    late.cancel()
