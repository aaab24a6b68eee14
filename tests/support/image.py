"""The container image in a store of its own, and containers that run as they will run."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COMMAND_SECONDS = 600


def run(*command: str | Path, store: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run a command whose images and containers are in ``store``."""
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        command,
        capture_output=True,
        text=True,
        timeout=COMMAND_SECONDS,
        check=False,
        cwd=ROOT,
        env={**os.environ, "CONTAINERS_STORAGE_CONF": str(store / "storage.conf")},
    )
    assert not check or done.returncode == 0, (
        f"{command}: {done.stdout[-2000:]}{done.stderr[-4000:]}"
    )
    return done


@dataclass(frozen=True)
class Image:
    """The image ``authz`` in a store of its own."""

    store: Path

    def podman(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return run("podman", *arguments, check=check, store=self.store)

    def run(self, *arguments: str, config: Path | None = None) -> Container:
        """Start it as Kubernetes will: no root, no capabilities, nothing to write to."""
        mounts = () if config is None else ("--volume", f"{config}:/etc/authz:ro")
        started = self.podman(
            "run", "--detach", "--runtime", "runc", "--network", "host", "--read-only",
            "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--memory", "256m",
            "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
            *mounts, "localhost/authz", *arguments,
        )  # fmt: skip
        return Container(self, started.stdout.strip())

    def tell(self, program: str, *arguments: str) -> str:
        """Return what a program in the image says."""
        return self.podman(
            "run", "--rm", "--runtime", "runc", "--network", "none", "--read-only",
            "--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024",
            "--entrypoint", program, "localhost/authz", *arguments,
        ).stdout  # fmt: skip


@dataclass(frozen=True)
class Container:
    """A container of the image."""

    image: Image
    name: str

    def logs(self) -> str:
        done = self.image.podman("logs", self.name)
        return done.stdout + done.stderr

    def state(self) -> dict[str, Any]:
        [found] = json.loads(self.image.podman("inspect", self.name).stdout)
        state: dict[str, Any] = found["State"]
        return state

    def wait(self) -> int:
        """Return the exit code of one that ends by itself."""
        return int(self.image.podman("wait", self.name).stdout)

    def stop(self, grace_seconds: int) -> int:
        """Send SIGTERM, and SIGKILL after the grace; return the exit code."""
        self.image.podman("stop", "--time", str(grace_seconds), self.name)
        return int(self.state()["ExitCode"])

    def remove(self) -> None:
        self.image.podman("rm", "--force", "--time", "0", self.name)
