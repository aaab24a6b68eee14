"""What anybody can make authz work: the dearest request without a credential, by input.

``python -m bench.strangers`` prints it.
"""

from __future__ import annotations

import asyncio
import base64
import json
import selectors
import statistics
import time
from itertools import repeat
from typing import TYPE_CHECKING

from authz.build import build
from authz.kong import state
from authz.kong.files import Sources
from authz.methods import METHOD_NAMES
from authz.runtime import Shared
from authz.settings import Settings
from authz.telemetry import Telemetry
from bench.fixture import any_request, basic, check_request
from bench.h2 import Connection
from bench.idp import running_idp
from bench.report import RUNS, Figure
from bench.servers import NATIVE, Authz

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.build import Configuration
    from bench.idp import BenchIdp

CPU_MS_MAX = 2
P99_MS_MAX = 20
SIZE = 16_384
"""Bytes of one input, as many as we read of it; Envoy takes 60 kB of headers in all."""
LOOKS = 5
REPEATS = 10
KNOWN_CONNECTIONS = 4
BESIDE_SECONDS = 1.0
ROUTES = 50

Shapes = dict[str, bytes]
"""Requests of one family, by what is odd about them."""


def deck(issuer: str) -> str:
    """Return a file with all that reads requests: every place, regular expressions, headers."""
    positions = ["header", "query", "body"]
    config = {
        "issuer": issuer,
        "auth_methods": ["bearer", "client_credentials"],
        "consumer_claim": ["client_id"],
        "consumer_by": ["username"],
        "client_credentials_param_type": positions,
        "bearer_token_param_type": positions,
        "hide_credentials": False,
    }
    routes: list[dict[str, object]] = [{"name": "route-0", "paths": ["/0"]}]
    for n in range(ROUTES):
        path = rf"~/api/[a-z0-9]+/v\d+(?:/[a-z0-9-]+)*/end{n}$"
        routes.append({"name": f"regex-{n}", "paths": [path]})
        headers = {"x-tenant": [rf"~*^(?:[a-z]+-)+tenant{n}$"]}
        routes.append({"name": f"tenant-{n}", "paths": ["/tenants"], "headers": headers})
    document = {
        "_format_version": "3.0",
        "plugins": [{"name": "openid-connect", "config": config}],
        "services": [{"name": "upstream", "url": "http://127.0.0.1", "routes": routes}],
        "consumers": [{"username": "kong_id"}],
    }
    return json.dumps(document)


def measure() -> Iterator[Figure]:
    """Measure the dearest of each family, then what others notice of the dearest of all."""
    with running_idp() as idp, asyncio.Runner() as runner:
        gateway = state.parse(
            Sources((("bench.json", deck(idp.issuer).encode()),)), {}, METHOD_NAMES
        )
        shared = Shared(Settings(), Telemetry())
        configuration = build(gateway, shared)
        runner.run(configuration.authorizer.check(check_request(basic()), None))  # keys, a token
        dearest: tuple[float, bytes] = (0.0, b"")
        for family, shapes in families(idp).items():
            shape = max(shapes, key=lambda name: _median(runner, configuration, shapes[name]))
            values = tuple(
                _cpu_ms(runner, configuration, shapes[shape], REPEATS) for _ in range(RUNS)
            )
            figure = Figure(f"{family}: {shape}", "ms", values, CPU_MS_MAX)
            dearest = max(dearest, (figure.median, shapes[shape]))
            yield figure
        runner.run(shared.aclose())
        yield from _beside(idp, dearest[1])


