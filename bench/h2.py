"""A caller that costs little: enough of HTTP/2 (RFC 9113) for one unary gRPC method.

A client of grpcio costs as much as the server that it measures; on the same
cores that hides what another worker gives.
"""

from __future__ import annotations

import selectors
import socket
import struct
from itertools import repeat
from typing import TYPE_CHECKING

from bench.frames import (
    ACK,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW_SIZE,
    MESSAGE_HEAD_BYTES,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    call_fields,
    frame,
    message,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

WINDOW_BYTES, WINDOW_BYTES_MAX = 65_535, 2**31 - 1

_FIELDS = call_fields()  # nobody remembers them: the same bytes for every call


class Connection:
    """One connection that asks one message after another, ``in_flight`` of them at once."""

    def __init__(self, port: int, messages: Iterator[bytes], in_flight: int) -> None:
        self.answered = 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._messages = messages
        self._message = next(messages, None)
        self._window = WINDOW_BYTES
        self._next = 1
        self._waiting = in_flight
        self._with_data: set[int] = set()
        self._read = b""
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, WINDOW_BYTES_MAX)
        window = frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", WINDOW_BYTES_MAX - WINDOW_BYTES))
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, settings) + window + self._calls())

    def on_readable(self) -> None:
        """Take what has come, and ask again for each answer."""
        reply = b"".join(self._replies())
        calls = self._calls()
        if reply or calls:
            self.socket.sendall(reply + calls)

    def _calls(self) -> bytes:
        calls = []
        while self._message is not None and self._waiting:
            size = MESSAGE_HEAD_BYTES + len(self._message)
            if self._window < size:
                break
            calls.append(frame(HEADERS, END_HEADERS, self._next, _FIELDS))
            calls.append(message(self._next, self._message))
            self._window -= size
            self._waiting -= 1
            self._next += 2
            self._message = next(self._messages, None)
        return b"".join(calls)

    def _replies(self) -> Iterator[bytes]:
        for kind, flags, stream, payload in self._frames():
            if kind == DATA:
                self._with_data.add(stream)
            elif kind == HEADERS and flags & END_STREAM:
                self._with_data.remove(stream)  # else the call has failed, and so does the run
                self.answered += 1
                self._waiting += 1
            elif kind == WINDOW_UPDATE and stream == 0:
                self._window += int.from_bytes(payload)
            elif kind in {SETTINGS, PING} and not flags & ACK:
                yield frame(kind, ACK, 0, payload if kind == PING else b"")
            elif kind in {RST_STREAM, GOAWAY}:
                raise RuntimeError("the server has ended a call")

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        data, start = self._read + self.socket.recv(1 << 18), 0
        while len(data) >= start + 9:
            end = start + 9 + int.from_bytes(data[start : start + 3])
            if len(data) < end:
                break
            kind, flags, stream = struct.unpack_from(">BBI", data, start + 3)
            yield kind, flags, stream, data[start + 9 : end]
            start = end
        self._read = data[start:]


def ask(port: int, message: bytes, *, calls: int, connections: int, in_flight: int) -> None:
    """Ask the same until there are so many answers."""
    _ask(port, repeat(message), calls, connections, in_flight)


def ask_each(port: int, messages: Sequence[bytes], *, connections: int) -> None:
    """Ask each of these once, one at a time on each connection."""
    _ask(port, iter(messages), len(messages), connections, 1)


def _ask(
    port: int, messages: Iterator[bytes], calls: int, connections: int, in_flight: int
) -> None:
    with selectors.DefaultSelector() as selector:
        opened = [Connection(port, messages, in_flight) for _ in range(connections)]
        for connection in opened:
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        while sum(connection.answered for connection in opened) < calls:
            for key, _ in selector.select():
                key.data.on_readable()
        for connection in opened:
            connection.socket.close()
