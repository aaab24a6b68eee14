"""The life of a server: load, build, listen, ready, reload, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import uvloop

from authz import logs
from authz.admin import Admin
from authz.build import build
from authz.control import Control
from authz.envoy.check import POOL
from authz.errors import ConfigurationError, RouteOpened
from authz.loading import Loader
from authz.settings import TcpAddress, beyond_loopback, resolve
from authz.telemetry import Telemetry
from authz.transport import Limits, ListenError
from authz.transport.choice import transport_class
from authz.transport.tls import CertificateFiles

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping, Sequence

    from authz.admin import IdpStatus
    from authz.build import Configuration as BuiltConfiguration
    from authz.model import Gateway
    from authz.settings import Address, Settings
    from authz.transport import CheckService, Transport

PATIENCE_SECONDS = 1.0
"""How long readiness may take before a line says why it is not there yet."""

KEPT = "the configuration of before stays in force"
UNEXPECTED = "unexpected error"
STOPPING = "the server is stopping"
RELOADS_WAITING_MAX = 16

OBEYED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
Signals = asyncio.Queue[signal.Signals]

_logger = logging.getLogger(__name__)


class Configuration(Protocol):
    """All that was built from one configuration, with everything it runs."""

    @property
    def gateway(self) -> Gateway:
        """The configuration."""

    @property
    def authorizer(self) -> CheckService:
        """What answers."""

    @property
    def ready(self) -> bool:
        """Whether the keys of an issuer have been seen."""

    def start(self) -> None:
        """Begin to fetch what will be needed."""

    async def wait_ready(self) -> None:
        """Return once ``ready`` is true."""

    def status(self) -> Sequence[IdpStatus]:
        """Return the state of each identity provider."""

    async def aclose(self) -> None:
        """End what runs and close what is open."""


H = TypeVar("H", bound=Configuration)


class Server(Generic[H]):
    """One run of the server.  Also what the operator's pages ask about readiness.

    ``make`` loads the configuration anew and builds it, given the configuration of before and
    the names that may be opened.
    """

    def __init__(
        self,
        settings: Settings,
        configuration: H,
        make: Callable[[H, frozenset[str]], Awaitable[H]],
        telemetry: Telemetry,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._settings = settings
        self._make = make
        self._telemetry = telemetry
        self._patience_seconds = patience_seconds
        self._current = _CurrentService(configuration)
        self._certificates = certificates(settings)
        self._transport: Transport = transport_class(settings.transport)(
            self._current,
            listeners(settings),
            pool=POOL if settings.reflection else None,
            certificates=self._certificates,
            limits=Limits(connection_age_seconds=settings.max_connection_age_seconds),
            reuse_port=settings.workers > 1,
        )
        self._admin = Admin(settings.admin, self, telemetry.registry) if settings.admin else None
        self.listening = asyncio.Event()
        """Set once calls can reach it, ready or not."""
        self._serving = False
        self._announcing: asyncio.Task[None] | None = None
        self._reloads = Reloads(self._reload, telemetry)
        self._control = Control(settings.control, self._reloads.ask) if settings.control else None
        self._retiring: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> bool:
        """Whether calls should be sent here: what health says too."""
        return self._serving

    @property
    def refused(self) -> Sequence[str]:
        """Why the last reload was refused, if it was."""
        return self._reloads.refused

    def status(self) -> Sequence[IdpStatus]:
        """Return the state of each identity provider of the configuration in force."""
        return self._current.configuration.status()

    async def run(self, signals: Signals) -> int:
        """Serve until a signal ends it; return the exit code.

        Raises ``ListenError``, before anything is served.
        """
        try:
            await self._listen()
            while await signals.get() == signal.SIGHUP:
                self._reloads.want()
            return await self._drain(signals)
        finally:
            await self._close()

    async def _listen(self) -> None:
        if self._admin is not None:
            self._admin.start()
        if self._control is not None:
            await self._control.start()
        await self._transport.start()
        self.listening.set()
        self._begin(self._current.configuration)

    def _begin(self, configuration: H) -> None:
        """Start what a configuration runs by itself, and tell the world when it is ready."""
        if self._settings.workers == 1:  # else the supervisor has told them, once for all
            for notice in configuration.gateway.notices:
                _logger.info("notice: %s", notice)
        configuration.start()
        self._stop_announcing()
        self._announcing = asyncio.create_task(self._announce(configuration))

    async def _announce(self, configuration: H) -> None:
        # After a reload health still says what it said: a moment without keys,
        # while they are fetched, is not worth taking the server out of rotation.
        try:
            async with asyncio.timeout(self._patience_seconds):
                await configuration.wait_ready()
        except TimeoutError:
            await self._set_serving(serving=False)
            _logger.warning("listening, not ready: %s", _reasons(configuration))
            await configuration.wait_ready()
        await self._set_serving(serving=True)
        _logger.info("serving", extra={"fields": self._summary(configuration.gateway)})

    async def _reload(self, may_open: frozenset[str]) -> None:
        """Put the new configuration in force whole."""
        if self._certificates is not None:
            self._certificates.reload()
        configuration = await self._make(self._current.configuration, may_open)
        self._retire(self._current.replace(configuration))
        self._begin(configuration)

    def _retire(self, edition: _Edition[H]) -> None:
        task = asyncio.create_task(edition.retire())
        self._retiring.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._retiring.discard)

    async def _drain(self, signals: Signals) -> int:
        """Stop in order, or at once if another signal to stop comes."""
        stop = asyncio.create_task(self._stop())
        hurry = asyncio.create_task(stop_signal(signals))
        await asyncio.wait((stop, hurry), return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if stop.done():
            await stop
            return 0
        stop.cancel()
        _logger.warning("stopping at once: calls in flight are lost")
        await self._transport.stop(0)
        return 1

    async def _stop(self) -> None:
        _logger.info("stopping")
        await self._reloads.stop()
        self._stop_announcing()
        await self._set_serving(serving=False)
        # Whoever asks health needs time to hear it; until then calls still come.
        await asyncio.sleep(self._settings.drain_delay_seconds)
        await self._transport.stop(self._settings.grace_seconds)
        _logger.info("stopped")

    async def _close(self) -> None:
        """Release everything, however the run ended; what is stopped already stays so."""
        await self._reloads.stop()
        if self._control is not None:
            await self._control.stop()
        self._stop_announcing()
        await self._transport.stop(0)
        if self._admin is not None:
            await asyncio.to_thread(self._admin.stop)
        await asyncio.gather(*self._retiring)
        await self._current.configuration.aclose()

    async def _set_serving(self, *, serving: bool) -> None:
        self._serving = serving
        await self._transport.set_serving(serving)

    def _stop_announcing(self) -> None:
        if self._announcing is not None:
            self._announcing.cancel()

    def _summary(self, gateway: Gateway) -> dict[str, object]:
        return {
            "transport": self._transport.name,
            "listen": [str(address) for address in self._transport.addresses],
            "admin": str(self._admin.address) if self._admin else "off",
            "routes": len(gateway.routes),
            "plugins": len(gateway.plugins),
            "consumers": len(gateway.consumers),
            "notices": len(gateway.notices),
        }


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A reload that was asked for, and who waits for what becomes of it."""

    may_open: frozenset[str] = frozenset()
    asker: asyncio.Future[tuple[str, ...]] | None = None


