"""One file behind three listeners of a real Envoy, and what each request met there.

``written``: what ``authz envoy`` writes.  ``named``: the README's own snippet in an
Envoy written by hand, which names each route to authz, and whose routes may stand in
any order.  ``unnamed``: the same without the names, so that authz matches by itself,
and whose routes are the file's as faithfully as a person can write them.
"""

from __future__ import annotations

import logging
import re
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import yaml
from support.configuration import load
from support.deployment import EXT_AUTHZ, Edge
from support.drawn import (
    SERVICES_MAX,
    SPOOFED,
    Asked,
    draw_file,
    service_host,
)
from support.running import KONG_ID, RunningAuthz
from support.transports import Make, serving
from support.wire import Arrival, ask_all, upstreams

from authz.demo.parts import CHECKOUT, LOOPBACK, free_port
from authz.envoy.bootstrap import BootstrapOptions, build, problems
from authz.envoy.bootstrap.gaps import gaps
from authz.errors import ConfigurationError
from authz.kong.paths import normalise
from authz.kong.rules import display_name, routing_table
from authz.logs import DECISIONS
from authz.settings import TcpAddress

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
    from random import Random
    from typing import Self

    from support.deployment import Change
    from support.transports import Name
    from support.wire import Upstreams

    from authz.model import Gateway, Plugin, Route

    Lines = Sequence[tuple[str, str]]

SETUPS = ("written", "named", "unnamed")
DRAWS_MAX = 50
MET = "x-met-route"
"""The header in which Envoy tells the upstream by which of its routes the request came."""

MET_HOST = "x-met-host"
"""The header in which Envoy tells the upstream the Host that it was asked with."""

_PARAMETERS_OF_DOTS = re.compile(r"(?<=/)(\.\.?);[^/]*")
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
_ROUTER = {
    "name": "envoy.filters.http.router",
    "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"},
}

# --- A file that authz envoy writes -----------------------------------------------------


@dataclass(frozen=True)
class Drawn:
    """A file that ``authz envoy`` can write, and how many that it cannot came before.

    ``missing``: the ids of its routes that are not written.
    """

    text: str
    gateway: Gateway
    options: BootstrapOptions
    refused: int
    missing: frozenset[str]


def drawn(random: Random, issuer: str, ports: Sequence[int], authz_port: int) -> Drawn:
    """Draw files until ``authz envoy`` can write one.

    Each service is reached at a port of its own; the last port is that of the requests
    which the file has no service for.
    """
    services = {(service_host(number), 80): (LOOPBACK, port) for number, port in enumerate(ports)}
    options = BootstrapOptions(
        authz=(LOOPBACK, authz_port),
        upstream=(LOOPBACK, ports[-1]),
        connect_to=services,
        trusted_hops=random.choice((0, 0, 1)),
    )
    for refused in range(DRAWS_MAX):
        text = draw_file(random, issuer)
        with suppress(ConfigurationError):
            gateway = load(text)
            if not list(problems(gateway, options)):
                return Drawn(text, gateway, options, refused, frozenset(gaps(gateway)))
    raise AssertionError(f"{DRAWS_MAX} files in a row were refused")


# --- Kong's rules, as plainly as they can be written ------------------------------------


def kongs_route(
    gateway: Gateway, method: str, host: str, target: str, headers: Lines
) -> Route | None:
    """Return the first route in Kong's order that takes such a request over plain http."""
    path = normalise(target.partition("?")[0])
    name, port = _split(host)
    if port is None:
        port = "80"
    for rule in routing_table(gateway.routes):
        route = rule.route
        if route.methods and method not in route.methods:
            continue
        if route.hosts and not any(_takes(pattern, name, port) for pattern in route.hosts):
            continue
        if not all(_has_header(headers, *asked) for asked in route.headers.items()):
            continue
        if not rule.paths or any(_begins(wanted, path) for wanted in rule.paths):
            return route
    return None


