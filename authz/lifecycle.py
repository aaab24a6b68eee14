"""What every ``serve`` process does: it logs, obeys signals, and reloads one thing at a time.

The home of uvloop.
"""

from __future__ import annotations

import asyncio
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
    """Run to the end on a loop of its own, logging ``warnings`` first; return the exit code.

    With ``pid`` each line says whose it is.
    """
    log = logs.setup(settings.log_level, settings.log_format, sys.stderr, pid=pid)
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
    """Return what to say of an error, one line a problem; of one that is no verdict, no detail."""
    if isinstance(error, ConfigurationError):
        return tuple(map(str, error.problems))
    return (str(error),) if isinstance(error, ListenError) else (UNEXPECTED,)


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Log what escaped a task, without the reprs in ``context``: these hold anything."""
    _logger.error("%s", context["message"], exc_info=context.get("exception"))
