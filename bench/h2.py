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

from bench.noop import METHOD

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
END_STREAM, ACK, END_HEADERS = 0x1, 0x1, 0x4
INITIAL_WINDOW_SIZE = 4
WINDOW, FRAME, MOST = 65_535, 16_384, 2**31 - 1

REQUEST = {
    b":method": b"POST",
    b":scheme": b"http",
    b":path": METHOD.encode(),
    b":authority": b"localhost",
    b"content-type": b"application/grpc",
    b"te": b"trailers",
}


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def _text(value: bytes) -> bytes:
    return bytes([len(value)]) + value  # shorter than 127, without Huffman: RFC 7541 section 5.2


# Literal fields that nobody remembers (RFC 7541 section 6.2.2): the same bytes for every call.
_FIELDS = b"".join(b"\0" + _text(name) + _text(value) for name, value in REQUEST.items())


def _framed(message: bytes) -> bytes:
    return b"\0" + struct.pack(">I", len(message)) + message


class Connection:
    """One connection that asks one message after another, ``in_flight`` of them at once."""

    def __init__(self, port: int, messages: Iterator[bytes], in_flight: int) -> None:
        self.answered = 0
        self.socket = socket.create_connection(("127.0.0.1", port))
        self._messages = (_framed(message) for message in messages)
        self._message = next(self._messages, None)
        self._window = WINDOW
        self._next = 1
        self._waiting = in_flight
        self._with_data: set[int] = set()
        self._read = b""
        settings = struct.pack(">HI", INITIAL_WINDOW_SIZE, MOST)
        window = _frame(WINDOW_UPDATE, 0, 0, struct.pack(">I", MOST - WINDOW))
        self.socket.sendall(PREFACE + _frame(SETTINGS, 0, 0, settings) + window + self._calls())

    def on_readable(self) -> None:
        """Take what has come, and ask again for each answer."""
        reply = b"".join(self._replies())
        calls = self._calls()
        if reply or calls:
            self.socket.sendall(reply + calls)

    def _calls(self) -> bytes:
        calls = []
        while self._message and self._waiting and self._window >= len(self._message):
            calls.append(_frame(HEADERS, END_HEADERS, self._next, _FIELDS))
            starts = range(0, len(self._message), FRAME)
            *first, last = [self._message[at : at + FRAME] for at in starts]
            calls += [_frame(DATA, 0, self._next, part) for part in first]
            calls.append(_frame(DATA, END_STREAM, self._next, last))
            self._window -= len(self._message)
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
                yield _frame(kind, ACK, 0, payload if kind == PING else b"")
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
