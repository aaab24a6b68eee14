"""The clusters: one for authz, one for each service."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from envoy_data_plane.envoy.config.cluster import v3 as cluster
from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.endpoint import v3 as endpoint
from envoy_data_plane.envoy.extensions.upstreams.http import v3 as upstream_http
from envoy_data_plane.google.protobuf import Any as Packed

from authz.envoy.bootstrap.options import AUTHZ_CLUSTER, UPSTREAM_CLUSTER
from authz.envoy.bootstrap.parts import (
    CONNECTION_BUFFER_BYTES,
    DOWNSTREAM_CONNECTIONS_MAX,
    HEADERS_MAX,
    STREAMS_PER_CONNECTION_MAX,
    address,
    is_ip,
)
from authz.envoy.bootstrap.upstream_tls import transport_socket
from authz.kong.protocols import GRPC, TLS
from authz.kong.rules import display_name

if TYPE_CHECKING:
    from authz.envoy.bootstrap.options import BootstrapOptions
    from authz.model import Gateway, Service

CONCURRENT_CHECKS_MAX = 10_000

# Kong has no bound on what goes to one upstream.  Envoy's defaults (1,024 requests and
# connections, 3 retries) would answer 503 or hang; what the listener lets in is the bound.
UPSTREAM_CONCURRENCY_MAX = DOWNSTREAM_CONNECTIONS_MAX * STREAMS_PER_CONNECTION_MAX

# A kept connection is closed before the usual servers close it (Node, uvicorn and Apache
# after 5 seconds), or a request could meet the close on its way.
UPSTREAM_IDLE_SECONDS = 4


def authz_cluster(where: tuple[str, int] | str) -> cluster.Cluster:
    """Return the cluster of authz, which is asked for its health every 5 seconds."""
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
        **_endpoint(AUTHZ_CLUSTER, where),
    )


def service_cluster(
    service: Service, gateway: Gateway, options: BootstrapOptions
) -> cluster.Cluster:
    """Return the cluster of a service; over TLS if its protocol asks for it."""
    name = cluster_name(service)
    where = (service.host, service.port)
    http2 = core.Http2ProtocolOptions() if service.protocol in GRPC else None
    bounds = cluster.CircuitBreakersThresholds(
        max_connections=UPSTREAM_CONCURRENCY_MAX,
        max_pending_requests=UPSTREAM_CONCURRENCY_MAX,
        max_requests=UPSTREAM_CONCURRENCY_MAX,
        max_retries=UPSTREAM_CONCURRENCY_MAX,
    )
    return cluster.Cluster(
        name=name,
        connect_timeout=timedelta(milliseconds=service.connect_timeout),
        per_connection_buffer_limit_bytes=CONNECTION_BUFFER_BYTES,
        circuit_breakers=cluster.CircuitBreakers(thresholds=[bounds]),
        typed_extension_protocol_options=_protocol_options(
            http2,
            core.HttpProtocolOptions(
                idle_timeout=timedelta(seconds=UPSTREAM_IDLE_SECONDS),
                max_headers_count=HEADERS_MAX,
            ),
        ),
        transport_socket=(
            transport_socket(service, gateway, options.ca_file) if service.protocol in TLS else None
        ),
        **_endpoint(name, options.connect_to.get(where, where)),
    )


def _protocol_options(
    http2: core.Http2ProtocolOptions | None, common: core.HttpProtocolOptions | None = None
) -> dict[str, Packed]:
    """Return the options of HTTP/2, or of HTTP/1.1 without ``http2``."""
    explicit = upstream_http.HttpProtocolOptionsExplicitHttpConfig(
        http_protocol_options=core.Http1ProtocolOptions() if http2 is None else None,
        http2_protocol_options=http2,
    )
    options = upstream_http.HttpProtocolOptions(
        common_http_protocol_options=common, explicit_http_config=explicit
    )
    return {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": Packed.pack(options)}


def _endpoint(name: str, where: tuple[str, int] | str) -> dict[str, Any]:
    """Return the fields of a cluster that say where it is."""
    by_name = not isinstance(where, str) and not is_ip(where[0])
    kind = cluster.ClusterDiscoveryType
    host = endpoint.LbEndpoint(endpoint=endpoint.Endpoint(address=address(where)))
    fields: dict[str, Any] = {
        "type": kind.STRICT_DNS if by_name else kind.STATIC,
        "load_assignment": endpoint.ClusterLoadAssignment(
            cluster_name=name,
            endpoints=[endpoint.LocalityLbEndpoints(lb_endpoints=[host])],
        ),
    }
    if by_name:  # Kong asks for A records before others
        fields["dns_lookup_family"] = cluster.ClusterDnsLookupFamily.V4_PREFERRED
        # Else one name that DNS does not answer keeps the listener shut for all.
        fields["wait_for_warm_on_init"] = False
    return fields


def cluster_name(service: Service) -> str:
    """Return the name of a service's cluster; never one of the two that are not the file's."""
    reserved = service.name in {AUTHZ_CLUSTER, UPSTREAM_CLUSTER}
    return service.id if reserved else display_name(service)


def host_header(service: Service) -> str:
    """Return the Host that Kong sends: with the port, unless the scheme implies it."""
    implied = 443 if service.protocol in TLS else 80
    return service.host if service.port == implied else f"{service.host}:{service.port}"
