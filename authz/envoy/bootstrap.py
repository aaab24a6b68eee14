"""A complete Envoy bootstrap from Kong's configuration.

Envoy takes the place of Kong's proxy: one plaintext listener, a cluster for
each service, the routes in Kong's order, and authz asked about every request.
What Envoy cannot do as Kong does it is an error with its place.  Left to
Envoy: it streams bodies, whatever ``request_buffering`` and
``response_buffering`` say.

Envoy chooses the virtual host before the route, Kong ranks routes over all
hosts.  So each virtual host holds every route that its hosts can meet, those
without hosts included, in Kong's order.

Importing this module takes a second (the messages are envoy-data-plane's).
"""

from __future__ import annotations

import json
import re
from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import timedelta
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, cast

from betterproto2 import Casing
from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.overload import v3 as overload
from envoy_data_plane.envoy.config.route import v3 as envoy_route
from envoy_data_plane.envoy.extensions.access_loggers.stream import v3 as stream
from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as http_router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections import (
    v3 as downstream_connections,
)
from envoy_data_plane.envoy.extensions.transport_sockets.tls import v3 as tls
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream_http
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any as Packed
from envoy_data_plane.google.protobuf import Struct

from authz.errors import ConfigurationError
from authz.kong.router import Router, Rule, display_name, is_regex, routing_table, split_host
from authz.model import Diagnostic, Route, Service, SourcePosition

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from authz.model import Gateway, Plugin

EXT_AUTHZ = "envoy.filters.http.ext_authz"
AUTHZ_CLUSTER = "authz"
UPSTREAM_CLUSTER = "upstream"

CHECK_TIMEOUT_SECONDS = 5  # a cold exchange with the identity provider fits in
CONNECTION_BUFFER_BYTES = 32 * 1024
BODY_BYTES_MAX = 8 * 1024  # of a form with a credential in it
CONCURRENT_CHECKS_MAX = 10_000
DOWNSTREAM_CONNECTIONS_MAX = 10_000
STREAMS_PER_CONNECTION_MAX = 100


@dataclass(frozen=True, slots=True)
class BootstrapOptions:
    """What Kong's file does not say.  An address is (host, port).

    ``authz`` as a string is the path of a Unix socket.  ``upstream`` takes the
    requests that the file has no service for.  ``connect_to`` changes where
    the connection for a service's (host, port) goes, and nothing else: Host,
    SNI and the name in the certificate stay.
    """

    authz: tuple[str, int] | str = ("127.0.0.1", 9191)
    listen: tuple[str, int] = ("127.0.0.1", 8000)
    admin: tuple[str, int] = ("127.0.0.1", 9901)
    upstream: tuple[str, int] | None = None
    connect_to: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    ca_file: str = "/etc/ssl/certs/ca-certificates.crt"


def render(gateway: Gateway, options: BootstrapOptions) -> str:
    """Return the bootstrap as YAML.

    ConfigurationError: see ``build``.
    """
    return "\n".join(_yaml(build(gateway, options))) + "\n"


def build(gateway: Gateway, options: BootstrapOptions) -> dict[str, Any]:
    """Return the bootstrap as Envoy's JSON, names in snake_case.

    ConfigurationError: there are ``problems``.
    """
    found = sorted(problems(gateway, options))
    if found:
        raise ConfigurationError(found)
    router = Router(gateway)
    services = [service for service in gateway.services if service.enabled]
    if options.upstream is not None:
        services.append(_upstream(options.upstream))
    message = bootstrap.Bootstrap(
        admin=bootstrap.Admin(address=_address(options.admin), ignore_global_conn_limit=True),
        static_resources=bootstrap.BootstrapStaticResources(
            listeners=[_listener(options.listen, _virtual_hosts(gateway, router, options))],
            clusters=[
                _authz_cluster(options.authz),
                *(_service_cluster(service, options) for service in services),
            ],
        ),
        overload_manager=_overload_manager(),
    )
    return message.to_dict(casing=Casing.SNAKE)


# --- What cannot be said --------------------------------------------------------

