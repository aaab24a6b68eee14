"""What Envoy Gateway makes of our routes meets the route that Kong would.

Envoy Gateway's order is done again here, as its version 1.9 sorts; `make kube` asks its own
translator and a real Envoy about one file.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.configuration import load
from support.drawn import draw_file, draw_requests

from authz.envoy.route_metadata import ANNOTATION, ANNOTATION_PREFIX
from authz.errors import ConfigurationError, MalformedRequest, RouteNotFound
from authz.kong.regexes import Pattern
from authz.kong.router import Router
from authz.kong.rules import display_name
from authz.kubernetes.envoy_gateway import Options, write
from authz.model import Request, Service, SourcePosition

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.drawn import Asked

ISSUER = "https://idp.example/realms/kong"
UPSTREAM = Service("upstream", None, SourcePosition("", 1, 1), host="upstream.internal")
SEEDS = 40
REQUESTS = 80
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


def files(random: Random) -> Iterator[tuple[Any, Any]]:
    """Yield files until one can be said, with its objects."""
    while True:
        with suppress(ConfigurationError):
            gateway = load(sayable(draw_file(random, ISSUER)))
            if gateway.routes:
                yield gateway, write(gateway, Options(upstream=UPSTREAM, tls_secret="tls"))


def kongs(router: Router, asked: Asked) -> str | None:
    """Return the name of the route that Kong finds, whatever protocol it is for."""
    headers: dict[str, str] = {}
    for name, value in asked.headers:
        before = headers.get(name.lower())
        headers[name.lower()] = value if before is None else f"{before},{value}"
    for content_type in ({}, {"content-type": "application/grpc"}):
        request = Request(asked.method, "http", asked.host, asked.target, headers | content_type)
        for scheme in ("http", "https"):
            with suppress(RouteNotFound):
                route = router.match(replace(request, scheme=scheme)).route
                return None if route is None else display_name(route)
    return None


@pytest.mark.parametrize("name", ["http", "https"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_route_is_kongs_on_each_listener_whatever_protocol_it_is_for(
    seed: int, name: str
) -> None:
    random = Random(seed)
    gateway, written = next(files(random))
    listener = Listener(written.objects, name)
    names = {
        each["metadata"]["annotations"][ANNOTATION_PREFIX + ANNOTATION]
        for each in written.objects
        if each["kind"] in {"HTTPRoute", "GRPCRoute"}
    }
    asked = [one for one in draw_requests(random, gateway, 4 * REQUESTS) if one.plain][:REQUESTS]

    router = Router(gateway)
    for one in asked:
        met = listener.route(one)
        try:
            kong = kongs(router, one)
        except MalformedRequest:
            continue  # the router itself does not know
        if kong is None or kong in names:
            assert met == kong, (one.method, one.host, one.target, one.headers)
        else:
            assert met is None, "a route that is left out goes to no other one"
