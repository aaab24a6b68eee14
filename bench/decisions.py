"""In one process: a ready answer, and the first verification of a token."""

from __future__ import annotations

import asyncio
import base64
import time
from typing import TYPE_CHECKING, Any

import jwt as pyjwt
from google.protobuf import message_factory

from authz.build import build
from authz.clock import SystemClock
from authz.demo.background import BackgroundServer
from authz.demo.idp import CLIENTS, DevelopmentIdp
from authz.envoy.check import POOL
from authz.model import AccessToken, Consumer, Gateway, OpenIDConnect, Place, Plugin, Secret
from authz.oauth.verifier import TokenVerifier
from authz.settings import Settings
from authz.telemetry import Telemetry
from bench.report import RUNS, Figure, ratio

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.build import House

CALLS = 10_000
TOKENS = 300
"""Fresh tokens per run: each is verified once."""

PLACE = Place("bench.yaml", 1, 1)

# What curl sends through Envoy, more or less.
HEADERS = {
    ":authority": "localhost",
    ":method": "GET",
    ":path": "/oidc-route/get",
    ":scheme": "http",
    "accept": "*/*",
    "user-agent": "curl/8.5.0",
    "x-envoy-internal": "true",
    "x-forwarded-for": "127.0.0.1",
    "x-forwarded-proto": "http",
    "x-request-id": "7d1c1b7e-6b9f-4b8e-9d0e-2f6d3c1f8a55",
}


def gateway(issuer: str) -> Gateway:
    """Return the workshop's plugin, for everything."""
    config = OpenIDConnect(
        issuer=issuer, consumer_claims=(("client_id",),), consumer_by=("username",)
    )
    consumer = Consumer("5f7fca37-1a8c-5b7e-9d5c-5a3f0b6f9b10", "kong_id", None, PLACE)
    return Gateway(plugins=(Plugin(PLACE, config),), consumers=(consumer,))


def check_request(authorization: str) -> bytes:
    """Return what Envoy would ask."""
    kind: Any = message_factory.GetMessageClass(
        POOL.FindMessageTypeByName("envoy.service.auth.v3.CheckRequest")
    )
    request = kind()
    http = request.attributes.request.http
    http.method, http.path, http.host = "GET", "/oidc-route/get", "localhost"
    http.scheme, http.protocol = "http", "HTTP/1.1"
    http.headers.update({**HEADERS, "authorization": authorization})
    wire: bytes = request.SerializeToString()
    return wire


def basic() -> str:
    """Return the header that curl -u sends."""
    pair = f"kong_id:{CLIENTS['kong_id']}".encode()
    return "Basic " + base64.b64encode(pair).decode()


def measure() -> Iterator[Figure]:
    """Measure everything that needs no second process."""
    server = BackgroundServer()
    idp = DevelopmentIdp(issuer=f"{server.url}/realms/kong")
    server.start(idp.app())
    try:
        with asyncio.Runner() as runner:
            house = build(gateway(idp.issuer), Settings(), Telemetry())
            yield from _ready_answers(runner, house, idp)
            yield from _first_verification(runner, house, idp)
            runner.run(house.aclose())
    finally:
        server.stop()


def _ready_answers(runner: asyncio.Runner, house: House, idp: DevelopmentIdp) -> Iterator[Figure]:
    for name, header in (("Basic", basic()), ("Bearer", f"Bearer {idp.issue()}")):
        wire = check_request(header)
        runner.run(house.service.check(wire, None))
        if house.service.cached(wire) is None:
            raise RuntimeError("there is no ready answer to measure")
        cached = house.service.cached
        values = [_per_call(lambda: cached(wire)) for _ in range(RUNS)]  # noqa: B023 - called here
        yield Figure(f"ready answer, bytes to bytes, {name}", "µs", tuple(values), "20 µs or less")


def _per_call(call: Callable[[], object]) -> float:
    started = time.perf_counter()
    for _ in range(CALLS):
        call()
    return (time.perf_counter() - started) / CALLS * 1e6


def _first_verification(
    runner: asyncio.Runner, house: House, idp: DevelopmentIdp
) -> Iterator[Figure]:
    plugin = house.gateway.plugins[0]
    verifier = TokenVerifier(
        plugin.config, house.outside.provider(plugin.config), clock=SystemClock()
    )
    public_key = idp.keys[0].private.public_key()
    ours, whole, peer = [], [], []
    for _ in range(RUNS):
        tokens = [idp.issue(jti=f"bench-{time.perf_counter_ns()}-{n}") for n in range(TOKENS)]
        ours.append(runner.run(_verify(verifier, tokens)))
        started = time.perf_counter()
        for token in tokens:
            pyjwt.decode(token, public_key, algorithms=["RS256"], audience="account")
        peer.append((time.perf_counter() - started) / TOKENS * 1e6)
        fresh = [idp.issue(jti=f"bench-{time.perf_counter_ns()}-{n}") for n in range(TOKENS)]
        whole.append(runner.run(_check(house, fresh)))
    yield Figure("first verification of an RS256 token", "µs", tuple(ours), "under 150 µs")
    yield Figure("  peer: PyJWT's decode of the same tokens", "µs", tuple(peer))
    yield ratio("  ratio to the peer", ours, peer)
    yield Figure("first request with a bearer token, bytes to bytes", "µs", tuple(whole))


async def _verify(verifier: TokenVerifier, tokens: list[str]) -> float:
    started = time.perf_counter()
    for token in tokens:
        await verifier.verify(AccessToken(Secret(token)))
    return (time.perf_counter() - started) / len(tokens) * 1e6


async def _check(house: House, tokens: list[str]) -> float:
    wires = [check_request(f"Bearer {token}") for token in tokens]
    started = time.perf_counter()
    for wire in wires:
        await house.service.check(wire, None)
    return (time.perf_counter() - started) / len(tokens) * 1e6
