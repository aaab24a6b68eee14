"""The whole server as a process: its start, its memory, and a call over gRPC."""

from __future__ import annotations

import asyncio
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import grpc

from authz.demo.background import BackgroundServer
from authz.demo.idp import DevelopmentIdp
from authz.demo.parts import Process, accepts, answers, free_port
from bench.decisions import basic, check_request
from bench.noop import METHOD
from bench.report import RUNS, Figure, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator

STARTS = 5
ANSWER_BYTES = 3_600
"""About what authz answers: the token, and the names that are removed."""

CALLS = 1_000

CONFIG = """\
_format_version: "3.0"
plugins:
- name: openid-connect
  config:
    issuer: {issuer}
    auth_methods: [bearer, client_credentials]
    consumer_claim: [client_id]
    consumer_by: [username]
consumers:
- username: kong_id
"""


class Authz(Process):
    """``authz serve`` before the development provider."""

    name = "authz"

    def __init__(self, issuer: str) -> None:
        super().__init__()
        self.port, self.admin = free_port(), free_port()
        self._issuer = issuer

    def command(self, directory: Path) -> list[str]:
        """Return the command line, with the configuration beside the output."""
        config = directory / "kong.yaml"
        config.write_text(CONFIG.format(issuer=self._issuer))
        listen, admin = f"127.0.0.1:{self.port}", f"127.0.0.1:{self.admin}"
        arguments = ["serve", "-c", str(config), "--listen", listen, "--admin", admin]
        return [sys.executable, "-m", "authz", *arguments]

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        return answers(f"http://127.0.0.1:{self.admin}/readyz")


class Noop(Process):
    """``bench.noop``."""

    name = "noop"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    def command(self, directory: Path) -> list[str]:  # noqa: ARG002 - it needs no files
        """Return the command line."""
        return [sys.executable, "-m", "bench.noop", str(self.port), str(ANSWER_BYTES)]

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return accepts(self.port)


def measure() -> Iterator[Figure]:
    """Measure what needs processes."""
    server = BackgroundServer()
    idp = DevelopmentIdp(issuer=f"{server.url}/realms/kong")
    server.start(idp.app())
    try:
        yield from _start_and_memory(idp.issuer)
        with Authz(idp.issuer) as authz, Noop() as noop:
            yield from asyncio.run(_round_trips(authz.port, noop.port))
    finally:
        server.stop()


def _start_and_memory(issuer: str) -> Iterator[Figure]:
    starts, memory = [], []
    for _ in range(STARTS):
        authz = Authz(issuer)
        started = time.perf_counter()
        with authz:
            starts.append(time.perf_counter() - started)
            memory.append(_resident_megabytes(authz.pid))
    yield Figure(
        "start to SERVING, the process and its imports included", "s", tuple(starts), "1.5 s"
    )
    yield Figure("resident memory, idle", "MB", tuple(memory), "90 MB or less")


def _resident_megabytes(pid: int | None) -> float:
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


async def _round_trips(authz_port: int, noop_port: int) -> list[Figure]:
    wire = check_request(basic())
    ours, peer = [], []
    async with (
        grpc.aio.insecure_channel(f"127.0.0.1:{authz_port}") as authz,
        grpc.aio.insecure_channel(f"127.0.0.1:{noop_port}") as noop,
    ):
        calls: list[grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]] = [
            channel.unary_unary(METHOD) for channel in (authz, noop)
        ]
        for call in calls:  # connections, and the one exchange
            await _per_call(call, wire, 50)
        for _ in range(RUNS):
            ours.append(await _per_call(calls[0], wire, CALLS))
            peer.append(await _per_call(calls[1], wire, CALLS))
    return [
        Figure("a Check over gRPC, ready answer", "µs", tuple(ours)),
        Figure("  peer: a grpc.aio handler that answers as many bytes", "µs", tuple(peer)),
        ratio("  ratio to the peer", ours, peer, "1.15 or less"),
    ]


async def _per_call(
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes], wire: bytes, calls: int
) -> float:
    started = time.perf_counter()
    for _ in range(calls):
        await call(wire)
    return (time.perf_counter() - started) / calls * 1e6
