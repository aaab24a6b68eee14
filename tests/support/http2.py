"""HTTP/2 by the byte, for peers that no library would let us be (RFC 9113)."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.settings import UnixAddress
from bench.frames import ACK, DATA, PING, PREFACE, RST_STREAM, SETTINGS, frame

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from authz.settings import Address

CANCEL = 0x8

WAIT_SECONDS = 20


@dataclass(frozen=True)
class Frame:
    """A frame as it was read (RFC 9113 section 4.1)."""

    kind: int
    flags: int
    stream: int
    payload: bytes


NO_MESSAGE = {
    "nothing": b"",
    "half a head": b"\0\0\0",
    "shorter than it says": b"\0\0\0\0\2x",
    "compressed, and nobody said how": b"\1\0\0\0\1x",
}
"""Contents of a call that ends without a message to read."""


def reset(stream: int) -> bytes:
    return frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL))


class Peer:
    """A connection, and the frames that come from it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.answers_pings = True

    async def greet(self) -> None:
        """Open HTTP/2, and take the server's settings as they are."""
        await self.send(PREFACE + frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def frames(self) -> AsyncGenerator[Frame]:
        """Tell each frame until the server hangs up."""
        async with asyncio.timeout(WAIT_SECONDS):
            try:
                while True:
                    head = await self.reader.readexactly(9)
                    kind, flags, stream = struct.unpack(">BBI", head[3:])
                    payload = await self.reader.readexactly(int.from_bytes(head[:3]))
                    if kind == PING and not flags & ACK and self.answers_pings:
                        await self.send(frame(PING, ACK, 0, payload))
                    yield Frame(kind, flags, stream, payload)
            except (asyncio.IncompleteReadError, ConnectionError):
                return

    async def until(self, kind: int, stream: int = 0) -> Frame | None:
        """Read on to a frame of this kind; ``None``: the server has hung up before."""
        async for one in self.frames():
            if one.kind == kind and one.stream == stream:
                return one
        return None

    async def hung_up(self) -> bool:
        """Wait for the end of the connection."""
        async for _ in self.frames():
            pass
        return True

    async def answer(self, stream: int) -> bytes:
        """Return the message that answers a call."""
        data = await self.until(DATA, stream)
        assert data is not None, "the server hung up"
        return data.payload[5:]

    def kill(self) -> None:
        """End the connection without a word: RST instead of FIN."""
        connection: socket.socket = self.writer.get_extra_info("socket")
        linger = struct.pack("ii", 1, 0)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.writer.transport.abort()


@asynccontextmanager
async def connected(
    address: Address, *, greet: bool = True, local_address: str | None = None
) -> AsyncIterator[Peer]:
    """Connect; with ``greet`` as far as HTTP/2."""
    if isinstance(address, UnixAddress):
        streams = await asyncio.open_unix_connection(address.path)
    else:
        local = None if local_address is None else (local_address, 0)
        streams = await asyncio.open_connection(address.host, address.port, local_addr=local)
    peer = Peer(*streams)
    try:
        if greet:
            await peer.greet()
        yield peer
    finally:
        peer.writer.transport.abort()
