"""The default transport: ``grpc.aio``.  The home of grpcio.

Nothing here logs a request or a context: both hold the caller's credentials.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import socket
import stat
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import grpc
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from authz.settings import TcpAddress, UnixAddress
from authz.transport import AUTHORIZATION, ListenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from google.protobuf.descriptor_pool import DescriptorPool

    from authz.settings import Address
    from authz.transport import CheckService

    _Methods = dict[str, grpc.RpcMethodHandler[Any, Any]]
    _HealthContext = grpc.aio.ServicerContext[
        health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    ]

HEALTH = "grpc.health.v1.Health"
SOCKET_UMASK = 0o117  # leaves 0660: the owner and a shared group, as a pod's fsGroup
PROBE_SECONDS = 3.0

MESSAGE_BYTES = 1024 * 1024
METADATA_BYTES = 16 * 1024
STREAMS_PER_CONNECTION = 1024
PING_SECONDS = 60
PING_TIMEOUT_SECONDS = 20
LEAST_PING_INTERVAL_SECONDS = 5

_OPTIONS = (
    ("grpc.max_receive_message_length", MESSAGE_BYTES),
    ("grpc.max_metadata_size", METADATA_BYTES),
    ("grpc.absolute_max_metadata_size", METADATA_BYTES),
    ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION),
    # A peer that vanished without a word is noticed, and its streams ended.
    ("grpc.keepalive_time_ms", PING_SECONDS * 1000),
    ("grpc.keepalive_timeout_ms", PING_TIMEOUT_SECONDS * 1000),
    # Envoy pings an idle connection to us too: not a reason to hang up on it.
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_ping_interval_without_data_ms", LEAST_PING_INTERVAL_SECONDS * 1000),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", LEAST_PING_INTERVAL_SECONDS * 1000),
)


class GrpcioTransport:
    """Serves Check, health, and reflection if it gets the ``pool`` to tell about.

    ``reuse_port``: processes of this user share each port, and somebody else
    has made sure that no other process holds it.
    """

    def __init__(
        self,
        service: CheckService,
        listen: Sequence[Address],
        *,
        pool: DescriptorPool | None,
        reuse_port: bool = False,
    ) -> None:
        self._service = service
        self._listen = tuple(listen)
        self._pool = pool
        self._reuse_port = reuse_port
        self._health = _Health()
        self._sockets = ExitStack()
        self._addresses: tuple[Address, ...] = ()
        self._server: grpc.aio.Server | None = None

    @property
    def addresses(self) -> Sequence[Address]:
        """The addresses that are listened on, with their real ports."""
        return self._addresses

    async def start(self) -> None:
        """Bind every address and take calls; raises ``ListenError`` and leaves nothing behind."""
        if not self._reuse_port:
            for address in self._listen:
                _refuse_if_taken(address)
        # On by default in gRPC: a forgotten process would share the port's calls.
        options = (*_OPTIONS, ("grpc.so_reuseport", int(self._reuse_port)))
        self._server = grpc.aio.server(options=options)
        self._server.add_generic_rpc_handlers((_authorization(self._service), self._health.rpcs()))
        if self._pool is not None:
            _add_reflection(self._server, self._pool)
        try:
            self._addresses = tuple(self._bind(self._server, address) for address in self._listen)
            await self._server.start()
        except BaseException:
            await self.stop(0)
            raise

    async def set_serving(self, serving: bool, /) -> None:
        """Set what health answers."""
        await self._health.set_serving(serving)

    async def stop(self, grace_seconds: float, /) -> None:
        """Stop; may be called again with a shorter grace, to end at once."""
        await self._health.close()
        if self._server is not None:
            await self._server.stop(grace_seconds)
        self._sockets.close()

    def _bind(self, server: grpc.aio.Server, address: Address) -> Address:
        if isinstance(address, TcpAddress):
            return TcpAddress(address.host, _add_port(server, address))
        self._sockets.enter_context(_socket_lock(Path(address.path)))
        # Around the bind and not a chmod after it: in between, anyone could connect.
        before = os.umask(SOCKET_UMASK)
        try:
            _add_port(server, address)
        finally:
            os.umask(before)
        return address


def probe(address: Address, service: str = AUTHORIZATION) -> str:
    """Ask the gRPC health of ``address``: ``SERVING``, another status, or why there is none."""
    # A question to this host is nothing for the proxy that http_proxy names.
    options = (("grpc.enable_http_proxy", 0),)
    with grpc.insecure_channel(_target(address), options) as channel:
        check = channel.unary_unary(
            f"/{HEALTH}/Check",
            health_pb2.HealthCheckRequest.SerializeToString,
            health_pb2.HealthCheckResponse.FromString,
        )
        try:
            answer = check(health_pb2.HealthCheckRequest(service=service), timeout=PROBE_SECONDS)
        except grpc.RpcError as error:
            return error.code().name
    return health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def _authorization(service: CheckService) -> grpc.GenericRpcHandler:
    """Return the Check method: raw bytes on both sides, for gRPC must not parse them.

    Its own parsing would end the call with an error before our code could
    answer.  Everything in here is paid by every call.
    """
    cached, now = service.cached, asyncio.get_running_loop().time

    async def check(wire: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        answer = cached(wire)
        if answer is None:
            remaining = context.time_remaining()
            deadline = None if remaining is None else now() + remaining
            answer = await service.check(wire, deadline)
        return answer

    methods: _Methods = {"Check": grpc.unary_unary_rpc_method_handler(check)}
    return grpc.method_handlers_generic_handler(AUTHORIZATION, methods)


class _Health:
    """``grpc.health.v1``.

    Not the package's servicer: that one keeps its Watch streams open while the
    server stops, so one watcher makes every stop last its whole grace.
    """

    def __init__(self) -> None:
        self._status = "NOT_SERVING"
        self._closed = False
        self._changed = asyncio.Condition()

    def rpcs(self) -> grpc.GenericRpcHandler:
        parse = health_pb2.HealthCheckRequest.FromString
        serialize = health_pb2.HealthCheckResponse.SerializeToString
        methods: _Methods = {
            "Check": grpc.unary_unary_rpc_method_handler(self._check, parse, serialize),
            "Watch": grpc.unary_stream_rpc_method_handler(self._watch, parse, serialize),
        }
        return grpc.method_handlers_generic_handler(HEALTH, methods)

    async def set_serving(self, serving: bool) -> None:
        async with self._changed:
            self._status = "SERVING" if serving else "NOT_SERVING"
            self._changed.notify_all()

    async def close(self) -> None:
        async with self._changed:
            self._status = "NOT_SERVING"
            self._closed = True
            self._changed.notify_all()

    async def _check(
        self, request: health_pb2.HealthCheckRequest, context: _HealthContext
    ) -> health_pb2.HealthCheckResponse:
        status = self._status_of(request.service)
        if status == "SERVICE_UNKNOWN":
            await context.abort(grpc.StatusCode.NOT_FOUND, "unknown service")
        return health_pb2.HealthCheckResponse(status=status)

    async def _watch(
        self, request: health_pb2.HealthCheckRequest, _context: _HealthContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        while True:
            told = self._status_of(request.service)
            yield health_pb2.HealthCheckResponse(status=told)
            async with self._changed:
                while self._status_of(request.service) == told:
                    if self._closed:
                        return
                    await self._changed.wait()

    def _status_of(self, service: str) -> str:
        return self._status if service in ("", AUTHORIZATION) else "SERVICE_UNKNOWN"


def _add_reflection(server: grpc.aio.Server, pool: DescriptorPool) -> None:
    for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
        pool.AddSerializedFile(file.serialized_pb)
    names = (AUTHORIZATION, HEALTH, reflection.SERVICE_NAME)
    reflection.enable_server_reflection(names, server, pool)


def _add_port(server: grpc.aio.Server, address: Address) -> int:
    try:
        return server.add_insecure_port(_target(address))
    except RuntimeError:
        raise ListenError(f"cannot listen on {address}: gRPC could not bind it") from None


def _refuse_if_taken(address: Address) -> None:
    """Bind a TCP address and let it go again.

    gRPC does not hand on why it could not bind, and keeps the ports that it
    already has.
    """
    if isinstance(address, UnixAddress):
        return  # its lock tells
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family) as attempt:
        attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            attempt.bind((address.host, address.port))
        except OSError as error:
            raise ListenError(f"cannot listen on {address}: {error.strerror}") from error


@contextmanager
def _socket_lock(path: Path) -> Iterator[None]:
    """Own the socket at ``path``, by a lock on a file beside it, as long as the context lasts.

    gRPC unlinks whatever is at the path and binds anew, so a second server
    would take over silently; the lock, which ends with its process, decides.
    """
    refusal = f"cannot listen on unix:{path}"
    try:
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ListenError(f"{refusal}: {path}.lock: {error.strerror}") from error
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ListenError(f"{refusal}: another authz listens there") from None
        if _is_taken(path):
            raise ListenError(f"{refusal}: something else stands or listens there")
        path.unlink(missing_ok=True)
        yield
        path.unlink(missing_ok=True)
    finally:
        # The lock file stays: removing it would let two servers lock two files of one name.
        os.close(lock)


def _is_taken(path: Path) -> bool:
    """Tell whether ``path`` is anything but free or a socket that nobody listens on."""
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return False
    if not stat.S_ISSOCK(mode):
        return True
    with socket.socket(socket.AF_UNIX) as visitor:
        visitor.settimeout(0)  # a full backlog is an answer too: somebody is there
        try:
            visitor.connect(str(path))
        except ConnectionRefusedError:
            return False
        except OSError:
            return True
    return True


def _target(address: Address) -> str:
    # gRPC reads a target as a URI: a path's % and ? are escaped.
    return f"unix:{quote(address.path)}" if isinstance(address, UnixAddress) else str(address)
