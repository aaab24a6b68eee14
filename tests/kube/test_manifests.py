"""A real API server takes every overlay, without a warning, and refuses what is wrong with it.

No kubelet is there, so nothing runs in the pods: what their containers do is tested elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from support.control_plane import ControlPlane, Said

pytestmark = pytest.mark.usefixtures("applied")

DEPLOYMENTS = [("kong", "httpbin"), ("authz", "authz"), ("keycloak", "keycloak")]


def documents(manifest: str, kind: str) -> list[dict[str, Any]]:
    return [each for each in yaml.safe_load_all(manifest) if each["kind"] == kind]


def replaced(manifest: str, old: str, new: str) -> str:
    assert old in manifest
    return manifest.replace(old, new)


@pytest.mark.parametrize("overlay", ["dev", "shared", "sidecar"])
def test_an_overlay_is_taken_without_a_warning(applied: dict[str, Said], overlay: str) -> None:
    said = applied[overlay]

    assert (said.code, said.err) == (0, "")
    assert "deployment.apps/" in said.out


def test_no_overlay_is_left_out(applied: dict[str, Said]) -> None:
    assert set(applied) == {"dev", "shared", "sidecar"}


def test_applying_an_overlay_again_changes_nothing(
    cluster: ControlPlane, manifests: dict[str, str]
) -> None:
    for manifest in manifests.values():
        said = cluster.kubectl("diff", "--server-side", "--filename=-", stdin=manifest)

        assert (said.code, said.out) == (0, ""), said.err


def test_every_namespace_demands_what_pod_security_calls_restricted(
    cluster: ControlPlane, manifests: dict[str, str]
) -> None:
    names = {
        each["metadata"]["name"]
        for manifest in manifests.values()
        for each in documents(manifest, "Namespace")
    }

    assert names == {"authz", "keycloak", "kong"}
    for name in names:
        labels = cluster.get("namespace", name)["metadata"]["labels"]
        assert labels["pod-security.kubernetes.io/enforce"] == "restricted"


@pytest.mark.parametrize(("namespace", "name"), DEPLOYMENTS)
def test_a_deployments_pods_are_admitted_and_get_no_token(
    cluster: ControlPlane, namespace: str, name: str
) -> None:
    # A pod that is refused is seen nowhere but here: its Deployment itself was taken.
    created = cluster.kubectl(
        "wait", f"deployment/{name}", f"--namespace={namespace}", "--timeout=60s",
        "--for=jsonpath={.status.updatedReplicas}",
    )  # fmt: skip
    assert created.code == 0, created.err

    pods = cluster.get("pods", f"--namespace={namespace}")["items"]
    assert pods
    for pod in pods:
        assert not [each for each in pod["spec"]["volumes"] if "kube-api" in each["name"]]


def test_authz_is_started_before_envoy_and_envoy_before_the_application(
    cluster: ControlPlane,
) -> None:
    spec = cluster.get("deployment", "httpbin", "--namespace=kong")["spec"]["template"]["spec"]

    # Sidecars start in this order, each when the one before has started, and end in the other.
    sidecars = [(each["name"], each["restartPolicy"]) for each in spec["initContainers"]]
    assert sidecars == [("authz", "Always"), ("envoy", "Always")]
    assert [each["name"] for each in spec["containers"]] == ["httpbin"]


def test_the_application_cannot_reach_the_socket_of_authz(cluster: ControlPlane) -> None:
    spec = cluster.get("deployment", "httpbin", "--namespace=kong")["spec"]["template"]["spec"]
    every = spec["initContainers"] + spec["containers"]
    holders = [
        each["name"]
        for each in every
        for mount in each.get("volumeMounts", ())
        if mount["name"] == "authz-socket"
    ]

    assert holders == ["authz", "envoy"]


def test_applying_again_does_not_undo_what_the_autoscaler_has_decided(
    cluster: ControlPlane, manifests: dict[str, str]
) -> None:
    here = "--namespace=authz"
    assert cluster.kubectl("scale", "deployment/authz", here, "--replicas=3").code == 0
    cluster.apply(manifests["shared"])

    assert cluster.get("deployment", "authz", here)["spec"]["replicas"] == 3


# --- What is wrong is refused, and the words say why --------------------------------


WRONG = {
    "a typo in a probe's name": (
        "shared",
        ("readinessProbe:", "readinesProbe:"),
        '.spec.template.spec.containers[name="authz"].readinesProbe: field not declared in schema',
    ),
    "a budget with both fields": (
        "shared",
        ("  maxUnavailable: 1\n  selector", "  maxUnavailable: 1\n  minAvailable: 1\n  selector"),
        "minAvailable and maxUnavailable cannot be both set",
    ),
    "a sidecar that would be waited for to end": (
        "sidecar",
        ("restartPolicy: Always", "restartPolicy: null"),
        "may not be set for init containers without restartPolicy=Always",
    ),
    "a port that nothing has": (
        "shared",
        ("port: admin", "port: administration-pages"),
        "must be no more than 15 characters",
    ),
    "a typo in a network policy": (
        "shared",
        ("namespaceSelector:", "namespaceSelektor:"),
        ".spec.egress[0].to[0].namespaceSelektor: field not declared in schema",
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_refused_is(cluster: ControlPlane, manifests: dict[str, str], wrong: str) -> None:
    overlay, (old, new), words = WRONG[wrong]

    said = cluster.apply(replaced(manifests[overlay], old, new), "--dry-run=server")

    assert said.code == 1
    assert words in said.err


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("privileged", True, "privileged (container"),
        ("allowPrivilegeEscalation", True, "allowPrivilegeEscalation != false"),
        ("runAsUser", 0, "runAsUser=0"),
        ("capabilities", {"add": ["NET_ADMIN"]}, "unrestricted capabilities"),
        ("seccompProfile", {"type": "Unconfined"}, "seccompProfile"),
    ],
)
def test_a_pod_that_may_more_is_refused_and_its_deployment_is_warned_of(
    cluster: ControlPlane, manifests: dict[str, str], field: str, value: object, words: str
) -> None:
    [deployment] = documents(manifests["shared"], "Deployment")
    template = deployment["spec"]["template"]
    context = template["spec"]["containers"][0]["securityContext"]
    context[field] = value
    if field == "privileged":  # else the API server refuses it before Pod Security is asked
        del context["allowPrivilegeEscalation"]
    metadata = {"name": "authz", "namespace": "authz", "labels": template["metadata"]["labels"]}
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]}

    refused = cluster.apply(yaml.safe_dump(pod), "--dry-run=server")
    warned = cluster.apply(yaml.safe_dump(deployment), "--dry-run=server")

    assert refused.code == 1
    assert 'violates PodSecurity "restricted:latest"' in refused.err
    assert words in refused.err
    assert warned.code == 0
    assert warned.err.startswith('Warning: would violate PodSecurity "restricted:latest"')
