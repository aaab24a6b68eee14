"""How long a provider is left alone, from whatever it says that with."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.client import door
from support.scripted import answer as sends
from support.scripted import read_request

from authz.errors import IdpOutage, Reason
from authz.oauth.http import Request
from authz.oauth.pause import JITTER_SHARE, PAUSE_SECONDS_MAX, Pause, seconds_asked_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.clock import Clock
    from support.scripted import Serve


NOW = 1_754_944_413.0  # Mon, 11 Aug 2025 20:33:33 GMT


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        pytest.param({}, None, id="nothing"),
        pytest.param({"retry-after": "120"}, 120, id="seconds"),
        pytest.param({"retry-after": " 5 "}, 5, id="spaces"),
        pytest.param({"retry-after": "Mon, 11 Aug 2025 20:34:03 GMT"}, 30, id="date"),
        pytest.param({"retry-after": "Monday, 11-Aug-25 20:34:03 GMT"}, 30, id="RFC 850 date"),
        pytest.param(
            {
                "date": "Mon, 11 Aug 2025 21:33:33 GMT",
                "retry-after": "Mon, 11 Aug 2025 21:34:03 GMT",
            },
            30,
            id="date by the provider's clock",
        ),
        pytest.param({"retry-after": "soon"}, None, id="a word"),
        pytest.param({"retry-after": "-1"}, None, id="negative"),
        pytest.param({"retry-after": "Mon, 32 Aug 2025 20:34:03 GMT"}, None, id="no date"),
        pytest.param({"x-rate-limit-reset": "1754944453"}, 40, id="Okta"),
        pytest.param({"x-ratelimit-reset": "1754944453"}, 40, id="Auth0"),
        pytest.param({"x-ratelimit-reset": "7"}, 7, id="seconds from now"),
        pytest.param({"ratelimit-reset": "11"}, 11, id="RateLimit-Reset"),
        pytest.param({"ratelimit": "limit=100, remaining=0, reset=12"}, 12, id="RateLimit, pairs"),
        pytest.param({"ratelimit": '"default";r=0;t=13'}, 13, id="RateLimit, an item"),
        pytest.param(
            {"ratelimit": '"burst";r=0;t=2, "day";r=400;t=5000'}, 2, id="the limit that is used up"
        ),
        pytest.param({"ratelimit": '"a";r=0;t=2, "b";r=0;t=9'}, 9, id="the longer of two"),
        pytest.param({"ratelimit": "?"}, None, id="RateLimit, nonsense"),
        pytest.param({"retry-after": "3", "x-rate-limit-reset": "1754944453"}, 3, id="both"),
    ],
)
def test_A7_all_that_providers_say_of_a_pause_is_read(
    headers: Mapping[str, str], seconds: float | None
) -> None:
    assert seconds_asked_for(429, headers, NOW) == seconds


@pytest.mark.parametrize(
    ("status", "retry_after", "reset"),
    [
        pytest.param(200, None, None, id="200"),
        pytest.param(400, None, None, id="400"),
        pytest.param(401, None, None, id="401: a verdict on one client"),
        pytest.param(403, None, None, id="403"),
        pytest.param(408, 9, None, id="408"),
        pytest.param(429, 9, 40, id="429"),
        pytest.param(500, 9, None, id="500"),
        pytest.param(503, 9, 40, id="503"),
    ],
)
def test_A7_a_pause_is_asked_for_by_trouble_of_the_provider_alone(
    status: int, retry_after: float | None, reset: float | None
) -> None:
    assert seconds_asked_for(status, {"retry-after": "9"}, NOW) == retry_after
    # Okta sends these with every answer.
    assert seconds_asked_for(status, {"x-rate-limit-reset": "1754944453"}, NOW) == reset


def test_A7_without_a_word_each_pause_is_twice_the_last_up_to_the_cap(clock: Clock) -> None:
    pause = Pause(clock, lambda: 0.0)
    assert [pause.begin(None) for _ in range(9)] == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    pause.end()
    assert pause.begin(None) == 1


@pytest.mark.parametrize(("asked", "got"), [(-5.0, 1), (0.0, 1), (7.0, 7), (86_400.0, 60)])
def test_A7_a_pause_has_a_least_and_a_greatest_length(
    clock: Clock, asked: float, got: float
) -> None:
    assert Pause(clock, lambda: 0.0).begin(asked) == got


def test_A7_the_lot_makes_a_pause_longer_and_never_shorter(clock: Clock) -> None:
    for lot in (0.0, 0.5, 1.0):
        pause = Pause(clock, lambda drawn=lot: drawn)  # type: ignore[misc] # a default argument
        pause.begin(10)
        assert pause.left_s == pytest.approx(10 * (1 + JITTER_SHARE * lot))


def test_a_later_and_shorter_pause_does_not_cut_the_one_that_is_under_way(clock: Clock) -> None:
    pause = Pause(clock, lambda: 0.0)
    pause.begin(50)
    pause.begin(2)
    assert pause.left_s == 50


@pytest.mark.parametrize("status", ["429 No", "503 No", "500 No", "408 No"])
async def test_A7_no_call_is_made_during_a_pause_whatever_the_status_that_asked_for_it(
    scripted: Serve, clock: Clock, status: str
) -> None:
    server = scripted([read_request, sends(b"", status, "retry-after: 120")], [])
    async with door(clock=clock) as idp:
        with pytest.raises(IdpOutage) as first:
            await idp.post(server.url)
        assert first.value.retry_after == PAUSE_SECONDS_MAX
        for _ in range(45):
            with pytest.raises(IdpOutage, match="not asked, as the provider wants a pause"):
                await idp.post(server.url)
    assert server.received[0].count(b"POST") == 1
    assert len(server.connections) == 1


async def test_A7_the_pause_grows_until_there_is_a_success(scripted: Serve, clock: Clock) -> None:
    busy = [read_request, sends(b"", "429 No")]
    server = scripted([*busy, *busy, *busy, read_request, sends(b"{}"), *busy])
    pauses = []
    async with door(clock=clock) as idp:
        for _ in range(5):
            try:
                await idp.post(server.url)
            except IdpOutage as outage:
                pauses.append(outage.retry_after)
                clock.advance(outage.retry_after)
    assert pauses == [1, 2, 4, 1]


async def test_A7_slow_down_in_a_body_begins_a_pause_too(scripted: Serve, clock: Clock) -> None:
    server = scripted([read_request, sends(b"{}", "400 No", "retry-after: 20")])

    def slow_down(_: object) -> None:
        raise IdpOutage(Reason.IDP_THROTTLED, "slow_down")

    async with door(clock=clock) as idp:
        for _ in range(3):
            with pytest.raises(IdpOutage) as caught:
                await idp.read(Request(server.url), slow_down)
            assert (caught.value.reason, caught.value.retry_after) == (Reason.IDP_THROTTLED, 20)
    assert server.received[0].count(b"GET") == 1
