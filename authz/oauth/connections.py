"""The connections to one provider that are kept, and how new ones are opened.

Why not httpcore's pool (seen with 1.0.9): it may assign one idle connection to several
requests, of which all but one are turned away and start again, and it cannot tell how
long a connection has been idle, or drop those of one origin.  A pool that does these
three makes this file needless.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import TYPE_CHECKING, Any, Final

from authz.oauth.connection import Connection

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Sequence

    from authz.oauth.connection import Origin
    from authz.settings import ConnectTo

# How long a connection waits for its next request: opening one takes longer than asking.
# It is closed when others are taken or given back, so without traffic it may stay longer.
IDLE_SECONDS_MAX: Final = 60.0
# How long one of a host's addresses is tried before the next one is, beside it
# (RFC 8305 section 5).
ADDRESS_SECONDS: Final = 0.25
# How long what was sent may stay unacknowledged before the kernel gives a connection up
# (tcp(7)); and how long one is idle before the kernel looks whether the peer is there.
UNACKNOWLEDGED_SECONDS_MAX: Final = 5
KEEPALIVE_SECONDS: Final = 15


class Connections:
    """Connections that stay open, each lent to one request at a time, the last used first.

    Whoever takes one must have one of ``connections_max`` places.  ``timer`` gives
    monotonic seconds.
    """

    def __init__(
        self,
        tls: ssl.SSLContext,
        connect_to: tuple[ConnectTo, ...],
        connections_max: int,
        *,
        timer: Callable[[], float],
    ) -> None:
        self._tls = tls
        self._connect_to = connect_to
        self._connections_max = connections_max
        self._timer = timer
        self._resolver = Resolver()
        self._all: set[Connection] = set()
        self._opening = 0
        # Since when each is idle; the last used at the end.
        self._idle: dict[Connection, float] = {}
        self._closed = False

    async def take(self, origin: Origin) -> Connection:
        """Return a connection that nobody else has: one that was kept, else a new one.

        Two names that lead to one target have two origins, and never share one.
        """
        self._drop_expired()
        while (last := self._last_used(origin)) is not None:
            idle_since = self._idle.pop(last)
            if last.is_usable():
                last.idle_s = self._timer() - idle_since
                return last
            self._drop(last)
        return await self.open(origin)

    async def open(self, origin: Origin) -> Connection:
        """Return a new connection; raises OSError, and UnicodeError for what is no host."""
        self._check_open()
        # We have a place, so not all of them are in use: the others go to other origins.
        while len(self._all) + self._opening >= self._connections_max and self._idle:
            self._drop(next(iter(self._idle)))
        self._opening += 1
        try:
            tls = self._tls if origin.secure else None
            addresses = await self._resolver.look_up(*self._target(origin))
            connection = await dial(origin, addresses, tls)
        finally:
            self._opening -= 1
        self._all.add(connection)
        if self._closed:
            self._drop(connection)
        self._check_open()
        return connection

    def _check_open(self) -> None:
        if self._closed:
            raise ConnectionError("authz is closing its connections")

    def _target(self, origin: Origin) -> tuple[str, int]:
        targets = (rule.target(origin.host, origin.port) for rule in self._connect_to)
        asked = (origin.host, origin.port)
        return next((target for target in targets if target is not None), asked)

    def _last_used(self, origin: Origin) -> Connection | None:
        return next((c for c in reversed(self._idle) if c.origin == origin), None)

    def give_back(self, connection: Connection) -> None:
        """Keep a connection for the next request, if it can carry one."""
        if connection.rest() and not self._closed:
            self._idle[connection] = self._timer()
        else:
            self._drop(connection)
        self._drop_expired()

    def drop_idle(self, origin: Origin) -> None:
        """Close all idle connections to an origin."""
        for connection in [c for c in self._idle if c.origin == origin]:
            self._drop(connection)

    def _drop_expired(self) -> None:
        too_old = self._timer() - IDLE_SECONDS_MAX
        while self._idle and (first := next(iter(self._idle))) and self._idle[first] <= too_old:
            self._drop(first)

    def _drop(self, connection: Connection) -> None:
        self._all.discard(connection)
        self._idle.pop(connection, None)
        connection.abort()

    def close(self) -> None:
        """Close all, also those in use."""
        self._closed = True
        for connection in tuple(self._all):
            self._drop(connection)


# --- Addresses -------------------------------------------------------------------------

Address = tuple[int, int, int, str, Any]
"""One of getaddrinfo's."""


