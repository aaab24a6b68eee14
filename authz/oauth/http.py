"""HTTP to the identity provider.  The only home of httpx.

No redirects, no proxy variables, no cookies, no content encodings, a cap on every
body, and ``--connect-to`` below the connections.  Time is the caller's: an
``asyncio.timeout`` around a whole exchange, since httpx's timeout is per read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

import httpx

from authz.errors import IdpOutage, Overloaded, Reason, Unavailable
from authz.oauth.connection import ConnectionLost, Origin, ProtocolError, connect

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

    from authz.oauth.connection import Connection
    from authz.settings import ConnectTo

    Headers = Mapping[str, str]

# How long a connection waits for its next request: opening one takes longer than asking.
# It is closed when others are taken or given back, so without traffic it may stay longer.
IDLE_SECONDS_MAX: Final = 60.0

# How long a call waits for one of --idp-concurrency places.
SLOT_WAIT_SECONDS_MAX: Final = 1.0

HTTP_OK: Final = 200

_HEADERS: Final = {
    "accept": "application/json",
    "accept-encoding": "identity",
    "connection": "keep-alive",
    "user-agent": "authz",
}
# A provider has few endpoints, and each is asked many times.
_url = lru_cache(maxsize=64)(httpx.URL)


@dataclass(frozen=True, slots=True)
class Response:
    """A complete answer; header names are lower-case."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[None]:
    """Put one deadline over everything inside; past it the provider counts as unreachable."""
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError:
        raise IdpOutage(
            Reason.IDP_UNAVAILABLE, f"the provider did not answer within {seconds:g} s"
        ) from None


class HttpClient:
    """A pool of connections to one identity provider: a slow one holds up no other."""

    def __init__(
        self,
        tls: ssl.SSLContext,
        *,
        connect_to: tuple[ConnectTo, ...],
        connections_max: int,
    ) -> None:
        self._slots = asyncio.Semaphore(connections_max)
        self._client = httpx.AsyncClient(
            transport=_Transport(tls, connect_to, connections_max),
            # One client's exchange must not carry what the provider set for another's.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            trust_env=False,
            timeout=None,  # noqa: S113 - one deadline covers the exchange, see above
        )

    async def get(self, url: str, *, bytes_max: int) -> Response:
        """GET a JSON document."""
        return await self._send("GET", url, None, {}, bytes_max)

    async def post_form(
        self, url: str, form: bytes, headers: Headers, *, bytes_max: int
    ) -> Response:
        """POST a form-encoded body and take JSON back."""
        form_type = {"content-type": "application/x-www-form-urlencoded"}
        return await self._send("POST", url, form, {**form_type, **headers}, bytes_max)

    async def _send(
        self, method: str, url: str, content: bytes | None, headers: Headers, bytes_max: int
    ) -> Response:
        """Send a request.

        Raises IdpOutage for a failed transport, Unavailable for an answer that cannot be
        used, Overloaded when all places stay taken.
        """
        with _our_errors():
            request = httpx.Request(
                method, _url(url), content=content, headers={**_HEADERS, **headers}
            )
            async with self._slot():
                response = await self._client.send(request, stream=True)
                try:
                    return Response(
                        response.status_code,
                        {name.lower(): value for name, value in response.headers.items()},
                        await _body(response, bytes_max),
                    )
                finally:
                    await response.aclose()

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        """Hold one of ``connections_max`` places, waiting for it up to SLOT_WAIT_SECONDS_MAX.

        Raises Overloaded when none has become free: the bound is ours, not the provider's.
        """
        try:
            async with asyncio.timeout(SLOT_WAIT_SECONDS_MAX):
                await self._slots.acquire()
        except TimeoutError:
            raise Overloaded(
                Reason.OVERLOADED,
                f"no place among the calls to the provider within {SLOT_WAIT_SECONDS_MAX:g} s",
            ) from None
        try:
            yield
        finally:
            self._slots.release()

    async def aclose(self) -> None:
        """Close all connections."""
        await self._client.aclose()


async def _body(response: httpx.Response, bytes_max: int) -> bytes:
    """Read a body; that of an error may be unreadable, for its status says enough."""
    try:
        return await _read(response, bytes_max)
    except Unavailable:
        if response.status_code == HTTP_OK:
            raise
        return b""


async def _read(response: httpx.Response, bytes_max: int) -> bytes:
    """Read a body up to a cap.  An encoded body is refused: it may be a bomb."""
    if response.headers.get("content-encoding", "identity").lower() != "identity":
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "the provider's answer is compressed")
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > bytes_max:
            raise Unavailable(
                Reason.IDP_ANSWER_INVALID, f"the provider's answer is over {bytes_max} bytes"
            )
    return bytes(body)


@contextlib.contextmanager
def _our_errors() -> Iterator[None]:
    """Turn httpx's errors into ours; their text may quote a URL or a header, so it stays behind."""
    try:
        yield
    except httpx.TransportError as error:
        raise IdpOutage(
            Reason.IDP_UNAVAILABLE, f"the provider cannot be reached ({type(error).__name__})"
        ) from error
    except httpx.InvalidURL:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "an endpoint is no usable URL") from None


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