def _begins(wanted: str, path: str) -> bool:
    if not wanted.startswith("~"):
        return path.startswith(wanted)
    return re.match(re.sub(r"(?<!\\)\$", r"\\Z", wanted[1:]), path) is not None


def _split(host: str) -> tuple[str, str | None]:
    """Split a host and what stands behind its last colon, but for an IPv6 address."""
    name, colon, port = host.rpartition(":")
    return (name, port) if colon and "]" not in port else (host, None)


def _takes(pattern: str, host: str, port: str) -> bool:
    pattern, wanted = _split(pattern)
    if wanted and not (re.fullmatch("[0-9]{1,5}", port) and int(port) == int(wanted)):
        return False
    return re.fullmatch(re.escape(pattern.lower()).replace(r"\*", ".+"), host.lower()) is not None


def _has_header(headers: Lines, name: str, values: Sequence[str]) -> bool:
    """Tell whether a header has one of the values, as a line or between a line's commas."""
    lines = [value for key, value in headers if key.lower() == name.lower()]
    if not lines:
        return False
    whole = ",".join(lines)
    parts = [_lower(part) for part in (whole, *whole.split(","))]
    for value in values:
        if value.startswith("~*"):
            if any(re.search(value[2:], part, re.IGNORECASE | re.ASCII) for part in parts):
                return True
        elif _lower(value) in parts:
            return True
    return False


def _lower(text: str) -> str:
    return re.sub("[A-Z]", lambda letter: letter[0].lower(), text)


def policy(gateway: Gateway, route: Route | None) -> Plugin | None:
    """Return the plugin of a route: the most specific one applies alone."""
    service = None if route is None else route.service
    for scope in ((route, service), (route, None), (None, service), (None, None)):
        for plugin in gateway.plugins:
            if (plugin.route, plugin.service) == scope:
                return plugin
    return None


# --- Envoys written by hand -------------------------------------------------------------


def snippets() -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what the README puts on the connection manager, and on each route."""
    text = (CHECKOUT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    [manager] = (block for block in blocks if "http_filters:" in block)
    [on_route] = (block for block in blocks if "context_extensions:" in block)
    return yaml.safe_load(manager), yaml.safe_load(on_route)


def by_hand(random: Random, gateway: Gateway, name: str, port: int) -> dict[str, Any]:
    """Return a listener with the README's snippet; named routes may stand in any order."""
    named = name == "named"
    manager = {**snippets()[0], **_reading(random)}
    manager["http_filters"].append(_ROUTER)
    routes = list(_routes(gateway))
    if named:
        random.shuffle(routes)
        routes = [{**each, **_named(random, gateway, each["name"])} for each in routes]
    virtual_host = {"name": name, "domains": ["*"], "routes": routes}
    manager |= {
        "@type": f"{_HCM}.HttpConnectionManager",
        "stat_prefix": name,
        "route_config": {"virtual_hosts": [virtual_host], **_telling()},
    }
    return {
        "name": name,
        "address": {"socket_address": {"address": LOOPBACK, "port_value": port}},
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [{"name": "hcm", "typed_config": manager}]}],
    }


def _reading(random: Random) -> dict[str, Any]:
    """Draw how Envoy reads paths, hosts and addresses before anybody else sees them.

    Whatever the README advises: people have Envoys of their own.
    """
    escaped = ("KEEP_UNCHANGED", "UNESCAPE_AND_FORWARD", "UNESCAPE_AND_REDIRECT", "REJECT_REQUEST")
    ports = random.choice(("strip_any_host_port", "strip_matching_host_port", None))
    return {
        "normalize_path": random.random() < 0.5,
        "merge_slashes": random.random() < 0.5,
        "path_with_escaped_slashes_action": random.choice(escaped),
        "use_remote_address": random.random() < 0.5,
        "strip_trailing_host_dot": random.random() < 0.3,
        **({ports: True} if ports else {}),
    }