# What stands in a path of Kong's and on the wire alike.  Kong decodes the other
# characters before it compares, Envoy does not.
_VERBATIM_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
_HOST = re.compile(r"\*|(?:\*[^*]+|[^*]+\*?)")
_HTTP2 = frozenset({"grpc", "grpcs"})
_TLS = frozenset({"https", "grpcs"})
_PROTOCOLS = frozenset({"http", "https"}) | _HTTP2


def problems(gateway: Gateway, options: BootstrapOptions) -> Iterator[Diagnostic]:
    """Yield everything in the file that Envoy cannot do as Kong."""
    for service in gateway.services:
        if service.enabled:
            yield from _service_problems(service)
    for route in gateway.routes:
        if route.service is None or route.service.enabled:
            yield from _route_problems(route, options)
    everything = Router(gateway).certain() if not gateway.routes else None
    if everything is not None and everything.plugin is not None and options.upstream is None:
        yield Diagnostic(
            everything.plugin.position,
            "routes",
            "the file has no routes, so it names no upstream: give one (--upstream HOST:PORT)",
        )


def _service_problems(service: Service) -> Iterator[Diagnostic]:
    if service.protocol not in _PROTOCOLS:
        yield Diagnostic(
            service.position,
            "protocol",
            f"{service.protocol} cannot be written for Envoy yet: use http, https, grpc or grpcs",
        )
    for name in ("client_certificate", "ca_certificates"):
        if getattr(service, name):
            yield Diagnostic(service.position, name, "cannot be written for Envoy yet: remove it")


def _route_problems(route: Route, options: BootstrapOptions) -> Iterator[Diagnostic]:
    for name, message in _unsupported(route, options):
        yield Diagnostic(route.positions.get(name, route.position), name, message)


def _unsupported(route: Route, options: BootstrapOptions) -> Iterator[tuple[str, str]]:
    """Yield each field of a route that Envoy would not do as Kong, and why."""
    for name in ("headers", "snis"):
        if getattr(route, name):
            yield name, "cannot be written for Envoy yet: remove it from this route"
    yield from (("paths", message) for message in map(_path_problem, route.paths) if message)
    yield from (("hosts", message) for message in map(_host_problem, route.hosts) if message)
    if not {"http", "grpc"} & set(route.protocols):
        yield "protocols", "the listener speaks plain http and grpc: name one of them"
    if route.path_handling != "v0":
        yield "path_handling", f"{route.path_handling} cannot be written for Envoy: use v0"
    if route.service is None and options.upstream is None:
        yield "service", "none is named: name one, or give --upstream HOST:PORT"


def _path_problem(path: str) -> str | None:
    if is_regex(path):
        return f"the regex {path} cannot be written for Envoy yet: use a plain path"
    if not _VERBATIM_PATH.fullmatch(path):
        return f"{path!r} has characters that Envoy does not decode: use plain ones"
    return None


def _host_problem(host: str) -> str | None:
    if split_host(host)[1] is not None:
        return f"the port in {host} cannot be written for Envoy yet: remove it"
    if not _HOST.fullmatch(host):
        return f"{host} must have one * at most, at the start or at the end"
    return None


# --- Listener -------------------------------------------------------------------


