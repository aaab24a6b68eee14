"""HTTP to the identity provider.  The only home of httpx.

URLs, requests and headers are httpx's.  No redirects, no proxy variables, no cookies,
no content codings, a cap on every body, and ``--connect-to`` below the connections.
Only ``door.py`` sends: it decides whether and when a call may be made, and how long it
may take.
"""

from __future__ import annotations

import re
import ssl
import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NoReturn

import httpx

from authz.errors import IdpOutage, Reason, Unavailable
from authz.oauth import faults
from authz.oauth.connection import ConnectionLost, Origin, ProtocolError
from authz.oauth.connections import Connections

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from authz.oauth.connection import Answer, Connection
    from authz.settings import ConnectTo

    Headers = Mapping[str, str]

HTTP_OK: Final = 200

# A connection that was idle for longer may have been closed by the other side just when
# the request left (RFC 9112 section 9.3.1), or be dead without a word.
IDLE_SECONDS_MIN: Final = 1.0

_FIXED_HEADERS: Final = (
    ("accept-encoding", "identity"),
    ("connection", "keep-alive"),
    ("user-agent", "authz"),
)
# RFC 9110 sections 5.1 and 5.5, without obs-text.  What ends a line would begin another header.
_HEADER_LINES: Final = re.compile(r"(?:[!#-'*+.0-9A-Z^-z|~-]+: [\t\x20-\x7e]*\r\n)*")


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask: a GET, or with ``form`` (form-encoded) a POST; both take JSON back.

    ``arguments`` (form-encoded) are sent behind the URL's own.  They may be secret, and a URL
    is a key of caches here.

    ``repeatable``: whether it may be sent once more if a kept connection fails before a
    byte of the answer has come.  ``signed_anew`` makes what is sent then (an assertion
    may be used once, RFC 7523 section 3); without it the same is sent.
    """

    url: str
    form: bytes | None = field(default=None, repr=False)
    arguments: str = field(default="", repr=False)
    headers: Headers = field(default_factory=dict, repr=False)
    repeatable: bool = True
    signed_anew: Callable[[], Request] | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer; header names are lower-case, equal ones are joined by ``, ``."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)


class Unanswered(IdpOutage):
    """Not a byte of an answer has come over a connection that was open.

    ``was_idle``: it had been kept, unused for longer than ``IDLE_SECONDS_MIN``.
    """

    def __init__(self, *, was_idle: bool) -> None:
        super().__init__(Reason.IDP_UNAVAILABLE, "the connection ended before an answer came")
        self.was_idle = was_idle


class HttpClient:
    """A pool of connections to one identity provider: a slow one holds up no other.

    httpx's own client is not used: of what it does beyond sending, nothing may happen
    here, and its transport takes what follows an answer for the answer to the next
    request.  ``timer`` gives monotonic seconds.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        connect_to: tuple[ConnectTo, ...],
        connections_max: int,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._connections = Connections(tls, connect_to, connections_max, timer=timer)

    async def send(
        self,
        request: Request,
        *,
        accept: str,
        bytes_max: int,
        fresh: bool = False,
        first_byte_s: float | None = None,
    ) -> Response:
        """Send a request and return its answer, the body up to ``bytes_max``.

        ``fresh``: on a new connection.  ``first_byte_s``: how long one that had been idle
        may take to begin its answer; then it counts as dead.  One call needs one of
        ``connections_max`` places.

        Raises :class:`Unanswered` and IdpOutage for a failed transport, Unavailable for
        a request that cannot be sent and an answer that cannot be used.
        """
        target = _target(request.url)
        wire = _wire(target, request, accept)
        connection = await self._connection(target.origin, fresh=fresh)
        try:
            answer = await connection.ask(
                wire,
                body_bytes_max=bytes_max,
                first_byte_s=first_byte_s if _was_idle(connection) else None,
            )
        except BaseException as error:  # noqa: BLE001 - raised again, as what it means
            self._failed(connection, error)
        finally:
            self._connections.give_back(connection)
        return _response(answer, bytes_max)

    async def _connection(self, origin: Origin, *, fresh: bool) -> Connection:
        try:
            return await (self._connections.open if fresh else self._connections.take)(origin)
        except (OSError, UnicodeError) as error:  # a host may be no name at all
            raise IdpOutage(Reason.IDP_UNAVAILABLE, faults.of_connecting(error)) from error

    def _failed(self, connection: Connection, error: BaseException) -> NoReturn:
        """Raise what a failure means for whoever asked; it may mean something for others too."""
        if connection.idle_s is not None and not connection.heard:
            # In whatever way it failed: what ended one that was idle has ended the others.
            self._connections.drop_idle(connection.origin)
        match error:
            case ConnectionLost() if not connection.heard:
                raise Unanswered(was_idle=_was_idle(connection)) from error
            case ConnectionLost():
                raise IdpOutage(
                    Reason.IDP_UNAVAILABLE, "the connection ended in the middle of the answer"
                ) from error
            case ProtocolError():
                raise IdpOutage(
                    Reason.IDP_UNAVAILABLE, f"the answer is no HTTP/1.1 ({error})"
                ) from error
        raise error

    async def aclose(self) -> None:
        """Close all connections."""
        self._connections.close()


