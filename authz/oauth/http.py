"""HTTP to the identity provider.  The only home of httpx (and of httpcore, which it stands on).

No redirects, no proxy variables, no cookies, no content encodings, a cap on every
body, and ``--connect-to`` below the connection pool.  Time is the caller's: an
``asyncio.timeout`` around a whole exchange, since httpx's timeout is per read.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from dataclasses import dataclass, field
from functools import lru_cache, partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import TYPE_CHECKING, Final

import httpcore
import httpx

from authz.errors import IdpOutage, Reason, Unavailable

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping

    from authz.settings import ConnectTo

    Headers = Mapping[str, str]

# How long a connection waits for its next request: opening one takes longer than asking.
# It is closed when others are taken or given back, so without traffic it may stay longer.
IDLE_SECONDS_MAX: Final = 60.0

# How long a call waits for one of --idp-concurrency places.
TURN_SECONDS_MAX: Final = 1.0

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
class Answer:
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
        self._turns = asyncio.Semaphore(connections_max)
        self._client = httpx.AsyncClient(
            transport=_Transport(tls, connect_to, connections_max),
            # One client's exchange must not carry what the provider set for another's.
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            trust_env=False,
            timeout=None,  # noqa: S113 - one deadline covers the exchange, see above
        )

    async def get(self, url: str, *, bytes_max: int) -> Answer:
        """GET a JSON document."""
        return await self._send("GET", url, None, {}, bytes_max)

    async def post_form(self, url: str, form: bytes, headers: Headers, *, bytes_max: int) -> Answer:
        """POST a form-encoded body and take JSON back."""
        form_type = {"content-type": "application/x-www-form-urlencoded"}
        return await self._send("POST", url, form, {**form_type, **headers}, bytes_max)

    async def _send(
        self, method: str, url: str, content: bytes | None, headers: Headers, bytes_max: int
    ) -> Answer:
        """Send a request; raise IdpOutage for a failed transport, Unavailable for a wild answer."""
        with _our_errors():
            request = httpx.Request(
                method, _url(url), content=content, headers={**_HEADERS, **headers}
            )
            async with self._turn():
                response = await self._client.send(request, stream=True)
                try:
                    return Answer(
                        response.status_code,
                        {name.lower(): value for name, value in response.headers.items()},
                        await _body(response, bytes_max),
                    )
                finally:
                    await response.aclose()

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait for one of our own places, but not so long that the provider gets the blame."""
        try:
            async with asyncio.timeout(TURN_SECONDS_MAX):
                await self._turns.acquire()
        except TimeoutError:
            raise IdpOutage(Reason.OVERLOADED, "too many calls to the provider under way") from None
        try:
            yield
        finally:
            self._turns.release()

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
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


# --- The transport -----------------------------------------------------------------


