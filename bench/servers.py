"""The processes that Envoy asks: authz itself, and peers that do nothing."""

from __future__ import annotations

import importlib.util
import shutil
import subprocess
import sys
import urllib.request
from typing import TYPE_CHECKING

from authz.demo.parts import (
    CHECKOUT,
    LOOPBACK,
    Process,
    accepts,
    answers,
    authz_command,
    authz_environment,
    free_port,
)
from bench import rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from bench.rows import Row

BUILD_SECONDS_MAX = 900
_BUILT = CHECKOUT / ".parts" / "bench"
_GO = CHECKOUT / "bench" / "peers"
_RUST = CHECKOUT / "native" / "noop"

NATIVE = importlib.util.find_spec("authz_native") is not None
"""Whether authz has a second transport here."""


class NotBuiltError(Exception):
    """A peer cannot be measured on this machine; ``str()`` says why."""


class Authz(Process):
    """``authz serve`` with a decK text and further options."""

    name = "authz"
    ready_within_s = 60

    def __init__(self, text: str, *options: str, transport: str = "grpcio") -> None:
        super().__init__()
        self.port, self.admin = free_port(), free_port()
        self._text = text
        self._options = list(options)
        if NATIVE:  # without it there is nothing to choose from
            self._options += ["--transport", transport]

    def command(self, directory: Path) -> list[str]:
        """Return the command line, with the configuration beside the output."""
        config = directory / "kong.yaml"
        config.write_text(self._text)
        addresses = (
            *("--listen", f"{LOOPBACK}:{self.port}"),
            *("--admin", f"{LOOPBACK}:{self.admin}"),
        )
        return authz_command("serve", "-c", str(config), *addresses, *self._options)

    def environment(self, directory: Path) -> dict[str, str]:  # noqa: ARG002 - as the command has it all
        """Return our environment without settings."""
        return authz_environment()

    def is_ready(self) -> bool:
        """Whether it says so itself."""
        return answers(f"http://{LOOPBACK}:{self.admin}/readyz")

    def worked_out(self) -> float:
        """Return how many decisions were worked out so far; those from memory are not counted."""
        metrics = get(f"http://{LOOPBACK}:{self.admin}/metrics").splitlines()
        name = "authz_check_duration_seconds_count"
        return sum(float(line.rpartition(" ")[2]) for line in metrics if line.startswith(name))


class Peer(Process):
    """A server that gives the bytes of ``answer`` to every Check."""

    name = "peer"

    def __init__(self, program: list[str], answer: Path) -> None:
        super().__init__()
        self.port = free_port()
        self._command = [*program, str(self.port), str(answer)]

    def command(self, directory: Path) -> list[str]:  # noqa: ARG002 - it needs no files
        """Return the command line."""
        return self._command

    def is_ready(self) -> bool:
        """Whether it takes connections."""
        return accepts(self.port)


def get(url: str) -> str:
    """Return what is at a loopback URL."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url, timeout=10) as answer:
        text: str = answer.read().decode()
    return text


def grpc_aio() -> list[str]:
    """Return the command of the peer in Python."""
    return [sys.executable, "-m", "bench.noop"]


def grpc_go() -> list[str]:
    """Build the peer in Go and return its command; raises ``NotBuiltError``."""
    program = _BUILT / "grpc-go-noop"
    _build("go", "build", "-trimpath", "-o", str(program), ".", cwd=_GO)
    return [str(program)]


def tonic() -> list[str]:
    """Build the peer in Rust and return its command; raises ``NotBuiltError``."""
    target = _BUILT / "cargo"
    _build("cargo", "build", "--release", "--locked", "--target-dir", str(target), cwd=_RUST)
    return [str(target / "release" / "noop")]


def _build(tool: str, *arguments: str, cwd: Path) -> None:
    program = shutil.which(tool)
    if program is None:
        raise NotBuiltError(f"not built: {tool} is not installed")
    print(f"building {cwd.relative_to(CHECKOUT)} with {tool}", flush=True)
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        [program, *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        timeout=BUILD_SECONDS_MAX,
        check=False,
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["without a word"])[-1]
        raise NotBuiltError(f"not built: {tool}: {last}")


PEERS: Mapping[Row, Callable[[], list[str]]] = {
    rows.GRPC_GO: grpc_go,
    rows.TONIC: tonic,
    rows.GRPC_AIO: grpc_aio,
}
"""What gives the command of each peer, in the order of the table."""
