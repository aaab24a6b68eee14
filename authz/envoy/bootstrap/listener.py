"""The listener: one plaintext port, its filters, its access log, its limits."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.accesslog import v3 as accesslog
from envoy_data_plane.envoy.config.common.mutation_rules import v3 as mutation_rules
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.listener import v3 as listener
from envoy_data_plane.envoy.config.overload import v3 as overload
from envoy_data_plane.envoy.config.route import v3 as envoy_route
from envoy_data_plane.envoy.extensions.access_loggers.stream import v3 as stream
from envoy_data_plane.envoy.extensions.filters.http.cors import v3 as cors
from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
from envoy_data_plane.envoy.extensions.filters.http.header_mutation import v3 as header_mutation
from envoy_data_plane.envoy.extensions.filters.http.router import v3 as http_router
from envoy_data_plane.envoy.extensions.filters.network.http_connection_manager import v3 as hcm
from envoy_data_plane.envoy.extensions.resource_monitors.downstream_connections import (
    v3 as downstream_connections,
)
from envoy_data_plane.envoy.type import v3 as envoy_type
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any as Packed
from envoy_data_plane.google.protobuf import Struct

from authz.envoy.bootstrap.cors import CORS
from authz.envoy.bootstrap.options import AUTHZ_CLUSTER
from authz.envoy.bootstrap.parts import (
    CONNECTION_BUFFER_BYTES,
    DOWNSTREAM_CONNECTIONS_MAX,
    EXT_AUTHZ,
    HEADERS_MAX,
    STREAMS_PER_CONNECTION_MAX,
    address,
    default,
    overwrite,
)

if TYPE_CHECKING:
    from authz.envoy.bootstrap.options import BootstrapOptions

CHECK_TIMEOUT_SECONDS = 5  # a first exchange with the identity provider fits in


def ingress(
    options: BootstrapOptions, virtual_hosts: list[envoy_route.VirtualHost]
) -> listener.Listener:
    """Return the listener."""
    return listener.Listener(
        name="ingress",
        address=address(options.listen),
        per_connection_buffer_limit_bytes=CONNECTION_BUFFER_BYTES,
        # With it a second Envoy on this port would silently take half the traffic.
        enable_reuse_port=False,
        filter_chains=[
            listener.FilterChain(
                filters=[
                    listener.Filter(
                        name="envoy.filters.network.http_connection_manager",
                        typed_config=Packed.pack(_manager(virtual_hosts, options.trusted_hops)),
                    )
                ]
            )
        ],
    )


# Kong sets these on every request; a caller's own never reach the upstream.
_FORWARDED = (
    ("x-forwarded-host", r"%CEL(re.extract(request.host, '^(.*?)(:[^:\\]]*)?$', '\\1'))%"),
    ("x-forwarded-path", "%PATH(NQ:PATH)%"),
    ("x-forwarded-port", "%DOWNSTREAM_LOCAL_PORT%"),
    ("x-real-ip", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
)
# Kong keeps these of a proxy that it trusts: they are of the client's connection.
_KEPT = ("x-forwarded-host", "x-forwarded-port")


def _manager(
    virtual_hosts: list[envoy_route.VirtualHost], trusted_hops: int
) -> hcm.HttpConnectionManager:
    kept = _KEPT if trusted_hops else ()
    return hcm.HttpConnectionManager(
        stat_prefix="ingress",
        route_config=envoy_route.RouteConfiguration(
            name="kong",
            virtual_hosts=virtual_hosts,
            ignore_port_in_host_matching=True,
            request_headers_to_add=[
                default(*header) if header[0] in kept else overwrite(*header)
                for header in _FORWARDED
            ],
            # Envoy removes before it adds, and adds nothing for an empty Host.
            request_headers_to_remove=[name for name, _ in _FORWARDED if name not in kept],
        ),
        http_filters=[
            *_cors(virtual_hosts),
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
        # Above 0 Envoy also takes x-forwarded-proto from whoever connects.
        xff_num_trusted_hops=trusted_hops,
        # Kong's router compares paths without dot segments and double slashes.
        normalize_path=True,
        merge_slashes=True,
        common_http_protocol_options=core.HttpProtocolOptions(max_headers_count=HEADERS_MAX),
        http_protocol_options=core.Http1ProtocolOptions(accept_http_10=True),
        http2_protocol_options=core.Http2ProtocolOptions(
            max_concurrent_streams=STREAMS_PER_CONNECTION_MAX,
            # An upload may send so much in each round trip: 64 KiB are 1.6 MB/s at 40 ms.
            initial_stream_window_size=512 * 1024,
            initial_connection_window_size=1024 * 1024,
        ),
        request_headers_timeout=timedelta(seconds=10),
        upgrade_configs=[hcm.HttpConnectionManagerUpgradeConfig(upgrade_type="websocket")],
    )


def _cors(virtual_hosts: list[envoy_route.VirtualHost]) -> list[hcm.HttpFilter]:
    """Return the filter that answers preflights before authz is asked, if a route has it."""
    if not any(
        CORS in route.typed_per_filter_config for host in virtual_hosts for route in host.routes
    ):
        return []
    return [hcm.HttpFilter(name=CORS, typed_config=Packed.pack(cors.Cors()))]


def _ext_authz() -> ext_authz.ExtAuthz:
    """Return the filter.  Envoy's defaults are fit: it fails closed and keeps the route."""
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
        # If Envoy looked for the route again, after authz has changed headers, it could
        # find one that authz was not asked about.
        clear_route_cache=False,
        include_peer_certificate=True,
        # Neither allowed_headers nor disallowed_headers: authz looks for names that an
        # upstream may take for an identity, and must see them.
    )


def _without_request_trailers() -> header_mutation.HeaderMutation:
    """Return the filter that drops every trailer of a request.

    authz is asked before trailers come, and an upstream may take them for headers (RFC
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
        # A consumer need have no username; its id alone is told of one that is refused.
        "consumer": f"%DYNAMIC_METADATA({EXT_AUTHZ}:consumer_username)%",
        "consumer_id": f"%DYNAMIC_METADATA({EXT_AUTHZ}:consumer_id)%",
        "decision_id": f"%DYNAMIC_METADATA({EXT_AUTHZ}:decision_id)%",
        "duration_ms": "%DURATION%",
    }
    config = stream.StdoutAccessLog(
        log_format=core.SubstitutionFormatString(json_format=Struct.from_dict(line))
    )
    return accesslog.AccessLog(name="envoy.access_loggers.stdout", typed_config=Packed.pack(config))


def overload_manager() -> overload.OverloadManager:
    """Return the bound on the connections of all listeners together."""
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
