"""Pieces of Envoy's configuration that several parts of the bootstrap use."""

from __future__ import annotations

from ipaddress import ip_address

from envoy_data_plane.envoy.config.core import v3 as core

from authz.decision import ERROR_ROWS
from authz.errors import RouteNotFound

NO_ROUTE = ERROR_ROWS[RouteNotFound].message
EXT_AUTHZ = "envoy.filters.http.ext_authz"
CONNECTION_BUFFER_BYTES = 32 * 1024
DOWNSTREAM_CONNECTIONS_MAX = 10_000
STREAMS_PER_CONNECTION_MAX = 100

HEADERS_MAX = 1000
"""Of one message.  Envoy's default is 100; nginx bounds the bytes alone, as Envoy does too."""


def overwrite(name: str, value: str) -> core.HeaderValueOption:
    """Return a header that replaces every line of its name."""
    return core.HeaderValueOption(
        header=core.HeaderValue(key=name, value=value),
        append_action=core.HeaderValueOptionHeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD,
    )


def default(name: str, value: str) -> core.HeaderValueOption:
    """Return a header that is added where there is none of its name."""
    return core.HeaderValueOption(
        header=core.HeaderValue(key=name, value=value),
        append_action=core.HeaderValueOptionHeaderAppendAction.ADD_IF_ABSENT,
    )


def address(where: tuple[str, int] | str) -> core.Address:
    """Return the address of a socket, or of a Unix socket given by its path."""
    if isinstance(where, str):
        return core.Address(pipe=core.Pipe(path=where))
    host, port = where
    return core.Address(
        socket_address=core.SocketAddress(address=host.strip("[]"), port_value=port)
    )


def is_ip(host: str) -> bool:
    """Tell whether a host is an IP address, in brackets or not, and no name."""
    try:
        ip_address(host.strip("[]"))
    except ValueError:
        return False
    return True
