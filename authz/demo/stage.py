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
    from collections.abc import Callable, Iterator, Mapping

_P = TypeVar("_P", bound=Process)

WORKSHOP: Final = Path(__file__).with_name("workshop.yaml")
"""The workshop's decK file as it stands; ``examples/workshop.yaml`` is the same."""

LATE_CLIENT = ("late_id", "Gw4sBv1uTzK9cHf6yXqLm2RjPd8NeA7o")
"""A client whose first request comes after the provider has stopped."""

UPSTREAM_HOST = "httpbin.kong.svc.cluster.local:8000"
IDP_HOSTS = ("keycloak.keycloak:8080", "keycloak.keycloak.svc.cluster.local:8080")
"""The names under which the workshop's file knows the identity provider."""


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
            *connect_to(dict.fromkeys(IDP_HOSTS, idp_port)),
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
        *connect_to({UPSTREAM_HOST: httpbin_port}),
    )
    return Envoy(bootstrap, admin_port)


def connect_to(ports: Mapping[str, int]) -> list[str]:
    """Return the flags that send connections for ``HOST:PORT`` to a loopback port."""
    rules = (f"{host}:{LOOPBACK}:{port}" for host, port in ports.items())
    return [word for rule in rules for word in ("--connect-to", rule)]
