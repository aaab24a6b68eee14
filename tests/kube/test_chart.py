"""The chart of deploy/helm: a real API server takes what it renders, and helm installs it."""

from __future__ import annotations

import json
import shutil
import sys
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.control_plane import ControlPlane, built
from support.helm import (
    CHART,
    MONITORING,
    VARIANTS,
    Kwok,
    documents,
    helm,
    templated,
    values,
)
from support.pages import Page, run

from authz import __version__
from authz.demo.parts import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Page("helm.md")
NAMESPACE = "authz-chart"
HERE = f"--namespace={NAMESPACE}"
KONG_FILE = CHECKOUT / "deploy" / "kubernetes" / "base" / "kong.yaml"


@pytest.fixture(scope="module")
def nodes() -> Iterator[ControlPlane]:
    """A cluster of its own, whose pods become ready."""
    with ControlPlane() as cluster, Kwok(cluster):
        yield cluster


def restricted(cluster: ControlPlane, namespace: str) -> None:
    """Create a namespace which takes no pod that Pod Security would not call restricted."""
    words = [f"pod-security.kubernetes.io/{mode}=restricted" for mode in ("enforce", "warn")]
    cluster.kubectl("create", "namespace", namespace)
    said = cluster.kubectl("label", "--overwrite", "namespace", namespace, *words)
    assert said.code == 0, said.err


# --- Without a cluster -----------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_chart_passes_the_linter(variant: str) -> None:
    said = helm("lint", "--strict", str(CHART), *VARIANTS[variant])

    assert said.code == 0, said.out + said.err


def test_the_suites_of_the_chart_pass() -> None:
    said = helm("--strict", "--color=false", str(CHART), program="helm-unittest")

    assert said.code == 0, said.out
    assert "Test Suites: 4 passed, 4 total" in said.out


def test_a_suite_that_expects_something_else_fails(tmp_path: Path) -> None:
    copy = tmp_path / "authz"
    shutil.copytree(CHART, copy)
    suite = copy / "tests" / "shared_test.yaml"
    suite.write_text(suite.read_text().replace("value: 10001", "value: 0"))

    said = helm("--strict", "--color=false", str(copy), program="helm-unittest")

    assert said.code == 1
    assert "spec.template.spec.securityContext.runAsUser" in said.out


def test_the_chart_names_the_version_of_authz_that_it_is_for() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())

    assert chart["appVersion"] == __version__


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--set=replica=3", "additional properties 'replica' not allowed"),
        ("--set=variant=daemonset", "value must be one of 'shared', 'sidecar'"),
        ("--set=replicas=many", "got string, want integer"),
        ("--set=image.digest=sha256:12", "does not match pattern"),
        ("--set=monitoring.podMonitor.interval=30", "got number, want string"),
        ('--set-json=extraArgs=["debug"]', "'debug' does not match pattern '^--'"),
        ('--set-json=config.files={"kong.txt":"x"}', "'kong.txt' does not match pattern"),
        ("--set=shared.tls.secretName=x", "additional properties 'tls' not allowed"),
        ("--set=podLabels.authz=other", "invalid propertyName 'authz'"),
        ("--set=fullnameOverride=Gate", "'Gate' does not match pattern"),
        ("--set=config.configMap=mine", "config.files and config.configMap are both set"),
        ("--set=variant=sidecar", "sidecar.envoy.config is empty"),
        ("--set=monitoring.serviceMonitor.enabled=true", "the cluster does not know monitoring"),
        ("--kube-version=1.29.0", "chart requires kubeVersion: >=1.30.0-0"),
    ],
)  # fmt: skip
def test_refused_is(option: str, words: str) -> None:
    said = helm("template", "authz", str(CHART), *values("shared"), option)

    assert said.code == 1
    assert words in said.err


def test_a_packaged_chart_renders_the_same_and_brings_no_tests(tmp_path: Path) -> None:
    said = helm("package", str(CHART), f"--destination={tmp_path}")
    assert said.code == 0, said.err
    [package] = tmp_path.iterdir()
    with tarfile.open(package) as archive:
        names = archive.getnames()
    options = [*VARIANTS["everything"], *MONITORING]

    assert package.name == f"authz-{__version__}.tgz"
    assert not [each for each in names if "/tests/" in each or "/ci/" in each]
    assert helm("template", "authz", str(package), *options).out == templated(*options)


