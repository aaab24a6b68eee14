"""What reaches standard error, and what never does."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import pytest

from authz import logs
from authz.logs import FIELD_CHARS_MAX
from authz.model import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.settings import LogFormat, LogLevel

CANARY = "canary-5f1d"


class Output(io.StringIO):
    """A stream whose reader can be slow."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.flowing = threading.Event()
        self.flowing.set()

    def write(self, text: str) -> int:
        self.entered.set()
        self.flowing.wait()
        return super().write(text)

    @property
    def lines(self) -> list[str]:
        return self.getvalue().splitlines()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.lines]


@contextmanager
def logging_to(
    stream: Any, level: LogLevel = "info", form: LogFormat = "json"
) -> Iterator[logs.Logs]:
    log = logs.setup(level, form, stream)
    try:
        yield log
    finally:
        log.close()


def test_lines_of_several_processes_say_whose_they_are(output: Output) -> None:
    log = logs.setup("info", "json", output, pid=True)
    logging.getLogger("authz").info("hello")
    log.close()

    [event] = output.events
    assert event["pid"] == os.getpid()


def test_a_line_is_text_on_a_terminal_and_json_elsewhere(output: Output) -> None:
    main, terminal = os.openpty()
    with open(terminal, "w") as stream, logging_to(stream, form="auto"):  # noqa: PTH123 - a descriptor
        logging.getLogger("authz").info("hello")
    with logging_to(output, form="auto"):
        logging.getLogger("authz").info("hello")

    assert os.read(main, 1000).endswith(b" info authz: hello\r\n")
    os.close(main)
    assert output.events[0]["message"] == "hello"


@pytest.fixture
def output() -> Output:
    return Output()


def test_a_record_is_one_json_object_a_line(output: Output) -> None:
    with logging_to(output):
        fields = {"reason": "secret_rejected", "duration_ms": 1.5, "route": None}
        logging.getLogger("authz.decision").info("denied", extra={"fields": fields})

    [event] = output.events
    time = event.pop("time")
    assert event == {"level": "info", "logger": "authz.decision", "message": "denied", **fields}
    assert time.endswith("Z")
    assert time[10] == "T"


def test_a_record_is_text_for_people(output: Output) -> None:
    with logging_to(output, form="text"):
        fields = {"listen": ["127.0.0.1:1", "unix:/a"], "why": "two words", "empty": "", "n": 3}
        logging.getLogger("authz.server").warning("it is %s", "up", extra={"fields": fields})

    [line] = output.lines
    assert line.partition(" ")[2] == (
        'warning authz.server: it is up listen=127.0.0.1:1,unix:/a why="two words" empty="" n=3'
    )


def test_a_field_cannot_take_the_place_of_the_records_own(output: Output) -> None:
    with logging_to(output):
        logging.getLogger("a").info("real", extra={"fields": {"message": "fake", "level": "x"}})

    assert (output.events[0]["message"], output.events[0]["level"]) == ("real", "info")


@pytest.mark.parametrize("form", ["json", "text"])
def test_LG_04_a_hostile_identifier_stays_one_short_visible_line(
    output: Output, form: LogFormat
) -> None:
    hostile = "a\nERROR fake=1 \x1b[31m\x7f\x9b\u2028\ud800" + "x" * 4096
    with logging_to(output, form=form):
        logger = logging.getLogger("a")
        logger.info("denied", extra={"fields": {"client": hostile, "list": [hostile]}})
        logger.info("message %s", hostile)

    assert len(output.lines) == 2
    assert all(line.isascii() and line.isprintable() for line in output.lines)
    assert max(map(len, output.lines)) < 2500
    if form == "json":
        client = output.events[0]["client"]
        assert len(client) == FIELD_CHARS_MAX
        assert client.startswith("a\nERROR fake=1")


def test_a_long_place_keeps_its_line(output: Output) -> None:
    with logging_to(output):
        position = f"/{'very/' * 60}long.yaml:12:3"
        logging.getLogger("a").info("denied", extra={"fields": {"plugin": position}})

    assert output.events[0]["plugin"].endswith("long.yaml:12:3")


