"""The manual, read aloud: what happens to a request, over real sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.house import RunningHouse
    from support.idp import RunningIdp


async def test_CP_02_a_known_client_passes_with_a_verified_token(
    idp: RunningIdp, house: Callable[..., RunningHouse]
) -> None:
    answer = await house().basic()

    assert answer.allowed
    assert answer.header("x-consumer-username") == "kong_id"
    assert (answer.header("authorization") or "").startswith("Bearer ey")
    assert idp.counters["token"] == 1


async def test_CP_02_a_second_request_is_answered_from_memory(
    idp: RunningIdp, house: Callable[..., RunningHouse]
) -> None:
    authz = house()
    first = await authz.basic()

    assert (await authz.basic()).wire == first.wire
    assert idp.counters["token"] == 1
    assert 'authz_checks_total{reason="allowed",verdict="allow"} 2.0' in authz.metrics()


async def test_DS_01_a_thousand_cold_callers_cost_one_exchange(
    idp: RunningIdp, house: Callable[..., RunningHouse]
) -> None:
    authz = house()
    answers = await asyncio.gather(*(authz.basic(seconds=5) for _ in range(1000)))

    assert all(answer.allowed for answer in answers)
    assert dict(idp.counters) == {"token": 1, "discovery": 1, "certs": 1}
