"""Whatever the file and the request: where Envoy forwards is what authz has decided about.

Files and requests follow from a seed.  ``DIFFERENTIAL_SEED`` chooses another one,
``DIFFERENTIAL_REQUESTS`` how many requests are made in all, ``DIFFERENTIAL_REQUESTS_OF_A_SETUP``
how many to each of a file's three Envoys (see CONTRIBUTING.md).
"""

from __future__ import annotations

import os
from collections import Counter
from random import Random
from typing import TYPE_CHECKING

import pytest
from support.differential import SETUPS, drawn, kongs_route, playing, policy
from support.drawn import SERVICES_MAX, draw_requests
from support.idp import RunningIdp
from support.transports import NAMES

if TYPE_CHECKING:
    from collections.abc import Iterator

SEED = os.environ.get("DIFFERENTIAL_SEED", "1")
REQUESTS = int(os.environ.get("DIFFERENTIAL_REQUESTS", "20000"))
REQUESTS_OF_A_SETUP = int(os.environ.get("DIFFERENTIAL_REQUESTS_OF_A_SETUP", "170"))
REQUESTS_OF_A_ROUND = REQUESTS_OF_A_SETUP * len(SETUPS)
ROUNDS = -(-REQUESTS // REQUESTS_OF_A_ROUND)
FAULTS_SHOWN_MAX = 3
FILES_LOOKED_AT = 60


@pytest.fixture(scope="module")
def issuer() -> Iterator[str]:
    with RunningIdp() as idp:
        yield idp.issuer


@pytest.mark.parametrize("number", range(ROUNDS))
async def test_G_07_envoy_forwards_only_by_the_route_that_authz_has_decided_about(
    number: int, issuer: str
) -> None:
    random = Random(f"{SEED}/{number}")
    transport = NAMES[number % len(NAMES)]
    faults: list[str] = []
    async with playing(random, issuer, transport) as running:
        for setup in running.setups:
            asked = draw_requests(random, running.gateway, REQUESTS_OF_A_SETUP)
            faults += await running.faults(setup, asked)
    if faults:
        head = f"seed {SEED}, round {number}, {transport}: {len(faults)} faults; the file is below"
        pytest.fail("\n".join([head, *faults[:FAULTS_SHOWN_MAX], running.file.text]), pytrace=False)


def test_the_draws_are_of_every_kind() -> None:
    """What is drawn decides how much the test above is worth."""
    refused, kinds = 0, Counter[str]()
    for number in range(FILES_LOOKED_AT):
        random = Random(f"kinds/{number}")
        file = drawn(random, "https://idp.test", [1] * (SERVICES_MAX + 1), 1)
        refused += file.refused
        for asked in draw_requests(random, file.gateway, 100):
            route = kongs_route(file.gateway, asked.method, asked.host, asked.target, asked.headers)
            kinds["plain" if asked.plain else "bent"] += 1
            if not asked.plain:
                continue
            if route is not None:
                kinds["regex"] += any(path.startswith("~") for path in route.paths)
                kinds["header"] += bool(route.headers)
                kinds["https"] += route.protocols == ("https",)
                kinds["port"] += any(":" in host for host in route.hosts)
                kinds["not written"] += route.id in file.missing
            if route is None:
                kinds["no route"] += 1
            elif policy(file.gateway, route) is None:
                kinds["open"] += 1
            else:
                kinds["let in" if asked.has_credential else "kept out"] += 1
    # ``authz envoy`` can write every second file at least.
    assert refused <= FILES_LOOKED_AT
    least = {"bent": 3600, "plain": 1500, "open": 180, "let in": 180, "kept out": 180}
    least |= {
        "no route": 180,
        "regex": 90,
        "header": 60,
        "port": 30,
        "not written": 20,
        "https": 8,
    }
    assert all(kinds[kind] >= count for kind, count in least.items()), kinds