def _listener(
    address: tuple[str, int], virtual_hosts: list[envoy_route.VirtualHost]
) -> listener.Listener:
    manager = hcm.HttpConnectionManager(
        stat_prefix="ingress",
        route_config=envoy_route.RouteConfiguration(
            name="kong",
            virtual_hosts=virtual_hosts,
            ignore_port_in_host_matching=True,
            request_headers_to_add=[_overwrite(*header) for header in _FORWARDED],
            # Envoy removes before it adds, and adds nothing for an empty Host.
            request_headers_to_remove=[name for name, _ in _FORWARDED],
        ),
        http_filters=[
            hcm.HttpFilter(name=EXT_AUTHZ, typed_config=Packed.pack(_ext_authz())),
            hcm.HttpFilter(
                name="envoy.filters.http.header_mutation",
                typed_config=Packed.pack(_without_request_trailers()),
            ),
            hcm.HttpFilter(
                name="envoy.filters.http.router", typed_config=Packed.pack(http_router.Router())
            ),
        ],
        access_log=[_access_log()],
        use_remote_address=True,
        # Kong's router compares paths without dot segments and double slashes.
        normalize_path=True,
        merge_slashes=True,
        http2_protocol_options=core.Http2ProtocolOptions(
            max_concurrent_streams=STREAMS_PER_CONNECTION_MAX,
            initial_stream_window_size=64 * 1024,
            initial_connection_window_size=1024 * 1024,
        ),
        request_headers_timeout=timedelta(seconds=10),
        upgrade_configs=[hcm.HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
    )
    return listener.Listener(
        name="ingress",
        address=_address(address),
        per_connection_buffer_limit_bytes=CONNECTION_BUFFER_BYTES,
        # With it a second Envoy on this port would silently take half the traffic.
        enable_reuse_port=False,
        filter_chains=[
            listener.FilterChain(
                filters=[
                    listener.Filter(
                        name="envoy.filters.network.http_connection_manager",
                        typed_config=Packed.pack(manager),
                    )
                ]
            )
        ],
    )


# Kong sets these on every request; a caller's own never reach the upstream.
_FORWARDED = (
    ("x-forwarded-host", "%REQ(:authority)%"),
    ("x-forwarded-path", "%REQ(:path)%"),
    ("x-forwarded-port", "%DOWNSTREAM_LOCAL_PORT%"),
    ("x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
)


def _overwrite(name: str, value: str) -> core.HeaderValueOption:
    return core.HeaderValueOption(
        header=core.HeaderValue(key=name, value=value),
        append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def _ext_authz() -> ext_authz.ExtAuthz:
    """Return the filter; what is absent is Envoy's default: fail closed, keep the route."""
    return ext_authz.ExtAuthz(
        grpc_service=core.GrpcService(
            envoy_grpc=core.GrpcServiceEnvoyGrpc(cluster_name=AUTHZ_CLUSTER),
            timeout=timedelta(seconds=CHECK_TIMEOUT_SECONDS),
        ),
        transport_api_version=core.ApiVersion.V3,
        failure_mode_allow=False,
        # The default, 403, would blame the caller when authz is away.
        status_on_error=envoy_type.HttpStatus(code=envoy_type.StatusCode.ServiceUnavailable),
        validate_mutations=True,
        # A second look at the routes, after authz has changed headers, could
        # find a route that authz was not asked about.
        clear_route_cache=False,
        include_peer_certificate=True,
        # Neither allowed_headers nor disallowed_headers: authz looks for names that an
        # upstream may take for an identity, and must see them.
    )


def _without_request_trailers() -> header_mutation.HeaderMutation:
    """Return the filter that drops every trailer of a request.

    ext_authz is asked before they come, and an upstream may take them for headers (RFC
    9110 section 6.5.1).  gRPC's callers send none, and Kong hands none on.
    """
    every = mutation_rules.HeaderMutationRemoveOnMatch(
        key_matcher=matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=".*"))
    )
    return header_mutation.HeaderMutation(
        mutations=header_mutation.Mutations(
            request_trailers_mutations=[mutation_rules.HeaderMutation(remove_on_match=every)]
        )
    )


def _access_log() -> accesslog.AccessLog:
    """Return one JSON line a request: no query and no headers, they may hold credentials."""
    line = {
        "time": "%START_TIME%",
        "request_id": "%REQ(X-REQUEST-ID)%",
        "method": "%REQ(:METHOD)%",
        "path": "%PATH(NQ:ORIG_OR_PATH)%",
        "route": "%ROUTE_NAME%",
        "cluster": "%UPSTREAM_CLUSTER%",
        "status": "%RESPONSE_CODE%",
        "flags": "%RESPONSE_FLAGS%",
        "details": "%RESPONSE_CODE_DETAILS%",
        "reason": f"%DYNAMIC_METADATA({EXT_AUTHZ}:reason)%",
        "duration_ms": "%DURATION%",
    }
    config = stream.StdoutAccessLog(
        log_format=core.SubstitutionFormatString(json_format=Struct.from_dict(line))
    )
    return accesslog.AccessLog(name="envoy.access_loggers.stdout", typed_config=Packed.pack(config))


def _overload_manager() -> overload.OverloadManager:
    limit = downstream_connections.DownstreamConnectionsConfig(
        max_active_downstream_connections=DOWNSTREAM_CONNECTIONS_MAX
    )
    return overload.OverloadManager(
        resource_monitors=[
            overload.ResourceMonitor(
                name="envoy.resource_monitors.global_downstream_max_connections",
                typed_config=Packed.pack(limit),
            )
        ]
    )


# --- Virtual hosts ----------------------------------------------------------------


def _virtual_hosts(
    gateway: Gateway, router: Router, options: BootstrapOptions
) -> list[envoy_route.VirtualHost]:
    rules = _rules(gateway, router, options)
    return [
        envoy_route.VirtualHost(
            name=domain,
            domains=[domain],
            routes=[
                *(
                    route
                    for rule, authority in by_rank
                    for route in _routes(rule, authority, router)
                ),
                _no_route(),
            ],
        )
        for domain, by_rank in _domains(rules).items()
    ]


def _rules(gateway: Gateway, router: Router, options: BootstrapOptions) -> tuple[Rule, ...]:
    upstream = None if options.upstream is None else _upstream(options.upstream)
    if router.certain() is not None:
        everything = Route("", None, _NOWHERE, upstream, strip_path=False, preserve_host=True)
        return (Rule(everything, ("/",)),)
    return tuple(
        rule if rule.route.service else Rule(replace(rule.route, service=upstream), rule.paths)
        for rule in routing_table(gateway.routes)
    )


def _domains(rules: Iterable[Rule]) -> dict[str, list[tuple[Rule, str]]]:
    """Return, for each domain, the rules that its hosts can meet and what else to ask of the host.

    A host of the domain ``*.x`` may or may not begin as the host ``a.*`` of a
    route asks: only there a regex over the authority is needed (else "").
    """
    plain: defaultdict[str, list[int]] = defaultdict(list)
    ranked = list(rules)
    others: list[int] = []  # ranks of the rules that may meet hosts they do not name
    for rank, rule in enumerate(ranked):
        for host in rule.route.hosts:
            plain[host.lower()].append(rank)
        if not rule.route.hosts or any("*" in host for host in rule.route.hosts):
            others.append(rank)
    plain["*"] += []
    return {
        domain: [
            (ranked[rank], authority)
            for rank in sorted({*named, *others})
            if (authority := _authority(ranked[rank].route.hosts, domain)) is not None
        ]
        for domain, named in plain.items()
    }


def _authority(hosts: tuple[str, ...], domain: str) -> str | None:
    """Return the regex that a host of ``domain`` must match besides; ``None``: none can.

    Envoy has tried equal domains, longer ``*.x`` and, for ``x.*``, every
    ``*.x`` before this domain.
    """
    if not hosts or any(_covers(host.lower(), domain) for host in hosts):
        return ""
    beginnings = [re.escape(host[:-1].lower()) for host in hosts if host[1:].endswith("*")]
    if beginnings and domain.startswith("*") and domain != "*":
        return f"(?i)(?:{'|'.join(beginnings)}).*"
    return None


def _covers(host: str, domain: str) -> bool:
    """Tell whether a route's host takes every host of a domain."""
    if host.startswith("*"):
        return domain.endswith(host[1:]) and (host == "*" or not domain.endswith("*"))
    if host.endswith("*"):
        return domain.startswith(host[:-1])
    return host == domain


# --- Routes ---------------------------------------------------------------------


def _routes(rule: Rule, authority: str, router: Router) -> Iterator[envoy_route.Route]:
    """Yield what Envoy needs to do as one rule of Kong's says."""
    route = rule.route
    headers = []
    if route.methods:
        headers.append(_header(":method", "|".join(map(re.escape, route.methods))))
    if authority:
        headers.append(_header(":authority", authority))
    for path in rule.paths or ("/",):
        for match, rewrite in _rewrites(route, path):
            match.headers = headers
            if _HTTP2.isdisjoint(route.protocols):
                yield _forward(route, path, match, rewrite, router)
                continue
            grpc = replace(match, grpc=envoy_route.RouteMatchGrpcRouteMatchOptions())
            yield _forward(route, path, grpc, rewrite, router)
            # Kong does not look for a second best when the protocol is wrong.
            yield _answer(match, 415, "Non-gRPC request matched gRPC route")


def _header(name: str, regex: str) -> envoy_route.HeaderMatcher:
    whole = matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=regex))
    return envoy_route.HeaderMatcher(name=name, string_match=whole)


