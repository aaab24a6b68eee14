"""The protocols that Kong's services, routes and plugins name."""

from __future__ import annotations

HTTP_AND_GRPC = ("grpc", "grpcs", "http", "https")
"""The protocols of a plugin entry that names none."""
PROTOCOLS = (*HTTP_AND_GRPC, "tcp", "tls", "tls_passthrough", "udp", "ws", "wss")

STREAMS = frozenset({"tcp", "tls", "tls_passthrough", "udp"})
"""Of connections that carry no HTTP request."""
GRPC = frozenset({"grpc", "grpcs"})
TLS = frozenset({"https", "grpcs", "wss", "tls", "tls_passthrough"})