class Reloads:
    """Reloads beside the signals, one after the other: a large file must not keep SIGTERM waiting.

    ``reload`` puts a new configuration in force, given the names that may be opened, or
    raises and leaves the old one.
    """

    def __init__(
        self, reload: Callable[[frozenset[str]], Awaitable[None]], telemetry: Telemetry
    ) -> None:
        self.refused: tuple[str, ...] = ()
        """Why the last reload was refused, a line a problem; nothing if it was not."""
        self._reload = reload
        self._telemetry = telemetry
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[_Wanted] = deque()
        self._askers: set[asyncio.Future[tuple[str, ...]]] = set()
        self._stopped = False

    def want(self) -> None:
        """Reload; once more, if the files are being read already."""
        if _Wanted() not in self._waiting:
            self._put(_Wanted())

    async def ask(self, may_open: frozenset[str]) -> tuple[str, ...]:
        """Reload, and return why that was refused, a line a problem."""
        if self._stopped:
            return (STOPPING,)
        if len(self._waiting) >= RELOADS_WAITING_MAX:
            return (f"{RELOADS_WAITING_MAX} reloads are waiting already",)
        asker: asyncio.Future[tuple[str, ...]] = asyncio.get_running_loop().create_future()
        self._askers.add(asker)
        asker.add_done_callback(self._askers.discard)
        self._put(_Wanted(may_open, asker))
        return await asker

    async def stop(self) -> None:
        """Give up what is under way, and tell whoever waits for it."""
        self._stopped = True
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for asker in self._askers:
            if not asker.done():
                asker.set_result((STOPPING,))

    def _put(self, wanted: _Wanted) -> None:
        self._waiting.append(wanted)
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._while_wanted())

    async def _while_wanted(self) -> None:
        while self._waiting:
            wanted = self._waiting.popleft()
            self.refused = await self._refused(wanted.may_open)
            if wanted.asker is not None and not wanted.asker.done():  # it may have gone away
                wanted.asker.set_result((*self.refused, KEPT) if self.refused else ())

    async def _refused(self, may_open: frozenset[str]) -> tuple[str, ...]:
        try:
            await self._reload(may_open)
        except Exception as error:  # noqa: BLE001 - whatever is wrong with the new, the old one works
            self._telemetry.reloaded("would_open" if isinstance(error, RouteOpened) else "failed")
            tell(error, then=KEPT)
            return lines_of(error)
        self._telemetry.reloaded("ok")
        return ()


