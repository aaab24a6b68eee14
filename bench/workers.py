"""What a second worker gives: cached answers a second over gRPC, with one process and with two."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.fixture import basic, check_request, deck
from bench.h2 import ask
from bench.idp import running_idp
from bench.report import RUNS, Figure, ratio
from bench.servers import Authz

if TYPE_CHECKING:
    from collections.abc import Iterator

CALLS = 4_000
CONNECTIONS = 64
"""Enough for the kernel to spread them evenly, more or less: a few would be luck."""
IN_FLIGHT = 2


def measure() -> Iterator[Figure]:
    """Measure one and two workers, run by run in turn."""
    wire = check_request(basic())
    one: list[float] = []
    two: list[float] = []
    with running_idp() as idp:
        text = deck(idp.issuer)
        with Authz(text) as alone, Authz(text, "--workers", "2") as pair:
            for authz in (alone, pair):  # the exchanges
                _per_second(authz.port, wire)
            for _ in range(RUNS):
                one.append(_per_second(alone.port, wire))
                two.append(_per_second(pair.port, wire))
    yield Figure("cached answers over gRPC, one process", "/s", tuple(one))
    yield Figure("  with --workers 2", "/s", tuple(two))
    yield ratio("two workers ÷ one, on cores that the caller shares", two, one)


def _per_second(port: int, wire: bytes) -> float:
    started = time.perf_counter()
    ask(port, wire, calls=CALLS, connections=CONNECTIONS, in_flight=IN_FLIGHT)
    return CALLS / (time.perf_counter() - started)
