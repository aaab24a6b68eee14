"""Certificates for loopback servers: one throw-away authority a session."""

from __future__ import annotations

import datetime as dt
import ssl
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import grpc
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@cache
def authority(name: str = "trusted") -> trustme.CA:
    """An authority; ask for another name to get one that nobody trusts."""
    return trustme.CA(organization_name=name)


def ca_file(directory: Path, ca: trustme.CA | None = None) -> Path:
    """Write the authority's certificate into ``directory`` and return its path."""
    path = directory / "ca.pem"
    (ca or authority()).cert_pem.write_to_path(path)
    return path


@dataclass(frozen=True)
class Files:
    """A listener's files: chain, key, and the authority of the clients."""

    directory: Path

    @property
    def chain(self) -> str:
        return str(self.directory / "chain.pem")

    @property
    def key(self) -> str:
        return str(self.directory / "key.pem")

    @property
    def client_ca(self) -> str:
        return str(self.directory / "client-ca.pem")

    def write(self, ca: trustme.CA | None = None, *, clients: trustme.CA | None = None) -> None:
        """Issue a certificate for 127.0.0.1 and put it there, whole at once."""
        issued = (ca or authority()).issue_cert("127.0.0.1")
        pems = {self.chain: issued.cert_chain_pems[0], self.key: issued.private_key_pem}
        if clients is not None:
            pems[self.client_ca] = clients.cert_pem
        self.directory.mkdir(exist_ok=True)
        for path, pem in pems.items():
            pem.write_to_path(f"{path}.new")
        for path in pems:
            Path(f"{path}.new").replace(path)

    def write_unusual(self) -> None:
        """A certificate of a curve that is no web server's: secp256k1."""
        key = ec.generate_private_key(ec.SECP256K1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "unusual")])
        now = dt.datetime.now(dt.UTC)
        certificate = (
            x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
            .not_valid_before(now)
            .not_valid_after(now + dt.timedelta(days=1))
            .sign(key, hashes.SHA256())
        )
        pem = serialization.Encoding.PEM
        Path(self.chain).write_bytes(certificate.public_bytes(pem))
        form, open_ = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        Path(self.key).write_bytes(key.private_bytes(pem, form, open_))

    def empty(self) -> None:
        """Leave nothing of the certificate."""
        Path(self.chain).write_bytes(b"")

    def lose_key(self) -> None:
        Path(self.key).unlink()

    def mix(self) -> None:
        """Put the key of another certificate beside the one that is there."""
        chain = Path(self.chain).read_bytes()
        self.write()
        Path(self.chain).write_bytes(chain)


def encrypted_key(password: bytes) -> bytes:
    """A PEM key that opens with ``password`` only."""
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password),
    )


def client(
    ca: trustme.CA | None = None, *, signed_by: trustme.CA | None = None
) -> grpc.ChannelCredentials:
    """What a client needs that trusts ``ca``; with a certificate of its own if it has one."""
    roots = (ca or authority()).cert_pem.bytes()
    if signed_by is None:
        return grpc.ssl_channel_credentials(roots)
    own = signed_by.issue_cert("client.test")
    key, chain = own.private_key_pem.bytes(), own.cert_chain_pems[0].bytes()
    return grpc.ssl_channel_credentials(roots, key, chain)


def server_context(
    *names: str, ca: trustme.CA | None = None, expired: bool = False
) -> ssl.SSLContext:
    """A server's context with a certificate for ``names`` (host names or addresses)."""
    not_after = dt.datetime(2020, 1, 1, tzinfo=dt.UTC) if expired else None
    certificate = (ca or authority()).issue_cert(*(names or ("127.0.0.1",)), not_after=not_after)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context
