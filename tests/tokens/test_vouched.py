"""What was said of tokens is kept within bounds, and a flood of bad ones pushes out no good one."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import pytest

from authz.errors import Overloaded, Reason, Unauthenticated
from authz.model import Claims
from authz.tokens.vouched import (
    INACTIVE_ENTRIES_MAX,
    INACTIVE_SECONDS_MAX,
    KNOWN_ENTRIES_MAX,
    KNOWN_SECONDS_MAX,
    STRANGERS_MAX,
    VARIANTS_MAX,
    Vouched,
    VouchedTokens,
)

if TYPE_CHECKING:
    from support.clock import Clock

INACTIVE = Unauthenticated(Reason.TOKEN_INACTIVE, "not active")
ACTIVE = Vouched(Claims({"client_id": "kong_id"}))


def tokens(clock: Clock, entries_max: int = 100) -> VouchedTokens:
    return VouchedTokens(
        entries_max=entries_max, bytes_max=entries_max * 1_000, timer=clock.monotonic
    )


def test_an_answer_is_kept_for_its_life(clock: Clock) -> None:
    kept = tokens(clock)
    kept.keep(b"key", b"key", ACTIVE, lifetime_s=60)

    clock.advance(59)
    assert kept.get(b"key") is ACTIVE
    clock.advance(1)
    assert kept.get(b"key") is None
    assert kept.get(b"another") is None


def test_no_more_answers_are_kept_than_the_bound(clock: Clock) -> None:
    kept = tokens(clock, entries_max=10)
    for number in range(20):
        kept.keep(b"%d" % number, b"%d" % number, ACTIVE, lifetime_s=60)

    assert len(kept) == 10
    assert kept.get(b"19") is ACTIVE


def test_one_that_is_not_active_is_kept_for_a_moment_however_long_the_file_says(
    clock: Clock,
) -> None:
    kept = tokens(clock)
    answer = kept.keep_inactive(b"key", INACTIVE, lifetime_s=math.inf)

    clock.advance(INACTIVE_SECONDS_MAX - 0.1)
    assert kept.get(b"key") is answer
    clock.advance(0.1)
    assert kept.get(b"key") is None


def test_why_a_token_is_not_active_is_kept_without_what_was_presented(clock: Clock) -> None:
    kept = tokens(clock)
    with pytest.raises(Unauthenticated) as raised:
        raise Unauthenticated(Reason.TOKEN_INACTIVE, "not active", log_fields={"idp_error": "x"})
    kept.keep_inactive(b"key", raised.value, lifetime_s=5)

    answer = kept.get(b"key")
    assert isinstance(answer, Unauthenticated)
    assert (answer.reason, answer.detail) == (Reason.TOKEN_INACTIVE, "not active")
    assert answer.__traceback__ is None
    assert answer.log_fields == {}


def test_a_flood_of_bad_tokens_pushes_out_no_good_one(clock: Clock) -> None:
    kept = tokens(clock, entries_max=2)
    kept.keep(b"good", b"good", ACTIVE, lifetime_s=60)
    for number in range(INACTIVE_ENTRIES_MAX + 1):
        kept.keep_inactive(b"%d" % number, INACTIVE, lifetime_s=5)

    assert kept.get(b"good") is ACTIVE
    assert kept.get(b"0") is None


def test_a_token_is_known_from_when_it_was_active_until_it_is_found_inactive(clock: Clock) -> None:
    kept = tokens(clock)
    assert not kept.is_known(b"key")
    kept.keep(b"key", b"key", ACTIVE, lifetime_s=1)
    clock.advance(KNOWN_SECONDS_MAX - 1)
    assert kept.is_known(b"key")

    kept.keep_inactive(b"key", INACTIVE, lifetime_s=5)
    assert not kept.is_known(b"key")


async def test_G16_strangers_leave_room_for_tokens_that_are_known(clock: Clock) -> None:
    kept = tokens(clock)
    kept.keep(b"known", b"known", ACTIVE, lifetime_s=0)
    told = asyncio.Event()

    async def call() -> Vouched:
        await told.wait()
        return ACTIVE

    waiting = [
        asyncio.create_task(kept.run(b"%d" % n, b"%d" % n, call)) for n in range(STRANGERS_MAX)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await kept.run(b"one more", b"one more", call)
    waiting += [asyncio.create_task(kept.run(key, key, call)) for key in (b"known", b"0")]
    await asyncio.sleep(0)
    told.set()

    assert await asyncio.gather(*waiting) == [ACTIVE] * (STRANGERS_MAX + 2)


def test_a_token_is_known_by_itself_whatever_goes_with_it(clock: Clock) -> None:
    kept = tokens(clock)
    for number in range(KNOWN_ENTRIES_MAX + 1):
        kept.keep(b"with %d" % number, b"one", ACTIVE, lifetime_s=60)
    kept.keep(b"other", b"other", ACTIVE, lifetime_s=60)
    for number in range(KNOWN_ENTRIES_MAX + 1):
        kept.keep(b"with %d" % number, b"one", ACTIVE, lifetime_s=60)

    assert kept.is_known(b"one")
    assert kept.is_known(b"other")


def test_of_one_token_no_more_answers_are_kept_than_the_bound_and_its_oldest_goes(
    clock: Clock,
) -> None:
    kept = tokens(clock, entries_max=1_000)
    kept.keep(b"other with 0", b"other", ACTIVE, lifetime_s=60)
    kept.keep(b"alone", b"alone", ACTIVE, lifetime_s=60)
    for number in range(VARIANTS_MAX):
        kept.keep(b"with %d" % number, b"one", ACTIVE, lifetime_s=60)
    # Learnt anew, so it is the oldest no longer.
    kept.keep(b"with 0", b"one", ACTIVE, lifetime_s=60)
    kept.keep(b"one more", b"one", ACTIVE, lifetime_s=60)

    assert kept.get(b"with 1") is None
    for key in (b"with 0", b"with 2", b"one more", b"other with 0", b"alone"):
        assert kept.get(key) is ACTIVE
    for number in range(2_000):
        kept.keep(b"further %d" % number, b"one", ACTIVE, lifetime_s=60)
    assert len(kept) == VARIANTS_MAX + 2
    assert kept.get(b"other with 0") is ACTIVE


def test_an_answer_that_has_ended_takes_no_place_of_its_token(clock: Clock) -> None:
    kept = tokens(clock, entries_max=1_000)
    kept.keep(b"long", b"one", ACTIVE, lifetime_s=60)
    for number in range(VARIANTS_MAX - 1):
        kept.keep(b"short %d" % number, b"one", ACTIVE, lifetime_s=10)
    clock.advance(10)
    kept.keep(b"one more", b"one", ACTIVE, lifetime_s=60)
    clock.advance(49)

    assert kept.get(b"long") is ACTIVE
    for number in range(VARIANTS_MAX - 1):
        kept.keep(b"again %d" % number, b"one", ACTIVE, lifetime_s=10)
    assert kept.get(b"long") is None
    assert kept.get(b"one more") is ACTIVE
