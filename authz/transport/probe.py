"""The client's side of gRPC health: what ``authz health`` asks a running server."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

import grpc
from grpc_health.v1 import health_pb2

from authz.settings import UnixAddress
from authz.transport import AUTHORIZATION

if TYPE_CHECKING:
    from authz.settings import Address

HEALTH = "grpc.health.v1.Health"
PROBE_SECONDS = 3.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbeTls:
    """What ``probe`` needs of PEM files where the listener has TLS."""

    ca: str
    """Who has signed the server's certificate."""
    cert: str | None = None
    """The client's, where the listener wants one."""
    key: str | None = None
    server_name: str | None = None
    """The name in the server's certificate, if that is not the address."""


def probe(address: Address, service: str = AUTHORIZATION, *, tls: ProbeTls | None = None) -> str:
    """Ask the gRPC health of ``address``: ``SERVING``, another status, or why there is none.

    ``tls`` is for TCP; a Unix socket never has any.  Raises ``OSError`` for a
    file that cannot be read.
    """
    with _channel(address, tls) as channel:
        check = channel.unary_unary(
            f"/{HEALTH}/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=PROBE_SECONDS)
        except grpc.RpcError as error:
            return error.code().name
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _channel(address: Address, tls: ProbeTls | None) -> grpc.Channel:
    # A question to this host is nothing for the proxy that http_proxy names.
    options: tuple[tuple[str, str | int], ...] = (("grpc.enable_http_proxy", 0),)
    if isinstance(address, UnixAddress):
        # Without a name grpcio sends the path, which is no authority (RFC 3986 section 3.2).
        options = (*options, ("grpc.default_authority", "localhost"))
    if tls is None or isinstance(address, UnixAddress):
        return grpc.insecure_channel(grpc_target(address), options)
    if tls.server_name is not None:
        options = (*options, ("grpc.ssl_target_name_override", tls.server_name))
    files = (tls.ca, tls.key, tls.cert)
    pems = (None if path is None else Path(path).read_bytes() for path in files)
    return grpc.secure_channel(grpc_target(address), grpc.ssl_channel_credentials(*pems), options)


def grpc_target(address: Address) -> str:
    """Return an address as gRPC writes it."""
    # gRPC reads a target as a URI: a path's % and ? are escaped.
    return f"unix:{quote(address.path)}" if isinstance(address, UnixAddress) else str(address)