def _rewrites(
    route: Route, path: str
) -> Iterator[tuple[envoy_route.RouteMatch, matcher.RegexMatchAndSubstitute | None]]:
    """Yield how the paths under a plain path are matched and what the upstream sees of them.

    Kong's ``path_handling: v0``: the service's path, then the request's path
    without the matched part if ``strip_path``, one slash between them.
    Envoy's prefix_rewrite would send ``//get`` for ``/get``.
    """
    service_path = (route.service.path if route.service else None) or "/"
    base = service_path.removesuffix("/")
    prefix = envoy_route.RouteMatch(prefix=path)
    if route.strip_path and path != "/":
        if base and not path.endswith("/"):  # nothing is left: no slash is added
            yield envoy_route.RouteMatch(path=path), _rewrite("^.*$", base)
        # Of /foo../bar the rest is ../bar, which must not climb out of the base:
        # Kong drops one such segment, and a normal path has no second one.  Some
        # upstreams, and Envoy, take ..;x for .. (RFC 3986 section 3.3: parameters).
        rest = rf"^{re.escape(path)}(?:\.\.?(?:;[^/]*)?(?:/|$))?/?(.*)$"
        yield prefix, _rewrite(rest, base, r"/\1")
        return
    if base and path == "/" and not service_path.endswith("/"):
        yield envoy_route.RouteMatch(path="/"), _rewrite("^.*$", base)
    yield prefix, _rewrite("^/", base, "/") if base else None


