"""Envoy Gateway's own translator, and what it has made of manifests as one Envoy's bootstrap."""

from __future__ import annotations

import copy
import json
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from support.control_plane import Said, built

from authz.demo.parts import LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

TIMEOUT_SECONDS = 60
CLASS = "eg"
CONTROLLER = "gateway.envoyproxy.io/gatewayclass-controller"
EXT_AUTHZ = "envoy.filters.http.ext_authz"
READINESS_PORT = 19003
"""Of Envoy Gateway's own listener, which has nothing of ours."""


def run(manifests: str, to: str, directory: Path) -> Said:
    """Translate manifests: ``to`` is ``xds``, or ``gateway-api`` for the same with their status."""
    file = directory / "manifests.yaml"
    file.write_text(manifests)
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        [
            built("egctl"),
            "x",
            "translate",
            "--from",
            "gateway-api",
            "--to",
            to,
            "-o",
            "json",
            "-f",
            file,
        ],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_SECONDS,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def around(*services: tuple[str, str, int], ca: str = "") -> str:
    """Return what is in the cluster besides: the class, namespaces, Services, the CA of authz."""
    objects: list[dict[str, Any]] = [
        {
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "GatewayClass",
            "metadata": {"name": CLASS},
            "spec": {"controllerName": CONTROLLER},
        }
    ]
    objects += [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}}
        for namespace in sorted({namespace for namespace, _, _ in services} | {"edge", "authz"})
    ]
    for number, (namespace, name, port) in enumerate(services, 10):
        # Without an address the translator ends with an unreadable message.
        spec = {"clusterIP": f"10.96.0.{number}", "ports": [{"port": port, "protocol": "TCP"}]}
        metadata = {"name": name, "namespace": namespace}
        objects.append({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": spec})
        endpoints = {
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": f"{name}-1",
                "namespace": namespace,
                "labels": {"kubernetes.io/service-name": name},
            },
            "addressType": "IPv4",
            "ports": [{"port": port, "protocol": "TCP"}],
            "endpoints": [{"addresses": [f"10.0.0.{number}"], "conditions": {"ready": True}}],
        }
        objects.append(endpoints)
    if ca:
        metadata = {"name": "authz-ca", "namespace": "authz"}
        config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata}
        objects.append({**config, "data": {"ca.crt": ca}})
    return "".join(f"---\n{yaml.safe_dump(each)}" for each in objects)


def conditions(manifests: str, directory: Path) -> dict[tuple[str, str], dict[str, str]]:
    """Return the conditions of each object that has a status, by its kind and name."""
    said = run(manifests, "gateway-api", directory)
    assert said.code == 0, said.err
    found: dict[tuple[str, str], dict[str, str]] = {}
    for objects in json.loads(said.out).values():
        for each in objects if isinstance(objects, list) else ():
            status = each.get("status") or {}
            for owner in (*(status.get("ancestors") or ()), *(status.get("parents") or ())):
                where = found.setdefault((each["kind"], each["metadata"]["name"]), {})
                for one in owner["conditions"]:
                    where[one["type"]] = f"{one['status']} {one['message']}"
    return found


