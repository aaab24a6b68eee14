"""Two keys are equal only if all their parts are, each at its place."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.tokens.digest import Digester

PARTS = st.lists(st.text(st.characters(codec=None), max_size=8), max_size=4)
DIGEST = Digester()


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(("a:b", "c"), ("a", "b:c"), id="colon"),
        pytest.param(("a|b",), ("a", "b"), id="bar"),
        pytest.param(("a\x00b",), ("a", "b"), id="NUL"),
        pytest.param(("a", ""), ("a",), id="empty last part"),
        pytest.param(("", "a"), ("a", ""), id="empty part moved"),
        pytest.param(("a", "b"), ("b", "a"), id="order"),
        pytest.param(("é",), ("e\u0301",), id="no normalisation"),
        pytest.param(("1" + "\x00" * 7,), ("1",), id="what looks like a length"),
    ],
)
def test_CA_01_each_part_goes_in_behind_its_length(
    one: tuple[str, ...], other: tuple[str, ...]
) -> None:
    assert DIGEST(*one) != DIGEST(*other)


@given(PARTS, PARTS)
def test_CA_01_digests_are_equal_exactly_when_the_parts_are(
    one: list[str], other: list[str]
) -> None:
    assert (DIGEST(*one) == DIGEST(*other)) == (one == other)


@given(PARTS, PARTS)
def test_a_digest_may_be_begun_with_parts_that_all_have_in_common(
    first: list[str], rest: list[str]
) -> None:
    assert DIGEST.after(*first)(*rest) == DIGEST(*first, *rest)


@given(st.text(), st.text(), st.text(), st.text())
def test_CA_01_a_last_part_needs_no_length_behind_as_many_parts(
    one: str, last_of_one: str, other: str, last_of_other: str
) -> None:
    same = DIGEST.after(one).last(last_of_one) == DIGEST.after(other).last(last_of_other)
    assert same == ((one, last_of_one) == (other, last_of_other))


def test_a_lone_surrogate_has_a_digest_too() -> None:
    assert DIGEST("\ud800") != DIGEST("\udfff")


def test_CA_14_every_process_has_a_key_of_its_own() -> None:
    assert Digester()("id", "secret") != Digester()("id", "secret")


def test_a_digest_has_32_bytes_and_shows_nothing_of_the_secret() -> None:
    digest = DIGEST("id", "canary")

    assert len(digest) == 32
    assert b"canary" not in digest
    assert "canary" not in repr(DIGEST)