def _rewrite(regex: str, base: str, rest: str = "") -> matcher.RegexMatchAndSubstitute:
    return matcher.RegexMatchAndSubstitute(
        pattern=matcher.RegexMatcher(regex=regex), substitution=base.replace("\\", r"\\") + rest
    )


def _forward(
    route: Route,
    path: str,
    match: envoy_route.RouteMatch,
    rewrite: matcher.RegexMatchAndSubstitute | None,
    router: Router,
) -> envoy_route.Route:
    service = cast("Service", route.service)  # the checks refused a route without one
    action = envoy_route.RouteAction(
        cluster=_cluster_name(service),
        regex_rewrite=rewrite,
        host_rewrite_literal=None if route.preserve_host else _host_header(service),
        # Kong bounds each read and each write, never the request as a whole.
        timeout=timedelta(0),
        idle_timeout=timedelta(milliseconds=max(service.read_timeout, service.write_timeout)),
        retry_policy=_retries(service),
    )
    stripped = route.strip_path and path != "/"
    return envoy_route.Route(
        name=display_name(route),
        match=match,
        route=action,
        request_headers_to_add=[_overwrite("x-forwarded-prefix", path)] if stripped else [],
        request_headers_to_remove=[] if stripped else ["x-forwarded-prefix"],
        typed_per_filter_config={EXT_AUTHZ: Packed.pack(_check_settings(route, router))},
    )


def _retries(service: Service) -> envoy_route.RetryPolicy | None:
    """Return Kong's retries: only while the upstream cannot have seen the request."""
    if not service.retries:
        return None
    return envoy_route.RetryPolicy(
        retry_on="connect-failure,refused-stream", num_retries=service.retries
    )