def families(idp: BenchIdp) -> Mapping[str, Shapes]:
    """Return the requests to try, by the input that is hostile in them."""
    return {
        "query": {
            piece: any_request({}, path=f"/0/get?{filled(piece)}", route="route-0")
            for piece in (
                *("&", "%41&", "a=%41&", "%", "+", "client_id&", "%63lient_id&", "%63lient_i&"),
                *("client_id=", "client_secret=a&client_id=%41", "access_token=%41"),
            )
        }
        | {
            f"999 of {name}": any_request({}, path=f"/0/get?{'&'.join([name] * 999)}")
            for name in ("client_id", "%63lient_id", "a")
        }
        | {
            "a token of %41": any_request(
                {}, path="/0/get?access_token=" + filled("%41", SIZE - 20)
            )
        },
        "Authorization: Basic": {
            repr(piece): _headers(authorization="Basic " + filled(piece, SIZE - 6))
            for piece in (",", " ,", "A", "=", " ", "a,", "\u00a0", "OjE6")
        },
        "Authorization: Bearer": {
            repr(piece): _headers(authorization="Bearer " + filled(piece, SIZE - 7))
            for piece in (",", " ,", "A", "=", " ", "a,", "a.", "a.b.", "-_")
        },
        **{
            name: {repr(piece): _headers(**{name: filled(piece)}) for piece in PIECES}
            for name in ("access-token", "x-access-token", "content-type", "x-request-id", "host")
        },
        "other headers": {
            "a thousand": _headers(**{f"x-{n}": "a" * 50 for n in range(1_000)}),
            "folded names": _headers(**{f"x.consumer_username-{n}": "a" for n in range(1_000)}),
            "nearly ours": _headers(**{f"x-consumer.username{n}": "a" for n in range(1_000)}),
        },
        "path against regular expressions": {
            repr(piece): any_request({}, path="/api/" + filled(piece, size))
            for piece in (
                "a",
                "a/",
                "a/v1/",
                "v1/a-/",
                "../",
                "%2F",
                "%61",
                "//",
                ";",
                "end1/",
                ".",
            )
            for size in (8_000, 3_000, 1_000)
        },
        "header conditions": {
            f"{piece!r}, {size} bytes": any_request(
                {"x-tenant": filled(piece, size)}, path="/tenants/a"
            )
            for piece in ("a", "a-", "-", ",", "a,", "a-tenant", "a-,", " ,")
            for size in (SIZE, 8_000, 2_000, 500, 100)
        },
        "JWT": {
            what: _headers(authorization=f"Bearer {token}") for what, token in _tokens(idp).items()
        },
        "body": {
            f"form of {piece}": _body("application/x-www-form-urlencoded", filled(piece))
            for piece in ("&", "%41&", "client_id&", "%63lient_id&", "%", "client_id=%41")
        }
        | {
            f"999 of {name}": _body("application/x-www-form-urlencoded", "&".join([name] * 999))
            for name in ("client_id", "%63lient_id")
        }
        | {f"JSON of {what}": _body("application/json", text) for what, text in _documents(SIZE)},
    }


PIECES = ("a", ",", " ", " ,", "=", "a.", ";", "\u00e9")


