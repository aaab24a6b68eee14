"""One HTTP/1.1 connection to a provider (RFC 9112).  The only home of h11.

Nothing in an answer says which request it belongs to: it is what comes next on the
connection.  So a connection that has said anything but one answer to one request is
given up, lest it say to one caller what was meant for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, cast

import h11

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

# A status line and all its headers; also those of one chunk, or of a trailer.
HEAD_BYTES_MAX: Final = 64 * 1024
# Interim answers (1xx) before the one that counts; we ask for none.
INTERIM_ANSWERS_MAX: Final = 8

_Headers = list[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a connection is for, wherever it leads (RFC 9110 section 4.3.1)."""

    secure: bool
    host: str
    port: int


class ConnectionLost(Exception):  # noqa: N818 - it says what happened, as errors.py does
    """The connection ended, or was given up, before its answer was whole."""


ProtocolError: Final = h11.ProtocolError


class Connection(asyncio.Protocol):
    """A connection that carries one request at a time, and takes one answer for each.

    A protocol of asyncio's, for there is no buffer below it: whatever comes is seen at
    once, and what comes unasked ends the connection, such as the 408 that some
    servers send to one that is idle.  What the network still holds when the next
    request leaves cannot be told from its answer; no client of HTTP/1.1 can.

    ``heard``: whether a byte of the answer has come.  ``idle_s``: how many seconds it had
    been kept unused before this request; ``None``: this is its first.
    """

    def __init__(self, origin: Origin) -> None:
        self.origin = origin
        self.heard = False
        self.idle_s: float | None = None
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
        self._transport: asyncio.Transport | None = None
        self._waiting: asyncio.Future[None] | None = None
        self._asked = False
        self._framed_once = False
        self._kept = False
        self._ended = False  # by either side

    # --- A request and its answer --------------------------------------------------

    async def ask(
        self,
        method: bytes,
        target: bytes,
        headers: _Headers,
        content: bytes,
        *,
        first_byte_s: float | None = None,
    ) -> tuple[int, _Headers]:
        """Send a request and return the head of its answer, names in lower case.

        ``first_byte_s``: after so many seconds without a byte it is given up.
        Raises :class:`ConnectionLost`, and h11's ``ProtocolError`` for what is no HTTP.
        """
        self.heard = False
        transport = self._transport
        if transport is None or not self.is_usable():
            self.abort()
            raise ConnectionLost
        request = h11.Request(method=method, target=target, headers=headers)
        events = (request, h11.Data(data=content), h11.EndOfMessage())
        # In one piece: between two an answer to the first might come.
        transport.write(b"".join(self._http.send(event) or b"" for event in events))
        self._asked = True
        with self._unless_heard(first_byte_s):
            response = await self._response()
        # RFC 9112 section 6.3: with both, or with neither, the answer's end is a matter
        # of opinion.  h11 has refused a length that contradicts itself.
        names = {name for name, _ in response.headers}
        self._framed_once = (b"content-length" in names) != (b"transfer-encoding" in names)
        return response.status_code, list(response.headers)

    @contextlib.contextmanager
    def _unless_heard(self, seconds: float | None) -> Iterator[None]:
        """Give the connection up after so long, unless a byte has come by then."""
        if seconds is None:
            yield
            return
        timer = asyncio.get_running_loop().call_later(
            seconds, lambda: None if self.heard else self.abort()
        )
        try:
            yield
        finally:
            timer.cancel()

    async def body(self) -> AsyncIterator[bytes]:
        """Yield the answer's body as it comes; raises as :meth:`ask` does."""
        while isinstance(event := await self._event(), h11.Data):
            yield bytes(event.data)

    async def _response(self) -> h11.Response:
        for _ in range(INTERIM_ANSWERS_MAX + 1):
            event = await self._event()
            if isinstance(event, h11.Response):
                return event
        raise h11.RemoteProtocolError("too many interim answers")

    async def _event(self) -> h11.Event | type[h11.PAUSED]:
        """Return what the provider says next."""
        while True:
            if self._ended and not self.heard:
                raise ConnectionLost
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event  # type: ignore[return-value] # mypy does not tell sentinels apart
            if self._ended:
                raise ConnectionLost
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting

    def _has_unread(self, transport: asyncio.Transport) -> bool:
        """Whether bytes, or the end, have come of which the event loop has not told yet."""
        if transport.is_closing():
            return True
        if self.origin.secure and not self._kept:
            return False  # session tickets follow a handshake (RFC 8446 section 4.6.1)
        poll = select.poll()
        poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)
        return bool(poll.poll(0))

    # --- Between requests ------------------------------------------------------------

    def is_usable(self) -> bool:
        """Whether a request may be sent: neither side has ended it, and nothing came unasked."""
        transport = self._transport
        return not self._ended and transport is not None and not self._has_unread(transport)

    def rest(self) -> bool:
        """Make ready for the next request; if that cannot be, give up and return false."""
        left_over, _ = self._http.trailing_data
        done = self._http.our_state is h11.DONE and self._http.their_state is h11.DONE
        if self._ended or left_over or not done or not self._framed_once:
            self.abort()
            return False
        self._http.start_next_cycle()
        self._asked = self._framed_once = False
        self._kept = True
        return True

    def abort(self) -> None:
        """Give the connection up, at once and without a word."""
        self._ended = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    # --- What asyncio tells -----------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        # uvloop's is none by name.
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; anything else is nobody's.

        It is not held back: the reader has its turn after each part, and leaves at its
        bound.
        """
        if self._ended or self._transport is None:
            return
        # What comes before the request has left whole is no answer to it.
        if not self._asked or self._transport.get_write_buffer_size():
            self.abort()
            return
        self.heard = True
        self._http.receive_data(data)
        self._wake()

    def eof_received(self) -> None:
        """Note the provider's end: that of an answer without a length, or of a silent peer."""
        if not self._ended:
            self._ended = True
            self._http.receive_data(b"")
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        del exc
        self._ended = True
        self._wake()

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)
