"""What runs in the pods, run without a kubelet: its arguments, its files, its order.

Only what belongs to the machine is another one here: directories, ports, the provider's address.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support import tls
from support.curl import Reply, curl
from support.idp import RunningIdp
from support.pages import Page

from authz.demo.parts import LOOPBACK, Authz, Envoy, Httpbin, free_port, run_authz

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ISSUER = "http://keycloak.keycloak:8080/realms/kong"
PROVIDER = "keycloak.keycloak:8080"
PATH = "/oidc-route/get"


@dataclass(frozen=True)
class Pod:
    """What the manifest says, with the ports and directories of this machine."""

    files: dict[str, str]
    containers: dict[str, dict[str, Any]]
    admin: int
    port: int
    envoy_admin: int
    application: int

    def probe(self, container: str, name: str) -> str:
        """Return the path that the kubelet would ask for."""
        path: str = self.containers[container][name]["httpGet"]["path"]
        return path


def containers_of(manifest: str) -> list[dict[str, Any]]:
    each = list(yaml.safe_load_all(manifest))
    [deployment] = [one for one in each if one["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    return [*spec.get("initContainers", ()), *spec["containers"]]


@pytest.fixture(scope="module")
def pod(manifests: dict[str, str]) -> Pod:
    each = list(yaml.safe_load_all(manifests["sidecar"]))
    files = {
        name: text
        for one in each
        if one["kind"] == "ConfigMap"
        for name, text in one["data"].items()
    }
    containers = {one["name"]: one for one in containers_of(manifests["sidecar"])}
    return Pod(files, containers, *(free_port() for _ in range(4)))


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory, pod: Pod) -> Path:
    """What is mounted, as a kubelet lays it: each file is a link into a hidden directory."""
    made = tmp_path_factory.mktemp("pod")
    hidden = made / "..2026_01_01_00_00_00.1"
    hidden.mkdir()
    (hidden / "kong.yaml").write_text(pod.files["kong.yaml"])
    (made / "..data").symlink_to(hidden.name)
    (made / "kong.yaml").symlink_to("..data/kong.yaml")
    return made


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


@pytest.fixture(scope="module")
def idp() -> Iterator[RunningIdp]:
    with RunningIdp(issuer=ISSUER) as running:
        yield running


def authz(pod: Pod, directory: Path, provider: int) -> Authz:
    """Return authz with the manifest's arguments; started once its startup probe passes."""
    arguments = replaced(
        "\n".join(pod.containers["authz"]["command"][1:] + pod.containers["authz"]["args"]),
        ("--config=/etc/authz", f"--config={directory}"),
        ("unix:/run/authz/", f"unix:{directory}/"),
        ("0.0.0.0:9192", f"{LOOPBACK}:{pod.admin}"),
    ).split("\n")
    return Authz(
        [*arguments, f"--connect-to={PROVIDER}:{LOOPBACK}:{provider}"],
        ready_url=f"http://{LOOPBACK}:{pod.admin}{pod.probe('authz', 'startupProbe')}",
    )


def envoy(pod: Pod, directory: Path) -> Envoy:
    """Return Envoy with the manifest's bootstrap."""
    bootstrap = replaced(
        pod.files["envoy.yaml"],
        ("/run/authz/authz.sock", f"{directory}/authz.sock"),
        ("0.0.0.0", LOOPBACK),  # noqa: S104 - what is not to stand here
        ("port_value: 8000", f"port_value: {pod.port}"),
        ("port_value: 9901", f"port_value: {pod.envoy_admin}"),
        ("port_value: 8080", f"port_value: {pod.application}"),
    )
    return Envoy(bootstrap, pod.envoy_admin)


def status(pod: Pod, probe: str) -> int:
    return curl(pod.admin, pod.probe("authz", probe)).status


def the_pages_request(pod: Pod) -> Reply:
    """Make the request that the page has made from another pod."""
    [command] = [one for one in Page("kubernetes.md").commands if one.startswith("curl")]
    words = shlex.split(command)
    [url] = [word for word in words if word.startswith("http://httpbin.kong:8000/")]
    client, _, secret = words[words.index("-u") + 1].partition(":")
    path = url.removeprefix("http://httpbin.kong:8000")
    return curl(pod.port, path, user=(client, secret), headers=[("host", "httpbin.kong:8000")])


def test_the_pages_request_reaches_the_application_as_a_consumer(
    pod: Pod, directory: Path, idp: RunningIdp
) -> None:
    with (
        authz(pod, directory, idp.port) as server,
        envoy(pod, directory),
        Httpbin(pod.application),
    ):
        reply = the_pages_request(pod)
        stranger = curl(pod.port, PATH)
        assert [status(pod, f"{name}Probe") for name in ("startup", "liveness", "readiness")] == (
            [200, 200, 200]
        )

        code = server.stop()

    assert reply.status == 200
    assert reply.upstream["x-consumer-username"] == "kong_id"
    assert reply.upstream["authorization"].startswith("Bearer ")
    assert stranger.status == 401
    assert code == 0


def test_a_pod_whose_provider_is_down_starts_and_lives_and_is_not_ready(
    pod: Pod, directory: Path
) -> None:
    with authz(pod, directory, free_port()):
        assert [status(pod, f"{name}Probe") for name in ("startup", "liveness", "readiness")] == (
            [200, 200, 503]
        )


def test_the_shared_server_is_ready_over_tls(
    manifests: dict[str, str], directory: Path, tmp_path: Path, idp: RunningIdp
) -> None:
    [container] = containers_of(manifests["shared"])
    files = tls.Files(tmp_path / "tls")
    files.write()
    port, admin = free_port(), free_port()
    arguments = replaced(
        "\n".join(container["command"][1:] + container["args"]),
        ("--config=/etc/authz", f"--config={directory}"),
        ("/run/tls/tls.crt", files.chain),
        ("/run/tls/tls.key", files.key),
        ("0.0.0.0:9191", f"{LOOPBACK}:{port}"),
        ("0.0.0.0:9192", f"{LOOPBACK}:{admin}"),
    ).split("\n")
    ready = container["readinessProbe"]["httpGet"]["path"]
    server = Authz(
        [*arguments, f"--connect-to={PROVIDER}:{LOOPBACK}:{idp.port}"],
        ready_url=f"http://{LOOPBACK}:{admin}{ready}",
    )

    with server:
        ca = tls.ca_file(tmp_path)
        said = run_authz("health", "--address", f"{LOOPBACK}:{port}", "--tls-ca", str(ca))
        code = server.stop()  # after the drain

    assert said == f"{LOOPBACK}:{port} SERVING\n"
    assert code == 0


def test_without_authz_envoy_lets_nobody_through(pod: Pod, directory: Path) -> None:
    with envoy(pod, directory), Httpbin(pod.application):
        assert the_pages_request(pod).status == 503
