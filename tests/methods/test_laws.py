"""What holds for every method, whatever it takes and whomever it asks."""

from __future__ import annotations

import asyncio
import importlib
from typing import TYPE_CHECKING, Any

import pytest
from support.scenes import landed, says, verdict

from authz.methods import METHODS

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from support.idp import RunningIdp
    from support.methods import Subject
    from support.running import RunningAuthz

    MakeAuthz = Callable[..., RunningAuthz]

CALLERS = 50

AFTER_ITS_END = {
    "certs": "401 token_expired",
    "introspection": "401 token_inactive",
    "token": "200 allowed",  # with the token of another exchange
    "userinfo": "401 token_inactive",
}
"""What a credential gets once its token has ended, by the endpoint that vouches for it."""


def subject_of(method: str) -> Subject:
    """The subject in the method's own test file."""
    subject: Subject = importlib.import_module(f"methods.test_{method}").SUBJECT
    return subject


@pytest.fixture(params=[method.name for method in METHODS])
def subject(request: pytest.FixtureRequest) -> Subject:
    return subject_of(request.param)


@pytest.fixture
def method(subject: Subject, idp: RunningIdp, make_authz: MakeAuthz, clock: Clock) -> RunningAuthz:
    """A plugin that has this method alone, on the test's clock."""
    idp.now = clock.now
    name = next(method.name for method in METHODS if subject_of(method.name) is subject)
    return make_authz(clock=clock, auth_methods=(name,), **subject.parameters)


async def test_no_credential_is_401_and_asks_nobody(
    subject: Subject, idp: RunningIdp, method: RunningAuthz
) -> None:
    assert verdict(await method.ask()) == "401 credential_missing"
    assert idp.counters[subject.endpoint] == 0


async def test_a_good_credential_passes_and_announces_who_it_is(
    subject: Subject, idp: RunningIdp, method: RunningAuthz
) -> None:
    answer = await method.ask(subject.good(idp))

    assert answer.allowed
    assert answer.header("x-consumer-username") == "kong_id"
    assert (answer.header("authorization") or "").startswith("Bearer ")


async def test_a_bad_credential_is_401_with_a_challenge(
    subject: Subject, idp: RunningIdp, method: RunningAuthz
) -> None:
    answer = await method.ask(subject.bad(idp))

    assert verdict(answer) == f"401 {subject.refused}"
    assert (answer.header("www-authenticate") or "").startswith("Bearer realm=")


async def test_a_bad_credential_is_refused_again_after_a_good_one(
    subject: Subject, idp: RunningIdp, method: RunningAuthz
) -> None:
    good, bad = subject.good(idp), subject.bad(idp)

    for _ in range(2):
        assert (await method.ask(good)).allowed
        assert verdict(await method.ask(bad)) == f"401 {subject.refused}"


async def test_one_credential_in_two_slots_is_400(
    subject: Subject, idp: RunningIdp, method: RunningAuthz
) -> None:
    elsewhere = subject.elsewhere(idp)
    headers = {**subject.good(idp), **elsewhere.pop("headers", {})}

    assert verdict(await method.ask(headers, **elsewhere)) == "400 credential_ambiguous"


async def test_many_callers_at_once_cost_one_request_to_the_provider(
    subject: Subject, idp: RunningIdp, method: RunningAuthz
) -> None:
    good = subject.good(idp)

    answers = await asyncio.gather(*(method.ask(good) for _ in range(CALLERS)))

    assert all(answer.allowed for answer in answers)
    assert idp.counters[subject.endpoint] == 1


async def test_an_outage_is_503_and_no_verdict(
    subject: Subject, idp: RunningIdp, method: RunningAuthz, clock: Clock
) -> None:
    good = subject.good(idp)
    idp.stop()

    answer = await method.ask(good)
    assert answer.status == 503
    assert answer.header("retry-after") is not None

    idp.start()
    clock.advance(60)  # past every pause
    assert (await method.ask(good)).allowed


async def test_who_is_known_passes_during_an_outage(
    subject: Subject, idp: RunningIdp, method: RunningAuthz
) -> None:
    good = subject.good(idp)
    first = await method.ask(good)
    idp.stop()

    again = await method.ask(good)

    assert again.allowed
    assert again.headers == first.headers


async def test_nothing_outlives_its_end(
    subject: Subject, idp: RunningIdp, method: RunningAuthz, clock: Clock
) -> None:
    good = subject.good(idp)
    first = await method.ask(good)
    clock.advance(idp.token_lifetime_s + 1)

    again = await method.ask(good)
    await landed(method)

    assert first.allowed
    assert verdict(again) == AFTER_ITS_END[subject.endpoint]
    assert again.header("authorization") != first.header("authorization")


async def test_what_the_provider_says_beside_its_protocol_is_503(
    subject: Subject, idp: RunningIdp, method: RunningAuthz
) -> None:
    good: Any = subject.good(idp)
    getattr(idp, f"{subject.endpoint}_answers").append(says(b"<html>down for maintenance", 200))

    assert (await method.ask(good)).status == 503
