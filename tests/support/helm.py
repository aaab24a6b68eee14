"""The chart of deploy/helm, the helm that renders it, and nodes that are none."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import yaml
from support.control_plane import ControlPlane, Said, built

from authz.demo.parts import CHECKOUT, Process

if TYPE_CHECKING:
    from pathlib import Path

CHART = CHECKOUT / "deploy" / "helm" / "authz"
TIMEOUT_SECONDS = 120
MONITORING = [
    f"--api-versions=monitoring.coreos.com/v1/{kind}"
    for kind in ("PodMonitor", "ServiceMonitor", "PrometheusRule")
]
NODE = """\
apiVersion: v1
kind: Node
metadata:
  name: {name}
  annotations: {{kwok.x-k8s.io/node: fake}}
  labels: {{kubernetes.io/hostname: {name}, topology.kubernetes.io/zone: {name}}}
status:
  allocatable: {{cpu: "16", memory: 32Gi, pods: "100"}}
  capacity: {{cpu: "16", memory: 32Gi, pods: "100"}}
"""


def values(*names: str) -> list[str]:
    """Return the options for value files of the chart's ``ci`` folder."""
    return [f"--values={CHART / 'ci' / f'{name}-values.yaml'}" for name in names]


VARIANTS = {
    "shared": values("shared"),
    "sidecar": values("sidecar"),
    "sidecar without an application": [*values("sidecar"), "--set-json=sidecar.containers=[]"],
    "everything": values("shared", "everything"),
    "everything, as a sidecar": [
        *values("shared", "everything", "sidecar"),
        "--set-json=config.files=null",
    ],
}
"""The options of each set of values that the tests render."""


def helm(*arguments: str, program: str = "helm", cluster: ControlPlane | None = None) -> Said:
    """Run helm, or the tool of that name, with a cluster or without."""
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        [built(program), *arguments],
        env=cluster.client if cluster else {},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def templated(*options: str, release: str = "authz", namespace: str = "default") -> str:
    """Return the manifests of the chart."""
    said = helm("template", release, str(CHART), f"--namespace={namespace}", *options)
    assert (said.code, said.err) == (0, ""), said.err
    return said.out


class Kwok(Process):
    """Two nodes in two zones, on which each pod is ready at once, and nothing runs."""

    name = "kwok"
    ready_within_s = 60

    def __init__(self, cluster: ControlPlane) -> None:
        super().__init__()
        self._cluster = cluster
        nodes = "---\n".join(NODE.format(name=name) for name in ("fake-a", "fake-b"))
        said = cluster.kubectl("create", "--filename=-", stdin=nodes)
        assert said.code == 0, said.err

    def command(self, directory: Path) -> list[str]:
        stages = directory / "stages.yaml"
        folder = built("stages")
        files = [
            *sorted(folder.glob("node/fast/node-*.yaml")),
            *sorted(folder.glob("node/heartbeat-with-lease/node-*.yaml")),
            *sorted(folder.glob("pod/fast/pod-*.yaml")),
        ]
        stages.write_text("\n---\n".join(path.read_text() for path in files))
        return [
            str(built("kwok")),
            f"--kubeconfig={self._cluster.client['KUBECONFIG']}",
            f"--config={stages}",
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake",
        ]

    def environment(self, directory: Path) -> dict[str, str]:
        return {"HOME": str(directory)}

    def is_ready(self) -> bool:
        nodes = self._cluster.get("nodes")["items"]
        states = [
            condition["status"]
            for node in nodes
            for condition in node["status"].get("conditions", ())
            if condition["type"] == "Ready"
        ]
        return states == ["True", "True"]


def documents(manifest: str) -> list[dict[str, object]]:
    """Return each resource of a manifest."""
    return [each for each in yaml.safe_load_all(manifest) if each]
