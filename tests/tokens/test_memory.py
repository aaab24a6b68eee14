"""A bounded cache stays within its entries, its bytes and its time."""

from __future__ import annotations

import math
import sys
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import Clock

from authz.tokens.memory import BoundedCache

if TYPE_CHECKING:
    from collections.abc import Iterator


def cache(clock: Clock, *, entries_max: int = 10, bytes_max: int = 1_000) -> BoundedCache[int]:
    return BoundedCache(entries_max=entries_max, bytes_max=bytes_max, timer=clock.monotonic)


def put(held: BoundedCache[int], number: int, *, size: int = 1, lifetime_s: float = 60) -> None:
    held.put(b"%d" % number, number, lifetime_s=lifetime_s, size_bytes=size)


def values(held: BoundedCache[int], count: int) -> list[int]:
    return [number for number in range(count) if held.get(b"%d" % number) is not None]


def test_a_value_is_there_until_its_lifetime_ends(clock: Clock) -> None:
    held = cache(clock)
    put(held, 1, lifetime_s=10)

    clock.advance(9.999)
    assert held.get(b"1") == 1
    clock.advance(0.001)
    assert held.get(b"1") is None


def test_each_value_has_a_lifetime_of_its_own(clock: Clock) -> None:
    held = cache(clock)
    put(held, 1, lifetime_s=10)
    put(held, 2, lifetime_s=20)

    clock.advance(10)
    assert values(held, 3) == [2]


@pytest.mark.parametrize("lifetime_s", [0, -1, -math.inf, math.nan])
def test_a_value_without_a_life_is_not_kept(clock: Clock, lifetime_s: float) -> None:
    held = cache(clock)
    put(held, 1, lifetime_s=lifetime_s)

    assert held.get(b"1") is None
    assert len(held) == 0


def test_a_value_may_live_for_ever(clock: Clock) -> None:
    held = cache(clock)
    put(held, 1, lifetime_s=math.inf)

    clock.advance(1e12)
    assert held.get(b"1") == 1


def test_no_more_than_entries_max_stay_and_the_least_used_one_goes(clock: Clock) -> None:
    held = cache(clock, entries_max=3)
    for number in range(3):
        put(held, number)
    held.get(b"0")
    put(held, 3)

    assert values(held, 4) == [0, 2, 3]


def test_no_more_than_bytes_max_stay(clock: Clock) -> None:
    held = cache(clock, entries_max=100, bytes_max=1_000)
    for number in range(10):
        put(held, number, size=400)

    assert values(held, 10) == [8, 9]


def test_a_value_that_could_never_fit_pushes_nothing_out(clock: Clock) -> None:
    held = cache(clock, bytes_max=1_000)
    put(held, 1)
    put(held, 2, size=1_001)

    assert values(held, 3) == [1]


def test_a_new_value_takes_the_place_of_the_old_one(clock: Clock) -> None:
    held = cache(clock, entries_max=2)
    put(held, 1)
    held.put(b"1", 7, lifetime_s=60, size_bytes=1)
    put(held, 2)

    assert held.get(b"1") == 7
    assert len(held) == 2


def test_what_is_dropped_or_cleared_is_gone(clock: Clock) -> None:
    held = cache(clock)
    for number in range(3):
        put(held, number)
    held.drop(b"1")
    held.drop(b"never there")
    assert values(held, 3) == [0, 2]

    held.clear()
    assert values(held, 3) == []


@given(
    entries_max=st.integers(1, 20),
    bytes_max=st.integers(1, 200),
    sizes=st.lists(st.integers(0, 300), max_size=60),
)
def test_both_bounds_hold_whatever_is_put(
    entries_max: int, bytes_max: int, sizes: list[int]
) -> None:
    held = cache(Clock(), entries_max=entries_max, bytes_max=bytes_max)
    for number, size in enumerate(sizes):
        put(held, number, size=size)
        there = values(held, number + 1)
        assert len(there) <= entries_max
        assert sum(sizes[kept] for kept in there) <= bytes_max


@pytest.fixture
def switching_often() -> Iterator[None]:
    """Let threads take turns a thousand times as often as usual."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(5e-6)
    yield
    sys.setswitchinterval(before)


class RunningClock(Clock):
    """Time passes whenever somebody looks."""

    def monotonic(self) -> float:
        self.advance(0.001)
        return super().monotonic()


def test_CA_15_its_size_may_be_read_in_another_thread(switching_often: None) -> None:
    """Metrics are: and a look at the size must not sweep while the loop puts."""
    held = cache(RunningClock(), entries_max=50, bytes_max=5_000)
    done = threading.Event()
    sizes: list[int] = []

    def scrape() -> None:
        while not done.is_set():
            sizes.append(len(held))

    reader = threading.Thread(target=scrape)
    reader.start()
    try:
        for number in range(20_000):
            put(held, number % 97, lifetime_s=0.01 + number % 7 / 100)
            held.get(b"%d" % (number % 89))
    finally:
        done.set()
        reader.join()

    assert sizes
    assert max(sizes) <= 50
