"""The operator's pages, over real sockets."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter

from authz.admin import (
    DETAIL_CHARS_MAX,
    DETAIL_LINES_MAX,
    LIMITS,
    METRICS_AT_ONCE_MAX,
    READINESS_AT_ONCE_MAX,
    Admin,
    Limits,
    Readiness,
)
from authz.settings import TcpAddress
from authz.transport import ListenError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from prometheus_client import Metric

ISSUER = "http://keycloak.test/realms/kong"


IPV6 = Path("/proc/net/if_inet6").exists()


@dataclass(frozen=True)
class IdpStatus:
    issuer: str = ISSUER
    ready: bool = True
    detail: str = "2 keys"


@dataclass
class StubReadiness:
    ready: bool = True
    providers: list[IdpStatus] = field(default_factory=lambda: [IdpStatus()])

    refused: tuple[str, ...] = ()
    started: bool = True

    def status(self) -> list[IdpStatus]:
        return self.providers


@dataclass(frozen=True)
class Page:
    status: int
    body: str
    headers: dict[str, str]


@contextmanager
def serving(
    readiness: Readiness, registry: CollectorRegistry | None = None, limits: Limits = LIMITS
) -> Iterator[TcpAddress]:
    admin = Admin(TcpAddress("127.0.0.1", 0), readiness, registry or CollectorRegistry(), limits)
    admin.start()
    try:
        yield admin.address
    finally:
        admin.stop()


def fetch(address: TcpAddress, path: str, method: str = "GET") -> Page:
    connection = HTTPConnection(address.host, address.port, timeout=10)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return Page(response.status, response.read().decode(), headers)
    finally:
        connection.close()


def test_a_living_process_is_live_even_if_it_is_not_ready() -> None:
    with serving(StubReadiness(ready=False)) as address:
        page = fetch(address, "/livez")

    assert (page.status, page.body) == (200, "ok\n")


@pytest.mark.parametrize(
    ("started", "expected"), [(True, (200, "started\n")), (False, (503, "starting\n"))]
)
def test_startup_is_a_status_and_a_word_and_asks_no_provider(
    started: bool, expected: tuple[int, str]
) -> None:
    down = [IdpStatus(ready=False, detail="connection refused")]
    readiness = StubReadiness(ready=False, providers=down, started=started)
    with serving(readiness) as address:
        page = fetch(address, "/startupz")

    assert (page.status, page.body) == expected


async def test_RL_21_liveness_answers_while_the_deciding_loop_is_stuck() -> None:
    released = threading.Event()
    stuck = asyncio.get_running_loop().run_in_executor(None, released.wait)
    with serving(StubReadiness()) as address:
        page = fetch(address, "/livez")  # blocks this loop: the answer comes from another
    released.set()
    await stuck

    assert page.status == 200


@pytest.mark.parametrize(
    ("ready", "expected"), [(True, (200, "ready\n")), (False, (503, "not ready\n"))]
)
def test_readiness_is_a_status_and_a_word(ready: bool, expected: tuple[int, str]) -> None:
    with serving(StubReadiness(ready)) as address:
        page = fetch(address, "/readyz")

    assert (page.status, page.body) == expected


def test_verbose_readiness_names_each_issuer_and_its_trouble() -> None:
    down = IdpStatus("https://other.test", ready=False, detail="connection refused")
    with serving(StubReadiness(providers=[IdpStatus(), down])) as address:
        page = fetch(address, "/readyz?verbose")

    assert page.body.splitlines() == [
        f"[+] {ISSUER}: 2 keys",
        "[-] https://other.test: connection refused",
        "ready",
    ]


def test_G_02_verbose_readiness_says_why_a_reload_was_refused_and_stays_ready() -> None:
    refused = tuple(f"kong.yaml:{line}:1: routes: r{line} would be opened" for line in range(1, 8))
    with serving(StubReadiness(refused=refused)) as address:
        page = fetch(address, "/readyz?verbose")
        plain = fetch(address, "/readyz")

    lines = page.body.splitlines()
    assert (page.status, plain.body) == (200, "ready\n")
    assert lines[1] == (
        "[-] configuration: reload refused: kong.yaml:1:1: routes: r1 would be opened"
    )
    assert lines[-2:] == ["... and 2 more", "ready"]


def test_verbose_readiness_is_bounded_and_visible() -> None:
    providers = [IdpStatus(detail="\x1b[31m\r" + "x" * 2000)] * 150
    with serving(StubReadiness(providers=providers)) as address:
        lines = fetch(address, "/readyz?verbose").body.splitlines()

    assert len(lines) == 102
    assert lines[0].startswith(f"[+] {ISSUER}: ?[31m?xxx")
    assert max(map(len, lines)) == DETAIL_CHARS_MAX
    assert lines[-2:] == ["... and 50 more", "ready"]


def test_C6_each_line_of_an_issuers_detail_is_a_line_up_to_a_bound() -> None:
    detail = "\n".join(("2 keys", f"accepts iss: {ISSUER}", *("x" for _ in range(50))))
    with serving(StubReadiness(providers=[IdpStatus(detail=detail)])) as address:
        lines = fetch(address, "/readyz?verbose").body.splitlines()

    assert lines[:3] == [f"[+] {ISSUER}: 2 keys", f"    accepts iss: {ISSUER}", "    x"]
    assert len(lines) == DETAIL_LINES_MAX + 1


def test_metrics_are_the_registrys_in_prometheus_text() -> None:
    registry = CollectorRegistry()
    Counter("authz_test", "A test.", registry=registry).inc()
    with serving(StubReadiness(), registry) as address:
        page = fetch(address, "/metrics")

    assert "authz_test_total 1.0" in page.body
    assert page.headers["content-type"].startswith("text/plain; version=")


@pytest.mark.parametrize("path", ["/", "/livez/", "/healthz", "/metrics/../livez", "//livez"])
def test_there_is_nothing_else(path: str) -> None:
    with serving(StubReadiness()) as address:
        assert fetch(address, path).status == 404


def test_nothing_can_be_written() -> None:
    with serving(StubReadiness()) as address:
        assert fetch(address, "/readyz", "POST").status == 405


def test_answers_name_no_server_and_are_not_stored() -> None:
    with serving(StubReadiness()) as address:
        headers = fetch(address, "/livez").headers

    assert "server" not in headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_it_listens_on_ipv6_too() -> None:
    if not IPV6:
        pytest.skip("this machine has no IPv6 loopback")
    admin = Admin(TcpAddress("::1", 0), StubReadiness(), CollectorRegistry())
    admin.start()
    try:
        assert fetch(admin.address, "/livez").status == 200
    finally:
        admin.stop()


def test_GR_18_a_port_in_use_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress(*taken.getsockname())
        admin = Admin(address, StubReadiness(), CollectorRegistry())
        with pytest.raises(ListenError, match=rf"{address} for --admin: Address already in use"):
            admin.start()


def test_a_stop_does_not_wait_for_an_idle_connection() -> None:
    with serving(StubReadiness()) as address:
        idle = socket.create_connection((address.host, address.port), timeout=10)
        assert fetch(address, "/livez").status == 200

    with idle:
        assert idle.recv(1) == b""


# --- Peers that mean no good -------------------------------------------------------------

FOR_EVER_SECONDS = 600
PATIENT = Limits(head_seconds=FOR_EVER_SECONDS, connection_seconds=FOR_EVER_SECONDS)
HASTY = Limits(head_seconds=0.3, connection_seconds=FOR_EVER_SECONDS)


@contextmanager
def connected(address: TcpAddress, *chunks: bytes) -> Iterator[socket.socket]:
    """A peer that has sent this much, and whom the server has seen."""
    with socket.create_connection((address.host, address.port), timeout=20) as peer:
        for chunk in chunks:
            peer.sendall(chunk)
        # Accepted in turn: whoever asks later is answered later.
        assert fetch(address, "/livez").status == 200
        yield peer


def hung_up(peer: socket.socket) -> bool:
    """Read to the end, which an abort may make a reset."""
    try:
        while peer.recv(65_536):
            pass
    except ConnectionResetError:
        pass
    return True


def is_open(peer: socket.socket) -> bool:
    peer.settimeout(0)
    try:
        return bool(peer.recv(1))
    except BlockingIOError:
        return True
    except ConnectionResetError:
        return False
    finally:
        peer.settimeout(20)


def large() -> CollectorRegistry:
    """A registry whose page is larger than what sockets hold."""
    registry = CollectorRegistry()
    Counter("authz_large", "a" * 16_000_000, registry=registry)
    return registry


ASK_METRICS = b"GET /metrics HTTP/1.1\r\nhost: a\r\n\r\n"


@pytest.mark.parametrize("beginning", [b"", b"G", b"GET /livez HTTP/1.1\r\n"])
def test_G_14_whoever_fills_every_place_refuses_liveness_to_nobody(beginning: bytes) -> None:
    with serving(StubReadiness(), limits=PATIENT) as address, ExitStack() as stack:
        for _ in range(2 * PATIENT.connections):
            stack.enter_context(connected(address, beginning))

        for path in ("/livez", "/readyz", "/metrics"):
            assert fetch(address, path).status == 200


def test_G_14_the_oldest_without_a_request_gives_way_and_then_the_oldest() -> None:
    limits = replace(PATIENT, connections=3)
    with serving(StubReadiness(), large(), limits) as address, ExitStack() as stack:
        reader = stack.enter_context(connected(address, ASK_METRICS))
        begun = reader.recv(20)
        silent = stack.enter_context(connected(address, b"G"))
        assert is_open(silent)
        late = stack.enter_context(connected(address, b"G"))  # and its own question after it

        assert hung_up(silent)
        assert is_open(late)
        assert begun.startswith(b"HTTP/1.1 200 ")
        assert is_open(reader)
        stack.enter_context(connected(address, ASK_METRICS))
        stack.enter_context(connected(address, ASK_METRICS))
        assert hung_up(late)


@pytest.mark.parametrize(
    "beginning", [b"", b"G", b"GET /livez HTTP/1.1\r\nhost: a\r\n"], ids=["none", "byte", "lines"]
)
def test_G_14_a_head_that_does_not_arrive_in_time_is_hung_up_on(beginning: bytes) -> None:
    with serving(StubReadiness(), limits=HASTY) as address, connected(address, beginning) as peer:
        assert hung_up(peer)


def test_G_14_a_head_that_arrives_byte_by_byte_has_no_more_time_than_any_other() -> None:
    with (
        serving(StubReadiness(), limits=HASTY) as address,
        connected(address, b"GET /") as peer,
        suppress(ConnectionError),
    ):
        while is_open(peer):  # no number of bytes buys more time
            peer.sendall(b"a")
            fetch(address, "/livez")


def test_G_14_a_connection_has_one_request_and_ends_with_its_answer() -> None:
    with (
        serving(StubReadiness(), limits=PATIENT) as address,
        connected(address, b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n") as peer,
    ):
        answer = b"".join(iter(lambda: peer.recv(65_536), b""))

    assert answer.endswith(b"\r\n\r\nok\n")
    assert b"connection: close" in answer


def test_G_14_a_body_that_never_comes_is_not_waited_for() -> None:
    head = b"POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\n"
    with serving(StubReadiness(), limits=PATIENT) as address, connected(address, head) as peer:
        assert peer.recv(100).startswith(b"HTTP/1.1 405 ")
        assert hung_up(peer)


def test_G_14_an_answer_that_is_not_read_in_time_is_given_up() -> None:
    with serving(StubReadiness(), large(), Limits(connection_seconds=3)) as address:
        assert fetch(address, "/livez").status == 200
        before = open_files()
        with connected(address, ASK_METRICS) as peer:
            assert peer.recv(20)
            for _ in range(20_000):
                assert fetch(address, "/livez").status == 200
                if open_files() == before + 1:  # ours
                    break
            else:
                pytest.fail("the connection is still open")


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count needs no paths


class Slow:
    """What the pages ask, that counts how often it is asked and answers once it may."""

    refused, started = (), True

    def __init__(self) -> None:
        self.asked = 0
        self.may_answer = threading.Event()

    @property
    def ready(self) -> bool:
        self.asked += 1
        return self.may_answer.wait(20)

    def status(self) -> list[IdpStatus]:
        return []

    def collect(self) -> list[Metric]:
        assert self.ready
        return []


@pytest.mark.parametrize(
    ("path", "at_once"), [("/metrics", METRICS_AT_ONCE_MAX), ("/readyz", READINESS_AT_ONCE_MAX)]
)
def test_G_14_no_page_is_made_for_whoever_has_gone(path: str, at_once: int) -> None:
    slow, registry = Slow(), CollectorRegistry()
    question = f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode()
    with serving(slow, registry, PATIENT) as address, ExitStack() as stack:
        registry.register(slow)
        for _ in range(at_once):
            stack.enter_context(connected(address, question))
        for _ in range(10):
            with connected(address, question):
                pass
        assert fetch(address, "/livez").status == 200  # seen to have gone

        slow.may_answer.set()
        assert fetch(address, path).status == 200
        assert slow.asked == at_once + 1


def test_silent_connections_do_not_keep_the_probes_out() -> None:
    with serving(StubReadiness()) as address, ExitStack() as silent:
        connections = [
            silent.enter_context(socket.create_connection((address.host, address.port), timeout=20))
            for _ in range(LIMITS.connections)
        ]
        assert all(connection.recv(1) == b"" for connection in connections)

        assert fetch(address, "/livez").status == 200
