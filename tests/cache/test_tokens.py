"""What is known of a credential: a token, or that it was refused a moment ago."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest

from authz.cache.tokens import (
    REFUSED_ENTRIES_MAX,
    REFUSED_SECONDS_MAX,
    Acquaintance,
    TokenStore,
)
from authz.errors import Reason
from authz.model import AccessToken, Secret

if TYPE_CHECKING:
    from support.clock import Clock

TOKEN = AccessToken(Secret("a.b.c"))


@pytest.fixture
def store(clock: Clock) -> TokenStore:
    acquaintance = Acquaintance(timer=clock.monotonic)
    return TokenStore(acquaintance, entries_max=10, bytes_max=10_000, timer=clock.monotonic)


def test_a_token_is_kept_for_its_lifetime(store: TokenStore, clock: Clock) -> None:
    store.keep(b"key", TOKEN, lifetime_s=270)

    clock.advance(269)
    assert store.token(b"key") is TOKEN
    clock.advance(1)
    assert store.token(b"key") is None


def test_a_token_can_be_forgotten(store: TokenStore) -> None:
    store.keep(b"key", TOKEN, lifetime_s=270)
    store.forget(b"key")
    store.forget(b"key")

    assert store.token(b"key") is None


@pytest.mark.parametrize(
    ("lifetime_s", "kept_s"),
    [
        pytest.param(math.inf, REFUSED_SECONDS_MAX, id="5 s at most"),
        pytest.param(60, REFUSED_SECONDS_MAX, id="never longer"),
        pytest.param(2, 2, id="shorter"),
    ],
)
def test_a_refusal_is_kept_for_a_moment(
    store: TokenStore, clock: Clock, lifetime_s: float, kept_s: float
) -> None:
    store.refuse(b"key", Reason.SECRET_REJECTED, lifetime_s=lifetime_s)
    assert store.refusal(b"another key") is None

    clock.advance(kept_s - 0.1)
    assert store.refusal(b"key") is Reason.SECRET_REJECTED
    clock.advance(0.1)
    assert store.refusal(b"key") is None


def test_CA_09_a_flood_of_refusals_pushes_out_no_token(store: TokenStore) -> None:
    store.keep(b"good", TOKEN, lifetime_s=270)
    for number in range(2 * REFUSED_ENTRIES_MAX):
        store.refuse(b"%d" % number, Reason.SECRET_REJECTED, lifetime_s=math.inf)

    assert store.token(b"good") is TOKEN
    assert store.refusals_held() == REFUSED_ENTRIES_MAX


def test_long_tokens_are_bounded_by_their_bytes(store: TokenStore) -> None:
    for number in range(10):
        long = AccessToken(Secret("a" * 4_000))
        store.keep(b"%d" % number, long, lifetime_s=270)

    assert store.tokens_held() == 2


def test_tokens_show_nothing_of_themselves(store: TokenStore) -> None:
    assert "a.b.c" not in repr(TOKEN)
    assert "a.b.c" not in repr(store)
