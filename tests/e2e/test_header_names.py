"""Names that upstreams fold onto ours, through a real Envoy to upstreams that do so."""

from __future__ import annotations

import asyncio
import http.client
import random
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.cgi import Lighttpd, environment, variable
from support.curl import TIMEOUT_SECONDS
from support.deployment import Deployment, ext_authz
from support.http2 import connected
from support.http2_upstream import Http2Upstream
from support.idp import RunningIdp

from authz.credentials import basic
from authz.header_names import FORWARDED, IDENTITY, TOKENS, folded
from authz.settings import TcpAddress
from bench.frames import DATA, END_HEADERS, END_STREAM, HEADERS, fields, frame

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.deployment import Change, Edge
    from support.transports import Name
    from support.upstream import Upstream

CONFIG = Path(__file__).with_name("header-names.yaml")
ISSUER = "http://keycloak.keycloak:8080/realms/kong"
SPOOF = "spoofed-by-the-caller"
REQUESTS = 2_000
SEED = 20_251_126
SEPARATORS = "!#$%&'*+-.^_`|~"  # besides letters and digits, RFC 9110 section 5.6.2
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"


@pytest.fixture(scope="module")
def cgi() -> Iterator[Lighttpd]:
    with Lighttpd() as running:
        yield running


@pytest.fixture(scope="module")
def grpc() -> Iterator[Http2Upstream]:
    with Http2Upstream() as running:
        yield running


@pytest.fixture(scope="module")
def authz(
    transport: Name,
    cgi: Lighttpd,
    grpc: Http2Upstream,
    witness: Upstream,
    clients: dict[str, str],
) -> Iterator[Deployment]:
    ports = {"cgi.test:8000": cgi.port, "seen.test:8000": witness.port, "grpc.test:8000": grpc.port}
    with (
        RunningIdp(issuer=ISSUER) as idp,
        Deployment(
            CONFIG,
            transport=transport,
            idp_port=idp.port,
            services=ports,
            secrets=clients.items(),
        ) as running,
    ):
        yield running


@pytest.fixture(scope="module")
def envoy(authz: Deployment) -> Iterator[Edge]:
    with authz.edge() as running:
        yield running


# --- Names, drawn at random, to CGI -----------------------------------------------------


def twin(draw: random.Random, name: str) -> str:
    """A name that CGI folds onto this one, in any case; perhaps the very name."""
    spelled = "".join(draw.choice(SEPARATORS) if letter == "-" else letter for letter in name)
    return "".join(draw.choice((letter, letter.upper())) for letter in spelled)


def headers(draw: random.Random) -> list[tuple[str, str]]:
    """Some twins of ours, and some names of all that HTTP allows."""
    # The very names of TOKENS hold a credential: a second one is 400, which is no matter here.
    twins = (twin(draw, draw.choice((*IDENTITY, *TOKENS))) for _ in range(draw.randint(1, 6)))
    names = [name for name in twins if name.lower() not in TOKENS]
    others = ("".join(draw.choices(SEPARATORS + LETTERS, k=draw.randint(1, 30))) for _ in range(3))
    names += [f"q{other}" for other in others]
    return [(name, SPOOF) for name in names]


def test_G_01_a_cgi_server_sees_no_identity_that_we_did_not_write(
    envoy: Edge, kong_id: tuple[str, str]
) -> None:
    draw = random.Random(SEED)
    user = ("Authorization", basic(*kong_id))
    with closing(
        http.client.HTTPConnection("127.0.0.1", envoy.port, timeout=TIMEOUT_SECONDS)
    ) as caller:
        for number in range(REQUESTS):
            method, path = draw.choice(
                [("GET", "/guarded"), ("GET", "/open"), ("OPTIONS", "/preflight")]
            )
            sent = headers(draw)
            status, seen = asked(caller, method, path, [user, *sent])

            told = f"request {number} of seed {SEED}: {method} {path} {sent}"
            assert status == 200, told
            ours = [*IDENTITY, *(() if path == "/open" else TOKENS)]
            spoofed = {name for name in ours if SPOOF in str(seen.get(variable(name)))}
            assert not spoofed, told
            announced = ["kong_id"] if path == "/guarded" else None
            assert seen.get("HTTP_X_CONSUMER_USERNAME") == announced, told


def asked(
    caller: http.client.HTTPConnection, method: str, path: str, sent: list[tuple[str, str]]
) -> tuple[int, dict[str, list[str]]]:
    """Make one request on a connection that is kept; return what CGI was given."""
    caller.putrequest(method, path)
    for name, value in sent:
        caller.putheader(name, value)
    caller.endheaders()
    response = caller.getresponse()
    return response.status, environment(response.read())


@pytest.mark.parametrize("separator", SEPARATORS)
def test_G_01_the_server_does_fold_names_and_envoy_lets_them_pass(
    envoy: Edge, kong_id: tuple[str, str], separator: str
) -> None:
    reply = envoy.curl("/guarded", user=kong_id, headers=[(f"x{separator}other", SPOOF)])

    assert environment(reply.body)["HTTP_X_OTHER"] == [SPOOF]


