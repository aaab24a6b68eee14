"""An HTTP/2 upstream that remembers how each request ended."""

from __future__ import annotations

import asyncio
from threading import Thread
from typing import TYPE_CHECKING

from support.http2 import Peer

from bench.frames import ACK, END_HEADERS, END_STREAM, HEADERS, PREFACE, SETTINGS, frame

if TYPE_CHECKING:
    from typing import Self

STATUS_200 = b"\x88"  # RFC 7541 appendix A


class Http2Upstream:
    """Answers every request with 200 on a free loopback port.

    ``trailers``: for each request, the header block that came behind its body;
    empty if none did.
    """

    def __init__(self) -> None:
        self.trailers: list[bytes] = []
        self._loop = asyncio.new_event_loop()
        self._server = self._loop.run_until_complete(
            asyncio.start_server(self._serve, "127.0.0.1", 0)
        )
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = Thread(target=self._loop.run_forever, daemon=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        peer = Peer(reader, writer)
        await reader.readexactly(len(PREFACE))
        await peer.send(frame(SETTINGS, 0, 0) + frame(SETTINGS, ACK, 0))
        begun: set[int] = set()
        async for one in peer.frames():
            if not one.stream:
                continue
            ends = one.flags & END_STREAM
            if one.kind == HEADERS and one.stream not in begun:
                begun.add(one.stream)
            elif ends:
                self.trailers.append(one.payload if one.kind == HEADERS else b"")
            if ends:
                flags = END_HEADERS | END_STREAM
                await peer.send(frame(HEADERS, flags, one.stream, STATUS_200))
        writer.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._server.close()
        self._loop.close()
