"""The wheel, where operators run it: another user, nothing to write to, next to no environment."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.deployment import until
from support.locks import ROOT, lock

from authz import __version__
from authz.demo.parts import LOOPBACK, answers, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.idp import RunningIdp

pytestmark = pytest.mark.timeout(600)

NOBODY = 65_534
ENVIRONMENT = {"LANG": "C"}
"""No HOME and no PATH."""

KONG = """
_format_version: "3.0"
plugins:
- name: openid-connect
  config:
    issuer: {issuer}
    auth_methods: [client_credentials]
    consumer_claims: [[client_id]]
    consumer_by: [username]
consumers:
- username: kong_id
"""


def everybodys_python() -> str:
    """Return an interpreter that another user may run, too: root's home is closed to others."""
    for python in (sys.executable, "/usr/bin/python3"):
        real = Path(python).resolve()
        if all(parent.stat().st_mode & 0o001 for parent in real.parents):
            return python
    pytest.fail("no Python here that another user could run: apt-get install python3-venv")


@pytest.fixture(scope="module")
def place() -> Iterator[Path]:
    """A directory that every user may read: pytest's own are for their owner alone."""
    path = Path(tempfile.mkdtemp(prefix="authz-wheel-"))
    path.chmod(0o755)
    yield path
    for directory, _, _ in os.walk(path):
        Path(directory).chmod(0o755)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def authz(place: Path) -> str:
    """``authz`` from a wheel that was built here, beside what runtime.txt lists."""
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place))
    (wheel,) = place.glob("authz-*.whl")
    environment = place / "environment"
    install = str(ROOT / "requirements" / "install.py")
    run(everybodys_python(), install, str(lock("runtime")), str(environment))
    run(str(environment / "bin" / "pip"), "install", "--no-deps", "--no-index", str(wheel))
    run(str(environment / "bin" / "pip"), "check")
    run("chmod", "-R", "a-w", str(environment))
    return str(environment / "bin" / "authz")


@pytest.fixture
def working_directory(place: Path, idp: RunningIdp) -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(dir=place))
    (path / "kong.yaml").write_text(KONG.format(issuer=idp.issuer))
    path.chmod(0o555)
    yield path
    path.chmod(0o755)


def run(*command: str) -> None:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)  # noqa: S603 - a list, and no shell
    assert done.returncode == 0, done.stdout + done.stderr


def start(directory: Path, *command: str) -> subprocess.Popen[str]:
    """Start a command as nobody, if we may become that, or as who we are."""
    nobody = NOBODY if os.geteuid() == 0 else None
    return subprocess.Popen(  # noqa: S603 - a list, and no shell
        command,
        cwd=directory,
        env=ENVIRONMENT,
        user=nobody,
        group=nobody,
        extra_groups=[] if nobody else None,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        encoding="utf-8",
    )


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["version", "-o", "json"], __version__),
        (["validate", "-c", "kong.yaml"], ""),
        (["envoy", "-c", "kong.yaml", "--upstream", "127.0.0.1:8000"], "ext_authz"),
    ],
)
def test_F_commands_run_for_any_user_with_nothing_to_write_to(
    authz: str, working_directory: Path, command: list[str], said: str
) -> None:
    with start(working_directory, authz, *command) as child:
        output, _ = child.communicate(timeout=120)

    assert child.returncode == 0, output
    assert said in output


@pytest.mark.parametrize("workers", [1, 2])
def test_F_the_server_serves_for_any_user_with_nothing_to_write_to(
    authz: str, working_directory: Path, workers: int
) -> None:
    port, admin = free_port(), free_port()
    addresses = ["--listen", f"{LOOPBACK}:{port}", "--admin", f"{LOOPBACK}:{admin}"]
    command = [authz, "serve", "-c", "kong.yaml", "--workers", str(workers), *addresses]
    with start(working_directory, *command) as child:
        try:
            until(
                lambda: answers(f"http://{LOOPBACK}:{admin}/readyz") or child.poll() is not None,
                within_s=120,
            )
            assert child.poll() is None
        finally:
            child.terminate()
            output, _ = child.communicate(timeout=60)

    assert child.returncode == 0, output
