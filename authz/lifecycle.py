"""What every ``serve`` process does: log, obey signals, and run one reload at a time.

The home of uvloop.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import sys
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import uvloop

from authz import logs
from authz.errors import ConfigurationError, RouteOpened
from authz.transport import ListenError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Iterable, Iterator

    from authz.settings import Settings
    from authz.telemetry import Telemetry

# Python looks for cycles after so many new objects (700 by itself, which is at every decision
# or two).  Few of a decision's objects are in one, so looking seldom saves a tenth of its time.
OBJECTS_BEFORE_LOOKING_FOR_CYCLES = 20_000

KEPT = "the configuration of before stays in force"
UNEXPECTED = "unexpected error"
STOPPING = "the server is stopping"
RELOADS_WAITING_MAX = 16

OBEYED = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
Signals = asyncio.Queue[signal.Signals]

_logger = logging.getLogger(__name__)


def run_logged(
    settings: Settings,
    serve: Coroutine[Any, Any, int],
    warnings: Iterable[str] = (),
    *,
    pid: bool = False,
) -> int:
    """Run ``serve`` to its end on a new loop, with logging; return the exit code.

    ``warnings`` are logged first, a line each.  With ``pid`` each line carries the process id.
    """
    gc.set_threshold(OBJECTS_BEFORE_LOOKING_FOR_CYCLES, *gc.get_threshold()[1:])
    log = logs.setup(settings.log.level, settings.log.format, sys.stderr, pid=pid)
    for warning in warnings:
        _logger.warning("%s", warning)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.get_loop().set_exception_handler(_log_loop_error)
            return runner.run(serve)
    except (ConfigurationError, ListenError) as error:
        log_error(error)
        return 1
    finally:
        log.close()


@contextmanager
def obeyed_signals() -> Iterator[Signals]:
    """Put the signals that a server obeys into a queue, in place of their default action."""
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
    """Return when a signal comes that is not SIGHUP."""
    while await signals.get() == signal.SIGHUP:
        pass


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A reload that was asked for, and the future that waits for its outcome, if any."""

    may_open: frozenset[str] = frozenset()
    asker: asyncio.Future[tuple[str, ...]] | None = None


class Reloads:
    """Runs reloads in a task, one after the other: a large file must not delay SIGTERM.

    ``reload`` takes the names that may be opened, and puts a new configuration in force, or
    raises and leaves the old one.
    """

    def __init__(
        self, reload: Callable[[frozenset[str]], Awaitable[None]], telemetry: Telemetry
    ) -> None:
        self.refused: tuple[str, ...] = ()
        """The problems for which the last reload was refused, a line each; empty if it was not."""
        self._reload = reload
        self._telemetry = telemetry
        self._task: asyncio.Task[None] | None = None
        self._waiting: deque[_Wanted] = deque()
        self._askers: set[asyncio.Future[tuple[str, ...]]] = set()
        self._stopped = False

    def want(self) -> None:
        """Reload; if a reload is under way, reload once more after it."""
        if _Wanted() not in self._waiting:
            self._put(_Wanted())

    async def ask(self, may_open: frozenset[str]) -> tuple[str, ...]:
        """Reload, and return the problems for which it was refused, a line each."""
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
        """Cancel the reload under way, and answer those who wait."""
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
            if wanted.asker is not None and not wanted.asker.done():  # not cancelled
                wanted.asker.set_result((*self.refused, KEPT) if self.refused else ())

    async def _refused(self, may_open: frozenset[str]) -> tuple[str, ...]:
        try:
            await self._reload(may_open)
        except Exception as error:  # noqa: BLE001 - the configuration in force stays, whatever the error
            self._telemetry.reloaded("would_open" if isinstance(error, RouteOpened) else "failed")
            log_error(error, then=KEPT)
            return lines_of(error)
        self._telemetry.reloaded("ok")
        return ()


def log_error(error: Exception, *, then: str = "") -> None:
    """Log why a configuration or an address cannot be used, one line a problem."""
    unexpected = not isinstance(error, ConfigurationError | ListenError)
    for line in lines_of(error):
        _logger.error("%s", line, exc_info=error if unexpected else None)
    if then:
        _logger.error("%s", then)


def lines_of(error: Exception) -> tuple[str, ...]:
    """Return the lines to log for an error, one a problem; no detail of an unexpected one."""
    if isinstance(error, ConfigurationError):
        return tuple(map(str, error.problems))
    return (str(error),) if isinstance(error, ListenError) else (UNEXPECTED,)


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log an exception that escaped a task; the reprs in ``context`` may hold secrets."""
    _logger.error("%s", context["message"], exc_info=context.get("exception"))