class _Edition(Generic[H]):
    """A configuration in force, and how many calls are in it."""

    def __init__(self, configuration: H) -> None:
        self.configuration = configuration
        self._calls = 0
        self._empty = asyncio.Event()
        self._empty.set()

    async def check(self, wire: bytes, deadline: float | None) -> bytes:
        self._calls += 1
        self._empty.clear()
        try:
            return await self.configuration.authorizer.check(wire, deadline)
        finally:
            self._calls -= 1
            if not self._calls:
                self._empty.set()

    async def retire(self) -> None:
        """Close the configuration, once its last call has left."""
        await self._empty.wait()
        await self.configuration.aclose()


class _CurrentService(Generic[H]):
    """What the transport calls: the service of the configuration in force.

    ``cached`` cannot be interrupted, so only ``check`` is counted.
    """

    def __init__(self, configuration: H) -> None:
        self._edition = _Edition(configuration)

    @property
    def configuration(self) -> H:
        return self._edition.configuration

    def replace(self, configuration: H) -> _Edition[H]:
        """Put ``configuration`` in force for every call from now on; return what was before."""
        before, self._edition = self._edition, _Edition(configuration)
        return before

    def cached(self, wire: bytes) -> bytes | None:
        return self._edition.configuration.authorizer.cached(wire)

    async def check(self, wire: bytes, deadline: float | None) -> bytes:
        return await self._edition.check(wire, deadline)

    def fault(self, error: Exception) -> bytes:
        return self._edition.configuration.authorizer.fault(error)

    def overloaded(self) -> bytes:
        return self._edition.configuration.authorizer.overloaded()


def run(settings: Settings, environ: Mapping[str, str]) -> int:
    """Run ``authz serve``; return the exit code.  Everything it says goes to the log."""
    return run_logged(settings, _serve(settings, environ))


