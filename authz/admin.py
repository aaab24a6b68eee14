"""The operator's pages over HTTP: ``/startupz``, ``/livez``, ``/readyz``, ``/metrics``.

A thread with its own loop serves them, so liveness is answered while the loop that
decides is busy.  The pages hold no secret and change nothing, so the address may be
one that a kubelet reaches.  Other peers may reach it too: a connection has one request
and a deadline for it, and one that has sent no request gives way to a new one.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, cast

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from authz.settings import TcpAddress
from authz.transport import ListenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

PROVIDERS_SHOWN_MAX = 100
DETAIL_CHARS_MAX = 1024
DETAIL_LINES_MAX = 20
REFUSALS_SHOWN_MAX = 5
REFUSAL_CHARS_MAX = 1024
REQUEST_BYTES_MAX = 16 * 1024
# A page of metrics takes milliseconds, in which no decision is made.
METRICS_AT_ONCE_MAX = 2
# With several workers the page asks each of them, and waits for one that is stuck.
READINESS_AT_ONCE_MAX = 8
STOP_SECONDS = 2.0

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may ask of these pages."""

    connections: int = 64
    """Open at the same time.  A further one closes the oldest without a request, or the oldest."""
    head_seconds: float = 2
    """How long the head of a request may take to arrive whole, from the connection on."""
    connection_seconds: float = 15
    """How long all of it may take: the head, the answer, and reading the answer."""


LIMITS = Limits()


class IdpStatus(Protocol):
    """The state of one identity provider."""

    @property
    def issuer(self) -> str:
        """Its issuer URL, as configured."""

    @property
    def ready(self) -> bool:
        """Whether tokens of this issuer can be verified."""

    @property
    def detail(self) -> str:
        """Some lines for the operator, its state in the first; nothing secret."""


class Readiness(Protocol):
    """What ``/startupz`` and ``/readyz`` show.

    The pages' thread asks: an answer reads, and does not wait.
    """

    @property
    def started(self) -> bool:
        """Whether the configuration is loaded and calls can reach it, whatever a provider says."""

    @property
    def ready(self) -> bool:
        """Whether calls should be sent here."""

    @property
    def refused(self) -> Sequence[str]:
        """Why the last reload was refused, a line a problem; nothing if it was not."""

    def status(self) -> Sequence[IdpStatus]:
        """Return the state of each identity provider."""


class Admin:
    """The operator's HTTP server, from ``start`` to ``stop``."""

    def __init__(
        self,
        address: TcpAddress,
        readiness: Readiness,
        registry: CollectorRegistry,
        limits: Limits = LIMITS,
    ) -> None:
        self._listen = address
        app = _application(readiness, registry)
        self._server = uvicorn.Server(_configuration(app, _Connections(limits)))
        self._thread: threading.Thread | None = None
        self.address = address
        """Where it listens: once started, with the real port."""

    def start(self) -> None:
        """Listen, and serve from now on; raises ``ListenError``."""
        listener = _listener(self._listen)
        self.address = TcpAddress(self._listen.host, listener.getsockname()[1])
        # A daemon: a slow reader of metrics must not keep the process from ending.
        # uvicorn leaves the process's signals alone outside the main thread.
        self._thread = threading.Thread(
            target=self._server.run, args=([listener],), name="authz-admin", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """End; open connections are cut.  Blocks for at most ``STOP_SECONDS``."""
        self._server.should_exit = self._server.force_exit = True
        if self._thread is not None:
            self._thread.join(STOP_SECONDS)


def _application(readiness: Readiness, registry: CollectorRegistry) -> Starlette:
    async def livez(_request: Request) -> Response:
        return _text("ok")

    def startupz(_request: Request) -> Response:
        started = readiness.started
        return _text("started" if started else "starting", status=200 if started else 503)

    def readyz(request: Request) -> Response:
        ready = readiness.ready
        verbose = "verbose" in request.query_params
        lines = (*_providers(readiness), *_refused(readiness)) if verbose else ()
        return _text(*lines, "ready" if ready else "not ready", status=200 if ready else 503)

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type, headers=_HEADERS)

    endpoints = {
        "/livez": livez,
        "/startupz": _in_turn(startupz, READINESS_AT_ONCE_MAX),
        "/readyz": _in_turn(readyz, READINESS_AT_ONCE_MAX),
        "/metrics": _in_turn(metrics, METRICS_AT_ONCE_MAX),
    }
    routes = [Route(path, endpoint) for path, endpoint in endpoints.items()]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


def _in_turn(
    make: Callable[[Request], Response], at_once: int
) -> Callable[[Request], Awaitable[Response]]:
    """Make at most ``at_once`` pages at the same time, in threads.

    The request of a connection that has ended stays in the queue, but no page is made for
    it: otherwise peers that ask and hang up would keep all others waiting.
    """
    turns = asyncio.Semaphore(at_once)

    async def endpoint(request: Request) -> Response:
        async with turns:
            if await request.is_disconnected():
                return Response()  # nobody reads it
            return await run_in_threadpool(make, request)

    return endpoint


