"""The native transport: a thread of Rust that calls Python only to decide.

The home of ``authz_native``, which lives in ``native/`` and is a distribution of
its own; this module can be imported only where that is installed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import TYPE_CHECKING

from authz_native import Server
from google.protobuf import descriptor_pb2

from authz.transport import AUTHORIZATION, LIMITS, ListenError, answer
from authz.transport.sockets import bound_address, listen

if TYPE_CHECKING:
    from collections.abc import Sequence
    from socket import socket

    from authz_native import Call
    from google.protobuf.descriptor_pool import DescriptorPool

    from authz.settings import Address
    from authz.transport import CheckService, Limits
    from authz.transport.tls import Certificate, CertificateFiles

SWITCH_INTERVAL_SECONDS = 0.0005
"""How long Python code may go on while the server's thread waits for the interpreter.

About the most that a cached answer waits, each time, behind a miss that is being
worked out, and a miss behind cached answers.  native/README.md has the figures.
"""

_logger = logging.getLogger(__name__)


class NativeTransport:
    """Serves Check, health, and reflection if it gets the ``pool`` to tell about."""

    name = "native"

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
        self._listen = tuple(listen)
        self._reuse_port = reuse_port
        self._certificates = certificates
        self._addresses: tuple[Address, ...] = ()
        self._until_stop = ExitStack()
        self._tried: Certificate | None = None
        self._calls = _Calls(service)
        self._server = Server(
            self._calls,
            limits,
            reflection=None if pool is None else _descriptors(pool),
            before_handshake=None if certificates is None else self._renew_certificate,
        )
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="authz-native")
        self._running: asyncio.Future[None] | None = None

    @property
    def addresses(self) -> Sequence[Address]:
        """The addresses that are listened on, with their real ports."""
        return self._addresses

    async def start(self) -> None:
        """Bind every address and take calls; raises ``ListenError`` and leaves nothing behind."""
        loop = asyncio.get_running_loop()
        self._calls.begin(loop)
        try:
            self._tried = None
            self._use_certificate()
            listeners = [self._bind(address) for address in self._listen]
        except BaseException:
            self._until_stop.close()
            raise
        self._addresses = tuple(map(bound_address, listeners, self._listen))
        self._until_stop.callback(sys.setswitchinterval, sys.getswitchinterval())
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        await self._run(listeners)

    async def _run(self, listeners: Sequence[socket]) -> None:
        """Begin to serve; raises ``ListenError``, and leaves nothing behind, if that fails."""
        loop = asyncio.get_running_loop()
        began = loop.create_future()

        def tell() -> None:
            loop.call_soon_threadsafe(began.set_result, None)

        self._running = loop.run_in_executor(self._thread, self._server.run, listeners, tell)
        try:
            await asyncio.wait((self._running, began), return_when=asyncio.FIRST_COMPLETED)
            if not began.done():
                self._running.result()
        except OSError as error:
            self._running = None
            await self.stop(0)
            raise ListenError(f"cannot serve: {error.strerror or error}") from error
        except BaseException:
            await self.stop(0)
            raise

    async def set_serving(self, serving: bool, /) -> None:
        """Set what health answers."""
        self._server.set_serving(serving)

    async def stop(self, grace_seconds: float, /) -> None:
        """Stop; may be called again with a shorter grace, to end at once."""
        if self._running is None:
            self._until_stop.close()
            return
        self._server.stop(grace_seconds)
        # asyncio.wait: cancelling this wait must not cancel the end of the server.
        await asyncio.wait([self._running])
        try:
            self._running.result()
        finally:
            self._thread.shutdown()
            await self._calls.ended()
            self._until_stop.close()

    def _bind(self, address: Address) -> socket:
        return listen(address, self._until_stop, reuse_port=self._reuse_port)

    def _renew_certificate(self) -> None:
        """Give the server the certificate of now; called before each handshake, on their thread."""
        try:
            self._use_certificate()
        except ListenError as error:
            _logger.error("the certificate of before stays in force: %s", error)  # noqa: TRY400 - the reason is enough

    def _use_certificate(self) -> None:
        """Raise ``ListenError`` for one that the server refuses: once, and again after a start."""
        certificate = None if self._certificates is None else self._certificates.current()
        if certificate is None or certificate is self._tried:
            return
        self._tried = certificate
        try:
            self._server.use_certificate(certificate.chain, certificate.key, certificate.client_ca)
        except ValueError as error:
            # OpenSSL, which has looked at it before, knows more kinds of keys.
            raise ListenError(f"cannot listen with TLS: {error}") from error


class _Calls:
    """What the server's thread calls: it runs ``cached`` itself, and hands the rest to the loop."""

    def __init__(self, service: CheckService) -> None:
        self.cached = service.cached
        self.fault = service.fault
        self.overloaded = service.overloaded
        self._service = service
        self._tasks: dict[Call, asyncio.Task[None]] = {}
        self._loop: asyncio.AbstractEventLoop

    def begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """Set the loop that answers; before the first call."""
        self._loop = loop

    def submit(self, call: Call) -> None:
        """Have the loop answer a call for which there is no cached answer."""
        self._loop.call_soon_threadsafe(self._begin, call)

    def http1_peer(self) -> None:
        """Log that a peer speaks HTTP/1; called once at most."""
        _logger.warning(
            "a peer speaks HTTP/1 where gRPC, which is HTTP/2, is spoken; it was hung up on, and "
            "its callers get an empty 503. If it is Envoy: its cluster for authz lacks "
            "http2_protocol_options. Further ones are not logged"
        )

    def cancel(self, call: Call) -> None:
        """Cancel a call whose caller has gone; the loop runs this after its ``submit``."""
        self._loop.call_soon_threadsafe(self._end, call)

    async def ended(self) -> None:
        """Return once no call is left; the server has cancelled those that it gave up."""
        while self._tasks:
            await asyncio.wait(self._tasks.values())

    def _begin(self, call: Call) -> None:
        task = self._loop.create_task(self._answer(call))
        self._tasks[call] = task
        task.add_done_callback(lambda _: self._forget(call))

    def _end(self, call: Call) -> None:
        task = self._tasks.get(call)
        if task is not None:
            task.cancel()

    def _forget(self, call: Call) -> None:
        del self._tasks[call]
        call.close()  # however the task ended, no answer follows

    async def _answer(self, call: Call) -> None:
        remaining = call.time_remaining()
        deadline = None if remaining is None else self._loop.time() + remaining
        call.answer(await answer(self._service, call.wire, deadline, call.waited()))


def _descriptors(pool: DescriptorPool) -> bytes:
    """Return the FileDescriptorSet of the service and of all that it needs."""
    found = descriptor_pb2.FileDescriptorSet()
    wanted, seen = [pool.FindFileContainingSymbol(AUTHORIZATION)], set()
    while wanted:
        file = wanted.pop()
        if file.name not in seen:
            seen.add(file.name)
            found.file.add().ParseFromString(file.serialized_pb)
            wanted.extend(file.dependencies)
    return found.SerializeToString()
