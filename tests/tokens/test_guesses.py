"""Guessing at a secret is slowed down; knowing it is not."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter
from typing import TYPE_CHECKING, Final

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.clock import Clock

from authz.errors import IdpOutage, Reason, Throttled, Unauthenticated
from authz.tokens.guesses import COUNTED_SECONDS_MAX, GUESSES_MAX, Guess, GuessLimiter, fold
from authz.tokens.turns import SOURCES_MAX

if TYPE_CHECKING:
    from support.idp import RunningIdp
    from support.running import MakeAuthz


_numbers = itertools.count()


def place(
    guesses: GuessLimiter, client: bytes = b"one", source: str = ""
) -> contextlib.AbstractContextManager[None]:
    """A place for a pair that was never tried before."""
    return guesses.place(Guess(client, b"%d" % next(_numbers), source))


def guess(guesses: GuessLimiter, client: bytes = b"one", source: str = "") -> None:
    """An exchange that the provider refuses."""
    with pytest.raises(Unauthenticated), place(guesses, client, source):
        raise Unauthenticated(Reason.SECRET_REJECTED)


def is_let_in(guesses: GuessLimiter, source: str) -> bool:
    """Whether a guess from a source takes a place."""
    try:
        guess(guesses, source=source)
    except Throttled:
        return False
    return True


def test_a_full_bucket_throttles_one_client_until_it_has_leaked(clock: Clock) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    for _ in range(GUESSES_MAX):
        guess(guesses)

    with pytest.raises(Throttled) as refused, place(guesses):
        pass
    assert refused.value.retry_after == 1
    guess(guesses, b"another")
    clock.advance(1)
    guess(guesses)


def test_what_has_leaked_out_is_forgotten(clock: Clock) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    for _ in range(GUESSES_MAX):
        guess(guesses)
    clock.advance(GUESSES_MAX)

    for _ in range(GUESSES_MAX):
        guess(guesses)


def test_G_12_who_is_turned_away_is_not_kept_out_longer_for_it(clock: Clock) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    for _ in range(GUESSES_MAX):
        guess(guesses)
    for _ in range(1_000):
        with pytest.raises(Throttled) as refused, place(guesses):
            pass
        assert refused.value.retry_after == 1

    clock.advance(1)
    guess(guesses)


@pytest.mark.parametrize("end", [None, IdpOutage(Reason.IDP_UNAVAILABLE), KeyboardInterrupt()])
def test_G_12_a_place_is_given_back_unless_the_provider_refuses(
    clock: Clock, end: BaseException | None
) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    for _ in range(3 * GUESSES_MAX):
        with contextlib.suppress(IdpOutage, KeyboardInterrupt), place(guesses):
            if end is not None:
                raise end

    for _ in range(GUESSES_MAX):
        guess(guesses)
    with pytest.raises(Throttled), place(guesses):
        pass


@pytest.mark.parametrize("attempts_a_second", [10, 100])
async def test_G12_a_cold_caller_gets_its_turn_beside_an_attacker_elsewhere(
    clock: Clock, attempts_a_second: int
) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    let_in: Counter[str] = Counter()
    honest_at = clock.monotonic() + 3.05
    for _ in range(30 * attempts_a_second):
        let_in["attacker"] += is_let_in(guesses, "attacker")
        if clock.monotonic() >= honest_at:
            try:
                with place(guesses, source="honest"):
                    let_in["honest"] += 1
            except Throttled as told:  # it comes when it is told to, as clients do
                honest_at = clock.monotonic() + told.retry_after
            else:
                honest_at = clock.monotonic() + 5
        clock.advance(1 / attempts_a_second)

    assert let_in["honest"] >= 3
    assert let_in["attacker"] <= GUESSES_MAX + 31


async def test_G12_the_places_of_an_attacked_id_go_in_turn_to_the_sources_that_ask(
    clock: Clock,
) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    for _ in range(GUESSES_MAX):
        guess(guesses, source="a")
    let_in: Counter[str] = Counter()
    for _ in range(40):
        for source in ("a", "a", "a", "b", "a", "c", "a", "a"):
            let_in[source] += is_let_in(guesses, source)
        clock.advance(1)

    # One place a second; each source has its turn before another one has its next but one.
    assert let_in.total() == 39
    assert min(let_in["b"], let_in["c"]) >= 39 // 4


async def test_G12_a_source_that_does_not_come_back_holds_no_place_for_long(clock: Clock) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    for _ in range(GUESSES_MAX):
        guess(guesses, source="a")
    for ghost in range(5_000):
        assert not is_let_in(guesses, f"ghost {ghost}")
    waits = []
    for _ in range(100):
        try:
            guess(guesses, source="honest")
            break
        except Throttled as told:
            waits.append(told.retry_after)
            clock.advance(told.retry_after)

    assert waits
    assert sum(waits) <= SOURCES_MAX + GUESSES_MAX


async def test_G12_two_methods_that_ask_about_one_pair_make_one_guess(clock: Clock) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    for number in range(GUESSES_MAX):
        for _ in range(2):
            with (
                pytest.raises(Unauthenticated),
                guesses.place(Guess(b"one", b"pair %d" % number)),
            ):
                raise Unauthenticated(Reason.SECRET_REJECTED)

    with pytest.raises(Throttled), place(guesses):
        pass
    clock.advance(COUNTED_SECONDS_MAX)
    for _ in range(int(COUNTED_SECONDS_MAX)):
        guess(guesses)
    with pytest.raises(Throttled), guesses.place(Guess(b"one", b"pair 0")):
        pass


@pytest.mark.parametrize("accepted_after_s", [0, 0.5, 3, COUNTED_SECONDS_MAX + 1])
async def test_G12_a_pair_that_another_method_accepts_is_owed_nothing_for(
    clock: Clock, accepted_after_s: float
) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    pair = Guess(b"one", b"a client's, and no user's")
    with pytest.raises(Unauthenticated), guesses.place(pair):
        raise Unauthenticated(Reason.SECRET_REJECTED)
    with guesses.place(pair):
        clock.advance(accepted_after_s)

    for _ in range(GUESSES_MAX):
        guess(guesses)
    with pytest.raises(Throttled), place(guesses):
        pass


async def test_G12_a_pair_that_is_accepted_gives_back_its_own_guess_once(clock: Clock) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    pair = Guess(b"one", b"a client's, and no user's")
    for _ in range(GUESSES_MAX - 1):
        guess(guesses)
    with pytest.raises(Unauthenticated), guesses.place(pair):
        raise Unauthenticated(Reason.SECRET_REJECTED)
    # Two plugins may ask about one pair at once.
    with guesses.place(pair), guesses.place(pair):
        pass

    guess(guesses)
    with pytest.raises(Throttled), place(guesses):
        pass


async def test_G12_an_outage_after_a_refusal_gives_no_guess_back(clock: Clock) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    pair = Guess(b"one", b"pair")
    with pytest.raises(Unauthenticated), guesses.place(pair):
        raise Unauthenticated(Reason.SECRET_REJECTED)
    with pytest.raises(IdpOutage), guesses.place(pair):
        raise IdpOutage(Reason.IDP_UNAVAILABLE)

    for _ in range(GUESSES_MAX - 1):
        guess(guesses)
    with pytest.raises(Throttled), place(guesses):
        pass


async def test_G12_the_debt_is_never_more_than_thirty_seconds(clock: Clock) -> None:
    guesses = GuessLimiter(timer=clock.monotonic)
    for _ in range(10_000):
        is_let_in(guesses, "a")
    clock.advance(30)

    for _ in range(GUESSES_MAX):
        guess(guesses)


STEPS: Final = st.lists(st.sampled_from(["begin", "refused", "accepted", "second"]), max_size=120)


@given(steps=STEPS)
def test_G_12_no_more_guesses_are_made_than_time_allows(steps: list[str]) -> None:
    clock = Clock()
    guesses = GuessLimiter(timer=clock.monotonic)
    begun: list[contextlib.ExitStack] = []
    started = refused = 0
    for step in steps:
        if step == "second":
            clock.advance(1)
        elif step == "begin":
            with contextlib.suppress(Throttled), contextlib.ExitStack() as stack:
                stack.enter_context(place(guesses))
                begun.append(stack.pop_all())
        elif begun and step == "accepted":
            begun.pop().close()
        elif begun:
            refused += 1
            with contextlib.suppress(Unauthenticated), begun.pop():
                raise Unauthenticated(Reason.SECRET_REJECTED)
        started = max(started, len(begun))
    seconds = clock.monotonic() - Clock().monotonic()
    assert max(started, refused) <= GUESSES_MAX + seconds * (1 + steps.count("accepted"))


SPELLINGS: Final = (
    "Kong_Caf\u00e9",
    "kong_caf\u00e9",
    "KONG_CAF\u00c9",
    "kong_cafe",
    "kong_cafe\u0301",
    "\uff4b\uff4f\uff4e\uff47_cafe",
    "\u212aong_cafe",  # the sign of Kelvin
    "kong_cafe  ",
)


def test_G_12_spellings_that_a_database_may_take_for_one_id_fold_to_one() -> None:
    assert {fold(spelling) for spelling in SPELLINGS} == {"kong_cafe"}
    assert fold("Stra\u00dfe") == fold("STRASSE")
    assert len({fold(client_id) for client_id in ("a", "b", "a-b", "ab", "a_b", "a b", "1")}) == 7


@given(st.text())
def test_G_12_folding_once_is_enough(text: str) -> None:
    assert fold(fold(text)) == fold(text)
    assert fold(text.upper()) == fold(text.upper().lower())


async def test_G_12_of_a_burst_of_guesses_twenty_reach_the_provider(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    ids = ("kong_id", "KONG_ID", "Kong_Id", "\uff4b\uff4f\uff4e\uff47_\uff49\uff44")
    pairs = [(ids[number % len(ids)], f"guess {number}") for number in range(200)]
    answers = await asyncio.gather(*(authz.basic(*pair) for pair in pairs))

    # Those that take longer than a second let another one through.
    assert GUESSES_MAX <= idp.counters["token"] < 2 * GUESSES_MAX
    assert Counter(answer.status for answer in answers) == {
        401: idp.counters["token"],
        429: len(pairs) - idp.counters["token"],
    }


async def test_G_12_equal_pairs_at_once_take_one_place(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    answers = await asyncio.gather(*(authz.basic() for _ in range(100)))

    assert all(answer.allowed for answer in answers)
    assert idp.counters["token"] == 1


@pytest.mark.parametrize("cache_tokens", [True, False])
async def test_G_12_an_established_client_is_not_locked_out(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, cache_tokens: bool
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock, cache_tokens=cache_tokens)
    assert (await authz.basic()).allowed
    clock.advance(400)  # its token is at its end
    for number in range(GUESSES_MAX):
        assert (await authz.basic(client_secret=f"guess {number}")).status == 401
    assert (await authz.basic(client_secret="another")).status == 429

    assert (await authz.basic()).allowed


async def test_G_12_a_reload_amid_guesses_locks_nobody_out_and_lets_no_more_of_them_pass(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    assert (await authz.basic()).allowed
    for number in range(GUESSES_MAX):
        assert (await authz.basic(client_secret=f"guess {number}")).status == 401
    authz.reload(authz.configuration.gateway)

    assert (await authz.basic(client_secret="another")).status == 429
    assert (await authz.basic()).allowed


async def test_G_12_a_secret_that_is_good_no_more_is_a_guess_like_any_other(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock, cache_tokens=False)
    assert (await authz.basic()).allowed
    idp.clients["kong_id"] = "rotated"
    assert (await authz.basic()).status == 401
    clock.advance(6)
    for number in range(GUESSES_MAX):
        assert (await authz.basic(client_secret=f"guess {number}")).status == 401

    assert (await authz.basic()).status == 429


async def test_DS_05_guessing_is_429_and_the_known_secret_passes(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
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
