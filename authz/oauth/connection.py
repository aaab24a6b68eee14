"""One HTTP/1.1 connection to a provider (RFC 9112).  The only home of httptools.

Nothing in an answer says which request it belongs to: it is what comes next on the
connection.  So a connection that has said anything but one answer to one request is
given up, lest it say to one caller what was meant for another.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, cast

import httptools

if TYPE_CHECKING:
    from collections.abc import Iterator

# A status line and all its headers.
HEAD_BYTES_MAX: Final = 64 * 1024
# What an answer may have besides a head and its body: the sizes of its chunks, their
# extensions, a trailer.  As many times its body, for a chunk may have one byte.
FRAMING_TIMES_MAX: Final = 8
# Interim answers (1xx) before the one that counts; we ask for none.
INTERIM_ANSWERS_MAX: Final = 8

_CONTINUE: Final = 100
_SWITCHING_PROTOCOLS: Final = 101
_OK: Final = 200
# They have no body, whatever their headers say (RFC 9110 section 6.4.1).
_BODILESS: Final = frozenset((204, 304))


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a connection is for, wherever it leads (RFC 9110 section 4.3.1)."""

    secure: bool
    host: str
    port: int


class ConnectionLost(Exception):  # noqa: N818 - it says what happened, as errors.py does
    """The connection ended, or was given up, before its answer was whole."""


class ProtocolError(Exception):
    """What came is no answer of HTTP/1.1, or one whose end is in doubt; ``str()`` says why."""


@dataclass(slots=True)
class Answer:
    """A status, the header lines as they came, and the body.

    ``too_long``: the body has more bytes than the request allows, and was not read.
    """

    status: int = 0
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body: bytearray = field(default_factory=bytearray)
    too_long: bool = False


