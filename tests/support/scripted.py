"""A TCP server that plays a script of bytes: for what no HTTP framework would send.

    ScriptedServer([read_request, send(b"HTTP/1.1 200 OK\\r\\n"), reset])

A script is a sequence of actions, one script a connection; the last one is played
for every connection that follows.  When a script ends the connection is closed.
"""

from __future__ import annotations

import socket
import struct
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import ssl
    from typing import Self

READ_BYTES = 65_536


class Connection:
    """One accepted connection and everything it received."""

    def __init__(self, sock: socket.socket, closing: threading.Event) -> None:
        self.sock = sock
        self.closing = closing
        self.received = bytearray()
        self._read = 0  # how much of received has been taken as requests

    def receive(self) -> bool:
        """Read what there is; false at the peer's end of stream."""
        data = self.sock.recv(READ_BYTES)
        self.received += data
        return bool(data)


Action = Callable[[Connection], None]
Script = Sequence[Action]


class ScriptedServer:
    """Listens on a free loopback port; each connection has a thread of its own."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self.connections: list[Connection] = []
        self._scripts = scripts
        self._tls = tls
        self._closing = threading.Event()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._acceptor = threading.Thread(target=self._accept, name=f"scripted-{self.port}")
        self._acceptor.start()

    @property
    def url(self) -> str:
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    @property
    def received(self) -> list[bytes]:
        """What each connection received so far, in the order of arrival."""
        return [bytes(connection.received) for connection in self.connections]

    def wait_until_closed(self, connection: int) -> None:
        """Wait for the end of one connection's script, after which it is closed."""
        self._threads[connection].join(20)

    def close(self) -> None:
        """Cut every connection and wait for the threads."""
        self._closing.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._acceptor.join()
        self._listener.close()
        for connection in self.connections:
            with suppress(OSError):
                connection.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            script = self._scripts[min(len(self.connections), len(self._scripts) - 1)]
            connection = Connection(sock, self._closing)
            self.connections.append(connection)
            thread = threading.Thread(target=self._play, args=(connection, script))
            self._threads.append(thread)
            thread.start()

    def _play(self, connection: Connection, script: Script) -> None:
        try:
            if self._tls is not None:
                connection.sock = self._tls.wrap_socket(connection.sock, server_side=True)
            for action in script:
                action(connection)
        except OSError:
            pass  # the peer went away first, or the server is closing
        finally:
            connection.sock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


# --- Actions -----------------------------------------------------------------


Serve = Callable[..., ScriptedServer]
"""The fixture ``scripted``."""


def read_request(connection: Connection) -> None:
    """Read one whole HTTP request: its head, and a body of Content-Length bytes."""
    while True:
        head, blank, rest = bytes(connection.received[connection._read :]).partition(b"\r\n\r\n")
        if blank and len(rest) >= _content_length(head):
            connection._read += len(head) + len(blank) + _content_length(head)
            return
        if not connection.receive():
            raise ConnectionError("the peer ended before its request did")


def send(data: bytes) -> Action:
    """Send these bytes at once."""
    return lambda connection: connection.sock.sendall(data)


def answer(body: bytes, status: str = "200 OK", *headers: str) -> Action:
    """Send a complete JSON answer that leaves the connection open."""
    lines = [
        f"HTTP/1.1 {status}",
        "content-type: application/json",
        f"content-length: {len(body)}",
        *headers,
    ]
    return send("\r\n".join([*lines, "", ""]).encode() + body)


def drip(data: bytes, pause_s: float) -> Action:
    """Send one byte at a time with a pause after each."""

    def act(connection: Connection) -> None:
        for byte in data:
            connection.sock.sendall(bytes([byte]))
            if connection.closing.wait(pause_s):
                return

    return act


def flood(chunk: bytes) -> Action:
    """Send the chunk again and again until the peer or the server closes."""

    def act(connection: Connection) -> None:
        while not connection.closing.is_set():
            connection.sock.sendall(chunk)

    return act


def reset(connection: Connection) -> None:
    """Abort the connection: the peer sees ECONNRESET."""
    linger_on_for_0_s = struct.pack("ii", 1, 0)
    connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger_on_for_0_s)
    connection.sock.close()


def half_close(connection: Connection) -> None:
    """End our direction only."""
    connection.sock.shutdown(socket.SHUT_WR)


def silence(connection: Connection) -> None:
    """Read and never answer, until the peer or the server closes."""
    while connection.receive():
        pass


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0
