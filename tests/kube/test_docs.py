"""What docs/kubernetes.md shows works: its files, and its commands in their order."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.pages import Page, run

from authz.demo.parts import CHECKOUT

if TYPE_CHECKING:
    from support.control_plane import ControlPlane

PAGE = Page("kubernetes.md")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a reader would stand: beside this repository, and in it."""
    for name, text in PAGE.files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "authz").symlink_to(CHECKOUT)
    (tmp_path / "deploy").symlink_to(CHECKOUT / "deploy")
    return tmp_path


@pytest.mark.usefixtures("applied")
def test_every_command_of_the_page_does_what_it_says(
    cluster: ControlPlane, directory: Path
) -> None:
    assert cluster.kubectl("create", "namespace", "envoy-gateway-system").code == 0
    tools = Path(sys.executable).parent
    environment = cluster.client | {"PATH": f"{tools}:{cluster.client['PATH']}"}

    for command in PAGE.commands:
        if command.startswith(("curl", "make image")):  # see test_pod.py and tests/image
            continue
        run(command, directory, environment)

    ran = {command.split()[0] for command in PAGE.commands}
    assert ran == {"kubectl", "curl", "authz", "openssl", "make"}
    created = cluster.kubectl(
        "wait", "deployment/orders", "--namespace=orders", "--timeout=60s",
        "--for=jsonpath={.status.updatedReplicas}=2",
    )  # fmt: skip
    assert created.code == 0, created.err
    [pod, _] = cluster.get("pods", "--namespace=orders")["items"]
    images = [each["image"] for each in pod["spec"]["initContainers"] + pod["spec"]["containers"]]
    assert images[0] == "registry.example/authz:1"
    assert images[2] == "registry.example/orders:1"
    [secret] = cluster.get("secrets", "--namespace=orders")["items"]
    assert secret["metadata"]["name"] in str(pod["spec"]["volumes"])