def test_every_object_of_the_schema_but_those_of_kubernetes_is_closed() -> None:
    schema = json.loads((CHART / "values.schema.json").read_text())
    defaults = yaml.safe_load((CHART / "values.yaml").read_text())

    def compare(object_schema: dict[str, Any], default: dict[str, Any], name: str) -> None:
        assert object_schema["additionalProperties"] is False, name
        assert set(object_schema["properties"]) - {"global"} == set(default), name
        for key, inner in object_schema["properties"].items():
            if "properties" in inner:
                compare(inner, default[key], f"{name}.{key}")

    compare(schema, defaults, "values")


# --- The chart and the kustomization say the same -------------------------------------------


OWN_LABELS = {"app.kubernetes.io/instance", "app.kubernetes.io/version", "helm.sh/chart",
              "app.kubernetes.io/managed-by", "authz"}  # fmt: skip


def without_labels(value: Any) -> Any:
    """Return a manifest without the labels that only one of the two has."""
    if isinstance(value, dict):
        return {k: without_labels(v) for k, v in value.items() if k not in OWN_LABELS}
    if isinstance(value, list):
        return [without_labels(each) for each in value]
    return value


def comparable(manifest: str) -> dict[tuple[str, str], Any]:
    """Return what each resource says, by kind and name, without what must be another."""
    found = {}
    for each in documents(manifest):
        resource: dict[str, Any] = without_labels(each)
        kind, name = resource["kind"], resource["metadata"]["name"]
        if kind == "Namespace":
            continue
        if kind == "ConfigMap":  # kustomize has a hash in its name, the chart in an annotation
            found[kind, "config"] = resource["data"]
            continue
        if kind == "NetworkPolicy":
            resource["spec"].pop("podSelector")
        if kind == "Deployment":
            template = resource["spec"]["template"]
            template["metadata"].pop("annotations", None)
            template["spec"]["containers"][0].pop("image")
            [config] = [one for one in template["spec"]["volumes"] if one["name"] == "authz-config"]
            config["projected"]["sources"][0]["configMap"].pop("name")
        found[kind, name] = resource["spec"]
    return found


def test_the_chart_says_what_the_shared_overlay_says(manifests: dict[str, str]) -> None:
    chart = comparable(
        templated(*values("shared"), f"--set-file=config.files.kong\\.yaml={KONG_FILE}")
    )
    overlay = comparable(manifests["shared"])

    assert set(chart) == set(overlay)
    for name, spec in overlay.items():
        assert chart[name] == spec, name


def test_the_chart_puts_into_a_pod_what_the_sidecar_component_puts(
    manifests: dict[str, str],
) -> None:
    def pod(manifest: str) -> dict[str, Any]:
        [deployment] = [each for each in documents(manifest) if each["kind"] == "Deployment"]
        spec: dict[str, Any] = without_labels(deployment)["spec"]["template"]["spec"]
        kept = ("initContainers", "securityContext", "terminationGracePeriodSeconds")
        return {name: spec[name] for name in kept} | {
            "volumes": [one["name"] for one in spec["volumes"] if one["name"].startswith("authz")]
        }

    chart = pod(templated(*values("sidecar"), "--set=image.repository=authz"))
    overlay = pod(manifests["sidecar"])
    for each in (chart, overlay):
        del each["initContainers"][0]["image"]  # the chart's has its version as tag

    assert chart == overlay


# --- A real API server ------------------------------------------------------------------------


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_a_variant_renders_is_taken_without_a_warning(
    defined: ControlPlane, variant: str
) -> None:
    restricted(defined, NAMESPACE)
    manifest = templated(*VARIANTS[variant], *MONITORING, namespace=NAMESPACE)

    said = defined.apply(manifest, HERE, "--dry-run=server")

    assert (said.code, said.err) == (0, "")
    assert f"networkpolicy.networking.k8s.io/authz{'-gate' * ('every' in variant)}" in said.out


def test_a_container_that_may_more_is_warned_of(defined: ControlPlane) -> None:
    # helm itself says nothing about that.
    restricted(defined, NAMESPACE)
    manifest = templated(
        *values("sidecar"),
        '--set-json=sidecar.containers=[{"name":"orders","image":"orders"}]',
        namespace=NAMESPACE,
    )  # fmt: skip

    said = defined.apply(manifest, HERE, "--dry-run=server")

    assert said.code == 0
    assert said.err.startswith('Warning: would violate PodSecurity "restricted:latest"')


def test_a_field_that_kubernetes_does_not_have_is_refused_with_its_place(
    defined: ControlPlane,
) -> None:
    restricted(defined, NAMESPACE)
    manifest = templated(
        *values("shared"), "--set=affinity.podAntiAfinity.x=y", namespace=NAMESPACE
    )

    said = defined.apply(manifest, HERE, "--dry-run=server")

    assert said.code == 1
    assert ".spec.template.spec.affinity.podAntiAfinity: field not declared in schema" in said.err


