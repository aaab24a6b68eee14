"""How bytes arrive and leave: the contract between a transport and what answers.

A transport carries CheckRequest and CheckResponse as bytes; it reads neither.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from authz.errors import AuthzError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.settings import Address

AUTHORIZATION = "envoy.service.auth.v3.Authorization"
"""The full name of the service that Envoy's ext_authz filter calls."""


class ListenError(AuthzError):
    """An address cannot be listened on; ``str()`` names it and says why."""


class CheckService(Protocol):
    """What answers: one CheckRequest's bytes in, one CheckResponse's bytes out."""

    def cached(self, wire: bytes) -> bytes | None:
        """Answer from memory, or ``None``.  No I/O; any thread may call it."""

    async def check(self, wire: bytes, deadline: float | None) -> bytes:
        """Answer always: raises nothing but ``CancelledError``.

        ``deadline`` is the caller's, in the running loop's time.
        """


class Transport(Protocol):
    """A listener.  All methods belong to the loop that called ``start``."""

    @property
    def addresses(self) -> Sequence[Address]:
        """The addresses that it listens on, once it has started, with their real ports."""

    async def start(self) -> None:
        """Listen on every address or on none; health says NOT_SERVING.

        Raises ``ListenError``.
        """

    async def set_serving(self, serving: bool, /) -> None:
        """Say through gRPC health whether calls should be sent here."""

    async def stop(self, grace_seconds: float, /) -> None:
        """Take no new calls, let those in flight end for so long, then end them."""
