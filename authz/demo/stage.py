"""The demo's parts on free loopback ports: identity provider, upstream, authz, Envoy."""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from authz.demo.background import BackgroundServer
from authz.demo.idp import CLIENTS, DevelopmentIdp
from authz.demo.parts import (
    LOOPBACK,
    Authz,
    Envoy,
    Httpbin,
    Process,
    find,
    free_port,
    run_authz,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_P = TypeVar("_P", bound=Process)

WORKSHOP: Final = Path(__file__).with_name("workshop.yaml")
"""The workshop's decK file as it stands; ``examples/workshop.yaml`` is the same."""

LATE_CLIENT = ("late_id", "Gw4sBv1uTzK9cHf6yXqLm2RjPd8NeA7o")
"""A client whose first request comes after the provider has stopped."""

UPSTREAM_HOST = "httpbin.kong.svc.cluster.local:8000"
IDP_HOSTS = ("keycloak.keycloak:8080", "keycloak.keycloak.svc.cluster.local:8080")


@dataclass(frozen=True, slots=True)
class Stage:
    """What runs, and where."""

    idp: DevelopmentIdp
    idp_server: BackgroundServer
    httpbin: Httpbin
    authz: Authz
    envoy: Envoy
    authz_port: int
    admin_port: int
    envoy_port: int

    @property
    def processes(self) -> tuple[Process, ...]:
        """The children, in the order of their start."""
        return self.httpbin, self.authz, self.envoy

    @property
    def url(self) -> str:
        """Where callers reach Envoy, without a trailing slash."""
        return f"http://{LOOPBACK}:{self.envoy_port}"


@contextmanager
def staged(say: Callable[[str], None]) -> Iterator[Stage]:
    """Start every part, yield the stage, end every part in reverse order.

    ``say`` gets a line for each part.  Raises ``PartMissingError`` before anything is
    started, ``PartFailedError`` when a part does not come up.
    """
    for program in ("envoy", "gunicorn"):
        find(program)
    with ExitStack() as stack:
        idp = DevelopmentIdp(clients=dict([*CLIENTS.items(), LATE_CLIENT]))
        idp_server = BackgroundServer()
        stack.callback(idp_server.close)
        idp_server.start(idp.app())
        say(f"identity provider  {idp_server.url}, known as {idp.issuer}")

        # httpbin and authz come up while `authz envoy` writes the bootstrap.
        authz_port, admin_port, envoy_port = free_port(), free_port(), free_port()
        httpbin = _start(stack, Httpbin())
        authz = _start(stack, _authz(idp_server.port, authz_port, admin_port))
        envoy = _envoy(httpbin.port, authz_port, envoy_port)
        httpbin.wait_ready()
        say(f"httpbin            {httpbin.url}, known as {UPSTREAM_HOST}")
        authz.wait_ready()
        say(f"authz              {LOOPBACK}:{authz_port}, admin http://{LOOPBACK}:{admin_port}")
        _start(stack, envoy).wait_ready()
        say(f"Envoy              http://{LOOPBACK}:{envoy_port}")
        yield Stage(idp, idp_server, httpbin, authz, envoy, authz_port, admin_port, envoy_port)


def _start(stack: ExitStack, process: _P) -> _P:
    stack.callback(process.stop)
    process.start()
    return process


def _authz(idp_port: int, port: int, admin_port: int) -> Authz:
    return Authz(
        [
            "serve",
            *("-c", str(WORKSHOP)),
            *("--listen", f"{LOOPBACK}:{port}"),
            *("--admin", f"{LOOPBACK}:{admin_port}"),
            *_connect_to(idp_port, *IDP_HOSTS),
        ],
        ready_url=f"http://{LOOPBACK}:{admin_port}/readyz",
    )


def _envoy(httpbin_port: int, authz_port: int, port: int) -> Envoy:
    admin_port = free_port()
    bootstrap = run_authz(
        "envoy",
        *("-c", str(WORKSHOP)),
        *("--authz", f"{LOOPBACK}:{authz_port}"),
        *("--listen", f"{LOOPBACK}:{port}"),
        *("--admin", f"{LOOPBACK}:{admin_port}"),
        *_connect_to(httpbin_port, UPSTREAM_HOST),
    )
    return Envoy(bootstrap, admin_port)


def _connect_to(port: int, *hosts: str) -> list[str]:
    """Return the flags that send connections for these hosts to a loopback port."""
    return [word for host in hosts for word in ("--connect-to", f"{host}:{LOOPBACK}:{port}")]
