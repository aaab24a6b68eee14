"""What a second worker gives: ready answers a second over gRPC, with one process and with two."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from authz.demo.background import BackgroundServer
from authz.demo.idp import DevelopmentIdp
from bench.decisions import basic, check_request
from bench.h2 import ask
from bench.process import Authz
from bench.report import RUNS, Figure, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CALLS = 4_000
CONNECTIONS = 64
"""Enough for the kernel to spread them evenly, more or less: a few would be luck."""
IN_FLIGHT = 2


class Workers(Authz):
    """``authz serve --workers N``."""

    def __init__(self, issuer: str, workers: int) -> None:
        super().__init__(issuer)
        self._workers = workers

    def command(self, directory: Path) -> list[str]:
        """Return the command line."""
        return [*super().command(directory), "--workers", str(self._workers)]


def measure() -> Iterator[Figure]:
    """Measure one and two workers, run by run in turn."""
    server = BackgroundServer()
    idp = DevelopmentIdp(issuer=f"{server.url}/realms/kong")
    server.start(idp.app())
    wire = check_request(basic())
    one: list[float] = []
    two: list[float] = []
    try:
        with Workers(idp.issuer, 1) as alone, Workers(idp.issuer, 2) as pair:
            for authz in (alone, pair):  # the exchanges
                _per_second(authz.port, wire)
            for _ in range(RUNS):
                one.append(_per_second(alone.port, wire))
                two.append(_per_second(pair.port, wire))
    finally:
        server.stop()
    yield Figure("ready answers over gRPC, one process", "/s", tuple(one))
    yield Figure("  with --workers 2", "/s", tuple(two))
    yield ratio("  ratio, on cores that the caller shares", two, one)


def _per_second(port: int, wire: bytes) -> float:
    started = time.perf_counter()
    ask(port, wire, calls=CALLS, connections=CONNECTIONS, in_flight=IN_FLIGHT)
    return CALLS / (time.perf_counter() - started)