def _routes(gateway: Gateway) -> Iterator[dict[str, Any]]:
    """Yield Envoy's routes, first in Kong's order first."""
    for rule in routing_table(gateway.routes):
        route = rule.route
        headers = []
        if route.hosts:
            names = (re.escape(host).replace(r"\*", "[^:]+") for host in route.hosts)
            headers.append(_header(":authority", f"(?i)(?:{'|'.join(names)})(?::[0-9]+)?"))
        headers += [_asked_header(name, values) for name, values in route.headers.items()]
        if route.methods:
            headers.append(_header(":method", "|".join(route.methods)))
        for path in rule.paths or ("/",):
            yield {
                "name": display_name(route),
                "match": {**_path(path), "headers": headers},
                "route": {
                    "cluster": "upstream" if route.service is None else display_name(route.service)
                },
            }
    if not gateway.routes:
        yield {"name": "", "match": {"prefix": "/"}, "route": {"cluster": "upstream"}}


def _path(path: str) -> dict[str, Any]:
    if path.startswith("~"):
        return {"safe_regex": {"regex": f"(?:{path[1:]}).*"}}
    return {"prefix": path}


def _asked_header(name: str, values: Sequence[str]) -> dict[str, Any]:
    """Return the condition that a person would write: no case is folded, no comma looked at."""
    regexes = [
        f"(?i:.*(?:{value[2:]}).*)" if value.startswith("~*") else re.escape(value)
        for value in values
    ]
    return _header(name, "|".join(regexes))


def _header(name: str, regex: str) -> dict[str, Any]:
    return {"name": name, "string_match": {"safe_regex": {"regex": regex}}}


def _named(random: Random, gateway: Gateway, name: str) -> dict[str, Any]:
    """Return what names a route to authz: by its name or its id, with its service or without."""
    on_route = snippets()[1]
    check_settings = on_route["typed_per_filter_config"][EXT_AUTHZ]["check_settings"]
    assert check_settings["context_extensions"].keys() == {"route"}
    for route in gateway.routes:  # a file without routes has none to name
        if display_name(route) == name:
            names = {"route": random.choice((name, route.id))}
            if route.service and random.random() < 0.3:
                names["service"] = display_name(route.service)
            check_settings["context_extensions"] = names
            return on_route
    return {}


