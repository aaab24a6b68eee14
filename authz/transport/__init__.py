"""How bytes arrive and leave: the contract between a transport and what answers.

A transport carries CheckRequest and CheckResponse as bytes; it reads neither.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from authz.errors import AuthzError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from google.protobuf.descriptor_pool import DescriptorPool

    from authz.settings import Address
    from authz.transport.tls import CertificateFiles

AUTHORIZATION = "envoy.service.auth.v3.Authorization"
"""The full name of the service that Envoy's ext_authz filter calls."""


class ListenError(AuthzError):
    """An address cannot be listened on; ``str()`` names it and says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a peer may ask of a listener; the same whatever carries the bytes."""

    message_bytes: int = 1024 * 1024
    message_seconds: float = 2
    """How long a Check's message may take to arrive whole, once its headers have.

    Then it is answered 503 ``overloaded``.  Native only: grpcio waits as long as the
    caller's deadline lets it.
    """
    held_bytes: int = 128 * 1024 * 1024
    """How many bytes of Checks may have arrived and not be answered; more: 503 ``overloaded``.

    Enough for more small ones than ``Authorizer`` takes at once.  Native only: grpcio
    keeps everything that arrives.
    """
    held_bytes_per_connection: int = 32 * 1024 * 1024
    """Of these, how many may be of one connection."""
    header_bytes: int = 16 * 1024
    connections: int = 16_384
    """Further ones wait in the kernel.  Native only: grpcio has no such bound."""
    streams_per_connection: int = 1024
    pending_resets: int = 1024
    """Streams reset before we saw them; one more closes the connection (CVE-2023-44487).

    As many as may be open at once: an Envoy that resets all of them is no attacker.
    """
    stream_errors: int = 1024
    """Streams that a peer made us reset; one more closes the connection (CVE-2025-8671)."""
    handshake_seconds: float = 10
    """How long the handshakes of a new connection, TLS and HTTP/2, may take."""
    handshakes: int = 1024
    """TCP connections whose handshakes are under way; a further one is closed.  Native only."""
    handshakes_per_source: int = 128
    """Of these, how many may come from one address (of IPv6: one /64)."""
    ping_seconds: float = 60
    """How often a peer is pinged, so that the streams of one that has vanished end."""
    ping_timeout_seconds: float = 20
    connection_age_seconds: float = 1800
    """After so long, a tenth more or less, a caller is asked to connect anew; 0: never."""
    connection_age_grace_seconds: float = 60
    """How long calls in flight may take to end, once a connection is too old."""


LIMITS = Limits()


class CheckService(Protocol):
    """What answers: one CheckRequest's bytes in, one CheckResponse's bytes out."""

    def cached(self, wire: bytes, waited_s: float = 0.0, /) -> bytes | None:
        """Answer from memory, or ``None``.  No I/O; any thread may call it.

        ``waited_s`` is how long ago the request arrived, where the transport knows.
        """

    async def check(self, wire: bytes, deadline: float | None, waited_s: float = 0.0, /) -> bytes:
        """Answer always: raises nothing but ``CancelledError``.

        ``deadline`` is the caller's, in the running loop's time; ``waited_s`` as in ``cached``.
        """

    def fault(self, error: Exception) -> bytes:
        """Answer for a call that ended in an exception: 503, and the log says where.

        Any thread may call it.
        """

    def overloaded(self) -> bytes:
        """Answer for a call that there is no room or no time for: 503.  Any thread may call it."""


async def answer(
    service: CheckService, wire: bytes, deadline: float | None, waited_s: float = 0.0
) -> bytes:
    """Ask ``service``; an exception that escapes it is answered too, never told to Envoy."""
    try:
        return await service.check(wire, deadline, waited_s)
    except Exception as error:  # noqa: BLE001 - Envoy must not see the text of any exception
        return service.fault(error)


class Transport(Protocol):
    """A listener.  All methods belong to the loop that called ``start``."""

    def __init__(
        self,
        service: CheckService,
        listen: Sequence[Address],
        *,
        pool: DescriptorPool | None,
        certificates: CertificateFiles | None = None,
        limits: Limits = LIMITS,
        reuse_port: bool = False,
    ) -> None:
        """Take what to serve and how; nothing is bound yet.

        ``pool``: what reflection tells about, if anything.  ``certificates``: for
        TLS on TCP.  ``reuse_port``: processes of this user share each port, and
        somebody else has made sure that no other process holds it.
        """

    @property
    def name(self) -> str:
        """What it is called in ``--transport``."""

    @property
    def addresses(self) -> Sequence[Address]:
        """The addresses that it listens on, once it has started, with their real ports."""

    async def start(self) -> None:
        """Listen on every address or on none; health says NOT_SERVING.

        Raises ``ListenError``.
        """

    async def set_serving(self, serving: bool, /) -> None:
        """Set what gRPC health answers."""

    async def stop(self, grace_seconds: float, /) -> None:
        """Take no new calls, let those in flight end for so long, then end them."""