def run_logged(settings: Settings, serve: Coroutine[Any, Any, int], *, pid: bool = False) -> int:
    """Run to the end on a loop of its own, logging; return the exit code.

    With ``pid`` each line says whose it is.
    """
    log = logs.setup(settings.log_level, settings.log_format, sys.stderr, pid=pid)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.get_loop().set_exception_handler(_log_loop_error)
            return runner.run(serve)
    except (ConfigurationError, ListenError) as error:
        tell(error)
        return 1
    finally:
        log.close()


async def _serve(settings: Settings, environ: Mapping[str, str]) -> int:
    telemetry = Telemetry()
    loader = Loader(settings, environ)

    async def make(previous: BuiltConfiguration, may_open: frozenset[str]) -> BuiltConfiguration:
        loaded = await loader.load(previous.gateway, may_open)
        return build(loaded.gateway, settings, telemetry, previous=previous)

    with obeyed_signals() as signals:
        first = build((await loader.load()).gateway, settings, telemetry)
        return await Server(settings, first, make, telemetry).run(signals)


@contextmanager
def obeyed_signals() -> Iterator[Signals]:
    """Queue the signals that a server obeys, instead of what they would do by default."""
    loop = asyncio.get_running_loop()
    queue = Signals()
    for number in OBEYED:
        loop.add_signal_handler(number, queue.put_nowait, number)
    try:
        yield queue
    finally:
        for number in OBEYED:
            loop.remove_signal_handler(number)


async def stop_signal(signals: Signals) -> None:
    """Return when one comes that is not SIGHUP."""
    while await signals.get() == signal.SIGHUP:
        pass


def listeners(settings: Settings) -> tuple[Address, ...]:
    """Return what to bind, names resolved; raises ``ListenError`` for what plaintext may not."""
    try:
        addresses = tuple(resolved for address in settings.listen for resolved in _ips(address))
    except ValueError as error:
        raise ListenError(f"cannot listen: {error}") from error
    exposed = beyond_loopback(addresses)
    if exposed and settings.tls_cert is None and not settings.allow_plaintext:
        raise ListenError(
            f"cannot listen on {exposed[0]}: other machines reach it, and calls carry secrets in"
            " plaintext; give --tls-cert and --tls-key, listen on loopback or a Unix socket, or say"
            " --allow-plaintext if the network itself encrypts"
        )
    return addresses


def certificates(settings: Settings) -> CertificateFiles | None:
    """Return what the listeners' TLS needs, if it is asked for; raises ``ListenError``."""
    cert, key, client_ca = settings.tls_cert, settings.tls_key, settings.tls_client_ca
    if cert is not None and key is not None:
        return CertificateFiles(cert, key, client_ca)
    if cert is None and key is None and client_ca is None:
        return None
    raise ListenError("cannot listen with TLS: it needs --tls-cert and --tls-key, both")


def _ips(address: Address) -> tuple[Address, ...]:
    return resolve(address) if isinstance(address, TcpAddress) else (address,)


def _reasons(configuration: Configuration) -> str:
    reasons = [f"{one.issuer}: {one.detail}" for one in configuration.status() if not one.ready]
    return "; ".join(reasons) or "no identity provider is ready"


def tell(error: Exception, *, then: str = "") -> None:
    """Log why a configuration or an address cannot be used, one line a problem."""
    unexpected = not isinstance(error, ConfigurationError | ListenError)
    for line in lines_of(error):
        _logger.error("%s", line, exc_info=error if unexpected else None)
    if then:
        _logger.error("%s", then)


def lines_of(error: Exception) -> tuple[str, ...]:
    """Return what to say of an error, one line a problem; of one that is no verdict, no detail."""
    if isinstance(error, ConfigurationError):
        return tuple(map(str, error.problems))
    return (str(error),) if isinstance(error, ListenError) else (UNEXPECTED,)


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what escaped a task, without the reprs in ``context``: these hold anything."""
    _logger.error("%s", context["message"], exc_info=context.get("exception"))