def _telling() -> dict[str, Any]:
    """Let Envoy tell the upstream its route's name, in the place of what a caller says."""
    headers = ((MET, "%ROUTE_NAME%"), (MET_HOST, "%REQ(:authority)%"))
    return {
        "request_headers_to_add": [
            {
                "header": {"key": key, "value": value},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            for key, value in headers
        ]
    }


def _tell(bootstrap: dict[str, Any]) -> None:
    listener = bootstrap["static_resources"]["listeners"][0]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    manager["route_config"]["request_headers_to_add"] += _telling()["request_headers_to_add"]


def _beside(*listeners: dict[str, Any]) -> Change:
    def change(bootstrap: dict[str, Any]) -> None:
        bootstrap["static_resources"]["listeners"] += listeners

    return change


# --- What authz decided -----------------------------------------------------------------


class Decisions(logging.Handler):
    """authz's decision log, by request id."""

    def __init__(self) -> None:
        super().__init__(logging.INFO)
        self.by_id: dict[str, Mapping[str, Any]] = {}

    def emit(self, record: logging.LogRecord) -> None:
        fields: Mapping[str, Any] = vars(record).get("fields", {})
        if "request_id" in fields:
            self.by_id[fields["request_id"]] = {"verdict": record.getMessage(), **fields}

    def __enter__(self) -> Self:
        log = logging.getLogger(DECISIONS)
        self._before = log.level, log.propagate
        log.setLevel(logging.INFO)
        log.propagate = False  # nobody else has to keep ten thousand lines
        log.addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        log = logging.getLogger(DECISIONS)
        log.removeHandler(self)
        log.level, log.propagate = self._before


# --- A round ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Round:
    """A file and its Envoy, ready for requests."""

    file: Drawn
    ports: Mapping[str, int]
    upstreams: Upstreams
    decisions: Decisions

    @property
    def gateway(self) -> Gateway:
        return self.file.gateway

    async def faults(self, setup: str, requests: Sequence[Asked]) -> list[str]:
        """Send the requests to one of the three Envoys; return what should not have happened."""
        self.upstreams.arrived.clear()
        statuses = await ask_all(self.ports[setup], requests)
        found = []
        for asked in requests:
            arrivals = self.upstreams.arrived[asked.number]
            wrong = [self._wrong(setup, asked, arrival) for arrival in arrivals]
            if setup == "written":
                wrong += [self._misrouted(asked, arrival) for arrival in arrivals]
                wrong += [self._outside(arrival) for arrival in arrivals]
            if asked.plain and (setup == "written" or (setup == "unnamed" and self._is_simple)):
                wrong.append(self._missed(asked, arrivals))
            found += [
                f"{setup}: {text}\n{self._told(asked, statuses[asked.number], arrivals)}"
                for text in wrong
                if text
            ]
        return found

    @property
    def setups(self) -> Sequence[str]:
        """The Envoys to ask: what ``authz envoy`` cannot write, no person has written either."""
        return ("written",) * len(SETUPS) if self.file.missing else SETUPS

    @property
    def _is_simple(self) -> bool:
        """Whether the file has no host with a port: unnamed, one that is not sent is ambiguous."""
        return not any(":" in host for route in self.gateway.routes for host in route.hosts)

    @property
    def _is_usual(self) -> bool:
        """Whether a route asks for what honest callers send in several ways: a port, a header.

        Unnamed, authz may then see another route than Envoy, with the same plugin.
        """
        return not self._is_simple or any(route.headers for route in self.gateway.routes)

    def _wrong(self, setup: str, asked: Asked, arrival: Arrival) -> str | None:
        """Tell why a request should not have arrived where it did."""
        route = self._met(arrival)
        plugin = policy(self.gateway, route)
        decided = self._decided(arrival)
        service = None if route is None else route.service
        if arrival.service != (SERVICES_MAX if service is None else int(service.host[1])):
            return "the upstream is not the service of Envoy's route"
        if decided is None:
            return "authz was not asked"
        if decided["verdict"] != "allowed":
            return "authz had refused"
        is_exact = setup != "unnamed" or not self._is_usual
        if is_exact and decided["route"] != (None if route is None else display_name(route)):
            return f"authz decided by the route {decided['route']}"
        if decided["plugin"] != (None if plugin is None else str(plugin.position)):
            return f"authz decided by the plugin {decided['plugin']}"
        if plugin is not None and not asked.has_credential:
            return "nobody has accepted a credential"
        identity = arrival.header("x-consumer-username")
        if identity != (None if plugin is None else KONG_ID):
            return f"the upstream sees {identity} as consumer"
        if any(value == SPOOFED for _, value in arrival.headers):
            return "the upstream sees what the caller says of itself"
        return None

    def _misrouted(self, asked: Asked, arrival: Arrival) -> str | None:
        """Tell by which route Kong would have forwarded what Envoy has read.

        Envoy reads some requests otherwise than Kong (``docs/kong-differences.md``), but
        what it then forwards is a request that Kong would forward likewise.
        """
        host, path = arrival.header(MET_HOST), arrival.header("x-forwarded-path")
        route = kongs_route(self.gateway, asked.method, host or "", path or "", arrival.headers)
        if not self.gateway.routes or route == self._met(arrival):
            return None
        return f"by Kong's rules this path and host are those of {route and display_name(route)}"

    def _outside(self, arrival: Arrival) -> str | None:
        """Tell which part of the upstream a request should not have climbed out of.

        Some upstreams take ``..;x`` for ``..``.  Envoy does too, but for ``%2E.;x``: what
        it has left in the path stays what the caller has sent, as with Kong.
        """
        if _PARAMETERS_OF_DOTS.search(arrival.header("x-forwarded-path") or ""):
            return None
        route = self._met(arrival)
        base = ((route and route.service and route.service.path) or "").removesuffix("/")
        path = arrival.target.partition("?")[0]
        seen = normalise(_PARAMETERS_OF_DOTS.sub(r"\1", path))
        if f"{seen}/".startswith(f"{base}/"):
            return None
        return f"the upstream may take the path for {seen}, the service's is {base}"

    def _missed(self, asked: Asked, arrivals: Sequence[Arrival]) -> str | None:
        """Tell where a plain request should have arrived instead."""
        wanted = self._wanted(asked)
        if [self._met(arrival) for arrival in arrivals] == wanted:
            return None
        names = [route and display_name(route) for route in wanted]
        return f"by Kong's rules it arrives by {' '.join(map(str, names)) or 'no route'}"

    def _wanted(self, asked: Asked) -> list[Route | None]:
        """Return the routes by which a plain request arrives: one, or none."""
        route = kongs_route(self.gateway, asked.method, asked.host, asked.target, asked.headers)
        plugin = policy(self.gateway, route)
        if route is not None and route.id in self.file.missing:
            return []
        if self.gateway.routes and (route is None or "http" not in route.protocols):
            return []
        if plugin is None:  # a file without routes opens nothing
            return [route] if route else []
        return [route] if asked.has_credential else []

    def _met(self, arrival: Arrival) -> Route | None:
        """Return the route by which Envoy forwarded."""
        name = (arrival.header(MET) or "").encode("latin-1").decode()
        routes = {display_name(route): route for route in self.gateway.routes}
        return routes[name] if routes else None

    def _decided(self, arrival: Arrival) -> Mapping[str, Any] | None:
        return self.decisions.by_id.get(arrival.header("x-request-id") or "")

    def _told(self, asked: Asked, status: int, arrivals: Sequence[Arrival]) -> str:
        """Return the case: the request, both answers, and the routes that they speak of."""
        lines = [f"asked:    {asked.head!r}", f"answered: {status}"]
        spoken: list[Route | None] = []
        for arrival in arrivals:
            decided, met = self._decided(arrival) or {}, self._met(arrival)
            spoken.append(met)
            spoken += [
                each for each in self.gateway.routes if display_name(each) == decided.get("route")
            ]
            lines.append(f"arrived:  {arrival.target!r} at service {arrival.service}")
            lines.append(f"envoy:    route {met and display_name(met)}")
            lines.append(f"authz:    {dict(decided)}")
        if asked.plain:
            spoken += self._wanted(asked)
        lines += dict.fromkeys(self._spelled(route) for route in spoken if route)
        return "\n".join(f"    {line}" for line in lines)

    def _spelled(self, route: Route) -> str:
        fields = ("hosts", "paths", "methods", "headers", "protocols", "strip_path")
        values = (f"{field} {getattr(route, field)}" for field in fields if getattr(route, field))
        plugin = policy(self.gateway, route)
        guard = "open" if plugin is None else f"plugin at {plugin.position}"
        return f"route {display_name(route)}: {', '.join([*values, guard])}"


@asynccontextmanager
async def playing(random: Random, issuer: str, transport: Name) -> AsyncIterator[Round]:
    """Draw a file, and run authz, Envoy and the upstreams for it."""
    listen = TcpAddress(LOOPBACK, free_port())
    ports = {name: free_port() for name in ("named", "unnamed")}
    async with upstreams(SERVICES_MAX + 1) as served:
        file = drawn(random, issuer, served.ports, listen.port)
        listeners = [by_hand(random, file.gateway, name, port) for name, port in ports.items()]
        async with (
            RunningAuthz(file.gateway, log_decisions="all") as authz,
            serving(Make(transport)(authz.authorizer, [listen])),
        ):
            edge = Edge(build(file.gateway, file.options), _tell, _beside(*listeners))
            with Decisions() as decisions, edge:
                yield Round(file, {"written": edge.port, **ports}, served, decisions)
