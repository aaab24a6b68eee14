"""Istio: authz as an extension provider, and the requests about which it is asked.

Istio has no name of Kong's route for authz, so authz finds the route itself.  What an
AuthorizationPolicy selects is therefore wider than the routes: each host, and of each path as
much as is plain text.  Asking too often costs a call; asking too seldom would let a
request pass.  Methods, headers and server names are left out for that reason.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.envoy.bootstrap.routes import BODY_BYTES_MAX
from authz.kong.regexes import Pattern
from authz.kong.rules import is_regex, routing_table, split_host
from authz.kubernetes.objects import (
    AUTHZ,
    CA,
    CHECK_TIMEOUT,
    GATEWAY_API,
    STATUS_ON_ERROR,
    AuthzService,
    Object,
    made,
)

if TYPE_CHECKING:
    from authz.model import Gateway, Route

PROVIDER = "authz"

# Characters that stand in Kong's file and in the path that Istio compares alike.
_VERBATIM = re.compile(r"[A-Za-z0-9\-._~!$&'()+,;=:@/]*")


@dataclass(frozen=True, slots=True)
class Options:
    """What Kong's file does not say.

    ``gateway``: the namespace and name of a Gateway of Gateway API whose requests are
    selected; ``None``: the pods with Istio's own label ``istio: ingressgateway``.
    """

    authz: AuthzService = AUTHZ
    gateway: tuple[str, str] | None = None


def mesh_config(options: Options) -> Object:
    """Return what belongs into the mesh configuration (MeshConfig).

    Paths are compared after slashes were merged and decoded, as an upstream may read them.
    """
    provider = {
        "service": f"{options.authz.host}.cluster.local",
        "port": options.authz.port,
        "timeout": CHECK_TIMEOUT,
        "failOpen": False,
        "statusOnError": str(STATUS_ON_ERROR),
        "includeRequestBodyInCheck": {
            "maxRequestBytes": BODY_BYTES_MAX,
            "allowPartialMessage": True,  # else a longer upload would be answered with 413
        },
    }
    return {
        "extensionProviders": [{"name": PROVIDER, "envoyExtAuthzGrpc": provider}],
        "pathNormalization": {"normalization": "DECODE_AND_MERGE_SLASHES"},
    }


def write(gateway: Gateway, options: Options) -> list[Object]:
    """Return the AuthorizationPolicy, and how authz is reached over TLS."""
    authz = options.authz
    objects = []
    namespace = options.gateway[0] if options.gateway else "istio-system"
    spec: Object = {"action": "CUSTOM", "provider": {"name": PROVIDER}, "rules": _rules(gateway)}
    if options.gateway is not None:
        target = {"group": GATEWAY_API, "kind": "Gateway", "name": options.gateway[1]}
        spec = {"targetRefs": [target], **spec}
    else:
        spec = {"selector": {"matchLabels": {"istio": "ingressgateway"}}, **spec}
    objects.append(
        made("AuthorizationPolicy", PROVIDER, namespace, spec, api="security.istio.io/v1")
    )
    if authz.tls:
        tls = {
            "mode": "SIMPLE",
            "credentialName": CA,
            "sni": authz.host,
            "subjectAltNames": [authz.host],
        }
        rule = {"host": f"{authz.host}.cluster.local", "trafficPolicy": {"tls": tls}}
        objects.append(
            made("DestinationRule", authz.name, namespace, rule, api="networking.istio.io/v1")
        )
    return objects


def _rules(gateway: Gateway) -> list[Object]:
    """Return a rule for each set of hosts; one without conditions takes every request."""
    paths: dict[tuple[str, ...], set[str]] = {}
    for rule in routing_table(gateway.routes):
        for path in rule.paths or ("/",):
            paths.setdefault(_hosts(rule.route), set()).add(_beginning(path))
    if not gateway.routes:
        return [{}]
    return [_rule(hosts, beginnings) for hosts, beginnings in sorted(paths.items())]


def _rule(hosts: tuple[str, ...], beginnings: set[str]) -> Object:
    operation: Object = {}
    if hosts:
        operation["hosts"] = list(hosts)
    shortest = [
        path
        for path in sorted(beginnings)
        if not any(path != other and path.startswith(other) for other in beginnings)
    ]
    if shortest != ["/"]:
        operation["paths"] = [f"{path}*" for path in shortest]
    return {"to": [{"operation": operation}]} if operation else {}


def _hosts(route: Route) -> tuple[str, ...]:
    """Return the hosts, each also with any port; ``()``: every host."""
    names = sorted({split_host(host)[0] for host in route.hosts})
    # Istio compares the Host with its port, and a star stands at one end alone: *.x would not
    # take a.x:8443.
    if any(name.startswith("*") for name in names):
        return ()
    return tuple(
        text for name in names for text in ([name] if name.endswith("*") else [name, f"{name}:*"])
    )


def _beginning(path: str) -> str:
    """Return how every path begins that fits, as far as it is plain text; ``/`` at least."""
    text = Pattern(path[1:]).prefix() if is_regex(path) else path
    found = _VERBATIM.match(text)
    return (found[0] if found else "") or "/"
