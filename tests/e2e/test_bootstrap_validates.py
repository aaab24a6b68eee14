"""A real Envoy takes the bootstrap, and routes as Kong's router does."""

from __future__ import annotations

import http.client
import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from authz.envoy import check
from authz.envoy.bootstrap import BootstrapOptions, render
from authz.errors import RouteNotFound
from authz.kong.paths import normalise
from authz.kong.router import Router
from authz.model import Gateway, OpenIDConnect, Plugin, Request, Route, Service, SourcePosition
from bench.frames import CHECK

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVOY = Path(os.environ.get("AUTHZ_ENVOY", Path(__file__).parents[2] / ".parts/bin/envoy"))
POSITION = SourcePosition("kong.yaml", 1, 1)
PLAIN = Service(id="s1", name="plain", position=POSITION, host="plain.test", port=8000)
BASED = Service(id="s2", name="based", position=POSITION, host="based.test", path="/base")
VERIFIED = Service(
    id="s3", name="verified", position=POSITION, host="a.test", protocol="https", port=443
)
TRUSTING = Service(
    id="s4",
    name="trusting",
    position=POSITION,
    host="127.0.0.1",
    protocol="grpcs",
    tls_verify=False,
)
SERVICES = (PLAIN, BASED, VERIFIED, TRUSTING)


def route(name: str, **fields: Any) -> Route:
    return Route(id=f"id-of-{name}", name=name, position=POSITION, **{"service": PLAIN, **fields})


ROUTES = (
    route("stripped", paths=("/a",)),
    route("kept", paths=("/a/b", "/kept"), strip_path=False),
    route("based", paths=("/based",), service=BASED),
    route("post", paths=("/a",), methods=("POST", "PATCH")),
    route("host", hosts=("h.test",), paths=("/",), preserve_host=True),
    route("ending", hosts=("*.x.test",), paths=("/e", "/a"), service=BASED),
    route("beginning", hosts=("api.*",), methods=("GET",)),
    route("secure", paths=("/secure",), service=VERIFIED),
    route("regex", paths=(r"~/re/(\d+)", "~(?i)/rex/[^/]+/ask$"), service=BASED),
    route("dotted", paths=(r"~/dot/.*\.x$",), strip_path=False),
    route("header", paths=("/h",), headers={"X-Version": ("v1", "~*^beta-[0-9]+$")}),
    route("port", hosts=("h.test:8080", "*.x.test:80"), paths=("/port",)),
    route("grpc", paths=("/p.S/",), protocols=("grpc",), strip_path=False, service=TRUSTING),
)
GATEWAY = Gateway(
    services=SERVICES,
    routes=ROUTES,
    plugins=(
        Plugin(
            POSITION,
            OpenIDConnect.of(
                issuer="https://idp.test",
                client_credentials_param_type=("header", "body"),
                hide_credentials=False,
            ),
        ),
    ),
)


def validate(bootstrap: Path) -> subprocess.CompletedProcess[str]:
    command = [str(ENVOY), "--mode", "validate", "--disable-hot-restart", "-c", str(bootstrap)]
    return subprocess.run(  # noqa: S603 - the part under test
        command, capture_output=True, text=True, timeout=30, check=False
    )


@pytest.mark.parametrize(
    ("gateway", "options"),
    [
        (GATEWAY, BootstrapOptions()),
        (GATEWAY, BootstrapOptions(authz="/run/authz.sock", listen=("::1", 0), admin=("::1", 0))),
        (Gateway(plugins=GATEWAY.plugins), BootstrapOptions(upstream=("127.0.0.1", 8080))),
        (Gateway(), BootstrapOptions()),
    ],
    ids=["routes", "sockets", "no routes", "nothing"],
)
def test_envoy_accepts_the_bootstrap(
    tmp_path: Path, gateway: Gateway, options: BootstrapOptions
) -> None:
    file = tmp_path / "envoy.yaml"
    file.write_text(render(gateway, options))
    done = validate(file)
    assert done.returncode == 0, done.stderr
    assert "deprecated" not in done.stderr


# --- A running Envoy, between an upstream and an authz that let everything be seen -------


class Echo(BaseHTTPRequestHandler):
    """Answers with the path, the headers and the method that arrived.

    A path that ends in ``/closing`` is answered on a new connection only; a kept one is closed.
    """

    protocol_version = "HTTP/1.1"
    is_kept = False

    def answer(self) -> None:
        if self.path.endswith("/closing") and self.is_kept:
            self.close_connection = True
            return
        self.is_kept = True
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = json.dumps({"path": self.path, "headers": headers}).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PUT = answer  # noqa: N815 - the names are http.server's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
        """Say nothing."""


