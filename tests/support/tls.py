"""Certificates for loopback servers: one throw-away authority a session."""

from __future__ import annotations

import datetime as dt
import ssl
from functools import cache
from typing import TYPE_CHECKING

import trustme

if TYPE_CHECKING:
    from pathlib import Path


@cache
def authority(name: str = "trusted") -> trustme.CA:
    """An authority; ask for another name to get one that nobody trusts."""
    return trustme.CA(organization_name=name)


def ca_file(directory: Path, ca: trustme.CA | None = None) -> Path:
    """Write the authority's certificate into ``directory`` and return its path."""
    path = directory / "ca.pem"
    (ca or authority()).cert_pem.write_to_path(path)
    return path


def server_context(
    *names: str, ca: trustme.CA | None = None, expired: bool = False
) -> ssl.SSLContext:
    """A server's context with a certificate for ``names`` (host names or addresses)."""
    not_after = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if expired else None
    certificate = (ca or authority()).issue_cert(*(names or ("127.0.0.1",)), not_after=not_after)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
