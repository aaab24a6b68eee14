"""In one process: a cached answer, and the first verification of a token."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import jwt as pyjwt

from authz.build import build
from authz.clock import SystemClock
from authz.oauth.verifier import TokenVerifier
from authz.runtime import Shared
from authz.settings import Settings
from authz.telemetry import Telemetry
from bench.fixture import basic, check_request, gateway
from bench.idp import running_idp
from bench.report import RUNS, Figure, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.build import Configuration
    from bench.idp import BenchIdp

CALLS = 10_000
TOKENS = 300
"""Fresh tokens per run: each is verified once."""


def measure() -> Iterator[Figure]:
    """Measure everything that needs no second process."""
    with running_idp() as idp, asyncio.Runner() as runner:
        shared = Shared(Settings(), Telemetry())
        configuration = build(gateway(idp.issuer), shared)
        yield from _ready_answers(runner, configuration, idp)
        yield from _first_verification(runner, configuration, idp)
        runner.run(shared.aclose())


def ready_answer(idp: BenchIdp) -> bytes:
    """Return the bytes that the configuration answers the workshop's caller with."""
    with asyncio.Runner() as runner:
        shared = Shared(Settings(), Telemetry())
        configuration = build(gateway(idp.issuer), shared)
        answer = runner.run(configuration.authorizer.check(check_request(basic()), None))
        runner.run(shared.aclose())
    return answer


def _ready_answers(
    runner: asyncio.Runner, configuration: Configuration, idp: BenchIdp
) -> Iterator[Figure]:
    for name, header in (("Basic", basic()), ("Bearer", f"Bearer {idp.issue()}")):
        wire = check_request(header)
        runner.run(configuration.authorizer.check(wire, None))
        if configuration.authorizer.cached(wire) is None:
            raise RuntimeError("there is no cached answer to measure")
        cached = configuration.authorizer.cached
        values = [_per_call(lambda: cached(wire)) for _ in range(RUNS)]  # noqa: B023 - called here
        yield Figure(f"cached answer, bytes to bytes, {name}", "µs", tuple(values), 20)


def _per_call(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - started) / CALLS * 1e6


def _first_verification(
    runner: asyncio.Runner, configuration: Configuration, idp: BenchIdp
) -> Iterator[Figure]:
    plugin = configuration.gateway.plugins[0]
    verifier = TokenVerifier(plugin.config, configuration.providers[0], clock=SystemClock())
    public_key = idp.provider.keys[0].private.public_key()
    ours, whole, peer = [], [], []
    for _ in range(RUNS):
        tokens = [idp.issue() for _ in range(TOKENS)]
        ours.append(runner.run(_verify(verifier, tokens)))
        started = time.perf_counter()
        for token in tokens:
            pyjwt.decode(token, public_key, algorithms=["RS256"], audience="account")
        peer.append((time.perf_counter() - started) / TOKENS * 1e6)
        fresh = [idp.issue() for _ in range(TOKENS)]
        whole.append(runner.run(_check(configuration, fresh)))
    yield Figure("first verification of an RS256 token", "µs", tuple(ours), 150)
    yield Figure("  peer: PyJWT's decode of the same tokens", "µs", tuple(peer))
    yield ratio("first verification ÷ PyJWT's decode", ours, peer)
    yield Figure("first request with a bearer token, bytes to bytes", "µs", tuple(whole))


async def _verify(verifier: TokenVerifier, tokens: list[str]) -> float:
    started = time.perf_counter()
    for token in tokens:
        await verifier.verify(token)
    return (time.perf_counter() - started) / len(tokens) * 1e6


async def _check(configuration: Configuration, tokens: list[str]) -> float:
    wires = [check_request(f"Bearer {token}") for token in tokens]
    started = time.perf_counter()
    for wire in wires:
        await configuration.authorizer.check(wire, None)
    return (time.perf_counter() - started) / len(tokens) * 1e6
