"""A port that several processes share, and no stranger with them."""

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

    Returns it with its real number, and the socket that keeps it until it is
    closed: bound, never listening, so no call ends there.  Raises ``ListenError``
    if anybody has the port, be it another authz that would share it.
    """
    if isinstance(address, UnixAddress):
        raise ListenError(
            f"cannot listen on {address} with several workers: a Unix socket belongs to one"
            " process; listen on HOST:PORT, or take --workers 1"
        )
    ipv6 = ":" in address.host
    family = socket.AF_INET6 if ipv6 else socket.AF_INET
    try:
        # Alone at first, for SO_REUSEPORT on both sides is all that it takes to
        # join (socket(7)); shared only once nobody else can have got in.
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
        # To get past connections that an earlier server has left in TIME_WAIT, and
        # off again: with it on both sides a stranger could listen where nobody does.
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        holder.bind(where)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
    except OSError:
        holder.close()
        raise
    return holder
