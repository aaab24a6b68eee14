"""The operator's pages, over real sockets."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from prometheus_client import CollectorRegistry, Counter

from authz.admin import CONCURRENT_REQUESTS, Admin
from authz.settings import TcpAddress
from authz.transport import ListenError

if TYPE_CHECKING:
    from collections.abc import Iterator

ISSUER = "http://keycloak.test/realms/kong"


IPV6 = Path("/proc/net/if_inet6").exists()


@dataclass(frozen=True)
class Provider:
    issuer: str = ISSUER
    ready: bool = True
    detail: str = "2 keys"


@dataclass
class House:
    ready: bool = True
    providers: list[Provider] = field(default_factory=lambda: [Provider()])

    refused: tuple[str, ...] = ()

    def status(self) -> list[Provider]:
        return self.providers


@dataclass(frozen=True)
class Page:
    status: int
    body: str
    headers: dict[str, str]


@contextmanager
def serving(house: House, registry: CollectorRegistry | None = None) -> Iterator[TcpAddress]:
    admin = Admin(TcpAddress("127.0.0.1", 0), house, registry or CollectorRegistry())
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
    with serving(House(ready=False)) as address:
        page = fetch(address, "/livez")

    assert (page.status, page.body) == (200, "ok\n")


async def test_RL_21_liveness_answers_while_the_deciding_loop_is_stuck() -> None:
    released = threading.Event()
    stuck = asyncio.get_running_loop().run_in_executor(None, released.wait)
    with serving(House()) as address:
        page = fetch(address, "/livez")  # blocks this loop: the answer comes from another
    released.set()
    await stuck

    assert page.status == 200


@pytest.mark.parametrize(
    ("ready", "expected"), [(True, (200, "ready\n")), (False, (503, "not ready\n"))]
)
def test_readiness_is_a_status_and_a_word(ready: bool, expected: tuple[int, str]) -> None:
    with serving(House(ready)) as address:
        page = fetch(address, "/readyz")

    assert (page.status, page.body) == expected


def test_verbose_readiness_names_each_issuer_and_its_trouble() -> None:
    down = Provider("https://other.test", ready=False, detail="connection refused")
    with serving(House(providers=[Provider(), down])) as address:
        page = fetch(address, "/readyz?verbose")

    assert page.body.splitlines() == [
        f"[+] {ISSUER}: 2 keys",
        "[-] https://other.test: connection refused",
        "ready",
    ]


def test_G_02_verbose_readiness_says_why_a_reload_was_refused_and_stays_ready() -> None:
    refused = tuple(f"kong.yaml:{line}:1: routes: r{line} would be opened" for line in range(1, 8))
    with serving(House(refused=refused)) as address:
        page = fetch(address, "/readyz?verbose")
        plain = fetch(address, "/readyz")

    lines = page.body.splitlines()
    assert (page.status, plain.body) == (200, "ready\n")
    assert lines[1] == (
        "[-] configuration: reload refused: kong.yaml:1:1: routes: r1 would be opened"
    )
    assert lines[-2:] == ["... and 2 more", "ready"]


def test_verbose_readiness_is_bounded_and_visible() -> None:
    providers = [Provider(detail="\x1b[31m\n" + "x" * 1000)] * 150
    with serving(House(providers=providers)) as address:
        lines = fetch(address, "/readyz?verbose").body.splitlines()

    assert len(lines) == 102
    assert lines[0].startswith(f"[+] {ISSUER}: ?[31m?xxx")
    assert max(map(len, lines)) == 256
    assert lines[-2:] == ["... and 50 more", "ready"]


def test_metrics_are_the_registrys_in_prometheus_text() -> None:
    registry = CollectorRegistry()
    Counter("authz_test", "A test.", registry=registry).inc()
    with serving(House(), registry) as address:
        page = fetch(address, "/metrics")

    assert "authz_test_total 1.0" in page.body
    assert page.headers["content-type"].startswith("text/plain; version=")


@pytest.mark.parametrize("path", ["/", "/livez/", "/healthz", "/metrics/../livez", "//livez"])
def test_there_is_nothing_else(path: str) -> None:
    with serving(House()) as address:
        assert fetch(address, path).status == 404


def test_nothing_can_be_written() -> None:
    with serving(House()) as address:
        assert fetch(address, "/readyz", "POST").status == 405


def test_answers_name_no_server_and_are_not_stored() -> None:
    with serving(House()) as address:
        headers = fetch(address, "/livez").headers

    assert "server" not in headers
    assert headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"


def test_it_listens_on_ipv6_too() -> None:
    if not IPV6:
        pytest.skip("this machine has no IPv6 loopback")
    admin = Admin(TcpAddress("::1", 0), House(), CollectorRegistry())
    admin.start()
    try:
        assert fetch(admin.address, "/livez").status == 200
    finally:
        admin.stop()


def test_GR_18_a_port_in_use_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = TcpAddress(*taken.getsockname())
        admin = Admin(address, House(), CollectorRegistry())
        with pytest.raises(ListenError, match=rf"{address} for --admin: Address already in use"):
            admin.start()


def test_a_stop_does_not_wait_for_an_idle_connection() -> None:
    with serving(House()) as address:
        idle = socket.create_connection((address.host, address.port), timeout=10)
        assert fetch(address, "/livez").status == 200

    with idle:
        assert idle.recv(1) == b""


def test_silent_connections_do_not_keep_the_probes_out() -> None:
    with serving(House()) as address, ExitStack() as silent:
        connections = [
            silent.enter_context(socket.create_connection((address.host, address.port), timeout=20))
            for _ in range(CONCURRENT_REQUESTS)
        ]
        assert all(connection.recv(1) == b"" for connection in connections)

        assert fetch(address, "/livez").status == 200