class _Reader:
    """Reads one answer; the callbacks are those of httptools.

    ``begun``: its head has come.  ``whole``: it has come to its end.  ``keeps_alive``:
    whether the connection may carry another one after it.
    """

    def __init__(self, body_bytes_max: int) -> None:
        self.answer = Answer()
        self.begun = self.whole = self.keeps_alive = False
        self._body_bytes_max = body_bytes_max
        self._body_bytes = self._bytes = 0
        self._interim_answers = 0
        self._is_framed = False
        self._parser = httptools.HttpResponseParser(self)

    def read(self, data: bytes) -> bool:
        """Read what has come, and return whether all of it belongs to the answer.

        Raises :class:`ProtocolError`.
        """
        self._bytes += len(data)
        try:
            # A message that is whole before its last byte is followed by another.
            self._parser.feed_data(data[:-1])
            if self.whole:
                return False
            self._parser.feed_data(data[-1:])
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if self.whole:
                return False
            ours = error.__context__
            raise ours if isinstance(ours, ProtocolError) else ProtocolError(str(error)) from None
        framing_bytes_max = HEAD_BYTES_MAX + FRAMING_TIMES_MAX * self._body_bytes
        if self._bytes - self._body_bytes > framing_bytes_max and not self.whole:
            raise ProtocolError("a head, a chunk's size or a trailer is too long")
        return True

    def is_done(self) -> bool:
        """Whether nothing more of it is wanted."""
        return self.whole or self.answer.too_long

    def read_end(self) -> None:
        """Note the end of the connection: that of an answer without a length."""
        self.whole = self.whole or (self.begun and not self._is_framed)

    def leave(self) -> None:
        """Read no more.  Else reader and parser hold each other, and the answer, in a cycle."""
        del self._parser

    # --- What httptools tells ----------------------------------------------------------

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.begun:  # else it is a trailer's, and nobody asks for those
            self.answer.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.begun:
            return  # of another message
        status = self._parser.get_status_code()
        if status == _SWITCHING_PROTOCOLS:
            raise ProtocolError("it switches protocols, unasked")
        if status < _CONTINUE:
            raise ProtocolError("its status is below 100")
        if status < _OK:
            return
        self.answer.status = status
        self._is_framed = self._has_length() or status in _BODILESS
        is_current = self._parser.get_http_version() == "1.1"
        self.keeps_alive = self._is_framed and is_current and self._parser.should_keep_alive()
        self.begun = True

    def _has_length(self) -> bool:
        """Whether the answer says where it ends, in one way (RFC 9112 section 6.3)."""
        lengths = [value for name, value in self.answer.headers if name == b"content-length"]
        codings = [value for name, value in self.answer.headers if name == b"transfer-encoding"]
        if len(lengths) + len(codings) > 1:
            raise ProtocolError("it says more than once how long it is")
        if codings and codings[0].lower() != b"chunked":
            raise ProtocolError("it has a transfer coding that was not asked for")
        return bool(lengths or codings)

    def on_body(self, data: bytes) -> None:
        if self.whole:
            return  # of another message
        self._body_bytes += len(data)
        if self._body_bytes > self._body_bytes_max:
            self.answer.too_long, self.keeps_alive = True, False
        else:
            self.answer.body += data

    def on_message_complete(self) -> None:
        if self.begun:
            self.whole = True
            return
        self.answer.headers.clear()
        self._interim_answers += 1
        if self._interim_answers > INTERIM_ANSWERS_MAX:
            raise ProtocolError("too many interim answers")


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
        self._transport: asyncio.Transport | None = None
        self._poll = select.poll()
        self._reader: _Reader | None = None  # while a request waits for its answer
        self._answered: asyncio.Future[None] | None = None
        self._kept = False
        self._may_rest = False
        self._ended = False  # by either side

    # --- A request and its answer --------------------------------------------------

    async def ask(
        self, request: bytes, *, body_bytes_max: int, first_byte_s: float | None = None
    ) -> Answer:
        """Send a request, head and body, and return its answer, header names in lower case.

        ``first_byte_s``: after so many seconds without a byte it is given up.
        Raises :class:`ConnectionLost` and :class:`ProtocolError`.
        """
        self.heard = self._may_rest = False
        transport = self._transport
        # A kept one was looked at when it was taken.
        if self._ended or transport is None or (not self._kept and self._has_unread(transport)):
            self.abort()
            raise ConnectionLost
        reader = _Reader(body_bytes_max)
        self._answered = asyncio.get_running_loop().create_future()
        # In one piece: between two an answer to the first might come.
        transport.write(request)
        self._reader = reader
        try:
            if first_byte_s is None:
                await self._answered
            else:
                with self._unless_heard(first_byte_s):
                    await self._answered
        finally:
            self._reader = None
            reader.leave()
        if not reader.is_done():
            raise ConnectionLost
        return reader.answer

    @contextlib.contextmanager
    def _unless_heard(self, seconds: float) -> Iterator[None]:
        """Give the connection up after so long, unless a byte has come by then."""
        timer = asyncio.get_running_loop().call_later(
            seconds, lambda: None if self.heard else self.abort()
        )
        try:
            yield
        finally:
            timer.cancel()

    def _has_unread(self, transport: asyncio.Transport) -> bool:
        """Whether bytes, or the end, have come of which the event loop has not told yet."""
        if transport.is_closing():
            return True
        if self.origin.secure and not self._kept:
            return False  # session tickets follow a handshake (RFC 8446 section 4.6.1)
        return bool(self._poll.poll(0))

    # --- Between requests ------------------------------------------------------------

    def is_usable(self) -> bool:
        """Whether a request may be sent: neither side has ended it, and nothing came unasked."""
        transport = self._transport
        return not self._ended and transport is not None and not self._has_unread(transport)

    def rest(self) -> bool:
        """Make ready for the next request; if that cannot be, give up and return false."""
        if self._ended or not self._may_rest:
            self.abort()
            return False
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
        self._poll.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def data_received(self, data: bytes) -> None:
        """Take a part of the answer; anything else is nobody's."""
        if self._ended or self._transport is None:
            return
        reader = self._reader
        # What comes before the request has left whole is no answer to it.
        if reader is None or reader.is_done() or self._transport.get_write_buffer_size():
            self.abort()
            return
        self.heard = True
        try:
            belongs = reader.read(data)
        except ProtocolError as error:
            self._ended = True
            self._wake(error)
            return
        self._ended = not belongs
        if reader.is_done():
            self._may_rest = belongs and reader.keeps_alive
            self._wake()

    def eof_received(self) -> None:
        """Note the provider's end: that of an answer without a length, or of a silent peer."""
        if not self._ended and self._reader is not None:
            self._reader.read_end()
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note that the connection is gone."""
        del exc
        self._ended = True
        self._wake()

    def _wake(self, error: Exception | None = None) -> None:
        if self._answered is None or self._answered.done():
            return
        if error is None:
            self._answered.set_result(None)
        else:
            self._answered.set_exception(error)
