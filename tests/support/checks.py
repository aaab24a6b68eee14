"""A service that answers Check as the test says, and a client that asks."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import quote

import grpc

from authz.settings import UnixAddress
from bench.frames import CHECK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from authz.settings import Address

HEALTH = "/grpc.health.v1.Health"


class Echo:
    """Answers with what it was asked; ``hold()`` keeps answers back until ``release()``."""

    def __init__(self, name: bytes = b"") -> None:
        self.name = name
        self.memory: dict[bytes, bytes] = {}
        self.deadlines: list[float | None] = []
        self.waits: list[float] = []
        self.error: Exception | None = None
        self.cancelled = 0
        self.arrived = asyncio.Event()
        self.done = asyncio.Event()
        self._open = asyncio.Event()
        self._open.set()

    def hold(self) -> None:
        self._open.clear()

    def release(self) -> None:
        self._open.set()

    def cached(self, wire: bytes, waited_s: float = 0.0) -> bytes | None:
        self.waits.append(waited_s)
        return self.memory.get(wire)

    async def check(self, wire: bytes, deadline: float | None, waited_s: float = 0.0) -> bytes:
        self.deadlines.append(deadline)
        self.waits.append(waited_s)
        self.arrived.set()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        finally:
            self.done.set()
        if self.error is not None:
            raise self.error
        return self.name + wire

    def fault(self, error: Exception) -> bytes:
        return b"fault " + type(error).__name__.encode()

    def overloaded(self) -> bytes:
        return b"overloaded"


@asynccontextmanager
async def channel(
    address: Address, tls: grpc.ChannelCredentials | None = None
) -> AsyncIterator[grpc.aio.Channel]:
    """A client's channel; no proxy, no retries that would hide a refusal."""
    target = f"unix:{quote(address.path)}" if isinstance(address, UnixAddress) else str(address)
    # A pool of its own: gRPC shares connections between equal channels otherwise.
    options: list[tuple[str, str | int]] = [
        ("grpc.enable_http_proxy", 0),
        ("grpc.enable_retries", 0),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    if isinstance(address, UnixAddress):
        options.append(("grpc.default_authority", "localhost"))  # grpcio would send the path
    if tls is None:
        opened = grpc.aio.insecure_channel(target, options)
    else:
        opened = grpc.aio.secure_channel(target, tls, options)
    async with opened:
        yield opened


def unary(opened: grpc.aio.Channel, method: str) -> grpc.aio.UnaryUnaryMultiCallable[bytes, bytes]:
    """Return the method as it is on the wire: bytes on both sides."""
    return opened.unary_unary(method)


async def ask(
    address: Address,
    wire: bytes,
    seconds: float | None = 10,
    tls: grpc.ChannelCredentials | None = None,
) -> bytes:
    """Call Check once."""
    async with channel(address, tls) as opened:
        return await unary(opened, CHECK)(wire, timeout=seconds)


async def health(address: Address, service: str = "") -> str:
    """Ask gRPC health: the name of the status, or of the error."""
    async with channel(address) as opened:
        try:
            answer = await unary(opened, f"{HEALTH}/Check")(_health_of(service), timeout=10)
        except grpc.aio.AioRpcError as error:
            return error.code().name
    return _status_name(answer)


async def watch(address: Address, service: str = "") -> AsyncGenerator[str]:
    """Tell each status that gRPC health tells, until it ends."""
    async with channel(address) as opened:
        method: grpc.aio.UnaryStreamMultiCallable[bytes, bytes]
        method = opened.unary_stream(f"{HEALTH}/Watch")
        async for answer in method(_health_of(service)):
            yield _status_name(answer)


def _health_of(service: str) -> bytes:
    """Write a HealthCheckRequest: field 1, a string."""
    return b"\x0a" + bytes([len(service)]) + service.encode() if service else b""


def _status_name(answer: bytes) -> str:
    """Read a HealthCheckResponse: field 1, a varint; zero is not on the wire."""
    return ("UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN")[answer[1] if answer else 0]
