"""Guessing at a secret is slowed down; knowing it is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from authz.cache.guesses import GUESSES_MAX, Guesses
from authz.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from support.house import RunningHouse
    from support.idp import RunningIdp


def test_a_full_bucket_throttles_one_client_until_it_has_leaked(clock: Clock) -> None:
    guesses = Guesses(timer=clock.monotonic)
    for _ in range(GUESSES_MAX):
        guesses.check(b"one")
        guesses.wrong(b"one")

    with pytest.raises(Throttled) as refused:
        guesses.check(b"one")
    assert refused.value.retry_after == 1
    guesses.check(b"another")
    clock.advance(1)
    guesses.check(b"one")


def test_what_has_leaked_out_is_forgotten(clock: Clock) -> None:
    guesses = Guesses(timer=clock.monotonic)
    for _ in range(GUESSES_MAX):
        guesses.wrong(b"one")
    clock.advance(GUESSES_MAX)
    for _ in range(GUESSES_MAX - 1):
        guesses.wrong(b"one")

    guesses.check(b"one")


async def test_DS_05_guessing_is_429_and_the_known_secret_passes(
    idp: RunningIdp, house: Callable[..., RunningHouse], clock: Clock
) -> None:
    idp.now = clock.now
    authz = house(clock=clock)
    assert (await authz.basic()).allowed
    for number in range(GUESSES_MAX):
        assert (await authz.basic(client_secret=f"guess {number}")).status == 401
    asked = idp.counters["token"]

    throttled = await authz.basic(client_secret="one guess more")

    assert (throttled.status, throttled.code, throttled.reason) == (429, 8, "guessing_throttled")
    assert throttled.header("retry-after") == "1"
    assert idp.counters["token"] == asked
    assert (await authz.basic()).allowed
    assert (await authz.basic("other_id", "wrong")).status == 401
