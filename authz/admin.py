"""What the operator asks over HTTP: ``/livez``, ``/readyz``, ``/metrics``.

Served from a thread with a loop of its own, so that liveness is answered even
while the loop that decides is busy.  Nothing here is secret and nothing can be
changed, so the address may be one that a kubelet reaches.  The home of
starlette and uvicorn.
"""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING, Protocol, cast

import uvicorn
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from uvicorn.protocols.http.h11_impl import H11Protocol

from authz.settings import TcpAddress
from authz.transport import ListenError

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Sequence

    from prometheus_client import CollectorRegistry
    from starlette.requests import Request

PROVIDERS_SHOWN = 100
DETAIL_CHARACTERS = 256
REFUSALS_SHOWN = 5
REFUSAL_CHARACTERS = 1024
CONCURRENT_REQUESTS = 64
REQUEST_BYTES = 16 * 1024
IDLE_CONNECTION_SECONDS = 5
FIRST_REQUEST_SECONDS = 2.0
STOP_SECONDS = 2.0

_HEADERS = {"cache-control": "no-store", "x-content-type-options": "nosniff"}


class Provider(Protocol):
    """The state of one identity provider."""

    @property
    def issuer(self) -> str:
        """Its issuer URL, as configured."""

    @property
    def ready(self) -> bool:
        """Whether tokens of this issuer can be verified."""

    @property
    def detail(self) -> str:
        """One line for the operator; nothing secret."""


class Readiness(Protocol):
    """What ``/readyz`` tells.  Asked from another thread: it reads, and does not wait."""

    @property
    def ready(self) -> bool:
        """Whether calls should be sent here."""

    @property
    def refused(self) -> Sequence[str]:
        """Why the last reload was refused, a line a problem; nothing if it was not."""

    def status(self) -> Sequence[Provider]:
        """Return the state of each identity provider."""


class Admin:
    """The operator's HTTP server, from ``start`` to ``stop``."""

    def __init__(
        self, address: TcpAddress, readiness: Readiness, registry: CollectorRegistry
    ) -> None:
        self._listen = address
        self._server = uvicorn.Server(_configuration(_application(readiness, registry)))
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

    # Not async, so in a thread: with several workers, each is asked first.
    def readyz(request: Request) -> Response:
        ready = readiness.ready
        verbose = "verbose" in request.query_params
        lines = (*_providers(readiness), *_refused(readiness)) if verbose else ()
        return _text(*lines, "ready" if ready else "not ready", status=200 if ready else 503)

    def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), media_type=content_type, headers=_HEADERS)

    endpoints = {"/livez": livez, "/readyz": readyz, "/metrics": metrics}
    routes = [Route(path, endpoint) for path, endpoint in endpoints.items()]
    app = Starlette(routes=routes)
    app.router.redirect_slashes = False
    return app


def _providers(readiness: Readiness) -> list[str]:
    providers = readiness.status()
    lines = [
        _visible(f"[{'+' if provider.ready else '-'}] {provider.issuer}: {provider.detail}")
        for provider in providers[:PROVIDERS_SHOWN]
    ]
    if len(providers) > PROVIDERS_SHOWN:
        lines.append(f"... and {len(providers) - PROVIDERS_SHOWN} more")
    return lines


def _refused(readiness: Readiness) -> list[str]:
    """Say that the files are not what is in force.  That is no reason to send calls elsewhere."""
    problems = readiness.refused
    lines = [
        _visible(f"[-] configuration: reload refused: {problem}", REFUSAL_CHARACTERS)
        for problem in problems[:REFUSALS_SHOWN]
    ]
    if len(problems) > REFUSALS_SHOWN:
        lines.append(f"... and {len(problems) - REFUSALS_SHOWN} more")
    return lines


def _visible(line: str, most: int = DETAIL_CHARACTERS) -> str:
    return "".join(char if char.isprintable() else "?" for char in line[:most])


def _text(*lines: str, status: int = 200) -> Response:
    body = "".join(f"{line}\n" for line in lines)
    return PlainTextResponse(body, status, headers=_HEADERS)


class _Impatient(H11Protocol):
    """uvicorn's protocol, which by itself waits for a first request for ever.

    So many silent connections would use up ``CONCURRENT_REQUESTS``, and with it
    the liveness probe.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # uvicorn's own narrowing
        super().connection_made(transport)
        self.loop.call_later(FIRST_REQUEST_SECONDS, self._hang_up_on_the_silent)

    def _hang_up_on_the_silent(self) -> None:
        # uvicorn declares it without its None.
        if cast("object", self.cycle) is None:
            self.transport.close()


def _configuration(app: Starlette) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        # Named, not detected: what happens to be installed must not change how this behaves.
        loop="asyncio",
        http=_Impatient,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=CONCURRENT_REQUESTS,
        timeout_keep_alive=IDLE_CONNECTION_SECONDS,
        h11_max_incomplete_event_size=REQUEST_BYTES,
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