def test_G_01_no_twin_reaches_an_upstream_beside_what_we_wrote(
    envoy: Edge, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    # CGI shows one value of several, so here each name is looked at on the wire.
    draw = random.Random(SEED)
    ours = frozenset(map(folded, (*IDENTITY, *TOKENS)))
    for _ in range(REQUESTS // 20):
        assert envoy.curl("/seen", user=kong_id, headers=headers(draw)).status == 200

    for request in seen.requests:
        arrived = [name for name in request.names if folded(name) in ours]
        assert arrived.count("x-consumer-username") == 1
        assert sorted(arrived) == sorted(set(arrived) & set(IDENTITY))
        assert SPOOF not in str([request.header(name) for name in arrived])


@pytest.mark.parametrize(
    ("rules", "arrives"), [({}, [SPOOF]), ({"allow_envoy": True}, [])], ids=["empty", "allow_envoy"]
)
def test_HS_17_mutation_rules_keep_what_envoy_alone_may_say_unless_they_allow_it(
    authz: Deployment,
    seen: Upstream,
    kong_id: tuple[str, str],
    rules: dict[str, Any],
    arrives: list[str],
) -> None:
    name = "x-envoy-auth-failure-mode-allowed"
    with authz.edge(ext_authz(decoder_header_mutation_rules=rules)) as envoy:
        assert envoy.curl("/seen", user=kong_id, headers=[(name, SPOOF)]).status == 200

    assert [request.header(name) for request in seen.requests] == [arrives]


# --- Connection, on an upgrade -----------------------------------------------------------

UPGRADE = [("Upgrade", "websocket"), ("Sec-WebSocket-Version", "13")]


@pytest.mark.parametrize("path", ["/seen", "/seen-open"])
@pytest.mark.parametrize(
    "named",
    ["X-Consumer-Username", "x_consumer.id", "X-Credential-Identifier , ,", *FORWARDED],
)
def test_E_01_an_upgrade_cannot_name_our_headers_away(
    envoy: Edge, seen: Upstream, kong_id: tuple[str, str], path: str, named: str
) -> None:
    for connection in ([f"Upgrade,\t{named}"], ["Upgrade", named], [named, "upgrade"]):
        lines = [("Connection", value) for value in connection]
        assert envoy.curl(path, user=kong_id, headers=[*UPGRADE, *lines]).status == 400
    assert seen.requests == []


@pytest.mark.parametrize("path", ["/seen", "/seen-open"])
@pytest.mark.parametrize("connection", ["Upgrade", "keep-alive, Upgrade"])
def test_E_01_an_upgrade_reaches_the_upstream_as_ever(
    envoy: Edge, seen: Upstream, kong_id: tuple[str, str], path: str, connection: str
) -> None:
    for _ in range(2):
        lines = [*UPGRADE, ("Connection", connection)]
        envoy.curl(path, user=kong_id, headers=lines)

    assert [request.header("upgrade") for request in seen.requests] == [["websocket"]] * 2
    assert [request.header("connection") for request in seen.requests] == [[connection]] * 2


def test_E_01_keep_alive_is_no_matter(
    envoy: Edge, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    lines = [("Connection", "keep-alive")]
    assert envoy.curl("/seen", user=kong_id, headers=lines).status == 200


# --- Trailers, to gRPC -------------------------------------------------------------------

TRAILERS = [
    (name.encode(), SPOOF.encode())
    for name in ("x-consumer-username", "x_consumer_id", "x.consumer.groups", "x-checksum")
]


def keep_trailers(bootstrap: dict[str, Any]) -> None:
    """Take the filter away that drops them."""
    (listener,) = bootstrap["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["http_filters"] = [
        each for each in manager["http_filters"] if not each["name"].endswith("header_mutation")
    ]


@pytest.mark.parametrize(
    ("changes", "arrive"), [((), False), ((keep_trailers,), True)], ids=["as written", "without"]
)
def test_G_19_request_trailers_do_not_reach_a_grpc_upstream(
    authz: Deployment, grpc: Http2Upstream, changes: tuple[Change, ...], arrive: bool
) -> None:
    grpc.trailers.clear()
    with authz.edge(*changes) as envoy:
        assert asyncio.run(call_with_trailers(envoy.port))

    assert [bool(block) for block in grpc.trailers if block] == ([True] if arrive else [])


async def call_with_trailers(port: int) -> bool:
    """Make a gRPC call whose request ends in trailers; tell whether it was answered with 200."""
    head = fields(
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/some.Service/Method"),
        (b":authority", b"localhost"),
        (b"content-type", b"application/grpc"),
        (b"te", b"trailers"),
    )
    async with connected(TcpAddress("127.0.0.1", port)) as peer:
        await peer.send(
            frame(HEADERS, END_HEADERS, 1, head)
            + frame(DATA, 0, 1, b"\0\0\0\0\0")
            + frame(HEADERS, END_HEADERS | END_STREAM, 1, fields(*TRAILERS))
        )
        answer = await peer.until(HEADERS, 1)
    return answer is not None and answer.payload[:1] == b"\x88"  # RFC 7541 appendix A
