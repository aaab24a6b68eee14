"""Ask a server over HTTP as authz does: through a door, or without one."""

from __future__ import annotations

import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, TypeVar

from authz.clock import SystemClock
from authz.oauth.door import PROBES_MAX, Door
from authz.oauth.endpoints import DISCOVERY, TOKEN
from authz.oauth.http import HttpClient, Request, tls_context
from authz.oauth.places import OURSELVES
from authz.settings import parse_connect_to
from authz.telemetry import Telemetry

if TYPE_CHECKING:
    import ssl
    from collections.abc import AsyncIterator, Callable, Mapping

    from authz.clock import Clock
    from authz.oauth.endpoints import Endpoint
    from authz.oauth.http import Response
    from authz.oauth.places import Asker

T = TypeVar("T")


class Client:
    """Asks, each time for JSON of at most ``bytes_max`` bytes."""

    def __init__(self, http: HttpClient) -> None:
        self.http = http

    async def get(self, url: str, *, bytes_max: int) -> Response:
        return await self.http.send(Request(url), accept=DISCOVERY.accept, bytes_max=bytes_max)

    async def post_form(
        self, url: str, form: bytes, headers: Mapping[str, str], *, bytes_max: int
    ) -> Response:
        request = Request(url, form, headers=headers)
        return await self.http.send(request, accept=DISCOVERY.accept, bytes_max=bytes_max)


def http_client(
    *connect_to: str,
    tls: ssl.SSLContext | None = None,
    connections_max: int = 8,
    timer: Callable[[], float] = time.monotonic,
) -> HttpClient:
    return HttpClient(
        tls or tls_context(None, verify=True),
        connect_to=tuple(map(parse_connect_to, connect_to)),
        connections_max=connections_max,
        timer=timer,
    )


@asynccontextmanager
async def client(
    *connect_to: str, tls: ssl.SSLContext | None = None, connections_max: int = 8
) -> AsyncIterator[Client]:
    http = http_client(*connect_to, tls=tls, connections_max=connections_max)
    try:
        yield Client(http)
    finally:
        await http.aclose()


class AskedDoor:
    """A door and what it has counted; every answer is returned as it is, unless read."""

    def __init__(self, door: Door, telemetry: Telemetry) -> None:
        self.door = door
        self.telemetry = telemetry

    async def get(
        self, url: str, endpoint: Endpoint = DISCOVERY, asker: Asker = OURSELVES
    ) -> Response:
        return await self.ask(Request(url), endpoint, asker)

    async def post(self, url: str, form: bytes = b"a=1", asker: Asker = OURSELVES) -> Response:
        return await self.ask(Request(url, form), TOKEN, asker)

    async def ask(
        self, request: Request, endpoint: Endpoint = TOKEN, asker: Asker = OURSELVES
    ) -> Response:
        return await self.read(request, lambda response: response, endpoint, asker)

    async def read(
        self,
        request: Request,
        read: Callable[[Response], T],
        endpoint: Endpoint = TOKEN,
        asker: Asker = OURSELVES,
    ) -> T:
        return await self.door.ask(endpoint, request, read, asker)

    def counted(self, endpoint: Endpoint, outcome: str) -> float:
        """How many calls to an endpoint ended so."""
        return (
            self.telemetry.registry.get_sample_value(
                "authz_idp_request_duration_seconds_count",
                {"issuer": ISSUER, "endpoint": endpoint.name, "outcome": outcome},
            )
            or 0
        )


ISSUER = "https://idp.example"


@asynccontextmanager
async def door(
    *connect_to: str,
    places_max: int = 8,
    timeout_s: float = 10,
    clock: Clock | None = None,
    tls: ssl.SSLContext | None = None,
    lot: float = 0.0,
) -> AsyncIterator[AskedDoor]:
    """A door; ``lot`` is what every lot draws."""
    clock, telemetry = clock or SystemClock(), Telemetry()
    http = http_client(
        *connect_to, tls=tls, connections_max=places_max + PROBES_MAX, timer=clock.monotonic
    )
    made = Door(
        http,
        issuer=ISSUER,
        places_max=places_max,
        timeout_s=timeout_s,
        clock=clock,
        telemetry=telemetry,
        lot=lambda: lot,
    )
    try:
        yield AskedDoor(made, telemetry)
    finally:
        await made.aclose()
