"""How long a token is kept, and at which age it is renewed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.tokens.terms import Terms, latest_renewal_s, life_left_min_s, renewal_s

LEFT_SECONDS_MIN = 2.0


@pytest.mark.parametrize(
    ("life_s", "first", "later"),
    [
        # (earliest, latest) of the first renewal and of those that follow.
        pytest.param(300, (150, 283), (268, 283), id="30 s before the last 2 s"),
        pytest.param(36_000, (18_000, 35_983), (35_968, 35_983), id="never more than 30 s"),
        pytest.param(60, (30, 50.5), (43, 50.5), id="a quarter of its life"),
        pytest.param(10, (5, 7.75), (6.5, 7.75), id="before the last tenth of its life"),
    ],
)
def test_H2_a_renewal_begins_in_a_window_before_the_end(
    life_s: float, first: tuple[float, float], later: tuple[float, float]
) -> None:
    drawn = [
        tuple(renewal_s(life_s, LEFT_SECONDS_MIN, first=is_first, lot=lot) for lot in (0.0, 1.0))
        for is_first in (True, False)
    ]
    assert drawn == [pytest.approx(first), pytest.approx(later)]


@given(
    life_s=st.floats(0.1, 1e6),
    bound_s=st.floats(0, 60),
    first=st.booleans(),
    lot=st.floats(0, 1),
)
def test_H2_every_renewal_begins_while_the_token_has_life_left(
    life_s: float, bound_s: float, *, first: bool, lot: float
) -> None:
    age_s = renewal_s(life_s, bound_s, first=first, lot=lot)

    assert life_s / 2 <= age_s <= latest_renewal_s(life_s, bound_s) + 1e-6 * life_s
    assert life_s - age_s > life_left_min_s(life_s, bound_s)


@pytest.mark.parametrize(
    ("terms", "own_life_s", "expires_in", "kept_s"),
    [
        pytest.param(Terms(), 300, None, 300, id="its own end"),
        pytest.param(Terms(), 300, 100, 100, id="expires_in is nearer"),
        pytest.param(Terms(), 300, 5_000, 300, id="expires_in is no longer than it lives"),
        pytest.param(Terms(max_s=50), 300, None, 50, id="cache_ttl_max shortens"),
        pytest.param(Terms(max_s=5_000), 300, None, 300, id="cache_ttl_max lengthens nothing"),
        pytest.param(Terms(min_s=100), 300, 10, 100, id="cache_ttl_min lifts expires_in"),
        pytest.param(Terms(min_s=5_000), 300, 10, 300, id="never past its own end"),
        pytest.param(Terms(min_s=100, max_s=50), 300, 10, 50, id="cache_ttl_max wins"),
        pytest.param(Terms(resurrect_s=3), 300, None, 286, id="cache_ttl_resurrect"),
        pytest.param(Terms(resurrect_s=60), 300, None, 300, id="cache_ttl_resurrect is longer"),
        pytest.param(Terms(), -1, None, -1, id="it has ended"),
    ],
)
def test_kongs_cache_ttl_parameters_bound_a_tokens_life(
    terms: Terms, own_life_s: float, expires_in: float | None, kept_s: float
) -> None:
    assert terms.life_s(own_life_s, expires_in, LEFT_SECONDS_MIN) == kept_s