@dataclass(frozen=True)
class Xds:
    """What Envoy would be told."""

    configs: Mapping[str, Any]

    @classmethod
    def of(cls, manifests: str, directory: Path) -> Xds:
        said = run(manifests, "xds", directory)
        assert said.code == 0, said.err
        [gateway] = json.loads(said.out)["xds"].values()
        return cls({each["@type"].rpartition(".")[2]: each for each in gateway["configs"]})

    def _each(self, dump: str, plural: str, single: str) -> list[dict[str, Any]]:
        found = copy.deepcopy(self.configs.get(dump, {}).get(plural, []))
        each = [one.get("activeState", one)[single] for one in found]
        for one in each:
            one.pop("@type")
        return each

    @property
    def routes(self) -> list[dict[str, Any]]:
        """Every route of every virtual host."""
        configs = self._each("RoutesConfigDump", "dynamicRouteConfigs", "routeConfig")
        return [r for config in configs for host in config["virtualHosts"] for r in host["routes"]]

    def virtual_hosts(self, listener: str) -> dict[str, list[dict[str, Any]]]:
        """Return the routes of a listener, in Envoy's order, by the domain of their host."""
        configs = self._each("RoutesConfigDump", "dynamicRouteConfigs", "routeConfig")
        [found] = [config for config in configs if config["name"] == listener]
        return {host["domains"][0]: host["routes"] for host in found.get("virtualHosts", ())}

    @property
    def guarded(self) -> list[str]:
        """The names of the routes about which authz is asked."""
        return [
            route["name"]
            for route in self.routes
            if any(name.startswith(EXT_AUTHZ) for name in route.get("typedPerFilterConfig", ()))
        ]

    @property
    def filters(self) -> list[dict[str, Any]]:
        """The settings of every ext_authz filter."""
        text = json.dumps(self._each("ListenersConfigDump", "dynamicListeners", "listener"))
        return [
            each["typedConfig"]
            for each in _objects(json.loads(text))
            if each.get("name", "").startswith(EXT_AUTHZ)
        ]

    def bootstrap(
        self,
        port: int,
        admin: int,
        upstreams: Mapping[str, int],
        names: Mapping[str, Mapping[str, str]],
        ca: str,
    ) -> str:
        """Return all of it as the bootstrap of a lone Envoy on loopback, in JSON.

        ``upstreams``: the port of each cluster whose name begins so.  ``names``: the annotations
        of each object, which Envoy Gateway tells without their beginning; the translator does
        not read them from a file, as its controller does from the API server.  Nor does it
        print secrets: ``ca`` is what authz is trusted by.
        """
        routes = self._each("RoutesConfigDump", "dynamicRouteConfigs", "routeConfig")
        for each in _objects(routes):
            for resource in (
                each.get("metadata", {})
                .get("filterMetadata", {})
                .get("envoy-gateway", {})
                .get("resources", ())
            ):
                if resource["name"] in names:
                    resource["annotations"] = dict(names[resource["name"]])
        by_name = {each["name"]: each for each in routes}
        listeners = [
            each
            for each in self._each("ListenersConfigDump", "dynamicListeners", "listener")
            if each["address"]["socketAddress"]["portValue"] != READINESS_PORT
        ]
        [listener] = listeners
        listener["address"] = _address(port)
        for each in _objects(listener):
            if "rds" in each:
                each["routeConfig"] = by_name[each.pop("rds")["routeConfigName"]]
        clusters = [*self._clusters(upstreams)]
        trusted = {"validationContext": {"trustedCa": {"inlineString": ca}}}
        wanted = {
            each["validationContextSdsSecretConfig"]["name"]
            for each in _objects(clusters)
            if "validationContextSdsSecretConfig" in each
        }
        resources = {
            "listeners": listeners,
            "clusters": clusters,
            "secrets": [{"name": name, **trusted} for name in sorted(wanted)],
        }
        made = {"admin": {"address": _address(admin)}, "staticResources": resources}
        return json.dumps(made)

    def _clusters(self, upstreams: Mapping[str, int]) -> Iterator[dict[str, Any]]:
        dump = "EndpointsConfigDump", "dynamicEndpointConfigs", "endpointConfig"
        endpoints = {each["clusterName"]: each for each in self._each(*dump)}
        for cluster in self._each("ClustersConfigDump", "dynamicActiveClusters", "cluster"):
            if "edsClusterConfig" in cluster:
                name = cluster.pop("edsClusterConfig").get("serviceName", cluster["name"])
                cluster |= {"type": "STATIC", "loadAssignment": endpoints[name]}
                cluster.pop("ignoreHealthOnHostRemoval", None)
            for each in _objects(cluster):
                if "sdsConfig" in each:
                    del each["sdsConfig"]  # then the secret is one of the bootstrap's
            ports = [to for name, to in upstreams.items() if cluster["name"].startswith(name)]
            for port in ports:
                for each in _objects(cluster.get("loadAssignment", {})):
                    if "endpoint" in each:
                        each["endpoint"]["address"] = _address(port)
            yield cluster


def _address(port: int) -> dict[str, Any]:
    return {"socketAddress": {"address": LOOPBACK, "portValue": port}}


def _objects(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every object in a value of JSON, outermost first."""
    if isinstance(value, dict):
        yield value
    for each in value.values() if isinstance(value, dict) else value:
        if isinstance(each, (dict, list)):
            yield from _objects(each)
