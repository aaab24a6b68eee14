"""One line an event on standard error, written by a thread of its own.

A record is made into a line where it arises and put into a bounded queue, so
that a blocked pipe costs lines and never a request.  What was lost is counted
and said as soon as lines flow again.

A caller adds fields with ``extra={"fields": {...}}``.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import select
import threading
import traceback
from contextlib import suppress
from datetime import UTC, datetime
from io import UnsupportedOperation
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from authz.settings import LogFormat, LogLevel

QUEUE_LINES = 4096
MESSAGE_CHARS_MAX = 2048
FIELD_CHARS_MAX = 128
# Says what was found and what was wanted, in our own words.
DETAIL_CHARS_MAX = 512
STACK_FRAMES = 20
CLOSE_SECONDS = 1.0

DECISIONS = "authz.decision"
# Below WARNING httpx logs whole URLs, which can carry credentials.  The lines of the others
# say nothing about authz.
QUIET_LOGGERS = ("asyncio", "grpc", "h11", "httpx", "uvicorn")

_logger = logging.getLogger(__name__)


def log_internal_error(logger: logging.Logger, error: Exception) -> None:
    """Log a fault of ours with its frames, not with its text: that may hold anything."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    logger.error(
        "internal error", extra={"fields": {"type": type(error).__name__, "frames": where}}
    )


class Logs:
    """The logging of the process, as ``setup`` made it; ``close`` puts back what was."""

    def __init__(self, handler: _LineHandler, writer: _Writer, level: str) -> None:
        root = logging.getLogger()
        self._handler = handler
        self._writer = writer
        self._before = (root.level, root.handlers[:])
        named = (*QUIET_LOGGERS, DECISIONS)
        self._levels = {name: logging.getLogger(name).level for name in named}
        root.handlers[:] = [handler]
        root.setLevel(level.upper())
        for name in QUIET_LOGGERS:
            logging.getLogger(name).setLevel(logging.WARNING)
        # --log-decisions decides which of these are logged, and not --log-level.
        logging.getLogger(DECISIONS).setLevel(logging.INFO)

    @property
    def dropped(self) -> int:
        """How many lines were lost since the start, because nobody read them."""
        return self._writer.dropped

    def close(self) -> None:
        """Write what is queued, for at most ``CLOSE_SECONDS``, and stop."""
        root = logging.getLogger()
        level, root.handlers[:] = self._before
        root.setLevel(level)
        for name, before in self._levels.items():
            logging.getLogger(name).setLevel(before)
        self._writer.close()
        self._handler.close()


def setup(
    level: LogLevel,
    format: LogFormat,  # noqa: A002 - the setting's name
    stream: TextIO,
    *,
    pid: bool = False,
) -> Logs:
    """Send every record of ``level`` and above to ``stream``, as lines of ``format``.

    ``auto`` is ``text`` on a terminal, else ``json``.
    With ``pid`` each line has the process id, because several processes write to ``stream``.
    """
    as_text = stream.isatty() if format == "auto" else format == "text"
    formatter = TextFormatter(pid=pid) if as_text else JsonFormatter(pid=pid)
    writer = _Writer(_sink(stream), formatter)
    return Logs(_LineHandler(writer, formatter), writer, level)


class _EventFormatter(logging.Formatter):
    def __init__(self, *, pid: bool = False) -> None:
        super().__init__()
        self._pid = pid

    def _event(self, record: logging.LogRecord) -> dict[str, Any]:
        return _event(record) | ({"pid": record.process} if self._pid else {})


class JsonFormatter(_EventFormatter):
    """One JSON object a line, in ASCII: a control character cannot end the line early."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        # json escapes all that is not visible ASCII, lone surrogates included.
        return json.dumps(self._event(record), default=str)


class TextFormatter(_EventFormatter):
    """``time level logger: message key=value``, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its end."""
        event = self._event(record)
        head = "{time} {level} {logger}: {message}".format_map(event)
        for name in ("time", "level", "logger", "message"):
            del event[name]
        fields = (f"{name}={_plain(value)}" for name, value in event.items())
        return _escape(" ".join((head, *fields)))


class _LineHandler(logging.Handler):
    """Formats a record at once, so that nothing it refers to can change or be kept."""

    def __init__(self, writer: _Writer, formatter: logging.Formatter) -> None:
        super().__init__()
        self._writer = writer
        self.setFormatter(formatter)

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = self.format(record)
        except Exception:  # noqa: BLE001 - a record that cannot be written must not stop a request
            self.handleError(record)
        else:
            self._writer.put(line)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's method
        """Count the record as lost: logging's own answer prints its arguments, secrets too."""
        self._writer.drop()


