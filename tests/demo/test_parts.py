"""Real parts are found, started, watched and ended whole."""

from __future__ import annotations

import os
import select
import sys
from typing import TYPE_CHECKING

import pytest

from authz.demo.parts import (
    PartFailedError,
    PartMissingError,
    Process,
    accepts,
    find,
    free_port,
)

if TYPE_CHECKING:
    from pathlib import Path

LISTEN = """
import socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print("listening", flush=True)
while True:
    listener.accept()
"""


class Python(Process):
    """A child that runs a line of Python; ready when its port accepts."""

    name = "python"

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.port = free_port()

    def command(self, directory: Path) -> list[str]:
        return [sys.executable, "-c", self.source, str(self.port)]

    def is_ready(self) -> bool:
        return accepts(self.port)


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_process_is_ready_inside_the_block_and_gone_after_it() -> None:
    with Python(LISTEN) as child:
        pid = child.pid
        assert child.running
        assert child.output() == "listening\n"

    assert pid is not None
    assert not alive(pid)
    assert not accepts(child.port)
    assert child.output() == "listening\n"


def test_a_stopped_process_can_be_started_again() -> None:
    child = Python(LISTEN)
    for _ in range(2):
        with child:
            assert accepts(child.port)


def test_the_whole_group_is_ended() -> None:
    parent = "import subprocess; print(subprocess.Popen(['sleep', '60']).pid, flush=True)\n"
    with Python(parent + LISTEN) as child:
        grandchild = os.pidfd_open(int(child.output().split()[0]))
    ended, _, _ = select.select([grandchild], [], [], 5)  # readable once it has ended
    os.close(grandchild)

    assert ended


def test_a_process_that_ends_early_fails_with_its_output() -> None:
    with (
        pytest.raises(PartFailedError, match=r"(?s)python ended with code 3:.*no such thing"),
        Python("import sys; print('no such thing'); sys.exit(3)"),
    ):
        pass


def test_a_process_that_never_listens_fails_in_time_and_is_ended() -> None:
    child = Python("import time; time.sleep(60)")
    child.ready_within_s = 0.1
    child.start()
    pid = child.pid
    with pytest.raises(PartFailedError, match="not ready within"):
        child.wait_ready()

    assert pid is not None
    assert not alive(pid)


def test_a_process_that_ignores_sigterm_is_killed() -> None:
    child = Python("import signal; signal.signal(15, signal.SIG_IGN)\n" + LISTEN)
    child.grace_s = 0.1
    with child:
        pass

    assert not accepts(child.port)


def test_a_missing_program_is_one_line_that_says_what_to_do() -> None:
    with pytest.raises(PartMissingError) as caught:
        find("no-such-part")

    assert "AUTHZ_NO-SUCH-PART" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_F_a_program_of_parts_that_are_not_all_there_is_missing(tmp_path: Path) -> None:
    program = tmp_path / "bin" / "no-such-part"
    program.parent.mkdir()
    program.touch(0o755)
    with pytest.raises(PartMissingError, match="make demo"):
        find(program.name, {}, parts=tmp_path)

    (tmp_path / ".ready").touch()
    assert find(program.name, {}, parts=tmp_path) == str(program)


def test_the_variable_decides_which_program_is_run() -> None:
    assert find("envoy", {"AUTHZ_ENVOY": sys.executable}) == sys.executable


def test_a_variable_that_names_no_program_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(PartMissingError, match="is not a program"):
        find("envoy", {"AUTHZ_ENVOY": str(tmp_path / "envoy")})
