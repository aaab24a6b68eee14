"""HTTP/1.1 by the byte, at both ends: nothing is put right on the way, and it is quick."""

from __future__ import annotations

import asyncio
import re
from collections import defaultdict
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from support.drawn import CASE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable

    from support.drawn import Asked

LOOPBACK = "127.0.0.1"
ANSWER_SECONDS_MAX = 20
CONNECTIONS = 8
"""How many callers there are at once."""

_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_WITHOUT_BODY = frozenset({204, 304})

# --- Upstreams ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrival:
    """A request as one of the upstreams received it; names are lower-case."""

    service: int
    target: str
    headers: tuple[tuple[str, str], ...]

    def header(self, name: str) -> str | None:
        """Return the value of a header, its lines joined."""
        values = [value for key, value in self.headers if key == name]
        return ", ".join(values) if values else None


class Upstreams:
    """One server for each service of a file, which tell them apart by their ports."""

    def __init__(self) -> None:
        self.ports: list[int] = []
        self.arrived: defaultdict[int, list[Arrival]] = defaultdict(list)

    def take(self, service: int, head: bytes) -> None:
        first, *lines = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
        headers = [line.partition(":") for line in lines]
        pairs = tuple((name.lower(), value.strip()) for name, _, value in headers)
        arrival = Arrival(service, first.split(" ")[1], pairs)
        self.arrived[int(arrival.header(CASE) or -1)].append(arrival)


class _Upstream(asyncio.Protocol):
    def __init__(self, upstreams: Upstreams, service: int) -> None:
        self._upstreams = upstreams
        self._service = service
        self._read = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._read += data
        while b"\r\n\r\n" in self._read:
            head, _, self._read = self._read.partition(b"\r\n\r\n")
            self._upstreams.take(self._service, head)
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")


@asynccontextmanager
async def upstreams(count: int) -> AsyncIterator[Upstreams]:
    """Serve as so many services as long as the context lasts."""
    found = Upstreams()
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(partial(_Upstream, found, number), LOOPBACK, 0)
        for number in range(count)
    ]
    found.ports = [server.sockets[0].getsockname()[1] for server in servers]
    try:
        yield found
    finally:
        for server in servers:
            server.close()


# --- Callers --------------------------------------------------------------------------------


async def ask_all(port: int, requests: Iterable[Asked]) -> dict[int, int]:
    """Send each request, and return the statuses by the requests' numbers."""
    waiting = iter(requests)
    statuses: dict[int, int] = {}
    async with asyncio.TaskGroup() as group:
        for _ in range(CONNECTIONS):
            group.create_task(_ask_each(port, waiting, statuses))
    return statuses


async def _ask_each(port: int, waiting: Iterable[Asked], statuses: dict[int, int]) -> None:
    """Ask over one connection after the other: Envoy closes it after some kinds of request."""
    caller: _Caller | None = None
    for asked in waiting:
        if caller is None or not caller.is_open:
            caller = await _Caller.connected(port)
        async with asyncio.timeout(ANSWER_SECONDS_MAX):
            statuses[asked.number] = await caller.ask(asked)
    if caller is not None:
        caller.close()


class _Caller:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.is_open = True

    @classmethod
    async def connected(cls, port: int) -> _Caller:
        return cls(*await asyncio.open_connection(LOOPBACK, port))

    async def ask(self, asked: Asked) -> int:
        """Return the answer's status."""
        self._writer.write(asked.head)
        head = await self._reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = _LENGTH.search(head)
        if length and asked.method != "HEAD" and status not in _WITHOUT_BODY:
            await self._reader.readexactly(int(length[1]))
        if b"\r\nconnection: close\r\n" in head.lower() or (not length and asked.method != "HEAD"):
            self.close()
        return status

    def close(self) -> None:
        self.is_open = False
        self._writer.close()
