"""One checkout's side of ``bench.against``: a line that names a figure in, its value out.

Run as a file, with the checkout to measure as working directory and first on the path:
``authz`` and ``bench`` are that checkout's own.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
import time
from typing import TYPE_CHECKING

from authz.build import build
from authz.runtime import Shared
from authz.settings import Settings
from authz.telemetry import Telemetry
from bench.fixture import basic, check_request, deck, gateway
from bench.h2 import ask, ask_each
from bench.idp import running_idp
from bench.machine import cpu_seconds
from bench.servers import NATIVE, Authz

if TYPE_CHECKING:
    from collections.abc import Callable

    from bench.idp import BenchIdp

CALLS = 10_000
CHECKS = 2_000
FRESH = 300
CONNECTIONS, IN_FLIGHT = 16, 4


def in_process(idp: BenchIdp) -> Callable[[], float]:
    """Return what measures a cached answer, bytes to bytes: µs of CPU."""
    wire = check_request(basic())
    with asyncio.Runner() as runner:
        shared = Shared(Settings(), Telemetry())
        configuration = build(gateway(idp.issuer), shared)
        runner.run(configuration.authorizer.check(wire, None))
        runner.run(shared.aclose())
    cached = configuration.authorizer.cached
    if cached(wire) is None:
        raise RuntimeError("there is no cached answer to measure")

    def turn() -> float:
        started = time.thread_time()
        for _ in range(CALLS):
            cached(wire)
        return (time.thread_time() - started) / CALLS * 1e6

    return turn


def whole_way(idp: BenchIdp) -> dict[str, Callable[[], float]]:
    """Return what measures a cold client and a new bearer token: µs of CPU a check.

    The provider answers from a thread of its own, whose CPU does not count.
    """
    runner = asyncio.Runner()
    shared = Shared(Settings(), Telemetry())
    configuration = build(gateway(idp.issuer), shared)
    check = configuration.authorizer.check
    numbers = itertools.count()

    async def all_of(wires: list[bytes]) -> None:
        rest = iter(wires)

        async def some() -> None:
            for wire in rest:
                await check(wire, None)

        await asyncio.gather(*(some() for _ in range(CONNECTIONS)))

    def measured(header: Callable[[], str]) -> Callable[[], float]:
        def turn() -> float:
            wires = [check_request(header()) for _ in range(FRESH)]
            started = time.thread_time()
            runner.run(all_of(wires))
            return (time.thread_time() - started) / FRESH * 1e6

        return turn

    runner.run(check(check_request(basic()), None))  # the keys, and the names of the headers
    return {
        "miss": measured(lambda: basic(f"secret {next(numbers)}")),
        "first bearer": measured(lambda: f"Bearer {idp.issue()}"),
    }


def through(authz: Authz) -> Callable[[], float]:
    """Return what measures a cached answer through a server: µs of its CPU."""
    wire = check_request(basic())

    def turn() -> float:
        before = cpu_seconds(authz.pid or 0)
        ask(authz.port, wire, calls=CHECKS, connections=CONNECTIONS, in_flight=IN_FLIGHT)
        return (cpu_seconds(authz.pid or 0) - before) / CHECKS * 1e6

    turn()  # the exchange
    return turn


def misses_through(authz: Authz) -> Callable[[], float]:
    """Return what measures a cold client through a server: µs of its CPU a check."""
    numbers = itertools.count()

    def turn() -> float:
        wires = [check_request(basic(f"secret {next(numbers)}")) for _ in range(FRESH)]
        before = cpu_seconds(authz.pid or 0)
        ask_each(authz.port, wires, connections=CONNECTIONS)
        return (cpu_seconds(authz.pid or 0) - before) / FRESH * 1e6

    turn()  # the keys, and the connections to the provider
    return turn


def main() -> None:
    """Answer until the input ends."""
    transport = "native" if NATIVE else "grpcio"
    with running_idp() as idp, Authz(deck(idp.issuer), transport=transport) as authz:
        turns = {
            "process": in_process(idp),
            transport: through(authz),
            f"miss, {transport}": misses_through(authz),
            **whole_way(idp),
        }
        print(*turns, sep="\t", flush=True)
        for line in sys.stdin:
            print(turns[line.strip()](), flush=True)


if __name__ == "__main__":
    main()