class _Transport(httpx.AsyncBaseTransport):
    """httpx's own transport, with connections of our own and a network that can be redirected.

    httpx.AsyncHTTPTransport hides httpcore's ``network_backend``, and only there
    can a TCP connection go elsewhere while URL, Host, SNI and the certificate's
    name stay what they are.
    """

    def __init__(
        self,
        ssl_context: ssl.SSLContext,
        connect_to: tuple[ConnectTo, ...],
        connections_max: int,
    ) -> None:
        self._connections = _Connections(
            partial(
                httpcore.AsyncHTTPConnection,
                ssl_context=ssl_context,
                keepalive_expiry=IDLE_SECONDS_MAX,
                network_backend=_RedirectedNetwork(connect_to),
            ),
            connections_max,
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        url = httpcore.URL(
            scheme=request.url.raw_scheme,
            host=request.url.raw_host,
            port=request.url.port,
            target=request.url.raw_path,
        )
        wanted = httpcore.Request(
            request.method, url, headers=request.headers.raw, content=request.stream
        )
        with _httpcore_errors():
            try:
                return await self._send(wanted)
            except _FAILED_CONNECTION as error:
                if _is_about_an_answer(error):
                    raise
                # A kept-alive connection that the provider closed meanwhile fails on
                # first use: nothing was answered, so ask once more; and on a new one,
                # for what ended that one has ended others.
                return await self._send(wanted, kept=False)

    async def _send(self, request: httpcore.Request, *, kept: bool = True) -> httpx.Response:
        connection = await self._connections.take(request.url.origin, kept=kept)
        give_back = partial(self._connections.give_back, connection)
        try:
            response = await connection.handle_async_request(request)
            return httpx.Response(
                response.status, headers=response.headers, stream=_Body(response, give_back)
            )
        except BaseException:
            await give_back()
            raise

    async def aclose(self) -> None:
        await self._connections.aclose()


class _Connections:
    """Connections that stay open, each lent to one request at a time, the last used first.

    Instead of httpcore's own pool, which lends an idle connection to all who ask in
    the same turn of the event loop.  All but one of them are turned away and ask
    again, behind those who have come meanwhile.  It also looks at every connection
    for every request, and once there are more than may be idle it closes each after
    its first use.

    Whoever takes one must have one of ``connections_max`` turns.
    """

    def __init__(
        self,
        connect: Callable[[httpcore.Origin], httpcore.AsyncHTTPConnection],
        connections_max: int,
    ) -> None:
        self._connect = connect
        self._connections_max = connections_max
        self._open: set[httpcore.AsyncHTTPConnection] = set()
        self._idle: list[httpcore.AsyncHTTPConnection] = []  # the last used at the end
        self._closed = False

    async def take(self, origin: httpcore.Origin, *, kept: bool) -> httpcore.AsyncHTTPConnection:
        """Return a connection that nobody else has: one that was kept, else one yet to be opened.

        Two names that lead to one target have two origins, and never share one.
        Raises ``httpcore.ConnectError`` once closed.
        """
        while kept and (last := self._last_used(origin)) is not None:
            self._idle.remove(last)
            if not last.has_expired():
                return last
            await self._close(last)
        if self._closed:
            raise httpcore.ConnectError("the client is closed")
        # We have a turn, so not all of them are in use: the others go to other origins.
        while len(self._open) >= self._connections_max:
            await self._close(self._idle.pop(0))
        connection = self._connect(origin)
        self._open.add(connection)
        return connection

    def _last_used(self, origin: httpcore.Origin) -> httpcore.AsyncHTTPConnection | None:
        return next((c for c in reversed(self._idle) if c.can_handle_request(origin)), None)

    async def give_back(self, connection: httpcore.AsyncHTTPConnection) -> None:
        """Keep a connection for the next request, if it can carry one."""
        if not connection.is_available():
            await self._close(connection)
            return
        self._idle.append(connection)
        while self._idle and self._idle[0].has_expired():
            await self._close(self._idle.pop(0))

    async def _close(self, connection: httpcore.AsyncHTTPConnection) -> None:
        self._open.discard(connection)
        with contextlib.suppress(Exception):  # it is given up, whatever it says to that
            await connection.aclose()

    async def aclose(self) -> None:
        self._closed = True
        self._idle.clear()
        for connection in tuple(self._open):
            await self._close(connection)


_FAILED_CONNECTION: Final = (
    httpcore.ReadError,
    httpcore.WriteError,
    httpcore.RemoteProtocolError,
)


def _is_about_an_answer(error: Exception) -> bool:
    """Whether bytes of an answer were there and wrong: then h11, the parser, has said so."""
    return type(error.__context__).__module__.partition(".")[0] == "h11"


class _Body(httpx.AsyncByteStream):
    """The rest of an answer, read as it comes."""

    def __init__(
        self, response: httpcore.Response, give_back: Callable[[], Awaitable[None]]
    ) -> None:
        self._response = response
        self._give_back = give_back

    async def __aiter__(self) -> AsyncIterator[bytes]:
        with _httpcore_errors():
            async for chunk in self._response.aiter_stream():
                yield chunk

    async def aclose(self) -> None:
        try:
            await self._response.aclose()
        finally:
            await self._give_back()


@contextlib.contextmanager
def _httpcore_errors() -> Iterator[None]:
    """Give httpcore's errors the names that httpx gives them."""
    try:
        yield
    except Exception as error:
        named = getattr(httpx, type(error).__name__, None)
        if type(error).__module__.startswith("httpcore") and named is not None:
            raise named(str(error)) from error
        raise


class _RedirectedNetwork(httpcore.AsyncNetworkBackend):
    """A network on which some addresses stand for others (curl's ``--connect-to``)."""

    def __init__(self, connect_to: tuple[ConnectTo, ...]) -> None:
        self._connect_to = connect_to
        self._network = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        targets = (rule.target(host, port) for rule in self._connect_to)
        host, port = next((target for target in targets if target is not None), (host, port))
        return await self._network.connect_tcp(host, port, timeout, local_address, socket_options)

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)