@contextmanager
def upstream() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


class Allowing(grpc.GenericRpcHandler):
    """Allows everything, and remembers what it was asked."""

    def __init__(self) -> None:
        self.seen: list[Request] = []

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if details.method != CHECK:
            return None  # no health service: Envoy must go on all the same
        return grpc.unary_unary_rpc_method_handler(self.check)

    def check(self, wire: bytes, context: grpc.ServicerContext) -> bytes:
        self.seen.append(check.parse(wire))
        return b"\x0a\x00\x1a\x00"  # status {} (0: OK), ok_response {}


@contextmanager
def envoy(bootstrap: str, directory: Path) -> Iterator[int]:
    """Run Envoy; yield the port of its listener."""
    (directory / "envoy.yaml").write_text(bootstrap)
    admin = directory / "admin"
    command = [
        *(str(ENVOY), "--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"),
        *("-c", str(directory / "envoy.yaml"), "--admin-address-path", str(admin)),
    ]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(  # noqa: S603 - the part under test
            command, stdout=log, stderr=log
        )
        try:
            yield listening(admin, process, directory / "log")
        finally:
            process.terminate()
            process.wait(timeout=10)


def listening(admin: Path, process: subprocess.Popen[bytes], log: Path) -> int:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with closing(http.client.HTTPConnection(admin.read_text(), timeout=1)) as connection:
                connection.request("GET", "/ready")  # listed does not mean listening yet
                ready = connection.getresponse()
                ready.read()
                connection.request("GET", "/listeners?format=json")
                found = json.loads(connection.getresponse().read())["listener_statuses"]
            if ready.status == HTTPStatus.OK:
                return int(found[0]["local_address"]["socket_address"]["port_value"])
        except (OSError, KeyError, IndexError, http.client.HTTPException):
            with suppress(subprocess.TimeoutExpired):
                process.wait(0.05)
    pytest.fail(log.read_text())


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Allowing]]:
    with ExitStack() as stack:
        port = stack.enter_context(upstream())
        allowing = Allowing()
        server = grpc.server(ThreadPoolExecutor(2), handlers=[allowing])
        authz_port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        stack.callback(lambda: server.stop(None).wait())
        options = BootstrapOptions(
            authz=("127.0.0.1", authz_port),
            listen=("127.0.0.1", 0),
            admin=("127.0.0.1", 0),
            connect_to={(s.host, s.port): ("127.0.0.1", port) for s in SERVICES},
        )
        directory = tmp_path_factory.mktemp("envoy")
        yield stack.enter_context(envoy(render(GATEWAY, options), directory)), allowing


def ask(
    port: int, method: str, host: str, path: str, **headers: str
) -> tuple[int, dict[str, str], dict[str, Any]]:
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=10)) as connection:
        connection.request(method, path, headers={"host": host, **headers})
        answer = connection.getresponse()
        sent = {name.lower(): value for name, value in answer.getheaders()}
        text = answer.read()
    return answer.status, sent, json.loads(text) if text.startswith(b"{") else {}