def _providers(readiness: Readiness) -> list[str]:
    providers = readiness.status()
    lines = [line for one in providers[:PROVIDERS_SHOWN_MAX] for line in _provider(one)]
    if len(providers) > PROVIDERS_SHOWN_MAX:
        lines.append(f"... and {len(providers) - PROVIDERS_SHOWN_MAX} more")
    return lines


def _provider(provider: IdpStatus) -> list[str]:
    state, *rest = provider.detail.split("\n")[:DETAIL_LINES_MAX]
    sign = "+" if provider.ready else "-"
    return [_visible(f"[{sign}] {provider.issuer}: {state}"), *(_visible(f"    {x}") for x in rest)]


def _refused(readiness: Readiness) -> list[str]:
    """Return why the files are not in force.  The server is ready all the same."""
    problems = readiness.refused
    lines = [
        _visible(f"[-] configuration: reload refused: {problem}", REFUSAL_CHARS_MAX)
        for problem in problems[:REFUSALS_SHOWN_MAX]
    ]
    if len(problems) > REFUSALS_SHOWN_MAX:
        lines.append(f"... and {len(problems) - REFUSALS_SHOWN_MAX} more")
    return lines


def _visible(line: str, most: int = DETAIL_CHARS_MAX) -> str:
    return "".join(char if char.isprintable() else "?" for char in line[:most])


def _text(*lines: str, status: int = 200) -> Response:
    body = "".join(f"{line}\n" for line in lines)
    return PlainTextResponse(body, status, headers=_HEADERS)


class _Connections:
    """The open connections, the oldest first, and how many there may be."""

    def __init__(self, limits: Limits) -> None:
        self.limits = limits
        self._open: dict[_Connection, None] = {}

    def enter(self, connection: _Connection) -> None:
        """Add a connection; if there are too many, close another one."""
        if len(self._open) >= self.limits.connections:
            silent = (one for one in self._open if not one.has_asked)
            oldest = next(silent, next(iter(self._open)))
            self.leave(oldest)
            oldest.hang_up()
        self._open[connection] = None

    def leave(self, connection: _Connection) -> None:
        """Remove a connection; may be called again."""
        self._open.pop(connection, None)


class _Connection(asyncio.Protocol):
    """uvicorn's protocol on a connection with one request and a deadline for it.

    uvicorn itself sets no deadline for the request or for reading the answer.
    """

    def __init__(self, connections: _Connections, **uvicorns: Any) -> None:  # noqa: ANN401 - uvicorn's arguments
        self.has_asked = False
        self._connections = connections
        # uvicorn copies app_state into the scope, where the application finds this object.
        self._inner = H11Protocol(**{**uvicorns, "app_state": {_CONNECTION: self}})
        self._timers: tuple[asyncio.TimerHandle, ...] = ()
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        limits, later = self._connections.limits, asyncio.get_running_loop().call_later
        self._timers = (
            later(limits.head_seconds, self._hang_up_on_the_silent),
            later(limits.connection_seconds, self.hang_up),
        )
        self._connections.enter(self)
        self._inner.connection_made(self._transport)

    def asked(self) -> None:
        """Note that the head of the request has arrived."""
        self.has_asked = True

    def hang_up(self) -> None:
        """End at once, whatever is under way."""
        self._transport.abort()

    def _hang_up_on_the_silent(self) -> None:
        if not self.has_asked:
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        for timer in self._timers:
            timer.cancel()
        self._connections.leave(self)
        self._inner.connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        self._inner.data_received(data)

    def eof_received(self) -> None:
        self._inner.eof_received()

    def pause_writing(self) -> None:
        self._inner.pause_writing()

    def resume_writing(self) -> None:
        self._inner.resume_writing()


_CONNECTION = "authz.connection"


def _configuration(app: Starlette, connections: _Connections) -> uvicorn.Config:
    async def asked(scope: Scope, receive: Receive, send: Send) -> None:
        scope["state"][_CONNECTION].asked()
        await app(scope, receive, send)

    return uvicorn.Config(
        asked,
        # Named, not detected: installed packages must not change how this behaves.
        loop="asyncio",
        http=cast("type[asyncio.Protocol]", partial(_Connection, connections)),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        headers=[("connection", "close")],
        h11_max_incomplete_event_size=REQUEST_BYTES_MAX,
    )


def _listener(address: TcpAddress) -> socket.socket:
    ipv6 = ":" in address.host
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    try:
        # [::] means every address of both families, as it does for the gRPC listener.
        return socket.create_server(
            (address.host, address.port), family=family, dualstack_ipv6=ipv6
        )
    except OSError as error:
        raise ListenError(f"cannot listen on {address} for --admin: {error.strerror}") from error
