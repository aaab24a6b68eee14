"""A port that the workers share, and no other process."""

from __future__ import annotations

import os
import socket
from typing import TYPE_CHECKING

from authz.settings import TcpAddress, UnixAddress
from authz.transport import ListenError

if TYPE_CHECKING:
    from authz.settings import Address


def reserve(address: Address) -> tuple[TcpAddress, socket.socket]:
    """Take a port for this process and those that it starts.

    Returns the address with its real port, and the socket that holds the port until it
    is closed: it is bound and never listens, so it takes no call.  Raises
    ``ListenError`` if another process has the port, also if that one would share it.
    """
    if isinstance(address, UnixAddress):
        raise ListenError(
            f"cannot listen on {address} with several workers: a Unix socket belongs to one"
            " process; listen on HOST:PORT, or take --workers 1"
        )
    ipv6 = ":" in address.host
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    try:
        # First without SO_REUSEPORT: with it on both sides any process of this user could
        # join (socket(7)).  It is set once no other process can have bound the port.
        with socket.create_server(
            (address.host, address.port), family=family, dualstack_ipv6=ipv6
        ) as alone:
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            port = int(alone.getsockname()[1])
            return TcpAddress(address.host, port), _hold(family, (address.host, port))
    except OSError as error:
        raise ListenError(f"cannot listen on {address}: {os.strerror(error.errno or 0)}") from error


def _hold(family: socket.AddressFamily, where: tuple[str, int]) -> socket.socket:
    holder = socket.socket(family)
    try:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        # SO_REUSEADDR passes over connections in TIME_WAIT of an earlier server.  Then it is
        # off again: with it on both sides another process could listen on the port.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(where)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        holder.close()
        raise
    return holder