@pytest.mark.parametrize("form", ["json", "text"])
def test_LG_01_an_exception_is_logged_by_type_and_place_and_never_by_its_text(
    output: Output, form: LogFormat
) -> None:
    with logging_to(output, form=form):
        try:
            try:
                os.environ[CANARY]
            except KeyError as error:
                raise ValueError(f"secret={CANARY}") from error
        except ValueError:
            logging.getLogger("a").exception("it broke")

    [line] = output.lines
    assert "ValueError < KeyError" in line
    assert "test_logs.py:" in line
    assert CANARY not in line.replace("test_LG_01", "")


def test_LG_06_a_secret_in_a_field_is_not_shown(output: Output) -> None:
    with logging_to(output):
        logging.getLogger("a").info("x", extra={"fields": {"secret": Secret(CANARY)}})

    assert CANARY not in output.getvalue()
    assert "***" in output.getvalue()


@pytest.mark.parametrize("name", ["httpx", "h11", "grpc.aio", "asyncio", "uvicorn"])
def test_LG_02_libraries_that_print_headers_are_quiet_at_debug_too(
    output: Output, name: str
) -> None:
    with logging_to(output, "debug"):
        logging.getLogger(name).debug("Authorization: %s", CANARY)
        logging.getLogger(name).info("Authorization: %s", CANARY)
        logging.getLogger(name).warning("heard")
        logging.getLogger("authz").debug("heard")

    assert [event["message"] for event in output.events] == ["heard", "heard"]


def test_records_below_the_level_are_not_written(output: Output) -> None:
    with logging_to(output, "warning"):
        logging.getLogger("a").info("no")
        logging.getLogger("a").error("yes")

    assert [event["message"] for event in output.events] == ["yes"]


def test_close_puts_back_what_was(output: Output) -> None:
    root, quiet = logging.getLogger(), logging.getLogger("httpx")
    before = (root.level, root.handlers[:], quiet.level)
    with logging_to(output, "debug"):
        assert (root.level, root.handlers[:], quiet.level) != before

    assert (root.level, root.handlers[:], quiet.level) == before


def test_a_record_that_cannot_be_formatted_is_counted_and_its_arguments_not_shown(
    output: Output, capfd: pytest.CaptureFixture[str]
) -> None:
    with logging_to(output) as log:
        logging.getLogger("a").info("%d", CANARY)

    assert log.dropped == 1
    assert [event["lost"] for event in output.events] == [1]
    assert CANARY not in "".join(capfd.readouterr())


def test_RL_20_a_reader_that_stands_still_costs_lines_and_no_time(output: Output) -> None:
    output.flowing.clear()
    with logging_to(output) as log:
        logger = logging.getLogger("a")
        logger.info("in the pipe")
        output.entered.wait()
        for number in range(logs.QUEUE_LINES + 10):
            logger.info("%d", number)
        assert log.dropped == 10
        output.flowing.set()

    assert output.events[-1] | {"time": ""} == {
        "time": "",
        "level": "warning",
        "logger": "authz.logs",
        "message": "log lines were lost",
        "lost": 10,
    }
    assert len(output.lines) == logs.QUEUE_LINES + 2


def test_RL_20_a_full_disk_stops_nothing() -> None:
    with open("/dev/full", "w") as full, logging_to(full) as log:  # noqa: PTH123 - a device
        logging.getLogger("a").info("lost")

    assert log.dropped >= 1


def test_RL_20_a_pipe_that_nobody_reads_does_not_keep_the_process() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)  # so that this test's fill ends
    with suppress(BlockingIOError):
        while os.write(writer, bytes(65536)):
            pass
    os.set_blocking(writer, True)
    with os.fdopen(writer, "w") as stream:
        with logging_to(stream) as log:
            logging.getLogger("a").info("stuck")
        assert log._writer._thread.is_alive()
        os.close(reader)  # frees the thread, which must not meet another file of this number
        log._writer._thread.join()


def test_a_pipe_gets_whole_lines() -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, logging_to(stream):
        logging.getLogger("a").info("x" * 1000)
    with os.fdopen(reader) as stream:
        assert json.loads(stream.read())["message"] == "x" * 1000


def test_which_decisions_are_told_does_not_depend_on_the_level() -> None:
    output = Output()
    with logging_to(output, level="error"):
        logging.getLogger("authz.decision").info("denied", extra={"fields": {"reason": "x"}})
        logging.getLogger("authz.server").info("serving")

    assert [event["message"] for event in output.events] == ["denied"]
