"""The life of one server: listen, ready, reload, drain, stop."""

from __future__ import annotations

import asyncio
import logging
import signal
from typing import TYPE_CHECKING

from authz.admin import Admin
from authz.control import Control
from authz.envoy.check import POOL
from authz.lifecycle import Reloads, obeyed_signals, run_logged, stop_signal
from authz.loading import Loader
from authz.runtime import Shared
from authz.telemetry import Telemetry
from authz.transport import Limits
from authz.transport.choice import transport_class
from authz.transport.listeners import certificates, listeners

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence

    from authz.admin import IdpStatus
    from authz.build import Configuration
    from authz.lifecycle import Signals
    from authz.model import Gateway
    from authz.settings import Settings
    from authz.transport import Transport

    Make = Callable[[Gateway, frozenset[str]], Awaitable[Configuration]]

PATIENCE_SECONDS = 1.0
"""How long a configuration may take to be ready before a line says why it is not."""

_logger = logging.getLogger(__name__)


class _InForce:
    """What the transport calls: the configuration in force at that moment."""

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration

    def replace(self, configuration: Configuration) -> None:
        """Put ``configuration`` in force for every call from now on, and retire the one before."""
        before, self.configuration = self.configuration, configuration
        before.retire()

    def cached(self, wire: bytes, waited_s: float = 0.0, /) -> bytes | None:
        return self.configuration.authorizer.cached(wire, waited_s)

    async def check(self, wire: bytes, deadline: float | None, waited_s: float = 0.0, /) -> bytes:
        return await self.configuration.check(wire, deadline, waited_s)

    def fault(self, error: Exception) -> bytes:
        return self.configuration.authorizer.fault(error)

    def overloaded(self) -> bytes:
        return self.configuration.authorizer.overloaded()


class Server:
    """One run of the server.  It is also the ``Readiness`` of the operator's pages.

    ``make`` returns the configuration to put in force at a reload, given the one in force and
    the names that may be opened; whatever it raises, the one in force stays.
    """

    def __init__(
        self,
        settings: Settings,
        configuration: Configuration,
        make: Make,
        telemetry: Telemetry,
        *,
        patience_seconds: float = PATIENCE_SECONDS,
    ) -> None:
        self._settings = settings
        self._make = make
        self._telemetry = telemetry
        self._patience_seconds = patience_seconds
        self._in_force = _InForce(configuration)
        self._certificates = certificates(settings)
        self._transport: Transport = transport_class(settings.listener.transport)(
            self._in_force,
            listeners(settings),
            pool=POOL if settings.listener.reflection else None,
            certificates=self._certificates,
            limits=Limits(connection_age_seconds=settings.listener.connection_age_seconds),
            reuse_port=settings.operation.workers > 1,
        )
        operation = settings.operation
        self._admin = Admin(operation.admin, self, telemetry.registry) if operation.admin else None
        self.listening = asyncio.Event()
        """Set once calls can reach it, ready or not."""
        self._serving = False
        self._announcing: asyncio.Task[None] | None = None
        self._reloads = Reloads(self._reload, telemetry)
        self._control = Control(operation.control, self._reloads.ask) if operation.control else None

    @property
    def started(self) -> bool:
        """Whether calls can reach it: the configuration has been loaded before."""
        return self.listening.is_set()

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
        return self._in_force.configuration.status()

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
        self._begin(self._in_force.configuration)

    def _begin(self, configuration: Configuration) -> None:
        """Have a configuration fetch what it needs, and tell health when it is ready."""
        if self._settings.operation.workers == 1:  # else the supervisor has logged them, once
            for notice in configuration.gateway.notices:
                _logger.info("notice: %s", notice)
        configuration.start()
        self._stop_announcing()
        self._announcing = asyncio.create_task(self._announce(configuration))

    async def _announce(self, configuration: Configuration) -> None:
        # After a reload health stays as it was at first: the moment in which the keys of a
        # new provider are fetched must not take the server out of rotation.
        try:
            async with asyncio.timeout(self._patience_seconds):
                await configuration.wait_ready()
        except TimeoutError:
            await self._set_serving(serving=False)
            _logger.warning("listening, not ready: %s", _reasons(configuration))
            await configuration.wait_ready()
        if not self._serving:
            await self._set_serving(serving=True)
            _logger.info("serving", extra={"fields": self._summary(configuration.gateway)})

    async def _reload(self, may_open: frozenset[str]) -> None:
        """Put the new configuration in force whole."""
        self.reload_certificates()
        configuration = await self._make(self._in_force.configuration.gateway, may_open)
        self._in_force.replace(configuration)
        _logger.info("reloaded", extra={"fields": self._summary(configuration.gateway)})
        self._begin(configuration)

    def reload_certificates(self) -> None:
        """Read the listeners' certificates anew, if there are any."""
        if self._certificates is not None:
            self._certificates.reload()

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
        # Clients poll health, so calls still come for a while.
        await asyncio.sleep(self._settings.operation.drain_delay_seconds)
        await self._transport.stop(self._settings.operation.grace_seconds)
        _logger.info("stopped")

    async def _close(self) -> None:
        """Stop everything that has been started, however the run ended."""
        await self._reloads.stop()
        if self._control is not None:
            await self._control.stop()
        self._stop_announcing()
        await self._transport.stop(0)
        if self._admin is not None:
            await asyncio.to_thread(self._admin.stop)

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


def run(settings: Settings, environ: Mapping[str, str], warnings: Iterable[str] = ()) -> int:
    """Run ``authz serve``; return the exit code.  ``warnings`` are logged first, a line each."""
    return run_logged(settings, _serve(settings, environ), warnings)


async def _serve(settings: Settings, environ: Mapping[str, str]) -> int:
    telemetry = Telemetry()
    with obeyed_signals() as signals:
        async with Shared(settings, telemetry) as shared:
            loader = Loader(shared, environ)

            async def make(in_force: Gateway, may_open: frozenset[str]) -> Configuration:
                return (await loader.load(in_force, may_open)).configuration

            first = (await loader.load()).configuration
            return await Server(settings, first, make, telemetry).run(signals)


def _reasons(configuration: Configuration) -> str:
    # The first line of a detail is the state; the others are for /readyz?verbose.
    states = [
        (one.issuer, one.detail.partition("\n")[0], one.ready) for one in configuration.status()
    ]
    reasons = [f"{issuer}: {state}" for issuer, state, ready in states if not ready]
    return "; ".join(reasons) or "no identity provider is ready"
