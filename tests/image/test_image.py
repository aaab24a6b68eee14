"""The image runs as it will run, and holds what it needs and nothing else."""

from __future__ import annotations

import asyncio
import json
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.checks import ask
from support.deployment import until
from support.idp import RunningIdp
from support.running import check_request, read

from authz.credentials import basic
from authz.demo.idp import CLIENTS
from authz.demo.parts import free_port
from authz.settings import TcpAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.image import Container, Image

ROOT = Path(__file__).parents[2]
FILE = """
_format_version: "3.0"
consumers: [{{username: kong_id}}]
plugins:
- name: openid-connect
  config:
    issuer: "{issuer}"
    consumer_claim: [client_id]
"""


@pytest.fixture
def idp() -> Iterator[RunningIdp]:
    with RunningIdp() as running:
        yield running


@pytest.fixture
def config(idp: RunningIdp, tmp_path: Path) -> Path:
    (tmp_path / "kong.yaml").write_text(FILE.format(issuer=idp.issuer))
    tmp_path.chmod(0o755)
    return tmp_path


@contextmanager
def serving(image: Image, config: Path, port: int) -> Iterator[Container]:
    container = image.run(
        "serve",
        "-c",
        "/etc/authz",
        "--listen",
        f"127.0.0.1:{port}",
        "--admin",
        "off",
        config=config,
    )
    try:
        until(lambda: "serving" in container.logs())
        yield container
    finally:
        container.remove()


def test_it_answers_as_a_user_without_any_rights(image: Image, config: Path) -> None:
    port = free_port()
    with serving(image, config, port) as container:
        wire = check_request({"authorization": basic("kong_id", CLIENTS["kong_id"])})
        answer = read(asyncio.run(ask(TcpAddress("127.0.0.1", port), wire)))
        status = Path(f"/proc/{container.state()['Pid']}/status").read_text()
        told = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
        log = container.logs()

    assert answer.allowed
    assert answer.header("x-consumer-username") == "kong_id"
    assert told["Uid"].split() == told["Gid"].split() == ["10001"] * 4
    assert {told[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
    assert told["NoNewPrivs"] == "1"
    assert '"transport": "native"' in log


def test_it_ends_in_order_within_its_grace(image: Image, config: Path) -> None:
    with serving(image, config, free_port()) as container:
        assert container.stop(grace_seconds=10) == 0
        assert "stopped" in container.logs()


def test_without_a_configuration_it_says_what_is_missing(image: Image) -> None:
    container = image.run()
    try:
        assert container.wait() == 1
        assert "/etc/authz:1:1: file: cannot be read: No such file or directory" in container.logs()
    finally:
        container.remove()


def test_nothing_that_builds_or_installs_is_in_what_we_put_there(image: Image) -> None:
    top = set(image.tell("ls", "/").split())
    names = {Path(file).name for file in image.tell("find", "/opt").splitlines()}

    assert "authz" in names
    assert names.isdisjoint({"pip", "pip3", "setuptools", "maturin", "cargo", "support"})
    assert top.isdisjoint({"src", "tools", "wheels"})
    assert not [name for name in names if name.endswith((".rs", ".whl"))]


def test_the_bill_of_materials_is_what_is_there(image: Image) -> None:
    bom = json.loads(image.tell("cat", "/opt/authz/share/sbom.cdx.json"))
    there = image.tell(
        "python",
        "-c",
        "from importlib.metadata import distributions as all\n"
        "print(*sorted(f'{each.name.lower()} {each.version}' for each in all()"
        " if '/opt/authz/' in str(each.locate_file(''))), sep='\\n')",
    ).splitlines()

    told: dict[str, list[str]] = {"pypi": [], "cargo": []}
    for each in (bom["metadata"]["component"], *bom["components"]):
        kind = each["purl"].removeprefix("pkg:").partition("/")[0]
        told[kind].append(f"{each['name'].lower()} {each['version']}")
    lock = tomllib.loads((ROOT / "native/Cargo.lock").read_text())["package"]
    crates = [f"{each['name'].lower()} {each['version']}" for each in lock if "checksum" in each]
    assert (bom["bomFormat"], bom["specVersion"]) == ("CycloneDX", "1.6")
    assert sorted(told["pypi"]) == there
    assert sorted(told["cargo"]) == sorted(crates)
    assert len(there) > 20
    assert len(crates) > 50


def test_the_commands_of_the_page_of_the_image_are_there(image: Image) -> None:
    [found] = json.loads(image.podman("inspect", "--type", "image", "localhost/authz").stdout)

    assert found["Config"]["User"] == "10001:10001"
    assert found["Config"]["Entrypoint"] == ["authz"]
    assert found["Config"]["Cmd"] == ["serve", "--config", "/etc/authz"]
    assert found["Config"]["Labels"]["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert image.tell("authz", "version").startswith("authz ")
