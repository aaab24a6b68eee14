"""The keeper: whoever holds a good token waits for nothing, and trouble ends no token."""

from __future__ import annotations

import asyncio
import itertools
import logging
from typing import TYPE_CHECKING, Any

import pytest
from tokens.conftest import GrantOf

from authz.errors import (
    Forbidden,
    IdpOutage,
    Overloaded,
    Reason,
    Refusal,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from authz.tokens import keeper as keeping
from authz.tokens.guesses import GUESSES_MAX, Guess
from authz.tokens.keeper import PAUSE_SECONDS, REFUSED_SECONDS_MAX, Keeper, Occasion

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from tokens.conftest import Provider

KEY = b"key"
REJECTED = Unauthenticated(Reason.SECRET_REJECTED, "the provider refused the client")
OUTAGE = IdpOutage(Reason.IDP_UNAVAILABLE, "token endpoint: HTTP status 500")
# With lots of 0: half of 300 s for the first renewal, 2 + 30 s before the end for the others.
FIRST_SECONDS, LATER_SECONDS = 150.0, 268.0

TROUBLE = [
    pytest.param(OUTAGE, id="outage"),
    pytest.param(IdpOutage(Reason.IDP_THROTTLED, retry_after=2), id="throttled"),
    pytest.param(Unavailable(Reason.IDP_ANSWER_INVALID, "not JSON"), id="a maintenance page"),
    pytest.param(Unavailable(Reason.IDP_REQUEST_REFUSED, "invalid_scope"), id="invalid_scope"),
    pytest.param(Unavailable(Reason.EXCHANGED_TOKEN_INVALID, "nbf"), id="a bad token"),
    pytest.param(Unavailable(Reason.IDENTITY_MISMATCH, "other"), id="another client's token"),
    pytest.param(Unavailable(Reason.KEYS_UNAVAILABLE, "no keys"), id="no keys"),
    pytest.param(Overloaded(Reason.OVERLOADED, "no place"), id="our own overload"),
    pytest.param(Forbidden(Reason.CLIENT_NOT_ALLOWED, "access_denied"), id="not allowed"),
    pytest.param(ZeroDivisionError(), id="a fault of ours"),
]


@pytest.fixture(autouse=True)
async def closed(keeper: Keeper) -> Any:
    yield
    await keeper.aclose()


@pytest.fixture
def grant(provider: Provider) -> GrantOf:
    return GrantOf(provider)


async def text(keeper: Keeper, grant: GrantOf, key: bytes = KEY) -> str:
    return (await keeper.token(key, grant)).token.reveal()


def pauses(caplog: pytest.LogCaptureFixture) -> list[Any]:
    return [
        record.fields["reason"]  # type: ignore[attr-defined] # our lines have fields
        for record in caplog.records
        if record.levelno == logging.WARNING and "could not be renewed" in record.getMessage()
    ]


# --- One call for all who have none ------------------------------------------------------


async def test_DS_03_a_thousand_at_once_are_one_call(
    keeper: Keeper, provider: Provider, grant: GrantOf, count: Callable[..., float]
) -> None:
    tokens = await asyncio.gather(*(text(keeper, grant) for _ in range(1_000)))

    assert set(tokens) == {"token-1"}
    assert provider.asked == [Occasion.STRANGER]
    assert count("authz_token_waits_total", kind="first") == 1_000


async def test_what_is_kept_says_when_it_was_had_and_when_it_ends(
    keeper: Keeper, grant: GrantOf, clock: Clock
) -> None:
    kept = await keeper.token(KEY, grant)

    assert (kept.issued_at, kept.expires_at) == (clock.now(), clock.now() + 300)
    assert kept.claims == {"n": 1}
    assert await keeper.token(KEY, grant) is kept
    assert keeper.tokens_held() == 1


async def test_a_caller_that_leaves_takes_nobody_along(
    keeper: Keeper, provider: Provider, grant: GrantOf
) -> None:
    provider.hold()
    leaving, staying = (asyncio.create_task(text(keeper, grant)) for _ in range(2))
    await asyncio.sleep(0)
    leaving.cancel()
    await asyncio.sleep(0)
    provider.go()

    assert await staying == "token-1"


async def test_with_cache_tokens_false_nothing_is_held_nor_renewed(
    keeper: Keeper, provider: Provider, clock: Clock
) -> None:
    grant = GrantOf(provider, keep=False)
    assert [await text(keeper, grant) for _ in range(2)] == ["token-1", "token-2"]
    clock.advance(299)
    keeper.renew_due()
    await keeper.settled()

    assert len(provider.asked) == 2
    assert keeper.tokens_held() == 0
    assert keeper.reusable_until(KEY) == 0.0
    assert provider.asked[1] is Occasion.KNOWN


async def test_H4_a_token_just_obtained_is_handed_on_whatever_its_life(
    keeper: Keeper, provider: Provider, grant: GrantOf
) -> None:
    provider.life_s = 0.5

    assert await text(keeper, grant) == "token-1"


async def test_a_token_whose_key_has_gone_is_not_handed_out(
    keeper: Keeper, provider: Provider, grant: GrantOf
) -> None:
    await text(keeper, grant)
    provider.distrusted.add("token-1")

    assert await text(keeper, grant) == "token-2"


# --- Renewed ahead: nobody waits --------------------------------------------------------


@pytest.mark.parametrize("asked_by", ["timer", "caller"])
async def test_H2_nobody_waits_for_a_renewal(
    keeper: Keeper,
    provider: Provider,
    grant: GrantOf,
    clock: Clock,
    count: Callable[..., float],
    asked_by: str,
) -> None:
    await text(keeper, grant)
    provider.hold()
    clock.advance(FIRST_SECONDS)
    if asked_by == "timer":
        keeper.renew_due()
    for _ in range(10):
        assert await text(keeper, grant) == "token-1"
    provider.go()
    await keeper.settled()

    assert await text(keeper, grant) == "token-2"
    assert provider.asked == [Occasion.STRANGER, Occasion.RENEWAL]
    assert count("authz_token_waits_total", kind="renewal") == 0
    assert count("authz_token_waits_total", kind="first") == 1
    assert count("authz_token_renewals_total", outcome="ok") == 1


async def test_H2_a_timer_renews_before_anybody_asks(
    keeper: Keeper, provider: Provider, grant: GrantOf, clock: Clock
) -> None:
    await text(keeper, grant)
    clock.advance(FIRST_SECONDS - 0.1)
    keeper.renew_due()
    await keeper.settled()
    assert len(provider.asked) == 1
    clock.advance(0.1)
    keeper.renew_due()
    await keeper.settled()

    assert len(provider.asked) == 2


async def test_H2_a_token_that_nobody_used_since_its_renewal_is_let_go(
    keeper: Keeper, provider: Provider, grant: GrantOf, clock: Clock
) -> None:
    await text(keeper, grant)
    for _ in range(20):
        clock.advance(50)
        keeper.renew_due()
        await keeper.settled()

    assert len(provider.asked) == 2
    assert not keeper._renewals


async def test_H2_one_that_is_used_is_renewed_for_ever(
    keeper: Keeper, provider: Provider, grant: GrantOf, clock: Clock, count: Callable[..., float]
) -> None:
    for _ in range(1_000):
        clock.advance(7)
        keeper.renew_due()
        kept = await keeper.token(KEY, grant)
        assert kept.expires_at - clock.now() > 2
        await keeper.settled()

    assert count("authz_token_waits_total", kind="first") == 1
    assert count("authz_token_waits_total", kind="renewal") == 0
    assert len(provider.asked) <= 3 + 7_000 / LATER_SECONDS


async def test_H2_tokens_that_began_together_part(
    make_keeper: Callable[..., Keeper], provider: Provider, clock: Clock
) -> None:
    lots = itertools.cycle(number / 97 for number in range(97))
    keeper = make_keeper(lot=lambda: next(lots))
    grants = {b"%d" % n: GrantOf(provider, str(n)) for n in range(97)}
    for key, grant in grants.items():
        await keeper.token(key, grant)
    busiest, before = 0, len(provider.asked)
    for _ in range(300):
        clock.advance(1)
        keeper.renew_due()
        await keeper.settled()
        busiest = max(busiest, len(provider.asked) - before)
        before = len(provider.asked)

    assert len(provider.asked) == 2 * 97
    assert busiest <= 2  # of 97, in one second
    await keeper.aclose()


async def test_a_cached_answer_ends_where_the_renewal_begins(
    keeper: Keeper, provider: Provider, grant: GrantOf, clock: Clock
) -> None:
    start = clock.monotonic()
    await text(keeper, grant)
    assert keeper.reusable_until(KEY) == start + FIRST_SECONDS
    clock.advance(FIRST_SECONDS)
    provider.hold()
    await text(keeper, grant)
    assert keeper.reusable_until(KEY) == 0.0

    provider.go()
    await keeper.settled()
    assert keeper.reusable_until(KEY) == start + FIRST_SECONDS + LATER_SECONDS


async def test_H3_whose_token_ends_during_a_renewal_waits_for_it(
    keeper: Keeper, provider: Provider, grant: GrantOf, clock: Clock, count: Callable[..., float]
) -> None:
    await text(keeper, grant)
    provider.hold()
    clock.advance(299)
    assert keeper._renewals
    waiting = asyncio.create_task(text(keeper, grant))
    await asyncio.sleep(0)
    clock.advance(1)
    late = asyncio.create_task(text(keeper, grant))
    await asyncio.sleep(0)
    assert not waiting.done()
    provider.go()

    assert [await waiting, await late] == ["token-2"] * 2
    assert provider.asked == [Occasion.STRANGER, Occasion.RENEWAL]
    assert count("authz_token_waits_total", kind="first") == 2


async def test_H4_a_token_about_to_end_is_handed_on_only_if_no_other_can_be_had(
    keeper: Keeper, provider: Provider, grant: GrantOf, clock: Clock, count: Callable[..., float]
) -> None:
    await text(keeper, grant)
    clock.advance(298)
    assert await text(keeper, grant) == "token-2"
    assert count("authz_token_waits_total", kind="renewal") == 1

    clock.advance(298)
    provider.error = OUTAGE
    assert await text(keeper, grant) == "token-2"
    clock.advance(1.9)
    assert await text(keeper, grant) == "token-2"
    clock.advance(0.1)
    with pytest.raises(IdpOutage):
        await text(keeper, grant)


# --- Trouble that is not the caller's ------------------------------------------------------


@pytest.mark.parametrize("trouble", TROUBLE)
async def test_A1_trouble_leaves_a_held_token_to_its_own_end(
    keeper: Keeper,
    provider: Provider,
    grant: GrantOf,
    clock: Clock,
    trouble: Exception,
    count: Callable[..., float],
) -> None:
    await text(keeper, grant)
    provider.error = trouble
    clock.advance(FIRST_SECONDS)
    for _ in range(50):
        assert await text(keeper, grant) == "token-1"
        await keeper.settled()
    assert len(provider.asked) == 2  # a pause, and not a call per request
    assert count("authz_token_renewals_total", outcome="failed") == 1

    clock.advance(149.9)
    keeper.renew_due()
    assert await text(keeper, grant) == "token-1"
    await keeper.settled()
    clock.advance(0.1)
    with pytest.raises((Refusal, ZeroDivisionError)):
        await text(keeper, grant)
    assert count("authz_token_waits_total", kind="renewal") == 0


async def test_A1_only_the_verdict_on_the_caller_ends_a_held_token(
    keeper: Keeper, provider: Provider, grant: GrantOf, clock: Clock, count: Callable[..., float]
) -> None:
    await text(keeper, grant)
    provider.error = REJECTED
    clock.advance(FIRST_SECONDS)
    keeper.renew_due()
    await keeper.settled()

    with pytest.raises(Unauthenticated):
        await text(keeper, grant)
    assert len(provider.asked) == 2  # the verdict is remembered
    assert keeper.tokens_held() == 0
    assert count("authz_token_renewals_total", outcome="refused") == 1


@pytest.mark.parametrize("trouble", TROUBLE[:-1])
async def test_A2_each_pause_is_one_warning_with_its_cause(
    keeper: Keeper,
    provider: Provider,
    grant: GrantOf,
    clock: Clock,
    trouble: Any,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await text(keeper, grant)
    provider.error = trouble
    clock.advance(FIRST_SECONDS)
    for expected in (1, 1, 2):
        await text(keeper, grant)
        await keeper.settled()
        assert pauses(caplog) == [str(trouble.reason)] * expected
        clock.advance(PAUSE_SECONDS[0] / 2)


async def test_A2_one_outage_of_many_tokens_is_one_warning(
    keeper: Keeper, provider: Provider, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    for n in range(50):
        await keeper.token(b"%d" % n, GrantOf(provider, str(n)))
    provider.error = OUTAGE
    clock.advance(FIRST_SECONDS)
    keeper.renew_due()
    await keeper.settled()

    assert len(provider.asked) == 100
    assert pauses(caplog) == ["idp_unavailable"]


async def test_H6_each_pause_of_a_token_is_twice_as_long_and_ends_with_a_success(
    keeper: Keeper, provider: Provider, grant: GrantOf, clock: Clock
) -> None:
    provider.life_s = 10_000
    await text(keeper, grant)
    provider.error = OUTAGE
    clock.advance(5_000)
    for pause_s in (5, 10, 20, 40, 60, 60):
        before = len(provider.asked)
        await text(keeper, grant)
        await keeper.settled()
        assert len(provider.asked) == before + 1
        clock.advance(pause_s - 0.1)
        await text(keeper, grant)
        keeper.renew_due()
        await keeper.settled()
        assert len(provider.asked) == before + 1
        clock.advance(0.1)
    provider.error = None
    await text(keeper, grant)
    await keeper.settled()
    assert keeper._renewals[KEY].failures == 0


async def test_H6_those_that_failed_together_try_again_apart(
    make_keeper: Callable[..., Keeper], provider: Provider, clock: Clock
) -> None:
    lots = itertools.cycle([0.0, 0.25, 0.5, 0.75, 1.0])
    keeper = make_keeper(lot=lambda: next(lots))
    for n in range(5):
        await keeper.token(b"%d" % n, GrantOf(provider, str(n)))
    provider.error = OUTAGE
    clock.advance(290)
    keeper.renew_due()
    await keeper.settled()

    assert len({renewal.due_at for renewal in keeper._renewals.values()}) == 5
    await keeper.aclose()


async def test_H6_one_tokens_trouble_pauses_no_others(
    keeper: Keeper, provider: Provider, clock: Clock
) -> None:
    one, other = GrantOf(provider, "one"), GrantOf(provider, "other")
    await keeper.token(b"one", one)
    await keeper.token(b"other", other)
    clock.advance(FIRST_SECONDS)
    provider.error = OUTAGE
    await keeper.token(b"one", one)
    await keeper.settled()
    provider.error = None
    await keeper.token(b"other", other)
    await keeper.settled()

    assert await text(keeper, other, b"other") == "token-4"


async def test_a_fault_of_ours_in_the_background_is_heard(
    keeper: Keeper,
    provider: Provider,
    grant: GrantOf,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await text(keeper, grant)
    provider.error = ZeroDivisionError()
    clock.advance(FIRST_SECONDS)
    keeper.renew_due()
    await keeper.settled()

    assert "internal error" in [record.getMessage() for record in caplog.records]
    assert pauses(caplog) == ["internal_error"]


# --- Refusals ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "refusal",
    [
        pytest.param(REJECTED, id="secret_rejected"),
        pytest.param(Unavailable(Reason.IDENTITY_MISMATCH), id="A13 identity_mismatch"),
        pytest.param(Forbidden(Reason.CLIENT_NOT_ALLOWED), id="A5 client_not_allowed"),
    ],
)
@pytest.mark.parametrize(("refused_s", "kept_s"), [(60, REFUSED_SECONDS_MAX), (2, 2)])
async def test_a_refusal_is_remembered_for_a_moment(
    keeper: Keeper,
    provider: Provider,
    clock: Clock,
    refusal: Refusal,
    refused_s: float,
    kept_s: float,
) -> None:
    grant = GrantOf(provider, refused_s=refused_s)
    provider.error = refusal
    for advance_s, asked in ((0, 1), (kept_s - 0.1, 1), (0.1, 2)):
        clock.advance(advance_s)
        with pytest.raises(type(refusal)) as told:
            await text(keeper, grant)
        assert told.value.reason is refusal.reason
        assert len(provider.asked) == asked


@pytest.mark.parametrize("trouble", [OUTAGE, Overloaded(Reason.OVERLOADED)])
async def test_RL_01_an_outage_is_never_remembered(
    keeper: Keeper, provider: Provider, grant: GrantOf, trouble: Refusal
) -> None:
    provider.error = trouble
    with pytest.raises(type(trouble)):
        await text(keeper, grant)
    provider.error = None

    assert await text(keeper, grant) == "token-2"


async def test_CA_09_a_flood_of_refusals_pushes_out_no_token(
    keeper: Keeper, provider: Provider, grant: GrantOf
) -> None:
    await text(keeper, grant)
    provider.error = REJECTED
    for number in range(1_000):
        with pytest.raises(Unauthenticated):
            await keeper.token(b"%d" % number, _of_another_client(provider, number))
    assert keeper.refusals_held() == 1_000

    assert await text(keeper, grant) == "token-1"


def _of_another_client(provider: Provider, number: int) -> GrantOf:
    grant = GrantOf(provider)
    grant.guess = Guess(b"client %d" % number, b"pair %d" % number)
    return grant


# --- Guesses and strangers ---------------------------------------------------------------


async def test_G12_wrong_secrets_are_limited_and_a_good_pair_passes(
    keeper: Keeper, provider: Provider, clock: Clock
) -> None:
    good = GrantOf(provider, "good", keep=False)
    await keeper.token(b"good", good)
    provider.error = REJECTED
    for number in range(GUESSES_MAX):
        with pytest.raises(Unauthenticated):
            await keeper.token(b"%d" % number, GrantOf(provider, f"guess {number}"))
    with pytest.raises(Throttled):
        await keeper.token(b"another", GrantOf(provider, "another"))

    provider.error = None
    await keeper.token(b"good", good)
    # invalid_client takes it out of the known.
    provider.error = REJECTED
    with pytest.raises(Unauthenticated):
        await keeper.token(b"good", good)
    clock.advance(0.5)
    with pytest.raises(Unauthenticated):  # remembered, and not asked
        await keeper.token(b"good", good)
    clock.advance(5)
    for number in range(5):
        with pytest.raises(Unauthenticated):
            await keeper.token(b"later %d" % number, GrantOf(provider, f"later {number}"))
    provider.error = None
    with pytest.raises(Throttled):
        await keeper.token(b"good", good)


@pytest.mark.parametrize("keep", [True, False])
async def test_G12_a_pair_that_is_known_to_be_good_for_another_method_was_no_guess(
    keeper: Keeper, provider: Provider, *, keep: bool
) -> None:
    client = GrantOf(provider, "pair", keep=keep)
    await keeper.token(b"as a client", client)
    provider.error = REJECTED
    for number in range(GUESSES_MAX - 1):
        with pytest.raises(Unauthenticated):
            await keeper.token(b"%d" % number, GrantOf(provider, f"guess {number}"))
    with pytest.raises(Unauthenticated):
        await keeper.token(b"as a user", GrantOf(provider, "pair"))
    provider.error = None
    for _ in range(2):  # it is given back once
        await keeper.token(b"as a client", client)

    provider.error = REJECTED
    with pytest.raises(Unauthenticated):
        await keeper.token(b"one more", GrantOf(provider, "one more"))
    with pytest.raises(Throttled):
        await keeper.token(b"too many", GrantOf(provider, "too many"))


@pytest.mark.parametrize("trouble", [OUTAGE, Unavailable(Reason.IDP_ANSWER_INVALID)])
async def test_G12_trouble_is_no_guess(
    keeper: Keeper, provider: Provider, trouble: Refusal
) -> None:
    provider.error = trouble
    for number in range(3 * GUESSES_MAX):
        with pytest.raises(Unavailable):
            await keeper.token(b"%d" % number, GrantOf(provider, str(number)))


async def test_G16_strangers_leave_room_for_those_who_are_known(
    keeper: Keeper, provider: Provider, grant: GrantOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    await text(keeper, grant)
    keeper_known = GrantOf(provider, "known", keep=False)
    await keeper.token(b"known", keeper_known)
    provider.hold()
    strangers = [
        asyncio.create_task(keeper.token(b"%d" % n, _of_another_client(provider, n)))
        for n in range(keeping.STRANGERS_MAX)
    ]
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        await keeper.token(b"one more", _of_another_client(provider, -1))
    known = asyncio.create_task(keeper.token(b"known", keeper_known))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert provider.asked[-1] is Occasion.KNOWN

    provider.go()
    await asyncio.gather(known, *strangers)


# --- Life ------------------------------------------------------------------------------------


async def test_a_closed_provider_is_asked_for_no_renewal_until_a_new_one_comes(
    keeper: Keeper, provider: Provider, grant: GrantOf, clock: Clock
) -> None:
    await text(keeper, grant)
    keeper.release(provider)
    clock.advance(FIRST_SECONDS)
    keeper.renew_due()
    await keeper.settled()
    assert len(provider.asked) == 1

    assert await text(keeper, GrantOf(provider)) == "token-1"
    await keeper.settled()
    assert len(provider.asked) == 2


async def test_no_more_renewals_are_planned_than_tokens_are_kept(
    make_keeper: Callable[..., Keeper], provider: Provider
) -> None:
    keeper = make_keeper(entries_max=10)
    for number in range(50):
        await keeper.token(b"%d" % number, GrantOf(provider, str(number)))

    assert len(keeper._renewals) == 10
    assert keeper.tokens_held() == 10
    await keeper.aclose()


async def test_closing_ends_what_is_under_way_and_tells_who_waits(
    keeper: Keeper, provider: Provider, grant: GrantOf
) -> None:
    provider.hold()
    waiting = asyncio.create_task(text(keeper, grant))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await keeper.aclose()

    with pytest.raises(Unavailable):
        await waiting
    assert keeper.calls_under_way() == 0


async def test_it_shows_no_secret_and_no_token(keeper: Keeper, grant: GrantOf) -> None:
    kept = await keeper.token(KEY, grant)

    assert "token-1" not in repr(keeper) + repr(kept) + repr(keeper._renewals)