# --- The transport -----------------------------------------------------------------


class _Transport(httpx.AsyncBaseTransport):
    """httpx on connections of our own.

    httpx's own transport takes what follows an answer for the answer to the next
    request.  It also hides where a TCP connection can go elsewhere while URL, Host,
    SNI and the certificate's name stay what they are.
    """

    def __init__(
        self, tls: ssl.SSLContext, connect_to: tuple[ConnectTo, ...], connections_max: int
    ) -> None:
        self._connections = _Connections(tls, connect_to, connections_max)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        secure = url.scheme == "https"
        origin = Origin(secure, url.raw_host.decode("ascii"), url.port or (443 if secure else 80))
        with _httpx_errors():
            connection = await self._connections.take(origin)
            try:
                return await self._ask(connection, request)
            except ConnectionLost:
                if connection.heard or self._connections.closed:
                    raise
                # A kept-alive connection that the provider closed meanwhile fails on
                # first use: nothing was answered, so ask once more; and on a new one,
                # for what ended that one has ended others.
                return await self._ask(await self._connections.open(origin), request)

    async def _ask(self, connection: Connection, request: httpx.Request) -> httpx.Response:
        try:
            status, headers = await connection.ask(
                request.method.encode("ascii"),
                request.url.raw_path,
                request.headers.raw,
                request.content,
            )
        except BaseException:
            self._connections.give_back(connection)
            raise
        body = _Body(connection, self._connections.give_back)
        return httpx.Response(status, headers=headers, stream=body)

    async def aclose(self) -> None:
        self._connections.close()


class _Connections:
    """Connections that stay open, each lent to one request at a time, the last used first.

    Whoever takes one must have one of ``connections_max`` turns.
    """

    def __init__(
        self, tls: ssl.SSLContext, connect_to: tuple[ConnectTo, ...], connections_max: int
    ) -> None:
        self._tls = tls
        self._connect_to = connect_to
        self._connections_max = connections_max
        self._all: set[Connection] = set()
        self._opening = 0
        # Until when each may stay, in the loop's time; the last used at the end.
        self._idle: dict[Connection, float] = {}
        self.closed = False

    async def take(self, origin: Origin) -> Connection:
        """Return a connection that nobody else has: one that was kept, else a new one.

        Two names that lead to one target have two origins, and never share one.
        """
        self._drop_expired()
        while (last := self._last_used(origin)) is not None:
            del self._idle[last]
            if last.is_open:
                return last
            self._drop(last)
        return await self.open(origin)

    async def open(self, origin: Origin) -> Connection:
        """Return a new connection; raises ``httpx.ConnectError``."""
        self._check_open()
        # We have a turn, so not all of them are in use: the others go to other origins.
        while len(self._all) + self._opening >= self._connections_max:
            self._drop(next(iter(self._idle)))
        self._opening += 1
        try:
            tls = self._tls if origin.secure else None
            connection = await connect(origin, *self._target(origin), tls)
        except (OSError, UnicodeError) as error:  # a host may be no name at all
            raise httpx.ConnectError("the provider cannot be connected to") from error
        finally:
            self._opening -= 1
        self._all.add(connection)
        try:
            self._check_open()
        except httpx.ConnectError:
            self._drop(connection)
            raise
        return connection

    def _check_open(self) -> None:
        if self.closed:
            raise httpx.ConnectError("the client is closed")

    def _target(self, origin: Origin) -> tuple[str, int]:
        targets = (rule.target(origin.host, origin.port) for rule in self._connect_to)
        asked = (origin.host, origin.port)
        return next((target for target in targets if target is not None), asked)

    def _last_used(self, origin: Origin) -> Connection | None:
        return next((c for c in reversed(self._idle) if c.origin == origin), None)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request, if it can carry one."""
        if connection.rest() and not self.closed:
            self._idle[connection] = asyncio.get_running_loop().time() + IDLE_SECONDS_MAX
        else:
            self._drop(connection)
        self._drop_expired()

    def _drop_expired(self) -> None:
        now = asyncio.get_running_loop().time()
        while self._idle and (first := next(iter(self._idle))) and self._idle[first] <= now:
            self._drop(first)

    def _drop(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._idle.pop(connection, None)
        connection.abort()

    def close(self) -> None:
        self.closed = True
        for connection in tuple(self._all):
            self._drop(connection)


class _Body(httpx.AsyncByteStream):
    """The rest of an answer, read as it comes."""

    def __init__(self, connection: Connection, give_back: Callable[[Connection], None]) -> None:
        self._connection = connection
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpx_errors():
            async for chunk in self._connection.body():
                yield chunk

    async def aclose(self) -> None:
        self._give_back(self._connection)


@contextlib.contextmanager
def _httpx_errors() -> Iterator[None]:
    """Give a connection's errors the names that httpx has for them."""
    try:
        yield
    except ConnectionLost as error:
        raise httpx.ReadError("the connection was lost") from error
    except ProtocolError as error:
        raise httpx.RemoteProtocolError(str(error)) from error