def filled(piece: str, size: int = SIZE) -> str:
    """Return so many bytes of a piece, over and over."""
    return piece * (size // len(piece.encode()))


def _headers(**headers: str) -> bytes:
    return any_request(headers, route="route-0")


def _body(content_type: str, text: str) -> bytes:
    return any_request({"content-type": content_type}, body=text.encode(), route="route-0")


def _documents(size: int, first: str = "") -> Iterator[tuple[str, str]]:
    """Yield JSON objects of so many bytes, with these members first."""
    for item in ("{}", '{"a":{}}', "[]", "1", "1e1", '"\\u0041"', '""', "true", "9" * 4_000):
        fits = (size - len(first) - 8) // (len(item) + 1)
        yield f"{item[:12]}", f'{{{first}"_":[{",".join([item] * fits)}]}}'
    yield "depth", f'{{{first}"_":{filled("[", size - 10 - len(first))}'
    yield (
        "depth and back",
        f'{{{first}"_":[{filled("[[[[[[[[[[[[]]]]]]]]]]]],", size - 30 - len(first))}0]}}',
    )
    names = (f'"{n:x}":1' for n in range((size - len(first)) // 10))
    yield "names", f"{{{first}{','.join(names)}}}"


def _tokens(idp: BenchIdp) -> dict[str, str]:
    header, claims, signature = idp.issue().split(".")
    known = json.loads(base64.urlsafe_b64decode(header + "=="))
    issuer = f'"iss":{json.dumps(idp.issuer)},"exp":9999999999,'
    wrong = _encoded("s" * 256)
    tokens = {"a wrong signature": f"{header}.{claims}.{wrong}"}
    for what, text in _documents(11_500, issuer):
        tokens[f"claims of {what}, a wrong signature"] = f"{header}.{_encoded(text)}.{wrong}"
    for what, text in _documents(11_500, json.dumps(known)[1:-1] + ","):
        tokens[f"a header of {what}"] = f"{_encoded(text)}.{claims}.{signature}"
    tokens["a signature of 15 kB"] = f"{header}.{claims}.{filled('A', SIZE - 1_200)}"
    del known["kid"]
    tokens["no key id"] = f"{_encoded(json.dumps(known))}.{claims}.{wrong}"
    return tokens


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _median(runner: asyncio.Runner, configuration: Configuration, wire: bytes) -> float:
    return statistics.median(_cpu_ms(runner, configuration, wire, 1) for _ in range(LOOKS))


def _cpu_ms(runner: asyncio.Runner, configuration: Configuration, wire: bytes, times: int) -> float:
    """CPU time of a decision, of the thread that decides; of the bytes' way nothing is in it."""

    async def ask() -> float:
        started = time.thread_time()
        for _ in range(times):
            await configuration.authorizer.check(wire, None)
        return (time.thread_time() - started) / times * 1e3

    return runner.run(ask())


# --- What the others notice -------------------------------------------------------------


class _Timed(Connection):
    """A known caller, who asks one question at a time and keeps the time of each answer."""

    def __init__(self, port: int, message: bytes) -> None:
        super().__init__(port, repeat(message), 1)
        self.waited_ms: list[float] = []
        self._asked = time.perf_counter()

    def on_readable(self) -> None:
        before = self.answered
        super().on_readable()
        if self.answered > before:
            now = time.perf_counter()
            self.waited_ms.append((now - self._asked) * 1e3)
            self._asked = now


def _beside(idp: BenchIdp, dearest: bytes) -> Iterator[Figure]:
    for transport in ("grpcio", "native") if NATIVE else ("grpcio",):
        with Authz(deck(idp.issuer), transport=transport) as authz:
            _p99_ms(authz.port, None)  # the exchange
            alone, beside = [], []
            for _ in range(RUNS):
                alone.append(_p99_ms(authz.port, None))
                beside.append(_p99_ms(authz.port, dearest))
        yield Figure(f"{transport}: known callers' p99, alone", "ms", tuple(alone))
        name = f"{transport}: known callers' p99 beside one connection of the dearest"
        yield Figure(name, "ms", tuple(beside), P99_MS_MAX)


def _p99_ms(port: int, dearest: bytes | None) -> float:
    with selectors.DefaultSelector() as selector:
        known = [_Timed(port, check_request(basic())) for _ in range(KNOWN_CONNECTIONS)]
        others = [] if dearest is None else [Connection(port, repeat(dearest), 1)]
        for connection in (*known, *others):
            selector.register(connection.socket, selectors.EVENT_READ, connection)
        until = time.perf_counter() + BESIDE_SECONDS
        while time.perf_counter() < until:
            for key, _ in selector.select(BESIDE_SECONDS):
                key.data.on_readable()
        for connection in (*known, *others):
            connection.socket.close()
    waited = sorted(ms for connection in known for ms in connection.waited_ms)
    return waited[len(waited) * 99 // 100]


if __name__ == "__main__":
    for figure in measure():
        print(figure, flush=True)
