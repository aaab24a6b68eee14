"""Which transport: the native one where it is installed, unless told otherwise."""
# ruff: noqa: PLC0415 - neither is loaded where the other one runs

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from authz.transport import ListenError

if TYPE_CHECKING:
    from authz.settings import TransportName
    from authz.transport import Transport

_logger = logging.getLogger(__name__)


def transport_class(name: TransportName) -> type[Transport]:
    """Return the transport called ``name``; raises ``ListenError`` if it is not installed."""
    if name != "grpcio":
        try:
            from authz.transport.native import NativeTransport
        except ImportError as error:
            if name == "native":
                raise ListenError(
                    f"--transport native: {error}; install authz[native], or run make native"
                ) from error
            if not isinstance(error, ModuleNotFoundError):
                _logger.warning("authz_native is installed and cannot be loaded: %s", error)
        else:
            return NativeTransport
    from authz.transport.grpcio import GrpcioTransport

    return GrpcioTransport
