"""Kong's configuration as objects of Gateway API and Envoy Gateway; authz is asked on every route.

Each route of Kong's becomes an HTTPRoute, or a GRPCRoute if it is for gRPC, and each of
these has a SecurityPolicy.  The route's name reaches authz by the metadata of the route
(``extAuth.includeRouteMetadata``), not by ``extAuth.contextExtensions``: Envoy Gateway
writes the metadata itself, from the route that it has chosen, while extensions stand in the
policy and would name the old route when a policy is given another target.  So authz has to be
started with ``--route-metadata envoy-gateway``.

The policies stand before the routes, so that no route is there without its policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, cast

from authz.envoy.bootstrap.clusters import CONCURRENT_CHECKS_MAX, host_header
from authz.envoy.bootstrap.parts import NO_ROUTE, is_ip
from authz.envoy.route_metadata import ANNOTATION, ANNOTATION_PREFIX
from authz.errors import ConfigurationError
from authz.kong import slots
from authz.kong.protocols import GRPC, TLS
from authz.kong.router import Router
from authz.kong.rules import display_name, routing_table, split_host
from authz.kubernetes.matches import Match, UnsayableError, in_order, matches_of
from authz.kubernetes.objects import (
    AUTHZ,
    CA,
    CHECK_TIMEOUT,
    ENVOY_GATEWAY,
    GATEWAY_API,
    STATUS_ON_ERROR,
    AuthzService,
    Names,
    Object,
    bunches,
    in_cluster,
    made,
    object_name,
    reference_grant,
    unwritten,
)
from authz.kubernetes.sayable import unsayable
from authz.model import CredentialLocation, Diagnostic, Service
from authz.policy.resource_metadata import WELL_KNOWN, ResourceMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from authz.kong.rules import Rule
    from authz.model import Gateway, Route, SourcePosition

# Gateway API's own bounds.
HOSTNAMES_MAX = 16
RULES_MAX = 16
MATCHES_MAX = 127

# Kong sets these on every request; a caller's own never reach the upstream.
_FORWARDED = ("X-Forwarded-Host", "X-Forwarded-Path", "X-Forwarded-Port", "X-Real-IP")
_PREFIX = "X-Forwarded-Prefix"

_UPGRADE_REQUIRED, _NOT_FOUND = 426, 404
_REDIRECTS = frozenset({301, 302, 307, 308})

_V1 = f"{GATEWAY_API}/v1"
_EG_V1 = f"{ENVOY_GATEWAY}/v1alpha1"


@dataclass(frozen=True, slots=True)
class Options:
    """What Kong's file does not say.  An address is (host, port).

    ``gateway``: the namespace and the name of a Gateway that is there; ``None``: one is
    written, of the class ``gateway_class``, with TLS if the Secret ``tls_secret`` is named.
    ``upstream`` takes the requests that the file has no service for.  ``connect_to`` changes
    where a service's (host, port) is reached, and nothing else.
    """

    namespace: str = "default"
    authz: AuthzService = AUTHZ
    gateway: tuple[str, str] | None = None
    gateway_class: str = "eg"
    tls_secret: str | None = None
    upstream: Service | None = None
    connect_to: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Written:
    """The objects, and what of the file they do not say."""

    objects: list[Object]
    notices: list[Diagnostic]


def write(gateway: Gateway, options: Options) -> Written:
    """Return the objects.

    ConfigurationError: a route cannot be said, and leaving it out would give its requests
    to another one.
    """
    return _Writer(gateway, options).write()


class _Writer:
    """One run.  Each kind of objects has a list of its own."""

    def __init__(self, gateway: Gateway, options: Options) -> None:
        self._gateway = gateway
        self._options = options
        self._router = Router(gateway)
        self._notices: list[Diagnostic] = []
        self._backends: dict[str, Object] = {}
        self._filters: list[Object] = []
        self._routes: list[Object] = []
        self._policies: list[Object] = []
        self._traffic: list[Object] = []
        self._granted: dict[tuple[str, str], set[str]] = {}

    def write(self) -> Written:
        if not self._gateway.routes:
            self._refuse_file_without_routes()
        rules = routing_table(self._gateway.routes)
        unsayable = dict(self._unsayable(rules))
        self._refuse_what_others_would_take(rules, unsayable)
        kept = [rule for rule in rules if rule.route.id not in unsayable]
        try:
            matches, domains_of = self._in_order(kept)
        except UnsayableError as error:
            place = error.route.positions.get(error.field, error.route.position)
            raise ConfigurationError([Diagnostic(place, error.field, str(error))]) from error
        by_route: dict[str, list[Match]] = {}
        for match in matches:
            by_route.setdefault(match.route.id, []).append(match)
        routes = [r for r in self._gateway.routes if r.id in by_route]
        names = Names(object_name(display_name(route)) for route in routes)
        for route in routes:
            self._write_route(route, by_route[route.id], domains_of[route.id], names)
        self._notice_plugins()
        return Written(
            [
                *self._own_gateway(),
                *self._backends.values(),
                *self._filters,
                *self._policies,
                *self._routes,
                *self._traffic,
                *self._to_authz(),
                *self._grants(),
            ],
            sorted(self._notices),
        )

    # --- What cannot be said ------------------------------------------------------

    def _refuse_file_without_routes(self) -> None:
        guards = self._router.catch_all.guards if self._router.catch_all else ()
        if guards:
            message = "the file has no routes, so there is nothing to write: name them in it"
            raise ConfigurationError([Diagnostic(guards[0].position, "routes", message)])

    def _unsayable(self, rules: Iterable[Rule]) -> Iterator[tuple[str, list[Diagnostic]]]:
        """Yield the id of each route that cannot be said, and why."""
        for route in {rule.route.id: rule.route for rule in rules}.values():
            found = [
                Diagnostic(route.positions.get(name, route.position), name, message)
                for name, message in unsayable(
                    route, self._options.upstream, tls=self._options.tls_secret
                )
            ]
            if found:
                yield route.id, found

    def _refuse_what_others_would_take(
        self, rules: Sequence[Rule], unsayable: Mapping[str, list[Diagnostic]]
    ) -> None:
        """Leave a route out only if none that Kong tries later shares a host with it."""
        refused: list[Diagnostic] = []
        for rank, rule in enumerate(rules):
            if rule.route.id not in unsayable:
                continue
            later = [other for other in rules[rank + 1 :] if other.route.id not in unsayable]
            if any(_share_host(rule.route, other.route) for other in later):
                refused += unsayable[rule.route.id]
        if refused:
            raise ConfigurationError(sorted(set(refused)))
        for found in unsayable.values():
            self._notices += [
                Diagnostic(one.position, one.parameter, f"the route is left out: {one.message}")
                for one in found
            ]

    # --- Routes ---------------------------------------------------------------------

    def _in_order(self, rules: Sequence[Rule]) -> tuple[list[Match], dict[str, list[str]]]:
        matches = [match for rank, rule in enumerate(rules) for match in matches_of(rank, rule)]
        met = {rule.route.id: self._router.certain_match(rule.route.id) for rule in rules}
        known = {route: match for route, match in met.items() if match is not None}
        return in_order(matches, [rule.route.hosts for rule in rules], known)

    def _write_route(
        self, route: Route, matches: Sequence[Match], domains: Sequence[str], names: Names
    ) -> None:
        """Write the objects of one route: as many as Gateway API's bounds need."""
        first = object_name(display_name(route))
        kind = _kind(route)
        takes, refuses = self._listeners(route)
        rules = [self._rule(first, number, match) for number, match in enumerate(matches, 1)]
        written = [
            *self._write_objects(
                route, rules, domains, parents=self._parents(takes), names=names, first=first
            )
        ]
        self._policies += [self._policy(kind, name) for name in written]
        self._traffic.append(self._traffic_policy(kind, first, written, self._service(route)))
        if refuses:
            # Kong looks for no other route when the protocol is wrong.
            answer = self._refusal(f"{first}-over-{refuses[0]}", route, refuses[0])
            rules = [{**_matched(match), "filters": [answer]} for match in matches]
            parents = self._parents(refuses)
            for _ in self._write_objects(route, rules, domains, parents=parents, names=names):
                pass  # nobody passes, so there is nothing to ask authz
        self._notice_fields(route)

    def _write_objects(
        self,
        route: Route,
        rules: list[Object],
        domains: Sequence[str],
        *,
        parents: list[Object],
        names: Names,
        first: str | None = None,
    ) -> Iterator[str]:
        """Write a route's objects for some listeners, and yield their names.

        ``first``: the name that is kept for the first of them.
        """
        rules_max = min(RULES_MAX, MATCHES_MAX // max(1, len(route.methods)))
        annotations = {ANNOTATION_PREFIX + ANNOTATION: display_name(route)}
        for hostnames in _hostnames(domains):
            for some in bunches(rules, rules_max):
                name = first or names.take(object_name(display_name(route)))
                first = None
                hosts: Object = {"hostnames": hostnames} if hostnames else {}
                spec = {"parentRefs": parents, **hosts, "rules": some}
                self._routes.append(
                    made(
                        _kind(route),
                        name,
                        self._options.namespace,
                        spec,
                        api=_V1,
                        annotations=annotations,
                    )
                )
                yield name

    def _listeners(self, route: Route) -> tuple[list[str], list[str]]:
        """Return the listeners of the Gateway that take a route, and those that refuse it."""
        if self._options.gateway is not None:
            return [], []  # its own, whatever they are
        protocols = set(route.protocols)
        takes = {"http": bool({"http", "grpc"} & protocols)}
        if self._options.tls_secret:
            takes["https"] = bool(TLS & protocols)
        return [one for one in takes if takes[one]], [one for one in takes if not takes[one]]

    def _parents(self, listeners: Iterable[str]) -> list[Object]:
        if self._options.gateway is not None:
            namespace, name = self._options.gateway
            away = {} if namespace == self._options.namespace else {"namespace": namespace}
            return [{"name": name, **away}]
        return [{"name": OWN_GATEWAY, "sectionName": listener} for listener in listeners]

    def _refusal(self, name: str, route: Route, listener: str) -> Object:
        """Return the filter that answers for a listener whose protocol the route is not for."""
        status = route.https_redirect_status_code if listener == "http" else _NOT_FOUND
        if status in _REDIRECTS and GRPC.isdisjoint(route.protocols):
            redirect = {"scheme": "https", "statusCode": status}
            return {"type": "RequestRedirect", "requestRedirect": redirect}
        if listener == "http":
            status, message = _UPGRADE_REQUIRED, "Please use HTTPS protocol"
        else:
            message = NO_ROUTE
        answer = {
            "statusCode": status,
            "contentType": "application/json; charset=utf-8",
            "body": {"type": "Inline", "inline": f'{{"message":"{message}"}}'},
        }
        return self._filter(name, {"directResponse": answer})

    def _rule(self, name: str, number: int, match: Match) -> Object:
        route, service = match.route, self._service(match.route)
        rule: Object = {**_matched(match), "filters": []}
        stripped = route.strip_path and match.path not in {"/", ""} and match.rewrite is not None
        is_told = stripped and not match.path.startswith("~")
        changes: Object = {"remove": [*_FORWARDED, *([] if is_told else [_PREFIX])]}
        if is_told:
            changes["set"] = [{"name": _PREFIX, "value": match.path}]
        rule["filters"].append({"type": "RequestHeaderModifier", "requestHeaderModifier": changes})
        if not match.is_grpc:
            if not route.preserve_host and not is_ip(service.host):
                rewrite = {"hostname": service.host.lower()}
                rule["filters"].append({"type": "URLRewrite", "urlRewrite": rewrite})
            if match.rewrite is not None:
                rule["filters"].append(self._path_filter(f"{name}-{number}", *match.rewrite))
        rule["backendRefs"] = [self._backend(service, match)]
        if not match.is_grpc:
            # Kong bounds each read and each write, never the request as a whole.
            rule["timeouts"] = {"request": "0s"}
        return rule

    def _path_filter(self, name: str, pattern: str, substitution: str) -> Object:
        replaced = {"pattern": pattern, "substitution": substitution}
        path = {"type": "ReplaceRegexMatch", "replaceRegexMatch": replaced}
        return self._filter(name, {"urlRewrite": {"path": path}})

    def _filter(self, name: str, spec: Object) -> Object:
        """Write a filter of Envoy Gateway's, and return what refers to it."""
        made_filter = made("HTTPRouteFilter", name, self._options.namespace, spec, api=_EG_V1)
        self._filters.append(made_filter)
        to = {"group": ENVOY_GATEWAY, "kind": "HTTPRouteFilter", "name": name}
        return {"type": "ExtensionRef", "extensionRef": to}

    def _service(self, route: Route) -> Service:
        return cast(Service, route.service or self._options.upstream)  # unsayable without one

    def _backend(self, service: Service, match: Match) -> Object:
        """Return what a rule refers to: a Service of the cluster, or a Backend for the rest."""
        where = service.host, service.port
        host, port = self._options.connect_to.get(where, where)
        found = in_cluster(host)
        if found is not None and service.protocol not in TLS and not is_ip(host):
            name, namespace = found[0], found[1] or self._options.namespace
            if namespace == self._options.namespace:
                return {"name": name, "port": port}
            self._granted.setdefault((namespace, name), set()).add(_kind(match.route))
            return {"name": name, "namespace": namespace, "port": port}
        name = object_name(display_name(service))
        if name not in self._backends:
            self._backends[name] = self._backend_object(name, service, (host, port))
        return {"group": ENVOY_GATEWAY, "kind": "Backend", "name": name}

    def _backend_object(self, name: str, service: Service, where: tuple[str, int]) -> Object:
        host, port = where
        endpoint: Object = (
            {"ip": {"address": host, "port": port}}
            if is_ip(host)
            else {"fqdn": {"hostname": host.lower(), "port": port}}
        )
        spec: Object = {"endpoints": [endpoint]}
        if service.protocol in TLS:
            by_name = {} if is_ip(service.host) else {"sni": service.host.lower()}
            trust = (
                {"insecureSkipVerify": True}
                if service.tls_verify is False
                else {"wellKnownCACertificates": "System"}
            )
            spec["tls"] = {**trust, **by_name}
        for parameter in ("client_certificate", "ca_certificates"):
            if getattr(service, parameter):
                self._notice(service.position, parameter, "is not written: see Backend.spec.tls")
        self._notice(
            service.position,
            "host",
            f"{host} is no Service of the cluster, or is spoken to over TLS: it becomes a Backend, "
            "which Envoy Gateway reads only with extensionApis.enableBackend: true",
        )
        return made("Backend", name, self._options.namespace, spec, api=_EG_V1)

    def _traffic_policy(
        self, kind: str, name: str, targets: Iterable[str], service: Service
    ) -> Object:
        """Return Kong's timeouts and retries."""
        idle = max(service.read_timeout, service.write_timeout)
        spec: Object = {
            "targetRefs": [_target(kind, target) for target in targets],
            "timeout": {
                "tcp": {"connectTimeout": _duration(service.connect_timeout)},
                "http": {"streamIdleTimeout": _duration(idle)},
            },
        }
        if service.retries:
            triggers = ["connect-failure", "refused-stream"]
            spec["retry"] = {"numRetries": service.retries, "retryOn": {"triggers": triggers}}
        return made("BackendTrafficPolicy", name, self._options.namespace, spec, api=_EG_V1)

    # --- authz ------------------------------------------------------------------------

    def _policy(self, kind: str, name: str) -> Object:
        authz = self._options.authz
        to: Object = {"name": authz.name, "port": authz.port}
        if authz.namespace != self._options.namespace:
            to["namespace"] = authz.namespace
        bound = {
            "maxParallelRequests": CONCURRENT_CHECKS_MAX,
            "maxPendingRequests": CONCURRENT_CHECKS_MAX,
        }
        spec = {
            "targetRefs": [_target(kind, name)],
            "extAuth": {
                "grpc": {"backendRefs": [to], "backendSettings": {"circuitBreaker": bound}},
                "timeout": CHECK_TIMEOUT,
                "failOpen": False,
                "statusOnError": STATUS_ON_ERROR,
                "includeRouteMetadata": True,
            },
        }
        return made("SecurityPolicy", name, self._options.namespace, spec, api=_EG_V1)

    def _to_authz(self) -> Iterator[Object]:
        authz, here = self._options.authz, self._options.namespace
        if authz.tls:
            spec: Object = {
                "targetRefs": [{"group": "", "kind": "Service", "name": authz.name}],
                "validation": {
                    "caCertificateRefs": [{"group": "", "kind": "ConfigMap", "name": CA}],
                    "hostname": authz.host,
                },
            }
            yield made("BackendTLSPolicy", authz.name, authz.namespace, spec, api=_V1)
        if authz.namespace != here:
            froms = [(ENVOY_GATEWAY, "SecurityPolicy", here)]
            yield reference_grant(f"{authz.name}-from-{here}", authz.namespace, froms, authz.name)

    def _grants(self) -> Iterator[Object]:
        here = self._options.namespace
        for (namespace, service), kinds in sorted(self._granted.items()):
            froms = [(GATEWAY_API, kind, here) for kind in sorted(kinds)]
            yield reference_grant(f"{service}-from-{here}", namespace, froms, service)

    # --- The Gateway ------------------------------------------------------------------

    def _own_gateway(self) -> Iterator[Object]:
        options = self._options
        if options.gateway is not None:
            return
        listeners: list[Object] = [{"name": "http", "port": 80, "protocol": "HTTP"}]
        if options.tls_secret:
            tls = {"mode": "Terminate", "certificateRefs": [{"name": options.tls_secret}]}
            listeners.append({"name": "https", "port": 443, "protocol": "HTTPS", "tls": tls})
        spec: Object = {"gatewayClassName": options.gateway_class, "listeners": listeners}
        yield made("Gateway", OWN_GATEWAY, options.namespace, spec, api=_V1)
        # Envoy Gateway would answer an encoded slash with a redirect; Kong leaves it as it is.
        policy = {
            "targetRefs": [_target("Gateway", OWN_GATEWAY)],
            "path": {"escapedSlashesAction": "KeepUnchanged"},
        }
        yield made("ClientTrafficPolicy", OWN_GATEWAY, options.namespace, policy, api=_EG_V1)

    # --- Notices ------------------------------------------------------------------------

    def _notice(self, position: SourcePosition, parameter: str, message: str) -> None:
        self._notices.append(Diagnostic(position, parameter, message))

    def _notice_fields(self, route: Route) -> None:
        """Name what the route says and its objects do not, though they decide nothing by it."""
        service = self._service(route)
        place = route.positions.get
        if not route.preserve_host:
            host = host_header(service)
            if not GRPC.isdisjoint(route.protocols):
                message = "a GRPCRoute changes no Host: the upstream gets the caller's"
                self._notice(place("preserve_host", route.position), "preserve_host", message)
            elif is_ip(service.host):
                message = "Gateway API writes no address as Host: the upstream gets the caller's"
                self._notice(place("preserve_host", route.position), "preserve_host", message)
            elif host != service.host:
                message = (
                    f"Gateway API writes no port: the upstream gets {service.host}, not {host}"
                )
                self._notice(place("preserve_host", route.position), "preserve_host", message)
        for name in ("request_buffering", "response_buffering"):
            if name in route.positions and getattr(route, name):
                self._notice(route.positions[name], name, "bodies are streamed")
        if self._options.gateway is not None and not TLS & set(route.protocols):
            message = "a Gateway that is there takes the route on every listener, with TLS too"
            self._notice(place("protocols", route.position), "protocols", message)

    def _notice_plugins(self) -> None:
        self._notices += unwritten(self._gateway)
        for plugin in self._gateway.plugins:
            if (metadata := ResourceMetadata.of(plugin.config)) is not None:
                self._notice(
                    plugin.positions.get("protected_resource_metadata", plugin.position),
                    "protected_resource_metadata",
                    f"no route is written for {WELL_KNOWN} on {metadata.host}: the 401 names "
                    "the metadata where the plugin's own route leads to them",
                )
            if any(s.location is CredentialLocation.BODY for s in slots.every(plugin.config)):
                self._notice(
                    plugin.position,
                    plugin.name,
                    "credentials in a body are not found: Envoy Gateway would answer every longer "
                    "body with 413; send them in the header Authorization",
                )


OWN_GATEWAY = "kong"
"""The name of the Gateway that is written."""


def _share_host(one: Route, other: Route) -> bool:
    """Tell whether a host may be both routes'; only equal hosts and ``*.x`` are looked at."""
    if not one.hosts or not other.hosts:
        return True
    return any(_may_meet(a, b) for a in one.hosts for b in other.hosts)


def _may_meet(one: str, other: str) -> bool:
    first, second = split_host(one)[0], split_host(other)[0]
    if "*" not in first and "*" not in second:
        return first == second
    if first.startswith("*") and second.startswith("*"):
        return first.endswith(second[1:]) or second.endswith(first[1:])
    if first.startswith("*") and "*" not in second:
        return second.endswith(first[1:])
    if second.startswith("*") and "*" not in first:
        return first.endswith(second[1:])
    return True


def _hostnames(domains: Sequence[str]) -> Iterator[list[str]]:
    """Yield the lists of hostnames of a route's objects; an empty one: any host."""
    if "*" in domains:
        yield []
    yield from bunches([d for d in domains if d != "*"], HOSTNAMES_MAX)


def _kind(route: Route) -> str:
    return "HTTPRoute" if GRPC.isdisjoint(route.protocols) else "GRPCRoute"


def _matched(match: Match) -> Object:
    """Return a rule's matches; none take everything."""
    matches = list(_conditions(match))
    return {"matches": matches} if matches else {}


def _conditions(match: Match) -> Iterator[Object]:
    """Yield Gateway API's matches: one for each method."""
    headers = [
        {"type": "RegularExpression", "name": name, "value": value} for name, value in match.headers
    ]
    if match.is_grpc:
        condition: Object = {}
        if match.value:
            service, _, method = match.value[1:].partition("/")
            told = {"type": "RegularExpression", "service": service, "method": method}
            condition["method"] = told
        if headers:
            condition["headers"] = headers
        if condition:
            yield condition
        return
    path = (
        {"type": "RegularExpression", "value": match.value}
        if match.value
        else {"type": "PathPrefix", "value": "/"}
    )
    for method in match.route.methods or ("",):
        condition = {"path": path}
        if headers:
            condition["headers"] = headers
        if method:
            condition["method"] = method
        yield condition


def _target(kind: str, name: str) -> Object:
    return {"group": GATEWAY_API, "kind": kind, "name": name}


def _duration(milliseconds: int) -> str:
    """Return a time as Gateway API writes it: five digits of each unit at most."""
    seconds, ms = divmod(milliseconds, 1000)
    if not ms and seconds <= 99_999:  # noqa: PLR2004 - as said
        return f"{seconds}s"
    hours, rest = divmod(seconds, 3600)
    return f"{hours}h{rest}s{ms}ms"
