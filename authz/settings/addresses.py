"""Addresses as settings have them: where to listen, and where a connection goes instead.

A function that turns text into a value raises ``ValueError`` with what to write instead.
"""

from __future__ import annotations

import re
import socket
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from authz.net import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

# A socket's path must fit sockaddr_un.sun_path with its closing NUL: unix(7).
UNIX_PATH_BYTES_MAX = 107

_HOST_NAME = re.compile(r"(?!-)[A-Za-z0-9._-]{1,253}")
_HOST = r"\[[^\]]*\]|[^:\[\]]*"
_HOST_PORT = re.compile(rf"({_HOST}):([0-9]+)")
_CONNECT_TO = re.compile(rf"({_HOST}):([0-9]*):({_HOST}):([0-9]*)")


@dataclass(frozen=True, slots=True)
class TcpAddress:
    """An IP address or host name, without brackets, and a port; port 0: any free one."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixAddress:
    """A Unix socket in the file system."""

    path: str

    def __str__(self) -> str:
        return f"unix:{self.path}"


Address = TcpAddress | UnixAddress


@dataclass(frozen=True, slots=True)
class ConnectTo:
    """Where connections for one host and port go instead (curl's ``--connect-to``).

    Only the TCP connection moves: URL, Host, SNI and certificate name stay.
    ``None`` means any host or port on the left, and the same one on the right.
    """

    host: str | None
    port: int | None
    to_host: str | None
    to_port: int | None

    def target(self, host: str, port: int) -> tuple[str, int] | None:
        """Return where a connection to ``host:port`` goes, ``None``: the rule is not for it."""
        if self.host is not None and self.host != host.lower():
            return None
        if self.port is not None and self.port != port:
            return None
        return self.to_host or host, self.to_port or port


def parse_address(text: str) -> Address:
    """Read ``127.0.0.1:9191``, ``[::1]:9191`` or ``unix:/run/authz/authz.sock``."""
    if text.startswith("unix:"):
        return _parse_unix(text)
    return parse_tcp_address(text)


def parse_tcp_address(text: str) -> TcpAddress:
    """Read ``127.0.0.1:9191``, ``localhost:9191`` or ``[::1]:9191``."""
    match = _HOST_PORT.fullmatch(text)
    if match is None:
        hint = "; an IPv6 address stands in brackets" if text.count(":") > 1 else ""
        raise ValueError(f"{text!r} is no address: write HOST:PORT, as 127.0.0.1:9191{hint}")
    host = _parse_host(match[1])
    if host is None:
        raise ValueError(f"{text!r} has no host: write 127.0.0.1{text} or 0.0.0.0{text}")
    return TcpAddress(host, _parse_port(match[2]))


def parse_control(text: str) -> UnixAddress:
    """Read ``unix:/run/authz/control.sock``: nothing that a network reaches may control."""
    if not text.startswith("unix:"):
        raise ValueError(f"{text!r} is no Unix socket: write unix:/run/authz/control.sock")
    return _parse_unix(text)


def parse_admin(text: str) -> TcpAddress | None:
    """Read ``127.0.0.1:9192``, or ``off`` for no address."""
    return None if text == "off" else parse_tcp_address(text)


def parse_connect_to(text: str) -> ConnectTo:
    """Read ``HOST:PORT:HOST2:PORT2``; an empty field is any, or the same, as in curl."""
    match = _CONNECT_TO.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r}: write HOST:PORT:HOST2:PORT2, an IPv6 address in brackets")
    host, port, to_host, to_port = match.groups()
    return ConnectTo(
        host=_parse_host(host.lower()),
        port=_parse_port(port, least=1) if port else None,
        to_host=_parse_host(to_host),
        to_port=_parse_port(to_port, least=1) if to_port else None,
    )


def resolve(address: TcpAddress) -> tuple[TcpAddress, ...]:
    """Return the IP addresses that a listener's host stands for.

    Names are looked up here and never by gRPC, so what was judged by
    ``beyond_loopback`` is what gets bound.
    """
    try:
        ip_address(address.host)
    except ValueError:
        pass
    else:
        return (address,)
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_ADDRCONFIG
        )
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a host name"
        raise ValueError(f"cannot resolve {address.host!r}: {reason}") from error
    hosts = dict.fromkeys(str(sockaddr[0]) for *_, sockaddr in found)
    return tuple(TcpAddress(host, address.port) for host in hosts)


def beyond_loopback(addresses: Iterable[Address]) -> tuple[TcpAddress, ...]:
    """Return the addresses that other machines may reach.

    ``0.0.0.0`` and ``::`` are such; so is a name that was not resolved.
    """
    tcp = (address for address in addresses if isinstance(address, TcpAddress))
    return tuple(address for address in tcp if not is_loopback(address.host))


def _parse_unix(text: str) -> UnixAddress:
    path = text.removeprefix("unix:")
    if path.startswith("//"):
        # unix:///path is the form with an authority, which must be empty.
        if not path.startswith("///"):
            raise ValueError(f"{text!r}: write unix:/path or unix:///path")
        path = path.removeprefix("//")
    if not path or path.endswith("/") or "\0" in path:
        raise ValueError(f"{text!r} names no socket: write unix:/run/authz/authz.sock")
    if len(path.encode()) > UNIX_PATH_BYTES_MAX:
        raise ValueError(f"{text!r}: a socket's path has at most {UNIX_PATH_BYTES_MAX} bytes")
    return UnixAddress(path)


def _parse_host(text: str) -> str | None:
    if not text:
        return None
    if text.startswith("["):
        try:
            return str(IPv6Address(text[1:-1]))
        except AddressValueError:
            raise ValueError(f"{text!r} is no IPv6 address") from None
    if _HOST_NAME.fullmatch(text) is None:
        raise ValueError(f"{text!r} is no host name")
    if text.rpartition(".")[2].isdecimal():
        # A name never ends in a number (RFC 1123 section 2.1): this is meant as
        # an address, and 127.1 or 010.0.0.1 mean different hosts to different
        # resolvers.
        try:
            return str(IPv4Address(text))
        except AddressValueError:
            raise ValueError(f"{text!r} is no IPv4 address") from None
    return text


def _parse_port(text: str, *, least: int = 0) -> int:
    most = 65_535
    # The length first: int() of a caller's ten thousand digits is no port either.
    if len(text) > len(str(most)) or not least <= int(text) <= most:
        raise ValueError(f"port {text[:8]} is not between {least} and {most}")
    return int(text)
