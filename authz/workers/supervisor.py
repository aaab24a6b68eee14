"""The supervisor: it holds the ports, replaces workers, and answers the operator for all."""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, TypeVar

from authz.admin import Admin
from authz.control import Control
from authz.lifecycle import Reloads, obeyed_signals, run_logged, stop_signal
from authz.loading import Loader
from authz.runtime import Shared
from authz.telemetry import Telemetry
from authz.transport.listeners import certificates, listeners
from authz.workers.channel import Reload, ReloadCertificates, Start, Stop, stop_seconds
from authz.workers.metrics import WorkerTelemetry, merge, registry_of, snapshot
from authz.workers.ports import reserve
from authz.workers.process import REPORT_SECONDS, WorkerProcess

if TYPE_CHECKING:
    from collections.abc import Coroutine, Iterable, Mapping, Sequence

    from authz.admin import IdpStatus
    from authz.kong.files import Sources
    from authz.lifecycle import Signals
    from authz.loading import Loaded
    from authz.model import Gateway
    from authz.settings import Settings
    from authz.workers.channel import Order, Report
    from authz.workers.metrics import Metrics

PAUSE_SECONDS_MIN = 0.1
PAUSE_SECONDS_MAX = 30.0
STEADY_SECONDS = 60.0
"""A worker that has run for so long did not end in a crash loop."""
TAKEN_POLL_SECONDS = 0.05
TAKEN_POLLS_MAX = 400
"""How often the workers are asked whether the accepted configuration is in force: for 20 s."""
FORCED_SECONDS = 5.0
"""How long a worker may take to end at once."""

T = TypeVar("T")

_logger = logging.getLogger(__name__)


def run(settings: Settings, environ: Mapping[str, str], warnings: Iterable[str] = ()) -> int:
    """Run ``authz serve`` with several workers; return the exit code.  See ``server.run``."""
    return run_logged(settings, _supervise(settings, environ), warnings, pid=True)


async def _supervise(settings: Settings, environ: Mapping[str, str]) -> int:
    certificates(settings)  # each worker reads them; an error in them is logged here, once
    with obeyed_signals() as signals, ExitStack() as ports:
        addresses = []
        for wanted in listeners(settings):
            address, holder = reserve(wanted)
            ports.enter_context(holder)
            addresses.append(address)
        settings = settings.replace(listen=tuple(addresses))
        # With metrics that nobody reads: what is built here answers no call.
        async with Shared(settings, Telemetry()) as shared:
            loader = Loader(shared, environ)
            supervisor = Supervisor(settings, environ, signals, loader, await loader.load())
            return await supervisor.run()


