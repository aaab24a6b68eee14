"""Kubernetes' control plane without nodes: a real API server, scheduler and controllers."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from authz.demo.parts import CHECKOUT, PartMissingError, Process, free_port

KUBECTL = CHECKOUT / ".kube" / "bin" / "kubectl"
KUBECTL_TIMEOUT_SECONDS = 120


class Said(NamedTuple):
    """How kubectl has ended."""

    code: int
    out: str
    err: str


def built(name: str) -> Path:
    """Return what ``tests/kube/build`` has put beside the control plane: a program or a folder."""
    program = os.environ.get("CONTROL_PLANE")
    found = Path(program).parent / name if program else None
    if found is None or not found.exists():
        raise PartMissingError(f"{name}: it is not beside CONTROL_PLANE; run `make kube`")
    return found


class ControlPlane(Process):
    """What ``tests/kube/build`` has built, with a fresh state for each start."""

    name = "control-plane"
    ready_within_s = 120

    def command(self, directory: Path) -> list[str]:
        ports = ",".join(str(free_port()) for _ in range(5))
        return [str(built("control-plane")), "-dir", str(directory / "state"), "-ports", ports]

    def is_ready(self) -> bool:
        return "ready" in self.output().splitlines()

    @property
    def client(self) -> dict[str, str]:
        """The environment in which kubectl is the administrator of this cluster."""
        assert self._directory is not None, "it is not running"
        return {
            "PATH": f"{KUBECTL.parent}:{os.environ['PATH']}",  # `kubectl diff` calls diff
            "KUBECONFIG": str(self._directory / "state" / "kubeconfig"),
            "HOME": str(self._directory),  # its caches go with the cluster
        }

    def kubectl(self, *arguments: str, stdin: str = "") -> Said:
        """Run the kubectl of the lock in this cluster."""
        return kubectl(*arguments, stdin=stdin, environment=self.client)

    def get(self, *arguments: str) -> dict[str, Any]:
        """Return what ``kubectl get`` shows."""
        said = self.kubectl("get", *arguments, "--output=json")
        assert said.code == 0, said.err
        found: dict[str, Any] = json.loads(said.out)
        return found

    def define(self) -> None:
        """Let the API server know what Gateway API, Envoy Gateway, Istio and Prometheus define."""
        sets = [str(each) for each in sorted(built("crds").iterdir())]
        files = [f"--filename={each}" for each in sets]
        # Some are too large for the annotation that a client's apply keeps.
        said = self.kubectl("apply", "--server-side", *files)
        assert said.code == 0, said.err
        said = self.kubectl("wait", "--for=condition=Established", "--timeout=60s", "crd", "--all")
        assert said.code == 0, said.err

    def apply(self, manifest: str, *options: str) -> Said:
        """Send manifests to the API server, which knows each field and says what it dislikes."""
        return self.kubectl(
            "apply", "--server-side", "--validate=strict", "--filename=-", *options, stdin=manifest
        )


def kubectl(*arguments: str, stdin: str = "", environment: dict[str, str] | None = None) -> Said:
    """Run the kubectl of the lock."""
    if not KUBECTL.exists():
        raise PartMissingError("kubectl: it is not installed; run `make kube`")
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        [KUBECTL, *arguments],
        input=stdin,
        env=environment or {},
        capture_output=True,
        text=True,
        timeout=KUBECTL_TIMEOUT_SECONDS,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def rendered(directory: Path) -> str:
    """Return the manifests of a kustomization."""
    said = kubectl("kustomize", str(directory))
    assert (said.code, said.err) == (0, ""), said.err
    return said.out
