"""One checkout's side of ``bench.against``: a line that names a figure in, its value out.

Run as a file, with the checkout to measure as working directory and first on the path:
``authz`` and ``bench`` are that checkout's own.
"""

from __future__ import annotations

import asyncio
import base64
import itertools
import sys
import time
from typing import TYPE_CHECKING, cast

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding

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

    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey

    from bench.idp import BenchIdp

CALLS = 10_000
CHECKS = 2_000
FRESH = 300
TOKENS = 4_000
"""More than are asked for: each is new to who verifies it."""
CONNECTIONS, IN_FLIGHT = 16, 4
PROVIDER_SECONDS = 0.02
"""What a provider and the way to it take, as in ``bench.through_envoy``."""


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
        "miss": measured(cold_client()),
        "first bearer": measured(first_bearer(idp)),
    }


def cold_client() -> Callable[[], str]:
    """Return what gives the header of a client that nobody has seen: each time another secret."""
    numbers = itertools.count()
    return lambda: basic(f"secret {next(numbers)}")


def first_bearer(idp: BenchIdp) -> Callable[[], str]:
    """Return what gives the header of a token that nobody has seen."""
    return lambda: f"Bearer {idp.issue()}"


def signature(idp: BenchIdp) -> Callable[[], float]:
    """Return what measures the verification of a token's signature alone: µs of CPU."""
    public = cast("RSAPublicKey", idp.provider.keys[0].private.public_key())

    def turn() -> float:
        signed = [idp.issue().rpartition(".") for _ in range(FRESH)]
        texts = [(head.encode(), base64.urlsafe_b64decode(end + "==")) for head, _, end in signed]
        started = time.thread_time()
        for text, end in texts:
            public.verify(end, text, padding.PKCS1v15(), hashes.SHA256())
        return (time.thread_time() - started) / FRESH * 1e6

    return turn


def through(authz: Authz) -> Callable[[], float]:
    """Return what measures a cached answer through a server: µs of its CPU."""
    wire = check_request(basic())

    def turn() -> float:
        before = cpu_seconds(authz.pid or 0)
        ask(authz.port, wire, calls=CHECKS, connections=CONNECTIONS, in_flight=IN_FLIGHT)
        return (cpu_seconds(authz.pid or 0) - before) / CHECKS * 1e6

    turn()  # the exchange
    return turn


def cold_through(authz: Authz, idp: BenchIdp, header: Callable[[], str]) -> Callable[[], float]:
    """Return what measures a header that is new each time, through a server: µs of its CPU."""

    def turn() -> float:
        wires = [check_request(header()) for _ in range(FRESH)]
        idp.delay_s = PROVIDER_SECONDS
        before = cpu_seconds(authz.pid or 0)
        ask_each(authz.port, wires, connections=CONNECTIONS)
        idp.delay_s = 0.0
        return (cpu_seconds(authz.pid or 0) - before) / FRESH * 1e6

    turn()  # the keys, and the connections to the provider
    return turn


def main() -> None:
    """Answer until the input ends."""
    transport = "native" if NATIVE else "grpcio"
    with running_idp() as idp, Authz(deck(idp.issuer), transport=transport) as authz:
        # Each signed once: signing on the spot would keep the other core busy.
        idp.lay_ready([idp.issue() for _ in range(TOKENS)])
        turns = {
            "process": in_process(idp),
            transport: through(authz),
            f"miss, {transport}": cold_through(authz, idp, cold_client()),
            f"first bearer, {transport}": cold_through(authz, idp, first_bearer(idp)),
            **whole_way(idp),
            "signature": signature(idp),
        }
        print(*turns, sep="\t", flush=True)
        for line in sys.stdin:
            print(turns[line.strip()](), flush=True)


if __name__ == "__main__":
    main()
