"""The whole server as a process: its start, its memory, and a call over gRPC."""

from __future__ import annotations

import asyncio
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from bench.decisions import ready_answer
from bench.fixture import basic, check_request, deck
from bench.frames import CHECK
from bench.idp import running_idp
from bench.machine import resident_megabytes
from bench.report import RUNS, Figure, ratio
from bench.servers import Authz, Peer, grpc_aio

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS = 5
CALLS = 1_000


def measure() -> Iterator[Figure]:
    """Measure what needs processes."""
    with running_idp() as idp, tempfile.TemporaryDirectory(prefix="authz-bench-") as directory:
        yield from _start_and_memory(idp.issuer)
        answer = Path(directory, "answer")
        answer.write_bytes(ready_answer(idp))
        with Authz(deck(idp.issuer)) as authz, Peer(grpc_aio(), answer) as peer:
            yield from asyncio.run(_round_trips(authz.port, peer.port))


def _start_and_memory(issuer: str) -> Iterator[Figure]:
    starts, memory = [], []
    for _ in range(STARTS):
        authz = Authz(deck(issuer))
        started = time.perf_counter()
        with authz:
            starts.append(time.perf_counter() - started)
            memory.append(resident_megabytes(authz.pid or "self"))
    yield Figure("start to SERVING, the process and its imports included", "s", tuple(starts), 1.5)
    yield Figure("resident memory, idle", "MB", tuple(memory), 90)


async def _round_trips(authz_port: int, noop_port: int) -> list[Figure]:
    wire = check_request(basic())
    ours, peer = [], []
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{authz_port}") as authz,
        grpc.aio.insecure_channel(f"127.0.0.1:{noop_port}") as noop,
    ):
        calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary(CHECK) for channel in (authz, noop)
        ]
        for call in calls:  # connections, and the one exchange
            await _per_call(call, wire, 50)
        for _ in range(RUNS):
            ours.append(await _per_call(calls[0], wire, CALLS))
            peer.append(await _per_call(calls[1], wire, CALLS))
    return [
        Figure("a Check over gRPC, cached answer", "µs", tuple(ours)),
        Figure("  peer: a grpc.aio handler that answers as many bytes", "µs", tuple(peer)),
        ratio("a Check over gRPC ÷ one that only answers as many bytes", ours, peer, 1.15),
    ]


async def _per_call(
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes], wire: bytes, calls: int
) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        await call(wire)
    return (time.perf_counter() - started) / calls * 1e6
