"""The default transport: ``grpc.aio``.

Nothing here logs a request or a context: both hold the caller's credentials.
"""

from __future__ import annotations

import asyncio
import os
import sys
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pb2, json_format
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from authz.settings import TcpAddress
from authz.transport import AUTHORIZATION, LIMITS, ListenError, answer
from authz.transport.probe import HEALTH, grpc_target
from authz.transport.sockets import bind, group_only, unix_socket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Sequence

    from google.protobuf.descriptor_pool import DescriptorPool

    from authz.settings import Address
    from authz.transport import CheckService, Limits
    from authz.transport.tls import Certificate, CertificateFiles

    _Methods = dict[str, grpc.RpcMethodHandler[Any, Any]]
    _HealthContext = grpc.aio.ServicerContext[
        health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse
    ]

REFLECTION = "grpc.reflection.v1.ServerReflection"
PING_INTERVAL_SECONDS_MIN = 5


class GrpcioTransport:
    """Serves Check, health, and reflection if it gets the ``pool`` to tell about.

    ``reuse_port``: processes of this user share each port, and somebody else
    has made sure that no other process holds it.
    """

    name = "grpcio"

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
        self._service = service
        self._listen = tuple(listen)
        self._pool = pool
        self._limits = limits
        self._reuse_port = reuse_port
        self._credentials = None if certificates is None else _credentials(certificates)
        self._health = _Health()
        self._until_stop = ExitStack()
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
        options = _options(self._limits, reuse_port=self._reuse_port)
        self._until_stop.enter_context(_batch_scheduling())
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
        self._until_stop.close()

    def _bind(self, server: grpc.aio.Server, address: Address) -> Address:
        if isinstance(address, TcpAddress):
            return TcpAddress(address.host, _add_port(server, address, self._credentials))
        self._until_stop.enter_context(unix_socket(Path(address.path)))
        with group_only():
            # Without TLS: the file's mode says who may connect.
            _add_port(server, address, None)
        return address


@contextmanager
def _batch_scheduling() -> Iterator[None]:
    """Keep this thread, and those that gRPC starts from it, from preempting each other.

    gRPC's own thread preempts the Python thread about five times a call, and then waits
    for it each time.  Under SCHED_BATCH (sched(7)) it does not preempt, which saves a
    quarter of the CPU time of a call.
    """
    if sys.platform != "linux":
        yield
        return
    if os.sched_getscheduler(0) != os.SCHED_OTHER:  # chosen by the operator: it stays
        yield
        return
    with suppress(OSError):  # a sandbox may forbid it: calls cost more then
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    try:
        yield
    finally:
        with suppress(OSError):
            os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _authorization(service: CheckService) -> grpc.GenericRpcHandler:
    """Return the Check method: raw bytes on both sides, for gRPC must not parse them.

    Its own parsing would end the call with an error before our code could
    answer.  Everything in here is paid by every call.
    """
    cached, now = service.cached, asyncio.get_running_loop().time

    async def check(wire: bytes, context: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
        try:
            ready = cached(wire)
        except Exception:  # noqa: BLE001 - no answer: the whole way will give one
            ready = None
        if ready is not None:
            return ready
        remaining = context.time_remaining()
        deadline = None if remaining is None else now() + remaining
        return await answer(service, wire, deadline)

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
    v1 = _reflection_v1()
    for file in (health_pb2.DESCRIPTOR.serialized_pb, reflection_pb2.DESCRIPTOR.serialized_pb, v1):
        pool.AddSerializedFile(file)
    names = (AUTHORIZATION, HEALTH, REFLECTION, reflection.SERVICE_NAME)
    # v1 differs from v1alpha in its name, and grpcio has only the latter.
    method = grpc.stream_stream_rpc_method_handler(
        reflection.aio.ReflectionServicer(names, pool).ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    for name in (REFLECTION, reflection.SERVICE_NAME):
        handler = grpc.method_handlers_generic_handler(name, {"ServerReflectionInfo": method})
        server.add_generic_rpc_handlers((handler,))


def _refuse_if_taken(address: Address) -> None:
    """Bind a TCP address and let it go again.

    gRPC does not hand on why it could not bind, and keeps the ports that it
    already has.  A Unix socket's lock tells.
    """
    if isinstance(address, TcpAddress):
        bind(address).close()


def _add_port(
    server: grpc.aio.Server, address: Address, credentials: grpc.ServerCredentials | None
) -> int:
    try:
        if credentials is None:
            return server.add_insecure_port(grpc_target(address))
        return server.add_secure_port(grpc_target(address), credentials)
    except RuntimeError:
        raise ListenError(f"cannot listen on {address}: gRPC could not bind it") from None


def _options(limits: Limits, *, reuse_port: bool) -> tuple[tuple[str, int], ...]:
    options = {
        # On by default in gRPC: a forgotten process would share the port's calls.
        "grpc.so_reuseport": int(reuse_port),
        "grpc.max_receive_message_length": limits.message_bytes,
        "grpc.max_metadata_size": limits.header_bytes,
        "grpc.absolute_max_metadata_size": limits.header_bytes,
        "grpc.max_concurrent_streams": limits.streams_per_connection,
        "grpc.server_handshake_timeout_ms": int(limits.handshake_seconds * 1000),
        "grpc.keepalive_time_ms": int(limits.ping_seconds * 1000),
        "grpc.keepalive_timeout_ms": int(limits.ping_timeout_seconds * 1000),
        # The wait for the answer to a ping, a minute unless told; the one above is
        # for an answer of any kind, and alone would change nothing.
        "grpc.http2.ping_timeout_ms": int(limits.ping_timeout_seconds * 1000),
        # Envoy pings an idle connection to us too: not a reason to hang up on it.
        "grpc.keepalive_permit_without_calls": 1,
        "grpc.http2.min_ping_interval_without_data_ms": PING_INTERVAL_SECONDS_MIN * 1000,
        "grpc.http2.min_recv_ping_interval_without_data_ms": PING_INTERVAL_SECONDS_MIN * 1000,
    }
    if limits.connection_age_seconds:
        grace = limits.connection_age_grace_seconds
        options["grpc.max_connection_age_ms"] = int(limits.connection_age_seconds * 1000)
        options["grpc.max_connection_age_grace_ms"] = int(grace * 1000)
    return tuple(options.items())


def _credentials(certificates: CertificateFiles) -> grpc.ServerCredentials:
    """Return credentials that ask for the certificate at each handshake."""
    used = certificates.current()

    def newer() -> grpc.ServerCertificateConfiguration | None:
        nonlocal used
        current = certificates.current()
        if current is used:
            return None
        used = current
        return _configuration(current)

    return grpc.dynamic_ssl_server_credentials(
        _configuration(used),
        newer,  # type: ignore[arg-type] # the stubs forget that None means "unchanged"
        require_client_authentication=used.client_ca is not None,
    )


def _configuration(certificate: Certificate) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration(
        [(certificate.key, certificate.chain)], certificate.client_ca
    )


def _reflection_v1() -> bytes:
    """Return the file of ``grpc.reflection.v1``: v1alpha's, under the later name."""
    alpha = descriptor_pb2.FileDescriptorProto.FromString(reflection_pb2.DESCRIPTOR.serialized_pb)
    renamed = json_format.MessageToJson(alpha).replace("v1alpha", "v1")
    return json_format.Parse(renamed, descriptor_pb2.FileDescriptorProto()).SerializeToString()