def _check_settings(route: Route, router: Router) -> ext_authz.ExtAuthzPerRoute:
    """Name the route to authz, and send the body only where a plugin reads it."""
    everything = router.certain()
    match = everything or router.certain(display_name(route))
    plugin = None if match is None else match.plugin
    body = ext_authz.BufferSettings(
        max_request_bytes=BODY_BYTES_MAX,
        allow_partial_message=True,  # else a longer upload would be answered with 413
    )
    return ext_authz.ExtAuthzPerRoute(
        check_settings=ext_authz.CheckSettings(
            context_extensions={} if everything else {"route": display_name(route)},
            with_request_body=body if _reads_body(plugin) else None,
        )
    )


def _reads_body(plugin: Plugin | None) -> bool:
    if plugin is None:
        return False
    config = plugin.config
    return (
        "client_credentials" in config.callers.auth_methods
        and "body" in config.callers.client_credentials_param_type
    ) or (
        "bearer" in config.callers.auth_methods and "body" in config.callers.bearer_token_param_type
    )


def _no_route() -> envoy_route.Route:
    return _answer(envoy_route.RouteMatch(prefix="/"), 404, "no Route matched with those values")


def _answer(match: envoy_route.RouteMatch, status: int, message: str) -> envoy_route.Route:
    """Return a route that Envoy answers itself, in Kong's words, without asking authz."""
    return envoy_route.Route(
        match=match,
        direct_response=envoy_route.DirectResponseAction(
            status=status, body=core.DataSource(inline_string=f'{{"message":"{message}"}}')
        ),
        response_headers_to_add=[_overwrite("content-type", "application/json; charset=utf-8")],
        typed_per_filter_config={EXT_AUTHZ: Packed.pack(ext_authz.ExtAuthzPerRoute(disabled=True))},
    )


# --- Clusters -------------------------------------------------------------------


def _authz_cluster(address: tuple[str, int] | str) -> cluster.Cluster:
    protocol = core.Http2ProtocolOptions(
        # A ping before the first request after a pause, not all the time: gRPC
        # servers close connections that ping without sending.
        connection_keepalive=core.KeepaliveSettings(
            connection_idle_interval=timedelta(seconds=30), timeout=timedelta(seconds=1)
        )
    )
    return cluster.Cluster(
        name=AUTHZ_CLUSTER,
        connect_timeout=timedelta(milliseconds=250),
        typed_extension_protocol_options=_protocol_options(protocol),
        health_checks=[
            core.HealthCheck(
                timeout=timedelta(seconds=1),
                interval=timedelta(seconds=5),
                no_traffic_interval=timedelta(seconds=5),
                unhealthy_threshold=2,
                healthy_threshold=1,
                grpc_health_check=core.HealthCheckGrpcHealthCheck(),
            )
        ],
        circuit_breakers=cluster.CircuitBreakers(
            thresholds=[
                cluster.CircuitBreakersThresholds(
                    max_pending_requests=CONCURRENT_CHECKS_MAX, max_requests=CONCURRENT_CHECKS_MAX
                )
            ]
        ),
        **_endpoint(AUTHZ_CLUSTER, address),
    )


def _service_cluster(service: Service, options: BootstrapOptions) -> cluster.Cluster:
    name = _cluster_name(service)
    address = (service.host, service.port)
    http2 = core.Http2ProtocolOptions() if service.protocol in _HTTP2 else None
    return cluster.Cluster(
        name=name,
        connect_timeout=timedelta(milliseconds=service.connect_timeout),
        per_connection_buffer_limit_bytes=CONNECTION_BUFFER_BYTES,
        typed_extension_protocol_options={} if http2 is None else _protocol_options(http2),
        transport_socket=_tls(service, options.ca_file) if service.protocol in _TLS else None,
        **_endpoint(name, options.connect_to.get(address, address)),
    )


def _protocol_options(http2: core.Http2ProtocolOptions) -> dict[str, Packed]:
    options = upstream_http.HttpProtocolOptions(
        explicit_http_config=upstream_http.HttpProtocolOptionsExplicitHttpConfig(
            http2_protocol_options=http2
        )
    )
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": Packed.pack(options)}


