"""An ASGI application on a real loopback socket, served from a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

import uvicorn

if TYPE_CHECKING:
    import ssl

    from starlette.types import ASGIApp, Receive, Scope, Send

START_TIMEOUT_SECONDS = 10


class BackgroundServer:
    """Serves one application at a time on one port, which it keeps while it is stopped.

    A stopped server refuses connections: its socket is bound, so that nobody else
    takes the port, but does not listen.  A stop cuts open connections, as the end
    of a process does.
    """

    def __init__(self, port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._socket = _bind(port)
        self.port: int = self._socket.getsockname()[1]
        self._tls = tls
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        """Where the server listens, without a trailing slash."""
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self.port}"

    def start(self, app: ASGIApp) -> None:
        """Serve ``app``; returns once connections are accepted."""
        self._server = _Server(self._configuration(app))
        sockets = [self._socket]
        self._thread = threading.Thread(
            target=self._server.run, args=(sockets,), name=f"server-{self.port}"
        )
        self._thread.start()
        if not self._server.listening.wait(START_TIMEOUT_SECONDS):
            raise TimeoutError(f"nothing listens on port {self.port}")

    def stop(self) -> None:
        """Stop accepting and cut what is open; returns when the thread has ended."""
        thread = self._thread
        if self._leave() and thread is not None:
            thread.join()
            self._socket = _bind(self.port)

    def close(self) -> None:
        """End for good, without waiting for the thread to end."""
        if not self._leave():
            self._socket.close()

    def _leave(self) -> bool:
        """Ask the thread to end; false if none is running."""
        server, self._server, self._thread = self._server, None, None
        if server is None:
            return False
        server.leave()
        return True

    def _configuration(self, app: ASGIApp) -> uvicorn.Config:
        tls = self._tls
        return uvicorn.Config(
            _cancellable(app),
            http="h11",
            ws="none",
            loop="asyncio",
            lifespan="off",
            log_config=None,
            access_log=False,
            date_header=False,
            proxy_headers=False,
            timeout_keep_alive=60,
            ssl_context_factory=None if tls is None else lambda _config, _default: tls,
        )


class _Server(uvicorn.Server):
    """uvicorn's server, which ends at once when ``leave`` is called, instead of polling."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._left = asyncio.Event()

    def leave(self) -> None:
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._left.set)

    async def main_loop(self) -> None:
        self._loop = asyncio.get_running_loop()
        await self.on_tick(0)
        self.listening.set()
        await self._left.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self.force_exit = True  # do not wait for callers
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        await super().shutdown(sockets)


def _cancellable(app: ASGIApp) -> ASGIApp:
    """Return ``app`` with its cancellation swallowed, so that a stop logs no traceback."""

    async def call(scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    return call


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    # asyncio does not set this itself on a socket that it is given.  Without it the body of
    # each answer, sent apart from the head, would wait 40 ms for the client's
    # acknowledgement.  Accepted sockets inherit the option.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.bind(("127.0.0.1", port))
    return listener
