"""The laws of every tier: what is kept comes back whole until its end, and never after."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz.model import Claims, Secret
from authz.tokens.memory import MemoryTier
from authz.tokens.tier import Kept, Tier

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock

ENTRIES_MAX = 3
BYTES_MAX = 100_000


def memory(clock: Clock) -> Tier:
    return MemoryTier(entries_max=ENTRIES_MAX, bytes_max=BYTES_MAX, clock=clock)


# A new tier is one line here.
@pytest.fixture(params=[memory])
def tier(request: pytest.FixtureRequest, clock: Clock) -> Tier:
    make: Callable[[Clock], Tier] = request.param
    return make(clock)


@pytest.fixture
def kept(clock: Clock) -> Callable[..., Kept]:
    def make(text: str = "a.b.c", *, life_s: float = 300) -> Kept:
        now = clock.now()
        return Kept(Secret(text), Claims({"client_id": "one", "n": [1]}), now, now + life_s)

    return make


async def test_what_is_kept_comes_back_whole(tier: Tier, kept: Callable[..., Kept]) -> None:
    await tier.put(b"key", kept())

    assert await tier.get(b"key") == kept()
    assert await tier.get(b"another key") is None
    assert len(tier) == 1


async def test_it_is_gone_at_its_end(tier: Tier, kept: Callable[..., Kept], clock: Clock) -> None:
    await tier.put(b"key", kept(life_s=300))

    clock.advance(299.9)
    assert await tier.get(b"key") is not None
    clock.advance(0.1)
    assert await tier.get(b"key") is None


@pytest.mark.parametrize("life_s", [0, -1])
async def test_what_has_ended_is_not_kept(
    tier: Tier, kept: Callable[..., Kept], life_s: float
) -> None:
    await tier.put(b"key", kept(life_s=life_s))

    assert await tier.get(b"key") is None


async def test_CA_16_a_step_of_the_wall_clock_lengthens_no_life(
    tier: Tier, kept: Callable[..., Kept], clock: Clock
) -> None:
    await tier.put(b"key", kept(life_s=300))
    clock.set_wall(clock.now() - 3_600)
    clock.advance(300)
    assert await tier.get(b"key") is None

    await tier.put(b"key", kept(life_s=300))
    clock.set_wall(clock.now() + 3_600)
    assert await tier.get(b"key") is None


async def test_a_new_one_takes_the_place_of_the_old_one(
    tier: Tier, kept: Callable[..., Kept]
) -> None:
    await tier.put(b"key", kept("old"))
    await tier.put(b"key", kept("new"))

    assert await tier.get(b"key") == kept("new")
    assert len(tier) == 1


async def test_one_can_be_forgotten_and_again(tier: Tier, kept: Callable[..., Kept]) -> None:
    await tier.put(b"key", kept())
    await tier.drop(b"key")
    await tier.drop(b"key")

    assert await tier.get(b"key") is None


async def test_no_more_than_its_bound_are_kept(tier: Tier, kept: Callable[..., Kept]) -> None:
    for number in range(2 * ENTRIES_MAX):
        await tier.put(b"%d" % number, kept())

    there = [n for n in range(2 * ENTRIES_MAX) if await tier.get(b"%d" % n) is not None]
    assert len(there) == len(tier) <= ENTRIES_MAX
    assert 2 * ENTRIES_MAX - 1 in there


async def test_one_that_could_never_fit_pushes_nothing_out(
    tier: Tier, kept: Callable[..., Kept]
) -> None:
    await tier.put(b"key", kept())
    await tier.put(b"long", kept("a" * BYTES_MAX))

    assert await tier.get(b"key") is not None
    assert await tier.get(b"long") is None


async def test_long_tokens_are_bounded_by_their_bytes(
    tier: Tier, kept: Callable[..., Kept]
) -> None:
    for number in range(ENTRIES_MAX):
        await tier.put(b"%d" % number, kept("a" * (BYTES_MAX // 8)))

    assert len(tier) < ENTRIES_MAX


async def test_it_shows_nothing_of_its_tokens(tier: Tier, kept: Callable[..., Kept]) -> None:
    await tier.put(b"key", kept("a-token"))

    assert "a-token" not in repr(tier) + repr(kept("a-token"))
