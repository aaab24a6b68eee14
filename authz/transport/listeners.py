"""What to listen on: the addresses and certificates that the settings name, checked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.settings import TcpAddress, beyond_loopback, resolve
from authz.transport import ListenError
from authz.transport.tls import CertificateFiles

if TYPE_CHECKING:
    from authz.settings import Address, Settings


def listeners(settings: Settings) -> tuple[Address, ...]:
    """Return what to bind, names resolved; raises ``ListenError`` for what plaintext may not."""
    try:
        wanted = settings.listener.addresses
        addresses = tuple(resolved for address in wanted for resolved in _ips(address))
    except ValueError as error:
        raise ListenError(f"cannot listen: {error}") from error
    exposed = beyond_loopback(addresses)
    if exposed and settings.listener.tls_cert is None and not settings.listener.allow_plaintext:
        raise ListenError(
            f"cannot listen on {exposed[0]}: other machines reach it, and calls carry secrets in"
            " plaintext; give --tls-cert and --tls-key, listen on loopback or a Unix socket, or say"
            " --allow-plaintext if the network itself encrypts"
        )
    return addresses


def certificates(settings: Settings) -> CertificateFiles | None:
    """Return what the listeners' TLS needs, if it is asked for; raises ``ListenError``."""
    listener = settings.listener
    cert, key, client_ca = listener.tls_cert, listener.tls_key, listener.tls_client_ca
    if cert is not None and key is not None:
        return CertificateFiles(cert, key, client_ca)
    if cert is None and key is None and client_ca is None:
        return None
    raise ListenError("cannot listen with TLS: it needs --tls-cert and --tls-key, both")


def _ips(address: Address) -> tuple[Address, ...]:
    return resolve(address) if isinstance(address, TcpAddress) else (address,)
