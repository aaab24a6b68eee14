"""One worker process, as the supervisor sees it."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
import sys
from typing import TYPE_CHECKING

from authz.lifecycle import OBEYED
from authz.workers.channel import REPORT_BYTES_MAX, Report, ReportRequest, written
from authz.workers.metrics import counters

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.workers.channel import Order, Start
    from authz.workers.metrics import Metrics

REPORT_SECONDS = 0.5
"""How long a worker may take to report: less than the second of a usual probe."""


class WorkerProcess:
    """A started process, and the supervisor's end of the channel to it."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
    ) -> None:
        self.pid = process.pid
        self.listens = False
        """Whether it has begun to serve."""
        self.counted: Metrics = []
        """What it had counted when it last reported."""
        self._process = process
        self._reader = reader
        self._writer = writer
        self._report: asyncio.Future[Report | None] | None = None

    @classmethod
    async def start(cls, environ: Mapping[str, str]) -> WorkerProcess:
        """Start a process that waits for orders; raises ``OSError`` if that fails."""
        ours, theirs = socket.socketpair()
        with theirs:
            process = _spawn(theirs, environ)
        reader, writer = await asyncio.open_unix_connection(sock=ours, limit=REPORT_BYTES_MAX)
        return cls(process, reader, writer)

    def begin(self, start: Start) -> None:
        """Have it serve, and report as soon as it listens."""
        self.order(start)
        self.order(ReportRequest())

    def order(self, order: Order) -> None:
        """Send an order, unless the worker has ended."""
        if not self._writer.is_closing():
            self._writer.write(written(order))

    async def report(self) -> Report | None:
        """Return a report; ``None`` if none comes in time, or the worker has ended."""
        if self._report is None:  # else a request is under way
            self._report = asyncio.get_running_loop().create_future()
            self.order(ReportRequest())
        done, _ = await asyncio.wait((self._report,), timeout=REPORT_SECONDS)
        return next(iter(done)).result() if done else None

    async def read_reports(self) -> None:
        """Read its reports until it ends."""
        try:
            while line := await self._reader.readline():
                self._received(Report.of(line))
        except (ConnectionError, ValueError):
            self.kill()  # a worker whose reports cannot be read is replaced
        self._received(None)
        self._writer.close()

    async def exit_code(self) -> int:
        """Return the exit code once the process has ended; negative if a signal ended it."""
        return await asyncio.to_thread(self._process.wait)

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def _received(self, report: Report | None) -> None:
        """Answer those who wait for a report; ``None``: the worker has ended."""
        if report is not None:
            self.listens = True
            self.counted = counters(report.metrics)
        asked, self._report = self._report, None
        if asked is not None:
            asked.set_result(report)


def _spawn(channel: socket.socket, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    # Blocked in the worker for good: a terminal or systemd signals every process at once,
    # and the worker would get each signal a second time from the supervisor.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, OBEYED)
    try:
        return subprocess.Popen(
            # -P: -m would else look for modules in the working directory first.
            [sys.executable, "-P", "-m", "authz.workers"],
            stdin=channel.fileno(),
            env=dict(environ),
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
