"""The real parts, each started once for all tests that ask for it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.deployment import Deployment, Edge, assert_no_secret_in, upstream
from support.idp import RunningIdp
from support.keycloak import Keycloak
from support.transports import NAMES
from support.upstream import Upstream

from authz.demo.parts import CHECKOUT, Httpbin

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.transports import Name

HERE = Path(__file__).parent
WORKSHOP = CHECKOUT / "examples" / "workshop.yaml"
REALM = HERE / "realm-kong.json"
ISSUER = "http://keycloak.keycloak:8080/realms/kong"
HTTPBIN_HOST = "httpbin.kong.svc.cluster.local:8000"

TIMEOUT_SECONDS = 300
"""Of one test, with all that it is the first to ask for: Keycloak may take two minutes."""


def pytest_configure() -> None:
    # Who ends a CI job sends SIGTERM: the fixtures must still end what they started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def say(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Tell whoever watches what takes so long."""
    reporter = request.config.pluginmanager.get_plugin("terminalreporter")
    return lambda line: reporter.write_line(line) if reporter else None


@pytest.fixture(scope="session", params=NAMES)
def transport(request: pytest.FixtureRequest) -> Name:
    """What asks for authz runs once with each transport that is installed."""
    name: Name = request.param
    return name


# --- Keycloak and the upstreams -----------------------------------------------------


@pytest.fixture(scope="session")
def keycloak(say: Callable[[str], None]) -> Iterator[Keycloak]:
    """A real Keycloak with the realm of ``realm-kong.json``."""
    say("starting Keycloak: 30 to 120 s")
    with Keycloak(REALM) as running:
        say(f"Keycloak is ready on port {running.port}")
        yield running


@pytest.fixture(scope="session")
def clients() -> dict[str, str]:
    """The clients of Keycloak's realm and their secrets."""
    realm = json.loads(REALM.read_text("utf-8"))
    return {client["clientId"]: client["secret"] for client in realm["clients"]}


@pytest.fixture(scope="session")
def kong_id(clients: dict[str, str]) -> tuple[str, str]:
    """The seed's caller."""
    return "kong_id", clients["kong_id"]


@pytest.fixture(scope="session")
def other_id(clients: dict[str, str]) -> tuple[str, str]:
    """A client of the realm that is no consumer of the workshop's file."""
    return "other_id", clients["other_id"]


@pytest.fixture(scope="session")
def httpbin() -> Iterator[Httpbin]:
    with Httpbin() as running:
        yield running


@pytest.fixture(scope="session")
def witness() -> Iterator[Upstream]:
    with Upstream() as running:
        yield running


@pytest.fixture
def seen(witness: Upstream) -> Upstream:
    """An upstream that shows what reached it in this test, to the byte."""
    witness.requests.clear()
    return witness


# --- The workshop's file, unchanged, before Keycloak ----------------------------------


@pytest.fixture(scope="session")
def workshop(
    transport: Name, keycloak: Keycloak, httpbin: Httpbin, clients: dict[str, str]
) -> Iterator[Deployment]:
    """Authz with the workshop's file as it stands."""
    with Deployment(
        WORKSHOP,
        transport=transport,
        idp_port=keycloak.port,
        services={HTTPBIN_HOST: httpbin.port},
        secrets=clients.items(),
    ) as running:
        yield running


@pytest.fixture(scope="session")
def envoy(workshop: Deployment, clients: dict[str, str]) -> Iterator[Edge]:
    """Envoy before the workshop's authz and httpbin: the address that users know."""
    with workshop.edge() as running:
        yield running
    assert_no_secret_in(running.output(), clients.items())


@pytest.fixture(scope="session")
def envoy_before_seen(
    workshop: Deployment, witness: Upstream, clients: dict[str, str]
) -> Iterator[Edge]:
    """A second Envoy before the workshop's authz; its upstream is ``seen``."""
    with workshop.edge(upstream("httpbin-service", witness.port)) as running:
        yield running
    assert_no_secret_in(running.output(), clients.items())


# --- The same file before the development IdP, for what nobody can ask of Keycloak -----


@pytest.fixture
def provider() -> Iterator[RunningIdp]:
    """A provider that stops, waits and counts when the test says so."""
    with RunningIdp(issuer=ISSUER) as running:
        yield running


@pytest.fixture
def deploy(
    transport: Name, provider: RunningIdp, seen: Upstream, clients: dict[str, str]
) -> Callable[..., Deployment]:
    """A maker of deployments before ``provider`` and ``seen``; the test starts them."""

    def make(config: Path = WORKSHOP, **options: Any) -> Deployment:
        return Deployment(
            config,
            transport=transport,
            idp_port=provider.port,
            services={HTTPBIN_HOST: seen.port},
            secrets=clients.items(),
            **options,
        )

    return make
