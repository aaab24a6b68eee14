"""The configuration under measurement, as values and as a file, and what callers send to it."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING

from authz import credentials
from authz.demo.idp import CLIENTS
from authz.model import Consumer, Gateway, OpenIDConnect, Plugin, Route, Service, SourcePosition
from bench import messages

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTE = "route-0"
"""The route that Envoy names."""

CALLER = "kong_id"

# What curl sends through Envoy, more or less.
HEADERS = {
    ":authority": "localhost",
    ":method": "GET",
    ":path": "/0/get",
    ":scheme": "http",
    "accept": "*/*",
    "user-agent": "curl/8.5.0",
    "x-envoy-internal": "true",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-proto": "http",
    "x-request-id": "7d1c1b7e-6b9f-4b8e-9d0e-2f6d3c1f8a55",
}

_PLACE = SourcePosition("bench.yaml", 1, 1)


def gateway(issuer: str, *, routes: int = 1, consumers: int = 1) -> Gateway:
    """Return a gateway with the workshop's plugin on everything."""
    config = OpenIDConnect.of(
        issuer=issuer, consumer_claims=(("client_id",),), consumer_by=("username",)
    )
    service = Service("upstream", "upstream", _PLACE, host="127.0.0.1")
    return Gateway(
        services=(service,),
        routes=tuple(
            Route(f"id-{n}", f"route-{n}", _PLACE, service, paths=(f"/{n}",)) for n in range(routes)
        ),
        plugins=(Plugin(_PLACE, config),),
        consumers=tuple(
            Consumer(str(uuid.uuid5(uuid.NAMESPACE_DNS, name)), name, None, _PLACE)
            for name in usernames(consumers)
        ),
    )


def deck(issuer: str, *, routes: int = 1, consumers: int = 1) -> str:
    """Return the same as a decK file."""
    config = {"issuer": issuer, "consumer_claim": ["client_id"], "consumer_by": ["username"]}
    config["auth_methods"] = ["bearer", "client_credentials"]
    lines = [
        '_format_version: "3.0"',
        "plugins:",
        "- name: openid-connect",
        f"  config: {json.dumps(config)}",
        "services:",
        "- name: upstream",
        "  url: http://127.0.0.1",
        "  routes:",
    ]
    for n in range(routes):
        lines += [f"  - name: route-{n}", "    paths:", f"    - /{n}"]
    lines.append("consumers:")
    lines += [f"- username: {name}" for name in usernames(consumers)]
    return "\n".join(lines) + "\n"


def usernames(consumers: int) -> list[str]:
    """Return the names of so many consumers, the caller's first."""
    return [CALLER, *(f"consumer-{n}" for n in range(1, consumers))]


def basic(secret: str = CLIENTS[CALLER]) -> str:
    """Return the caller's Authorization header."""
    return credentials.basic(CALLER, secret)


def check_request(authorization: str, route: str = ROUTE) -> bytes:
    """Return what Envoy would ask about a request on a route that it names."""
    return any_request({"authorization": authorization}, route=route)


def any_request(
    headers: Mapping[str, str],
    *,
    path: str = "/0/get",
    body: bytes = b"",
    route: str | None = None,
) -> bytes:
    """Return what Envoy would ask about this request; without ``route`` it names none."""
    headers = {**HEADERS, ":path": path, **headers}
    context = None if route is None else {"route": route}
    request = messages.check_request(headers, path=path, body=body, context=context)
    attributes = request.attributes
    for end, port in ((attributes.source, 40_000), (attributes.destination, 8_000)):
        end.address.socket_address.address = "127.0.0.1"
        end.address.socket_address.port_value = port
    attributes.request.time.seconds = 1_700_000_000
    attributes.request.http.id = "17182156997139833360"
    wire: bytes = request.SerializeToString()
    return wire
