"""Drawn files as Gateway API's routes, in the order in which Envoy Gateway 1.9 tries them."""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import yaml
from support.configuration import load
from support.drawn import draw_file

from authz.envoy.route_metadata import ANNOTATION, ANNOTATION_PREFIX
from authz.errors import ConfigurationError
from authz.kong.regexes import Pattern
from authz.kubernetes.envoy_gateway import Options, write
from authz.model import Service, SourcePosition

if TYPE_CHECKING:
    from collections.abc import Iterator
    from random import Random

    from support.drawn import Asked

    from authz.kubernetes.envoy_gateway import Written
    from authz.model import Gateway

ISSUER = "https://idp.example/realms/kong"
UPSTREAM = Service("upstream", None, SourcePosition("", 1, 1), host="upstream.internal")
_HOSTNAME = re.compile(r"(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")


class Listener:
    """The routes of a Gateway, in virtual hosts, in Envoy Gateway's order."""

    def __init__(self, objects: list[dict[str, Any]], name: str) -> None:
        """``name``: of the listener, ``http`` or ``https``."""
        self.hosts: dict[str, list[tuple[tuple[int, ...], dict[str, Any], str]]] = {}
        for each in objects:
            if each["kind"] not in {"HTTPRoute", "GRPCRoute"}:
                continue
            if all(parent["sectionName"] != name for parent in each["spec"]["parentRefs"]):
                continue
            route = each["metadata"]["annotations"][ANNOTATION_PREFIX + ANNOTATION]
            for host in each["spec"].get("hostnames", ["*"]):
                for rule in each["spec"]["rules"]:
                    for match in rule.get("matches", [{}]):
                        condition = self._condition(match)
                        entry = self._key(condition), condition, route
                        self.hosts.setdefault(host, []).append(entry)
        for routes in self.hosts.values():
            routes.sort(key=lambda entry: entry[0], reverse=True)

    def _condition(self, match: dict[str, Any]) -> dict[str, Any]:
        """Bring a match of either kind into the form that Envoy Gateway sorts."""
        headers = list(match.get("headers", ()))
        method = match.get("method")
        if isinstance(method, dict):
            path = f"/{method['service']}/{method['method']}"
            return {"regex": path, "headers": headers}
        if method is not None:
            headers = [*headers, {"name": ":method", "value": method}]
        path = match.get("path", {"type": "PathPrefix", "value": "/"})
        regex = path["value"] if path["type"] == "RegularExpression" else None
        return {"regex": regex, "headers": headers}

    def _key(self, condition: dict[str, Any]) -> tuple[int, ...]:
        regex, headers = condition["regex"], condition["headers"]
        exact = sum("type" not in each for each in headers)
        return regex is not None, len(regex or ""), len(headers), exact

    def route(self, asked: Asked) -> str | None:
        """Return the name of the route that a request meets."""
        host = asked.host.lower().rpartition(":")[0] or asked.host.lower()
        for _, condition, name in self.hosts.get(self._domain(host), ()):
            if self._fits(condition, asked):
                return name
        return None

    def _domain(self, host: str) -> str:
        if host in self.hosts:
            return host
        endings = [d for d in self.hosts if d.startswith("*.") and host.endswith(d[1:])]
        return max(endings, key=len, default="*")

    def _fits(self, condition: dict[str, Any], asked: Asked) -> bool:
        path = asked.target.partition("?")[0]
        lines: dict[str, list[str]] = {":method": [asked.method]}
        for name, value in asked.headers:
            lines.setdefault(name.lower(), []).append(value)
        for each in condition["headers"]:
            values = lines.get(each["name"].lower())
            if values is None:
                return False
            whole = f"(?:{each['value']})$"
            if not Pattern(whole).begins(",".join(values)):
                return False
        regex = condition["regex"]
        return regex is None or Pattern(f"(?:{regex})$").begins(path)


def sayable(text: str) -> str:
    """Return a drawn file without the hosts that Gateway API lacks."""
    content = yaml.safe_load(text)
    routes = [*content.get("routes", ())]
    for service in content["services"]:
        routes += service["routes"]
    for route in routes:
        hosts = [host for host in route.pop("hosts", ()) if _HOSTNAME.fullmatch(host.lower())]
        hosts = [host for host in hosts if not re.fullmatch(r"[\d.]+", host)]
        if hosts:
            route["hosts"] = hosts
        elif not (route.get("paths") or route.get("methods")):
            route["paths"] = ["/"]
    return yaml.safe_dump(content, sort_keys=False, allow_unicode=True)


def files(random: Random, namespace: str = "default") -> Iterator[tuple[Gateway, Written]]:
    """Yield files until one can be said, with its objects."""
    options = Options(namespace=namespace, upstream=UPSTREAM, tls_secret="cert")
    while True:
        with suppress(ConfigurationError):
            gateway = load(sayable(draw_file(random, ISSUER)))
            if gateway.routes:
                yield gateway, write(gateway, options)
