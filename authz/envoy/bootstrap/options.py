"""What Kong's file does not say, and what every part of the bootstrap needs of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from authz.model import Service, SourcePosition

if TYPE_CHECKING:
    from collections.abc import Mapping

AUTHZ_CLUSTER = "authz"
UPSTREAM_CLUSTER = "upstream"

NOWHERE = SourcePosition("", 1, 1)
"""The position of what no file has."""


@dataclass(frozen=True, slots=True)
class BootstrapOptions:
    """Where everything listens, and what Kong's file does not say.  An address is (host, port).

    ``authz`` as a string is the path of a Unix socket.  ``upstream`` takes the
    requests that the file has no service for.  ``connect_to`` changes where
    the connection for a service's (host, port) goes, and nothing else: Host,
    SNI and the name in the certificate stay.  ``trusted_hops``: so many proxies stand
    before Envoy, and what they say of the client and of its scheme is taken.
    """

    authz: tuple[str, int] | str = ("127.0.0.1", 9191)
    listen: tuple[str, int] = ("127.0.0.1", 8000)
    admin: tuple[str, int] = ("127.0.0.1", 9901)
    upstream: tuple[str, int] | None = None
    connect_to: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)
    trusted_hops: int = 0
    ca_file: str = "/etc/ssl/certs/ca-certificates.crt"

    @property
    def upstream_service(self) -> Service | None:
        """The service of the requests that the file has none for."""
        if self.upstream is None:
            return None
        host, port = self.upstream
        return Service(id=UPSTREAM_CLUSTER, name=None, position=NOWHERE, host=host, port=port)
