"""The API server knows the resources of others by their own definitions, and refuses wrong ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from support.control_plane import ControlPlane

POLICY = """
apiVersion: gateway.envoyproxy.io/v1alpha1
kind: SecurityPolicy
metadata: {name: authz}
spec:
  targetRefs: [{group: gateway.networking.k8s.io, kind: HTTPRoute, name: orders}]
  extAuth: {grpc: {backendRefs: [{name: authz, port: 9191}]}}
"""
ISTIO = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: authz}
spec: {action: CUSTOM, provider: {name: authz}, rules: [{}]}
"""
MONITOR = """
apiVersion: monitoring.coreos.com/v1
kind: ServiceMonitor
metadata: {name: authz}
spec: {selector: {}, endpoints: [{port: admin, interval: 30s}]}
"""
RULE = """
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata: {name: authz}
spec: {groups: [{name: authz, rules: [{alert: Absent, expr: absent(up), for: 5m}]}]}
"""
DRY = "--dry-run=server"


@pytest.mark.parametrize("manifest", [POLICY, ISTIO, MONITOR, RULE])
def test_what_is_right_is_taken(defined: ControlPlane, manifest: str) -> None:
    said = defined.apply(manifest, DRY)

    assert (said.code, said.err) == (0, "")


@pytest.mark.parametrize(
    ("manifest", "right", "wrong", "words"),
    [
        (
            POLICY,
            "extAuth: {",
            "extAuth: {failOpn: true, ",
            ".spec.extAuth.failOpn: field not declared in schema",
        ),
        (POLICY, "HTTPRoute", "Service", "this policy can only have a targetRefs[*].kind"),
        (ISTIO, "CUSTOM", "CUSTOMS", 'spec.action: Unsupported value: "CUSTOMS"'),
        (MONITOR, "30s", "30", "spec.endpoints[0].interval"),
        (RULE, "5m", "5x", "spec.groups[0].rules[0].for"),
    ],
)
def test_what_is_wrong_is_refused_by_name(
    defined: ControlPlane, manifest: str, right: str, wrong: str, words: str
) -> None:
    said = defined.apply(manifest.replace(right, wrong), DRY)

    assert said.code != 0
    assert words in said.err
