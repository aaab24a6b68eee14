"""docs/migrating-from-kong.md leads from a Kong file to what runs: its commands, in their order."""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import yaml
from support.control_plane import ControlPlane
from support.curl import curl
from support.idp import RunningIdp
from support.pages import Page, run

from authz.demo.idp import CLIENTS
from authz.demo.parts import CHECKOUT, LOOPBACK, Authz, Envoy, Httpbin, find, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Page("migrating-from-kong.md")
ISSUER = "http://keycloak.keycloak:8080/realms/kong"
UPSTREAM = "httpbin.kong.svc.cluster.local:8000"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a reader would stand, with the application of the other page."""
    made = tmp_path_factory.mktemp("migrating")
    for name, text in {**PAGE.files, **Page("kubernetes.md").files}.items():
        (made / name).write_text(text)
    (made / "kong.yaml").write_text(PAGE.files["kong.yaml"])
    (made / "authz").symlink_to(CHECKOUT)
    (made / "bin").mkdir()
    (made / "bin" / "envoy").symlink_to(find("envoy"))
    return made


@pytest.fixture(scope="module")
def environment(directory: Path) -> dict[str, str]:
    """The reader's, in which authz, Envoy and the page's addresses are this machine's."""
    path = f"{Path(sys.executable).parent}:{directory / 'bin'}:{os.environ['PATH']}"
    own = {name: value for name, value in os.environ.items() if not name.startswith("AUTHZ_")}
    return {**own, "PATH": path, "AUTHZ_CHECK_SECRET": CLIENTS["kong_id"]}


def of_the_cluster(command: str) -> bool:
    return command.startswith(("kubectl", "mkdir", "cp", "openssl", "authz manifests"))


def test_the_plain_part_ends_in_an_envoy_that_lets_the_consumer_through(
    directory: Path, environment: dict[str, str]
) -> None:
    port, envoy_admin, ours, admin = (free_port() for _ in range(4))
    ran: list[str] = []
    with RunningIdp(issuer=ISSUER) as idp, Httpbin() as httpbin:
        settings = {
            "AUTHZ_CONNECT_TO": f"keycloak.keycloak:8080:{LOOPBACK}:{idp.port}",
            "AUTHZ_LISTEN": f"{LOOPBACK}:{ours}",
            "AUTHZ_ADMIN": f"{LOOPBACK}:{admin}",
            "AUTHZ_ENVOY_AUTHZ": f"{LOOPBACK}:{ours}",
            "AUTHZ_ENVOY_LISTEN": f"{LOOPBACK}:{port}",
            "AUTHZ_ENVOY_ADMIN": f"{LOOPBACK}:{envoy_admin}",
            "AUTHZ_ENVOY_CONNECT_TO": f"{UPSTREAM}:{LOOPBACK}:{httpbin.port}",
        }
        started: list[Authz | Envoy] = []
        try:
            for command in [each for each in PAGE.commands if not of_the_cluster(each)]:
                words = shlex.split(command)
                ran.append(" ".join(words[:2]))
                if words[:2] == ["authz", "serve"]:
                    words[words.index("kong.yaml")] = str(directory / "kong.yaml")
                    ready = f"http://{LOOPBACK}:{admin}/readyz"
                    started.append(Authz(words[1:], ready_url=ready, env=settings))
                elif words[:2] == ["envoy", "-c"]:
                    text = (directory / words[2]).read_text()
                    started.append(Envoy(text, envoy_admin))
                elif words[0] == "curl":
                    self_made = words[words.index("-u") + 1].partition(":")
                    path = words[2].removeprefix("http://127.0.0.1:8000")
                    reply = curl(port, path, user=(self_made[0], self_made[2]))
                    stranger, open_ = curl(port, path), curl(port, "/status/204")
                else:
                    run(command, directory, environment | settings)
                    continue
                if words[0] != "curl":
                    started[-1].start()
                    started[-1].wait_ready()
        finally:
            for each in reversed(started):
                each.stop()

    assert ran == [
        *("authz validate", "authz explain", "authz envoy"),
        *("envoy --mode", "authz serve", "envoy -c", "curl -s"),
    ]
    assert reply.status == 200
    assert reply.upstream["x-consumer-username"] == "kong_id"
    assert (stranger.status, open_.status) == (401, 204)


@pytest.fixture(scope="module")
def fresh() -> Iterator[ControlPlane]:
    """A cluster of its own: the page makes what other pages make as well."""
    with ControlPlane() as running:
        running.define()
        for name in ("envoy-gateway-system", "istio-system", "kong"):
            assert running.kubectl("create", "namespace", name).code == 0
        yield running


def test_every_command_for_a_cluster_does_what_it_says(
    fresh: ControlPlane, directory: Path, environment: dict[str, str]
) -> None:
    ran = set()
    for command in [each for each in PAGE.commands if of_the_cluster(each)]:
        client = fresh.client
        path = f"{client['PATH'].partition(':')[0]}:{environment['PATH']}"
        run(command, directory, {**environment, **client, "PATH": path})
        ran.add(command.split()[0])

    assert ran == {"kubectl", "mkdir", "cp", "openssl", "authz"}
    created = fresh.kubectl(
        "wait", "deployment/orders", "--namespace=orders", "--timeout=60s",
        "--for=jsonpath={.status.updatedReplicas}=2",
    )  # fmt: skip
    assert created.code == 0, created.err
    policies = fresh.get("securitypolicies", "--namespace=shop")["items"]
    routes = fresh.get("httproutes", "--namespace=shop")["items"]
    names = [each["metadata"]["name"] for each in routes]
    targets = [each["spec"]["targetRefs"][0]["name"] for each in policies]
    assert sorted(targets) == sorted(names) == ["oidc-route", "status"]
    container = fresh.get("deployment", "authz", "--namespace=authz")["spec"]["template"]["spec"][
        "containers"
    ][0]
    assert container["args"][-1] == "--route-metadata=envoy-gateway"
    [config] = [
        each
        for each in fresh.get("configmaps", "--namespace=authz")["items"]
        if each["metadata"]["name"].startswith("authz-config")
    ]
    assert yaml.safe_load(config["data"]["kong.yaml"])["services"][0]["name"] == "httpbin-service"