class Supervisor:
    """One run with several workers.  It is also the ``Readiness`` of the operator's pages.

    Every worker gets the bytes of the configuration that was accepted last, also a worker
    that is started later, when the files may have changed.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        signals: Signals,
        loader: Loader,
        loaded: Loaded,
    ) -> None:
        self._settings = settings
        self._workers_settings = settings.replace(admin=None, control=None)
        self._environ = environ
        self._signals = signals
        self._telemetry = Telemetry()
        self._worker_telemetry = WorkerTelemetry(self._telemetry.registry)
        self._loop = asyncio.get_running_loop()
        self._loader = loader
        self._sources: Sources
        self._gateway: Gateway
        self._accept(loaded)
        self._number = 0
        self._workers: set[WorkerProcess] = set()
        self._ended_metrics: Metrics = []
        self._reloads = Reloads(self._reload, self._telemetry)
        control = settings.operation.control
        self._control = Control(control, self._reload_all) if control else None
        self._stopping = asyncio.Event()
        self._complete = False
        self._code = 0

    # --- The run ------------------------------------------------------------------

    async def run(self) -> int:
        """Serve until a signal ends it; return the exit code.

        Raises ``ListenError``, before anything is served.
        """
        self._log_notices()
        admin = self._admin()
        fields = {
            "workers": self._settings.operation.workers,
            "listen": [str(address) for address in self._settings.listener.addresses],
            "admin": str(admin.address) if admin else "off",
        }
        _logger.info("supervising", extra={"fields": fields})
        try:
            if self._control is not None:
                await self._control.start()
            places = range(self._settings.operation.workers)
            tasks = [asyncio.create_task(self._supervise_one()) for _ in places]
            while await self._signals.get() == signal.SIGHUP:
                self._reloads.want()
            return await self._drain(asyncio.gather(*tasks))
        finally:
            if self._control is not None:
                await self._control.stop()
            if admin is not None:
                await asyncio.to_thread(admin.stop)

    def _admin(self) -> Admin | None:
        if self._settings.operation.admin is None:
            return None
        admin = Admin(self._settings.operation.admin, self, registry_of(self._metrics))
        admin.start()
        return admin

    def _accept(self, loaded: Loaded) -> None:
        """Take what the workers will get.  Each of them builds it for itself."""
        self._sources, self._gateway = loaded.sources, loaded.configuration.gateway
        loaded.configuration.retire()

    def _log_notices(self) -> None:
        for notice in self._gateway.notices:
            _logger.info("notice: %s", notice)

    async def _reload(self, may_open: frozenset[str]) -> None:
        """Accept the new configuration once for all workers, and send it to each.

        The workers read the certificates anew in either case, as a single process does.
        """
        try:
            loaded = await self._loader.load(self._gateway, may_open)
        except Exception:
            self._order(ReloadCertificates())
            raise
        self._accept(loaded)
        self._log_notices()
        self._number += 1
        self._order(Reload(self._sources, self._number))

    async def _reload_all(self, may_open: frozenset[str]) -> Sequence[str]:
        """Reload, and return once every worker that answers has the new configuration in force."""
        refused = await self._reloads.ask(may_open)
        number = self._number
        for _ in range(TAKEN_POLLS_MAX):
            if all(report.number >= number for report in await self._reports()):
                return refused
            await asyncio.sleep(TAKEN_POLL_SECONDS)
        return (*refused, "accepted, but not yet in force in every worker: see the log")

    async def _drain(self, ended: asyncio.Future[list[None]]) -> int:
        """Let every worker drain; at another signal, or when time is up, end them at once."""
        _logger.info("stopping")
        self._stopping.set()
        await self._reloads.stop()
        self._order(Stop())
        hurry = asyncio.create_task(stop_signal(self._signals))
        limit = stop_seconds(self._settings)
        await asyncio.wait((ended, hurry), timeout=limit, return_when=asyncio.FIRST_COMPLETED)
        hurry.cancel()
        if ended.done():
            _logger.info("stopped")
            return self._code
        _logger.warning("stopping at once: calls in flight are lost")
        self._order(Stop())
        await asyncio.wait((ended,), timeout=FORCED_SECONDS)
        for worker in self._workers:
            worker.kill()
        await ended
        return 1

    def _order(self, order: Order) -> None:
        for worker in self._workers:
            worker.order(order)

    # --- A worker's place ---------------------------------------------------------

    async def _supervise_one(self) -> None:
        """Have a worker run until the stop; one that ends before is replaced."""
        pause, listened = 0.0, False
        while not self._stopping.is_set():
            began = self._loop.time()
            listened |= await self._run_worker()
            if self._stopping.is_set():
                return
            if not listened:
                # The worker has logged why.  As with one process, the start fails.
                self._give_up()
                return
            pause = next_pause(pause, self._loop.time() - began)
            await self._pause(pause)

    def _give_up(self) -> None:
        if not self._code:  # else another worker has failed before
            self._code = 1
            self._signals.put_nowait(signal.SIGTERM)

    async def _run_worker(self) -> bool:
        """Run one worker until it ends; return whether it has listened."""
        try:
            worker = await WorkerProcess.start(self._environ)
        except OSError as error:
            _logger.error("a worker cannot be started: %s", error.strerror)  # noqa: TRY400 - no bug
            return False
        self._workers.add(worker)
        worker.begin(Start(self._workers_settings, self._sources, self._number))
        if self._stopping.is_set():  # the stop came while it was started
            worker.order(Stop())
        await worker.read_reports()
        self._workers.discard(worker)
        self._ended_metrics = merge((self._ended_metrics, worker.counted))
        code = await worker.exit_code()
        if code or not self._stopping.is_set():
            fields = {"worker": worker.pid, "code": code}
            _logger.warning("a worker ended", extra={"fields": fields})
        if code and self._stopping.is_set():
            self._code = 1  # its calls in flight are lost
        return worker.listens

    async def _pause(self, seconds: float) -> None:
        self._worker_telemetry.restarted()
        _logger.info("another worker follows", extra={"fields": {"in_seconds": seconds}})
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopping.wait()

    # --- What the operator asks, from a thread of its own --------------------------

    @property
    def started(self) -> bool:
        """Whether all workers have listened at the same time: a later loss changes nothing."""
        self._asked(self._reports())
        return self._complete

    @property
    def ready(self) -> bool:
        """Whether calls should be sent here: every worker that listens must want them.

        The kernel gives connections to workers whether they are ready or not.  And not
        before all of them listen, or the first one would get every connection.
        """
        reports = self._asked(self._reports())
        return self._complete and bool(reports) and all(report.ready for report in reports)

    @property
    def refused(self) -> Sequence[str]:
        """Why the last reload was refused, if it was."""
        return self._reloads.refused

    def status(self) -> Sequence[IdpStatus]:
        """Return the state of each identity provider; of one that a worker lacks, that worker's."""
        found: dict[str, IdpStatus] = {}
        for report in self._asked(self._reports()):
            for provider in report.providers:
                if provider.issuer not in found or not provider.ready:
                    found[provider.issuer] = provider
        return list(found.values())

    def _metrics(self) -> Metrics:
        return self._asked(self._merged())

    def _asked(self, question: Coroutine[Any, Any, T]) -> T:
        answer = asyncio.run_coroutine_threadsafe(question, self._loop)
        return answer.result(2 * REPORT_SECONDS)

    async def _reports(self) -> list[Report]:
        return [report for _, report in await self._asked_workers() if report is not None]

    async def _merged(self) -> Metrics:
        """Return the metrics of all processes, of workers that have ended too.

        Of a worker that does not report in time the last counters are taken, so that no
        total falls, and no gauges.
        """
        reported = []
        for worker, report in await self._asked_workers():
            if worker in self._workers:  # else it has ended meanwhile
                reported.append(report.metrics if report else worker.counted)
                if report is None:
                    self._worker_telemetry.missed()
        self._worker_telemetry.listening(len(reported))
        return merge((snapshot(self._telemetry.registry), self._ended_metrics, *reported))

    async def _asked_workers(self) -> list[tuple[WorkerProcess, Report | None]]:
        """Ask every worker that listens how it is."""
        workers = [worker for worker in self._workers if worker.listens]
        self._complete |= len(workers) == self._settings.operation.workers
        reports = await asyncio.gather(*(worker.report() for worker in workers))
        return list(zip(workers, reports, strict=True))


def next_pause(before: float, lived_seconds: float) -> float:
    """Return how long to wait before a worker is replaced, in seconds.

    It doubles up to ``PAUSE_SECONDS_MAX``, and starts again after a worker that ran for
    ``STEADY_SECONDS``.
    """
    if lived_seconds >= STEADY_SECONDS:
        return PAUSE_SECONDS_MIN
    return min(PAUSE_SECONDS_MAX, max(PAUSE_SECONDS_MIN, 2 * before))