@pytest.mark.parametrize("host", ["h.test", "H.test:99", "b.x.test", "api.x.test", "api.org", "o"])
@pytest.mark.parametrize(
    "path",
    ["/", "/a", "/ab/c", "/a/b/c", "/based/x", "/e", "/kept", "/a/../e", "/re/7/x", "/REX/%7B/asK"],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_envoy_takes_the_route_that_the_router_takes(
    running: tuple[int, Allowing], host: str, path: str, method: str
) -> None:
    port, allowing = running
    try:
        # Envoy has normalised the path; unnamed, the router would not trust it to.
        asked = Request(method=method, scheme="http", host=host, path=normalise(path))
        route = Router(GATEWAY).match(asked).route
        expected = None if route is None else route.name
    except RouteNotFound:
        expected = None
    allowing.seen.clear()
    status, headers, body = ask(port, method, host, path)
    assert [seen.context_extensions.get("route") for seen in allowing.seen] == (
        [expected] if expected else []
    )
    if expected is None:
        assert (status, body) == (404, {"message": "no Route matched with those values"})
        assert headers["content-type"] == "application/json; charset=utf-8"
    else:
        assert status == 200


@pytest.mark.parametrize(
    ("path", "arrives", "host"),
    [
        ("/a/get?x=1", "/get?x=1", "plain.test:8000"),
        ("/a", "/", "plain.test:8000"),
        ("/abc", "/bc", "plain.test:8000"),
        ("/a../secret", "/secret", "plain.test:8000"),
        ("/a..;x/secret", "/secret", "plain.test:8000"),
        ("//a//get/../x%20c", "/x%20c", "plain.test:8000"),
        ("/kept/x", "/kept/x", "plain.test:8000"),
        ("/based", "/base", "based.test"),
        ("/based/x", "/base/x", "based.test"),
        ("/based../x", "/base/x", "based.test"),
        ("/re/12", "/base", "based.test"),
        ("/re/12/x?q=/y", "/base/x?q=/y", "based.test"),
        ("/rex/%7B/ask?q", "/base?q", "based.test"),
        ("/dot/%20/a.x", "/dot/%20/a.x", "plain.test:8000"),
    ],
)
def test_the_upstream_sees_what_kong_would_send(
    running: tuple[int, Allowing], path: str, arrives: str, host: str
) -> None:
    spoofed = {"x-forwarded-host": "evil", "x-forwarded-prefix": "/evil", "x-real-ip": "1.1.1.1"}
    status, _, body = ask(running[0], "GET", "o.test", path, **spoofed)
    assert (status, body["path"], body["headers"]["host"]) == (200, arrives, host)
    assert body["headers"]["x-forwarded-host"] == "o.test"
    assert body["headers"]["x-real-ip"] == "127.0.0.1"
    assert "/evil" not in body["headers"].values()


@pytest.mark.parametrize("host", ["o.test:8080", "O.test", "[::1]:80", "o.test:"])
def test_E8_the_upstream_is_told_the_host_without_its_port_and_the_path_without_its_query(
    running: tuple[int, Allowing], host: str
) -> None:
    _, _, body = ask(running[0], "GET", host, "/a/b?code=7")
    told = {"O.test": "O.test", "[::1]:80": "[::1]"}.get(host, "o.test")
    assert body["headers"]["x-forwarded-host"] == told
    assert body["headers"]["x-forwarded-path"] == "/a/b"


@pytest.mark.parametrize(("method", "status"), [("GET", 200), ("PUT", 200), ("POST", 503)])
def test_E3_a_kept_connection_that_closes_is_retried_for_idempotent_methods_alone(
    running: tuple[int, Allowing], method: str, status: int
) -> None:
    spoofed = {"x-envoy-retry-on": "reset", "content-length": "0"}
    assert ask(running[0], "GET", "o.test", "/kept/first")[0] == 200
    answered, _, body = ask(running[0], method, "o.test", "/kept/closing", **spoofed)
    assert answered == status
    assert "x-envoy-retry-on" not in body.get("headers", {})


def test_E2_a_request_may_have_as_many_headers_as_fit_into_it(
    running: tuple[int, Allowing],
) -> None:
    port, allowing = running
    many = {f"x-{number}": "1" for number in range(300)}
    allowing.seen.clear()
    ask(port, "GET", "o.test", "/kept", **many)
    [seen] = allowing.seen
    assert many.items() <= seen.headers.items()


@pytest.mark.parametrize(("host", "status"), [(b"host: o.test\r\n", b"200"), (b"", b"400")])
def test_E2_a_caller_that_speaks_http_1_0_is_answered_if_it_names_a_host(
    running: tuple[int, Allowing], host: bytes, status: bytes
) -> None:
    with closing(socket.create_connection(("127.0.0.1", running[0]), timeout=10)) as caller:
        caller.sendall(b"GET /kept HTTP/1.0\r\n" + host + b"\r\n")
        assert caller.recv(100).split(b" ")[1] == status


def test_E6_a_line_feed_in_the_path_is_400_where_a_regex_has_a_dot(
    running: tuple[int, Allowing],
) -> None:
    assert ask(running[0], "GET", "o.test", "/dot/%0a.x")[0] == 400
    assert ask(running[0], "GET", "o.test", "/kept/%0a.x")[0] == 200


def test_a_callers_own_forwarded_host_does_not_stand_in_for_an_empty_host(
    running: tuple[int, Allowing],
) -> None:
    status, _, body = ask(running[0], "GET", "", "/a", **{"x-forwarded-host": "evil"})
    assert status == 200
    assert "x-forwarded-host" not in body["headers"]


def test_a_request_that_is_no_grpc_does_not_reach_a_grpc_route(
    running: tuple[int, Allowing],
) -> None:
    status, _, body = ask(running[0], "POST", "o.test", "/p.S/M")
    assert (status, body) == (415, {"message": "Non-gRPC request matched gRPC route"})


def test_https_to_an_upstream_that_proves_nothing_is_answered_with_503(
    running: tuple[int, Allowing],
) -> None:
    assert ask(running[0], "GET", "o.test", "/secure")[0] == 503