class Resolver:
    """Looks host names up, each in a thread of its own: one that hangs holds up no other.

    An event loop has a few threads for all look-ups, and a name server that does not
    answer holds one for many seconds.  A look-up is shared by all who want the same at
    the same time, so there are never more threads than hosts.
    """

    def __init__(self) -> None:
        self._under_way: dict[tuple[str, int], asyncio.Future[Sequence[Address]]] = {}

    async def look_up(self, host: str, port: int) -> Sequence[Address]:
        """Return the addresses; raises OSError, and UnicodeError for what is no host."""
        try:
            ipaddress.ip_address(host)
        except ValueError:
            return await asyncio.shield(self._shared(host, port))
        return _addresses(host, port, socket.AI_NUMERICHOST)  # asks nobody

    def _shared(self, host: str, port: int) -> asyncio.Future[Sequence[Address]]:
        asked = (host, port)
        if asked not in self._under_way:
            loop = asyncio.get_running_loop()
            future: asyncio.Future[Sequence[Address]] = loop.create_future()
            self._under_way[asked] = future
            future.add_done_callback(lambda done: self._ended(asked, done))
            # A daemon: the process may end while a name server is still silent.
            threading.Thread(
                target=_look_up_in_thread, args=(loop, future, host, port), daemon=True
            ).start()
        return self._under_way[asked]

    def _ended(self, asked: tuple[str, int], done: asyncio.Future[Sequence[Address]]) -> None:
        del self._under_way[asked]
        if not done.cancelled():
            done.exception()  # everyone may have left: it has been seen


def _look_up_in_thread(
    loop: asyncio.AbstractEventLoop,
    future: asyncio.Future[Sequence[Address]],
    host: str,
    port: int,
) -> None:
    try:
        found = _addresses(host, port, 0)
    except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who asked
        _tell(loop, future.set_exception, error)
    else:
        _tell(loop, future.set_result, found)


def _tell(loop: asyncio.AbstractEventLoop, say: Callable[[Any], None], what: object) -> None:
    try:
        loop.call_soon_threadsafe(say, what)
    except RuntimeError:  # the loop has ended meanwhile
        return


def _addresses(host: str, port: int, flags: int) -> Sequence[Address]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)


async def dial(
    origin: Origin, addresses: Sequence[Address], tls: ssl.SSLContext | None
) -> Connection:
    """Connect to the first of these that answers (RFC 8305, Happy Eyeballs).

    asyncio's own loop can do that, uvloop's cannot.  Raises OSError if all fail.
    """
    loop = asyncio.get_running_loop()
    tries: list[asyncio.Task[Connection]] = []
    connected: asyncio.Task[Connection] | None = None
    try:
        for address in addresses:
            tries.append(loop.create_task(_connect(origin, address, tls)))
            is_last = len(tries) == len(addresses)
            connected = await _first(tries, None if is_last else ADDRESS_SECONDS)
            if connected is not None:
                return connected.result()
        return tries[0].result()  # raises why
    finally:
        for other in tries:
            if not other.cancel() and other is not connected and other.exception() is None:
                other.result().abort()


async def _connect(origin: Origin, address: Address, tls: ssl.SSLContext | None) -> Connection:
    family, _, protocol, _, (host, port, *_) = address
    transport, connection = await asyncio.get_running_loop().create_connection(
        lambda: Connection(origin),
        host,
        port,
        family=family,
        proto=protocol,
        ssl=tls,
        server_hostname=None if tls is None else origin.host,
    )
    _notice_silence(transport.get_extra_info("socket"))
    return connection


def _notice_silence(sock: socket.socket) -> None:
    """Have the kernel end a connection whose peer has died without a word."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, KEEPALIVE_SECONDS)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNACKNOWLEDGED_SECONDS_MAX * 1000)


async def _first(
    tries: Sequence[asyncio.Task[Connection]], seconds: float | None
) -> asyncio.Task[Connection] | None:
    """Return a try that has connected; ``None``: all have failed, or none has in this time."""
    pending = {one for one in tries if not one.done()}
    while pending:
        done, pending = await asyncio.wait(
            pending, timeout=seconds, return_when=asyncio.FIRST_COMPLETED
        )
        if not done:
            return None
        for one in done:
            if one.exception() is None:
                return one
    return None