class _Writer:
    """A bounded queue of lines and the thread that writes them."""

    def __init__(self, write: Callable[[str], object], formatter: logging.Formatter) -> None:
        self.dropped = 0
        self._told = 0
        self._write = write
        self._formatter = formatter
        self._lines: queue.Queue[str | None] = queue.Queue(QUEUE_LINES)
        # A daemon, because a pipe that nobody reads must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="authz-logs", daemon=True)
        self._thread.start()

    def put(self, line: str) -> None:
        try:
            self._lines.put_nowait(line)
        except queue.Full:
            self.drop()

    def drop(self) -> None:
        self.dropped += 1

    def close(self) -> None:
        with suppress(queue.Full):
            self._lines.put(None, timeout=CLOSE_SECONDS)
            self._thread.join(CLOSE_SECONDS)

    def _run(self) -> None:
        while (line := self._lines.get()) is not None:
            self._put_out(line)
            if self.dropped > self._told and self._lines.empty():
                self._tell_dropped()
        self._tell_dropped()

    def _put_out(self, line: str) -> None:
        try:
            self._write(line + "\n")
        except (OSError, ValueError):  # the reader is gone, the disk full, the stream closed
            self.drop()

    def _tell_dropped(self) -> None:
        lost = self.dropped - self._told
        if lost:
            self._told = self.dropped
            record = _logger.makeRecord(
                _logger.name, logging.WARNING, "", 0, "log lines were lost", (), None
            )
            record.fields = {"lost": lost}
            self._put_out(self._formatter.format(record))


def _sink(stream: TextIO) -> Callable[[str], object]:
    """Return what writes one line to ``stream``.

    A file is written through its descriptor: a thread that hangs in a write of
    Python's own buffered stream would hold that stream's lock, and the process
    would abort when it flushes at its end.
    """
    try:
        descriptor = stream.fileno()
    except (AttributeError, UnsupportedOperation):
        return stream.write
    return lambda line: _write_all(descriptor, line.encode("ascii"))


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # whoever opened standard error may have made it non-blocking
            ready = select.poll()
            ready.register(descriptor, select.POLLOUT)
            ready.poll()


def _event(record: logging.LogRecord) -> dict[str, Any]:
    time = datetime.fromtimestamp(record.created, UTC)
    event: dict[str, Any] = {
        "time": time.isoformat(timespec="milliseconds").replace("+00:00", "Z"),  # RFC 3339
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": _shorten(record.getMessage(), MESSAGE_CHARS_MAX),
    }
    fields: Mapping[str, Any] = getattr(record, "fields", {})
    for name, value in fields.items():
        most = DETAIL_CHARS_MAX if name == "detail" else FIELD_CHARS_MAX
        event.setdefault(name, _bounded(value, most))
    if record.exc_info and record.exc_info[1] is not None:
        event.update(_exception(record.exc_info[1]))
    return event


def _exception(error: BaseException) -> dict[str, Any]:
    """Say what was raised and where, and never its text: that can hold what a caller sent."""
    frames = traceback.extract_tb(error.__traceback__)[-STACK_FRAMES:]
    return {
        "error": " < ".join(type(cause).__name__ for cause in _causes(error)),
        "stack": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames],
    }


def _causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(STACK_FRAMES):  # a chain of causes can lead back to itself
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _bounded(value: object, most: int) -> object:
    if isinstance(value, str):
        return _shorten(value, most)
    if isinstance(value, (list, tuple)):
        return [_bounded(item, most) for item in value]
    return value


def _shorten(text: str, most: int) -> str:
    """Cut out the middle: the start names the thing, and the end of a path has the line."""
    if len(text) <= most:
        return text
    tail = most // 4
    return f"{text[: most - tail - 3]}...{text[-tail:]}"


def _plain(value: object) -> str:
    if isinstance(value, list):
        return ",".join(map(_plain, value))
    text = str(value)
    return text if text and text.isascii() and not set(text) & set(' "=') else json.dumps(text)


def _escape(text: str) -> str:
    r"""Write all but visible ASCII as ``\x1b`` or ``\u2028``: a terminal obeys none of it."""
    if text.isascii() and text.isprintable():
        return text
    visible = (char if char.isascii() and char.isprintable() else _code(char) for char in text)
    return "".join(visible)


def _code(char: str) -> str:
    return char.encode("unicode_escape", "surrogatepass").decode("ascii")