def _was_idle(connection: Connection) -> bool:
    return connection.idle_s is not None and connection.idle_s > IDLE_SECONDS_MIN


# --- Requests ----------------------------------------------------------------------------


def origin_of(url: str) -> Origin:
    """Return whom a URL leads to; raises Unavailable if it is none that can be asked."""
    return _target(url).origin


@dataclass(frozen=True, slots=True)
class _Target:
    url: httpx.URL
    origin: Origin
    host: str


@lru_cache(maxsize=64)  # a provider has few endpoints, and each is asked many times
def _target(text: str) -> _Target:
    try:
        url = httpx.URL(text)
        secure = url.scheme == "https"
        host = url.raw_host.decode("ascii")
    except (httpx.InvalidURL, UnicodeError):
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "the endpoint is no usable URL") from None
    origin = Origin(secure, host, url.port or (443 if secure else 80))
    return _Target(url, origin, url.netloc.decode("ascii"))


def _wire(target: _Target, request: Request, accept: str) -> bytes:
    """Return a request as it is sent (RFC 9112 section 3), head and body."""
    method = "GET" if request.form is None else "POST"
    path, begin = _head(target, method, accept)
    if request.arguments:
        path = f"{path}{'&' if '?' in path else '?'}{request.arguments}"
    lines = _lines(request.headers.items())
    if request.form is not None:
        lines = b"content-length: %d\r\n%s" % (len(request.form), lines)
    line = f"{method} {path} HTTP/1.1\r\n".encode("ascii")
    return b"%s%s%s\r\n%s" % (line, begin, lines, request.form or b"")


@lru_cache(maxsize=64)  # as for targets
def _head(target: _Target, method: str, accept: str) -> tuple[str, bytes]:
    """Return the path that is asked for, and the headers that all requests to a target have."""
    fixed = [("host", target.host), ("accept", accept), *_FIXED_HEADERS]
    if method == "POST":
        fixed.append(("content-type", "application/x-www-form-urlencoded"))
    request = httpx.Request(method, target.url, headers=fixed, stream=httpx.ByteStream(b""))
    return request.url.raw_path.decode("ascii"), _lines(request.headers.multi_items())


def _lines(headers: Collection[tuple[str, str]]) -> bytes:
    lines = "".join([f"{name}: {value}\r\n" for name, value in headers])
    if lines.count("\n") != len(headers) or _HEADER_LINES.fullmatch(lines) is None:
        raise Unavailable(
            Reason.IDP_REQUEST_REFUSED, "a header has a character that no header may have; not sent"
        )
    return lines.encode("ascii")


# --- Answers -----------------------------------------------------------------------------


def _response(answer: Answer, bytes_max: int) -> Response:
    """Read an answer.  The body of an error may be unreadable, for its status says enough."""
    headers = httpx.Headers(answer.headers)
    # RFC 9110 sections 5.6.1.2 and 8.4.1: a list, which may have empty elements; identity
    # is no coding, and some servers say it all the same.
    codings = {coding.strip().lower() for coding in headers.get("content-encoding", "").split(",")}
    if codings - {"", "identity"}:
        fault = "the answer is compressed, unasked"
    elif answer.too_long:
        fault = f"the answer is over {bytes_max} bytes"
    else:
        return Response(answer.status, headers, bytes(answer.body))
    if answer.status == HTTP_OK:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, fault)
    return Response(answer.status, headers, b"")


# --- TLS ----------------------------------------------------------------------------------


def tls_context(ca_file: str | None, *, verify: bool) -> ssl.SSLContext:
    """Return how providers are verified: by these authorities, else by the system's.

    Making one reads the whole store, some 50 ms, so it is made once for all.
    """
    context = ssl.create_default_context(cafile=ca_file)
    # Python's own default; Debian's leaves it to OpenSSL's configuration (RFC 9325 3.1.1).
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