def _endpoint(name: str, address: tuple[str, int] | str) -> dict[str, Any]:
    """Return the fields of a cluster that say where it is."""
    by_name = not isinstance(address, str) and not _is_ip(address[0])
    kind = cluster.ClusterDiscoveryType
    host = endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=_address(address)))
    fields: dict[str, Any] = {
        "type": kind.STRICT_DNS if by_name else kind.STATIC,
        "load_assignment": endpoint.ClusterLoadAssignment(
            cluster_name=name,
            endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=[host])],
        ),
    }
    if by_name:  # Kong asks for A records before others
        fields["dns_lookup_family"] = cluster.ClusterDnsLookupFamily.V4_PREFERRED
    return fields


def _tls(service: Service, ca_file: str) -> core.TransportSocket:
    """Return TLS to a service, its certificate checked unless ``tls_verify`` is false."""
    by_ip = _is_ip(service.host)
    kind = tls.SubjectAltNameMatcherSanType
    validation = tls.CertificateValidationContext(
        trusted_ca=core.DataSource(filename=ca_file),
        match_typed_subject_alt_names=[
            tls.SubjectAltNameMatcher(
                san_type=kind.IP_ADDRESS if by_ip else kind.DNS,
                matcher=matcher.StringMatcher(exact=service.host),
            )
        ],
    )
    context = tls.UpstreamTlsContext(
        sni="" if by_ip else service.host,  # RFC 6066 section 3: never an address
        common_tls_context=tls.CommonTlsContext(
            alpn_protocols=["h2" if service.protocol in _HTTP2 else "http/1.1"],
            validation_context=None if service.tls_verify is False else validation,
        ),
    )
    return core.TransportSocket(
        name="envoy.transport_sockets.tls", typed_config=Packed.pack(context)
    )


def _cluster_name(service: Service) -> str:
    reserved = service.name in {AUTHZ_CLUSTER, UPSTREAM_CLUSTER}
    return service.id if reserved else display_name(service)


def _host_header(service: Service) -> str:
    """Return the Host that Kong sends: with the port, unless the scheme implies it."""
    implied = 443 if service.protocol in _TLS else 80
    return service.host if service.port == implied else f"{service.host}:{service.port}"


_NOWHERE = SourcePosition("", 1, 1)


def _upstream(address: tuple[str, int]) -> Service:
    """Return the service of requests that the file has none for."""
    host, port = address
    return Service(id=UPSTREAM_CLUSTER, name=None, position=_NOWHERE, host=host, port=port)


def _address(address: tuple[str, int] | str) -> core.Address:
    if isinstance(address, str):
        return core.Address(pipe=core.Pipe(path=address))
    host, port = address
    return core.Address(
        socket_address=core.SocketAddress(address=host.strip("[]"), port_value=port)
    )


def _is_ip(host: str) -> bool:
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True


# --- YAML -----------------------------------------------------------------------

# A JSON string is a YAML string; what surely is one without quotes needs none.
_PLAIN = re.compile(r"[A-Za-z/][A-Za-z0-9_./-]*")
_YAML_WORDS = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n"})


def _yaml(value: object) -> list[str]:
    """Return the lines of a JSON value in YAML's block style."""
    if isinstance(value, dict) and value:
        lines: list[str] = []
        for key, item in value.items():
            nested = _yaml(item)
            if isinstance(item, dict) and item:
                lines += [f"{_scalar(key)}:", *(f"  {line}" for line in nested)]
            elif isinstance(item, list) and item:
                lines += [f"{_scalar(key)}:", *nested]
            else:
                lines.append(f"{_scalar(key)}: {nested[0]}")
        return lines
    if isinstance(value, list) and value:
        return [
            f"{'  ' if number else '- '}{line}"
            for item in value
            for number, line in enumerate(_yaml(item))
        ]
    return [_scalar(value)]


def _scalar(value: object) -> str:
    if isinstance(value, str):
        if _PLAIN.fullmatch(value) and value.lower() not in _YAML_WORDS:
            return value
        if value.isprintable() and not {'"', "\\"}.isdisjoint(value):
            doubled = value.replace("'", "''")  # the only escape between single quotes
            return f"'{doubled}'"
    return json.dumps(value, ensure_ascii=False)