# --- Installed, on nodes whose pods become ready ------------------------------------------------


def test_a_release_is_installed_upgraded_and_rolled_back(nodes: ControlPlane) -> None:
    namespace = "release"
    restricted(nodes, namespace)
    common = [f"--namespace={namespace}", "--wait", "--timeout=60s"]

    def config() -> str:
        text: str = nodes.get("configmap", "authz-config", f"--namespace={namespace}")["data"][
            "kong.yaml"
        ]
        return text

    def ready_pods() -> set[str]:
        pods = nodes.get("pods", f"--namespace={namespace}", "--selector=authz=authz")["items"]
        return {
            each["metadata"]["name"] for each in pods if "deletionTimestamp" not in each["metadata"]
        }

    installed = helm(
        "install", "authz", str(CHART), *common, *values("shared"),
        "--set=autoscaling.enabled=false", cluster=nodes,
    )  # fmt: skip
    assert (installed.code, installed.err) == (0, "")
    assert "authz.release.svc:9191" in installed.out
    first, before = ready_pods(), config()
    zones = {
        each["spec"]["nodeName"] for each in nodes.get("pods", f"--namespace={namespace}")["items"]
    }
    assert len(first) == 2
    assert zones == {"fake-a", "fake-b"}

    upgraded = helm(
        "upgrade", "authz", str(CHART), *common, "--reuse-values",
        f"--set-file=config.files.kong\\.yaml={KONG_FILE}", cluster=nodes,
    )  # fmt: skip
    assert (upgraded.code, upgraded.err) == (0, "")
    assert config() == KONG_FILE.read_text()
    assert not first & ready_pods()

    back = helm("rollback", "authz", *common, cluster=nodes)
    assert (back.code, back.err) == (0, "")
    assert config() == before

    # No node has this label, so the new pods wait until helm gives up.
    failed = helm(
        "upgrade", "authz", str(CHART), common[0], "--reuse-values", "--atomic", "--timeout=3s",
        f"--set-file=config.files.kong\\.yaml={KONG_FILE}", "--set=nodeSelector.no=where",
        cluster=nodes,
    )  # fmt: skip
    assert failed.code == 1
    assert "has been rolled back due to atomic being set" in failed.err
    assert config() == before
    assert len(ready_pods()) == 2

    gone = helm("uninstall", "authz", *common, cluster=nodes)
    assert gone.code == 0, gone.err
    left = nodes.get(
        "deployments,services,configmaps,networkpolicies,poddisruptionbudgets",
        f"--namespace={namespace}", "--selector=app.kubernetes.io/instance=authz",
    )  # fmt: skip
    assert left["items"] == []


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Where a reader would stand: in this repository, with files of their own."""
    for name, text in PAGE.files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "deploy").symlink_to(CHECKOUT / "deploy")
    return tmp_path


def test_every_command_of_the_page_does_what_it_says(nodes: ControlPlane, directory: Path) -> None:
    assert nodes.kubectl("create", "namespace", "envoy-gateway-system").code == 0
    own = f"{Path(sys.executable).parent}:{built('helm').parent}"
    environment = nodes.client | {"PATH": f"{own}:{nodes.client['PATH']}"}

    for command in PAGE.commands:
        run(command, directory, environment)

    assert {command.split()[0] for command in PAGE.commands} == {
        "authz", "helm", "kubectl", "openssl",
    }  # fmt: skip
    for namespace, name, containers in [
        ("authz", "authz", ["authz"]),
        ("orders", "orders-authz", ["authz", "envoy", "orders"]),
        ("shop", "shop", ["authz", "envoy", "shop"]),
    ]:
        deployment = nodes.get("deployment", name, f"--namespace={namespace}")
        spec = deployment["spec"]["template"]["spec"]
        every = spec.get("initContainers", []) + spec["containers"]
        assert [each["name"] for each in every] == containers
        assert deployment["status"]["readyReplicas"] == deployment["status"]["replicas"]
    # What the other chart's pods are kept by, finds them.
    [pod, *_] = nodes.get("pods", "--namespace=shop", "--selector=authz=shop-authz")["items"]
    policies = nodes.get("networkpolicies", "--namespace=shop")["items"]
    assert policies
    for policy in policies:
        wanted = policy["spec"]["podSelector"]["matchLabels"].items()
        assert wanted <= pod["metadata"]["labels"].items()
