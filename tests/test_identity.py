"""Whose token is it: the caller's, another client's, or that of one who tries spellings."""

from __future__ import annotations

import itertools
import logging
from typing import TYPE_CHECKING, Any

import pytest
from support.running import KONG_ID, KONG_SECRET
from support.scenes import OTHER_ID, verdict

from authz.tokens.guesses import GUESSES_MAX
from authz.tokens.keeper import REFUSED_SECONDS_MAX

if TYPE_CHECKING:
    from collections.abc import Iterable

    from support.clock import Clock
    from support.idp import RunningIdp
    from support.running import Answer, MakeAuthz


GUID = "b3f0c1de-7a44-4a3e-9d57-0a6c2f8e11ab"


def ignoring_case(idp: RunningIdp, spellings: Iterable[str]) -> None:
    """Let the provider take each of these for ``kong_id``, as databases do."""
    idp.clients |= dict.fromkeys(spellings, KONG_SECRET)
    idp.claims |= {"client_id": KONG_ID, "azp": KONG_ID}


def warnings(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [
        record.fields  # type: ignore[attr-defined] # our lines have fields
        for record in caplog.records
        if record.levelno == logging.WARNING and "identity_mismatch" in record.getMessage()
    ]


def told(answer: Answer) -> tuple[Any, ...]:
    """All that Envoy and the caller get, but for the decision's id."""
    metadata = {name: value for name, value in answer.metadata.items() if name != "decision_id"}
    return answer.status, answer.code, answer.headers, answer.body, metadata


@pytest.mark.parametrize("spelling", ["KONG_ID", "Kong_id", "\uff4b\uff4f\uff4e\uff47_id"])
@pytest.mark.parametrize("display_errors", [True, False])
async def test_G_13_the_right_secret_of_an_id_in_another_case_is_as_wrong_as_any(
    idp: RunningIdp,
    make_authz: MakeAuthz,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    spelling: str,
    display_errors: bool,
) -> None:
    idp.now = clock.now
    ignoring_case(idp, [spelling])
    authz = make_authz(clock=clock, display_errors=display_errors)
    await authz.bearer(idp.issue())  # the keys are there
    calls = []
    answers = []
    for secret in ("a wrong one", KONG_SECRET):
        for seconds in (0, 1, REFUSED_SECONDS_MAX):  # new, remembered, new again
            clock.advance(seconds)
            answers.append(told(await authz.basic(spelling, secret)))
            calls.append(sum(idp.counters.values()))
        clock.advance(60)

    assert answers == [answers[0]] * len(answers)
    assert answers[0][0] == 401
    steps = [after - before for before, after in itertools.pairwise([calls[0] - 1, *calls])]
    assert steps == [1, 0, 1] * 2
    assert (
        warnings(caplog)
        == [{"issuer": idp.issuer, "presented": spelling, "token_is_of": KONG_ID}] * 2
    )
    assert 'authz_identity_mismatches_total{differs="case"} 2.0' in authz.metrics()


async def test_G_13_spellings_of_one_id_are_limited_together(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    letters = ((c.lower(), c.upper()) for c in KONG_ID.replace("_", ""))
    joined = ("".join(chosen) for chosen in itertools.product(*letters))
    spellings = [f"{text[:4]}_{text[4:]}" for text in joined][1 : GUESSES_MAX + 2]
    ignoring_case(idp, spellings)
    authz = make_authz(clock=clock)
    for spelling in spellings[:GUESSES_MAX]:
        assert verdict(await authz.basic(spelling, KONG_SECRET)) == "401 secret_rejected"

    assert verdict(await authz.basic(spellings[-1], KONG_SECRET)) == "429 guessing_throttled"
    assert verdict(await authz.basic(KONG_ID, "a guess")) == "429 guessing_throttled"
    assert idp.counters["token"] == GUESSES_MAX


async def test_A13_another_clients_token_is_asked_for_once_in_a_while(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    idp.now = clock.now
    idp.claims |= {"client_id": OTHER_ID}
    authz = make_authz(clock=clock)
    for _ in range(5):
        assert verdict(await authz.basic()) == "503 identity_mismatch"
    assert idp.counters["token"] == 1
    assert warnings(caplog) == [
        {"issuer": idp.issuer, "presented": KONG_ID, "token_is_of": OTHER_ID}
    ]
    assert 'authz_identity_mismatches_total{differs="client"} 1.0' in authz.metrics()

    del idp.claims["client_id"]
    clock.advance(REFUSED_SECONDS_MAX)
    assert (await authz.basic()).allowed


@pytest.mark.parametrize(
    ("presented", "owner", "is_one"),
    [
        pytest.param(GUID.upper(), GUID, True, id="upper and lower case"),
        pytest.param(GUID, GUID.upper(), True, id="lower and upper case"),
        pytest.param(GUID, GUID.replace("a", "b"), False, id="another GUID"),
        pytest.param(f"{GUID}a".upper(), f"{GUID}a", False, id="nearly a GUID"),
    ],
)
async def test_A13_guids_are_compared_without_case(
    idp: RunningIdp, make_authz: MakeAuthz, presented: str, owner: str, is_one: bool
) -> None:
    idp.clients[presented] = KONG_SECRET
    idp.claims |= {"client_id": owner, "azp": owner}
    authz = make_authz(consumer_optional=True)

    assert (await authz.basic(presented, KONG_SECRET)).allowed is is_one
    assert (await authz.basic(presented, KONG_SECRET)).allowed is is_one
    assert idp.counters["token"] == 1
