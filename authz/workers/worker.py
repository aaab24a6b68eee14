"""One worker: a whole server that obeys its supervisor instead of signals."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, BinaryIO

from authz.lifecycle import Signals, run_logged
from authz.loading import Loader
from authz.runtime import Shared
from authz.server import Server
from authz.telemetry import Telemetry
from authz.workers.channel import (
    Reload,
    ReloadCertificates,
    Report,
    ReportRequest,
    Start,
    Stop,
    next_order,
    stop_seconds,
)
from authz.workers.metrics import snapshot

if TYPE_CHECKING:
    from authz.build import Configuration
    from authz.model import Gateway


def main() -> int:
    """Serve as ordered by the supervisor, through standard input; return the exit code."""
    channel = socket.socket(fileno=os.dup(sys.stdin.fileno()))
    orders = channel.makefile("rb")
    start = next_order(orders)
    if not isinstance(start, Start):
        return 1
    worker = Worker(start, channel, orders)
    return run_logged(start.settings, worker.serve(), pid=True)


class Worker:
    """The server of this process, and the thread that carries out orders.

    It is a thread so that the supervisor gets a report while the loop is busy.
    """

    def __init__(self, start: Start, channel: socket.socket, orders: BinaryIO) -> None:
        self._settings = start.settings
        self._wanted: Start | Reload = start
        self._number = start.number
        self._channel = channel
        self._orders = orders
        self._telemetry = Telemetry()

    async def serve(self) -> int:
        """Run the server; return the exit code."""
        async with Shared(self._settings, self._telemetry) as shared:
            return await self._serve(Loader(shared, os.environ))

    async def _serve(self, loader: Loader) -> int:
        async def make(_in_force: Gateway, _may_open: frozenset[str]) -> Configuration:
            # The supervisor has judged what this opens; judging again could divide the workers.
            return await self._configuration(loader)

        signals = Signals()
        server = Server(self._settings, await self._configuration(loader), make, self._telemetry)
        running = asyncio.create_task(server.run(signals))
        listening = asyncio.create_task(server.listening.wait())
        await asyncio.wait((running, listening), return_when=asyncio.FIRST_COMPLETED)
        listening.cancel()
        orders = threading.Thread(
            target=self._obey,
            args=(server, signals, asyncio.get_running_loop()),
            name="authz-orders",
            daemon=True,
        )
        if not running.done():
            orders.start()  # not earlier: the first report means that the server listens
        return await running

    async def _configuration(self, loader: Loader) -> Configuration:
        """Return the configuration that the supervisor has given out last, built here."""
        wanted = self._wanted
        configuration = await loader.accepted(wanted.sources)
        self._number = wanted.number
        return configuration

    def _obey(self, server: Server, signals: Signals, loop: asyncio.AbstractEventLoop) -> None:
        """Carry out orders until the supervisor is gone, and then end."""

        def send(number: signal.Signals) -> None:
            with suppress(RuntimeError):  # the loop has ended, and the process will
                loop.call_soon_threadsafe(signals.put_nowait, number)

        stopping = False
        while (order := next_order(self._orders)) is not None:
            match order:
                case ReportRequest():
                    with suppress(OSError):  # the supervisor has ended: next_order returns None
                        self._channel.sendall(self._report(server).line())
                case Reload():
                    self._wanted = order
                    send(signal.SIGHUP)
                case ReloadCertificates():
                    server.reload_certificates()
                case Stop():
                    stopping = True
                    send(signal.SIGTERM)
        # The supervisor has ended: drain as it would have ordered, and end soon after it.
        if not stopping:
            send(signal.SIGTERM)
        time.sleep(stop_seconds(self._settings))
        os._exit(1)

    def _report(self, server: Server) -> Report:
        counted = snapshot(self._telemetry.registry)
        return Report(server.ready, server.status(), counted, self._number)
