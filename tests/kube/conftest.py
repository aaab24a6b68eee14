"""A real control plane, started once, with every overlay applied to it."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.control_plane import ControlPlane, Said, rendered
from support.derived import KUBERNETES

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
OVERLAYS = tuple(sorted(path.name for path in (KUBERNETES / "overlays").iterdir()))
TIMEOUT_SECONDS = 300
"""Of one test, with all that it is the first to ask for."""


def pytest_configure() -> None:
    # Who ends a CI job sends SIGTERM: the fixtures must still end what they started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def manifests() -> dict[str, str]:
    """Every overlay as kustomize renders it, by its name."""
    return {name: rendered(KUBERNETES / "overlays" / name) for name in OVERLAYS}


@pytest.fixture(scope="session")
def cluster() -> Iterator[ControlPlane]:
    with ControlPlane() as running:
        yield running


@pytest.fixture(scope="session")
def defined(cluster: ControlPlane) -> ControlPlane:
    """The cluster, which knows the resources of Gateway API, Envoy Gateway, Istio, Prometheus."""
    cluster.define()
    return cluster


@pytest.fixture(scope="session")
def applied(cluster: ControlPlane, manifests: dict[str, str]) -> dict[str, Said]:
    """What kubectl said when each overlay was applied."""
    return {name: cluster.apply(manifest) for name, manifest in manifests.items()}
