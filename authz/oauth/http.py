"""HTTP to the identity provider.  The only home of httpx.

No redirects, no proxy variables, no cookies, no content codings, a cap on every
body, and ``--connect-to`` below the connections.  Only ``door.py`` sends: it decides
whether and when a call may be made, and how long it may take.
"""

from __future__ import annotations

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
    from collections.abc import Callable, Mapping

    from authz.oauth.connection import Connection
    from authz.settings import ConnectTo

    Headers = Mapping[str, str]

HTTP_OK: Final = 200

# A connection that was idle for longer may have been closed by the other side just when
# the request left (RFC 9112 section 9.3.1), or be dead without a word.
IDLE_SECONDS_MIN: Final = 1.0

_GET_HEADERS: Final = (
    ("accept-encoding", "identity"),
    ("connection", "keep-alive"),
    ("user-agent", "authz"),
)
_FORM_HEADERS: Final = (*_GET_HEADERS, ("content-type", "application/x-www-form-urlencoded"))


@dataclass(frozen=True, slots=True)
class Request:
    """What to ask: a GET, or with ``form`` (form-encoded) a POST; both take JSON back.

    ``repeatable``: whether it may be sent once more if a kept connection fails before a
    byte of the answer has come.  ``signed_anew`` makes what is sent then (an assertion
    may be used once, RFC 7523 section 3); without it the same is sent.
    """

    url: str
    form: bytes | None = field(default=None, repr=False)
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

    ``timer`` gives monotonic seconds.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        connect_to: tuple[ConnectTo, ...],
        connections_max: int,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        connections = Connections(tls, connect_to, connections_max, timer=timer)
        self._client = _Client(
            transport=_Transport(connections), follow_redirects=False, trust_env=False, timeout=None
        )

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
        an answer that cannot be used.
        """
        target = _target(request.url)
        fixed = _GET_HEADERS if request.form is None else _FORM_HEADERS
        sent = httpx.Request(
            "GET" if request.form is None else "POST",
            target.url,
            content=request.form,
            headers=[("host", target.host), ("accept", accept), *fixed, *request.headers.items()],
            extensions={"authz": _Wanted(target.origin, bytes_max, fresh, first_byte_s)},
        )
        answer = await self._client.send(sent, stream=True)  # it has been read whole below
        response: Response = answer.extensions["authz"]
        return response

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


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


# --- Below httpx -----------------------------------------------------------------------


class _NoCookies(httpx.Cookies):
    """One client's exchange must not carry what the provider set for another's.

    A cookie policy that refuses all would do, after a tenth of the time of a call.
    """

    def extract_cookies(self, response: httpx.Response) -> None:
        """Take none."""


_NO_COOKIES: Final = _NoCookies()


class _Client(httpx.AsyncClient):
    @property
    def cookies(self) -> httpx.Cookies:
        """Return none, whatever has come."""
        return _NO_COOKIES

    @cookies.setter
    def cookies(self, cookies: object) -> None:
        """Keep none."""


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What goes with a request through httpx to the transport."""

    origin: Origin
    bytes_max: int
    fresh: bool
    first_byte_s: float | None


class _Transport(httpx.AsyncBaseTransport):
    """httpx on connections of our own.

    httpx's own transport takes what follows an answer for the answer to the next
    request.  It also hides where a TCP connection can go elsewhere while URL, Host,
    SNI and the certificate's name stay what they are.

    The whole answer is read here, and handed through httpx as it is: there is nothing
    that httpx would do with it.  Errors are ours from here on; httpx lets them pass.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        wanted: _Wanted = request.extensions["authz"]
        connection = await self._connection(wanted)
        try:
            response = await _ask(connection, request, wanted)
        except BaseException as error:  # noqa: BLE001 - raised again, as what it means
            self._failed(connection, error)
        finally:
            self._connections.give_back(connection)
        return httpx.Response(response.status, extensions={"authz": response})

    async def _connection(self, wanted: _Wanted) -> Connection:
        try:
            if wanted.fresh:
                return await self._connections.open(wanted.origin)
            return await self._connections.take(wanted.origin)
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
                raise IdpOutage(Reason.IDP_UNAVAILABLE, "the answer is no HTTP/1.1") from error
        raise error

    async def aclose(self) -> None:
        self._connections.close()


def _was_idle(connection: Connection) -> bool:
    return connection.idle_s is not None and connection.idle_s > IDLE_SECONDS_MIN


async def _ask(connection: Connection, request: httpx.Request, wanted: _Wanted) -> Response:
    status, fields = await connection.ask(
        request.method.encode("ascii"),
        request.url.raw_path,
        request.headers.raw,
        request.content,
        first_byte_s=wanted.first_byte_s if _was_idle(connection) else None,
    )
    headers: dict[str, str] = {}
    for field_name, field_value in fields:
        name, value = field_name.decode("ascii"), field_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return Response(status, headers, await _body(connection, status, headers, wanted.bytes_max))


async def _body(connection: Connection, status: int, headers: Headers, bytes_max: int) -> bytes:
    """Read a body; that of an error may be unreadable, for its status says enough."""
    try:
        return await _read(connection, headers, bytes_max)
    except Unavailable:
        if status == HTTP_OK:
            raise
        return b""


async def _read(connection: Connection, headers: Headers, bytes_max: int) -> bytes:
    """Read a body up to a cap.  An encoded body is refused: it may be a bomb."""
    # RFC 9110 sections 5.6.1.2 and 8.4.1: a list, which may have empty elements; identity
    # is no coding, and some servers say it all the same.
    codings = {coding.strip().lower() for coding in headers.get("content-encoding", "").split(",")}
    if codings - {"", "identity"}:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "the answer is compressed, unasked")
    body = bytearray()
    async for chunk in connection.body():
        body += chunk
        if len(body) > bytes_max:
            raise Unavailable(Reason.IDP_ANSWER_INVALID, f"the answer is over {bytes_max} bytes")
    return bytes(body)
