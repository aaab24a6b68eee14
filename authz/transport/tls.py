"""The listener's certificate: read from files, and read anew when they change."""

from __future__ import annotations

import logging
import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path

from authz.transport import ListenError

FILE_BYTES_MAX = 1024 * 1024

_logger = logging.getLogger(__name__)

_Versions = tuple[tuple[int, int, int, int], ...]
"""For each file what changes when it is written or replaced."""


@dataclass(frozen=True, slots=True)
class Certificate:
    """PEM, all of it.  ``client_ca``: whose signature a client's certificate must have."""

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None


class CertificateFiles:
    """The certificate in the files.  It looks at them at each call; any thread may call.

    The constructor raises ``ListenError`` if they cannot be used.  Later the last
    certificate that could be used stays in force, and the log says why a new one is not.
    """

    def __init__(self, chain: str, key: str, client_ca: str | None) -> None:
        self._chain, self._key, self._client_ca = chain, key, client_ca
        self._lock = threading.Lock()
        self._complaint = ""
        try:
            self._seen = self._versions()
            self._current = self._read()
        except (OSError, ValueError) as error:
            raise ListenError(f"cannot listen with TLS: {_why(error)}") from error

    def current(self) -> Certificate:
        """Return the certificate to use for a handshake now."""
        return self._look(anew=False)

    def reload(self) -> Certificate:
        """Read the files again, even if they look unchanged."""
        return self._look(anew=True)

    def _look(self, *, anew: bool) -> Certificate:
        with self._lock:
            try:
                versions = self._versions()
                if anew or versions != self._seen:
                    # Set before reading: refused files are not read again at every handshake.
                    self._seen = versions
                    self._current = self._read()
                    self._complaint = ""
                    _logger.info("certificate read anew: %s", self._chain)
            except (OSError, ValueError) as error:
                self._complain(_why(error))
            return self._current

    def _complain(self, why: str) -> None:
        if why != self._complaint:  # log it once, not at every handshake
            self._complaint = why
            _logger.error("the certificate of before stays in force: %s", why)

    def _versions(self) -> _Versions:
        # Links are followed: Kubernetes replaces a secret by changing a link.
        stats = [Path(path).stat() for path in self._paths()]
        return tuple((one.st_mtime_ns, one.st_ctime_ns, one.st_ino, one.st_size) for one in stats)

    def _paths(self) -> list[str]:
        paths = [self._chain, self._key]
        return paths if self._client_ca is None else [*paths, self._client_ca]

    def _read(self) -> Certificate:
        """Read the files; raises ``OSError`` or ``ValueError`` for what no handshake could use."""
        certificate = Certificate(
            _read_bytes(self._chain),
            _read_bytes(self._key),
            None if self._client_ca is None else _read_bytes(self._client_ca),
        )
        _check(self._chain, self._key)
        if self._client_ca is not None:
            _check_authority(self._client_ca)
        if self._versions() != self._seen:
            # Chain and key may not belong together.  The next handshake looks again.
            raise ValueError(f"{self._chain} changed while it was read")
        return certificate


def _read_bytes(path: str) -> bytes:
    with Path(path).open("rb") as file:
        content = file.read(FILE_BYTES_MAX + 1)
    if len(content) > FILE_BYTES_MAX:
        raise ValueError(f"{path}: more than {FILE_BYTES_MAX} bytes")
    return content


def _check(chain: str, key: str) -> None:
    """Raise ``ValueError`` unless the chain is a certificate and the key is its key."""

    def refuse_password() -> str:
        # Without this OpenSSL asks for a password on the terminal.
        raise ValueError(f"{key}: the key is encrypted: nobody is here to type its password")

    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(chain, key, refuse_password)
    except ssl.SSLError as error:
        raise ValueError(f"{chain}, {key}: {error.reason or 'no PEM'}") from error


def _check_authority(path: str) -> None:
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_verify_locations(path)
    except ssl.SSLError as error:
        raise ValueError(f"{path}: {error.reason or 'no PEM'}") from error


def _why(error: OSError | ValueError) -> str:
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error)
