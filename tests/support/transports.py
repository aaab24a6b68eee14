"""Every transport that is there, for laws that hold for each of them."""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Literal

from authz.settings import TcpAddress
from authz.transport import LIMITS
from authz.transport.choice import transport_class

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from google.protobuf.descriptor_pool import DescriptorPool

    from authz.settings import Address
    from authz.transport import CheckService, Limits, Transport
    from authz.transport.tls import CertificateFiles

LOOPBACK = TcpAddress("127.0.0.1", 0)

REQUIRED = os.environ.get("REQUIRE_NATIVE") == "1"
"""Whether the native transport must be there: its laws fail instead of being left out."""

NATIVE = REQUIRED or find_spec("authz_native") is not None

Name = Literal["grpcio", "native"]
NAMES: tuple[Name, ...] = ("grpcio", "native") if NATIVE else ("grpcio",)


@dataclass(frozen=True)
class Make:
    """Makes transports of one kind."""

    name: Name

    def __call__(
        self,
        service: CheckService,
        listen: Sequence[Address] = (LOOPBACK,),
        *,
        pool: DescriptorPool | None = None,
        certificates: CertificateFiles | None = None,
        limits: Limits = LIMITS,
    ) -> Transport:
        kind = transport_class(self.name)
        return kind(service, listen, pool=pool, certificates=certificates, limits=limits)


@asynccontextmanager
async def serving(transport: Transport) -> AsyncIterator[Transport]:
    """Run a transport that has been made, with health SERVING."""
    await transport.start()
    try:
        await transport.set_serving(True)
        yield transport
    finally:
        await transport.stop(0)
