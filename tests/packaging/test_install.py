"""``requirements/install.py``: an environment is what its lock lists, or it is not there."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest
from support.locks import ROOT
from support.wheels import Wheel, wheel

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

INSTALL = [sys.executable, str(ROOT / "requirements" / "install.py")]

pytestmark = pytest.mark.timeout(300)  # each environment takes seconds, on a busy machine many


class Index(ThreadingHTTPServer):
    """A package index with some wheels; while ``silent`` is set, a wheel's bytes never come."""

    daemon_threads = True

    def __init__(self, *wheels: Wheel) -> None:
        super().__init__(("127.0.0.1", 0), _Page)
        self.wheels = {each.path.name: each for each in wheels}
        self.silent = threading.Event()
        self.asked = threading.Event()
        self.closing = threading.Event()

    @property
    def environment(self) -> dict[str, str]:
        """Our environment, with pip asking here and nowhere else."""
        return {k: v for k, v in os.environ.items() if not k.startswith("PIP_")} | {
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_INDEX_URL": f"http://127.0.0.1:{self.server_port}/simple/",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_RETRIES": "0",
        }


class _Page(BaseHTTPRequestHandler):
    server: Index

    def do_GET(self) -> None:
        last = self.path.rstrip("/").rpartition("/")[2]
        found = self.server.wheels.get(last)
        if found is None:
            names = [name for name, each in self.server.wheels.items() if each.name == last]
            body = "".join(f'<a href="/files/{name}">{name}</a>' for name in names).encode()
        else:
            body = found.path.read_bytes()
        self.send_response(200 if body else 404)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if found is not None and self.server.silent.is_set():
            self.server.asked.set()
            self.server.closing.wait()
        else:
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def index(*wheels: Wheel) -> Iterator[Index]:
    with Index(*wheels) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


@pytest.fixture
def wheels(tmp_path: Path) -> dict[str, Wheel]:
    """``alpha`` wants an extra of ``beta``, as pytest-cov does; a newer ``beta`` is there."""
    made = [
        wheel(tmp_path, "alpha", "1.0", ["beta[more]>=1"]),
        wheel(tmp_path, "beta", "1.0", ["gamma; extra == 'more'"]),
        wheel(tmp_path, "beta", "2.0", ["gamma; extra == 'more'"]),
        wheel(tmp_path, "gamma", "1.0"),
    ]
    return {f"{each.name} {each.version}": each for each in made}


@pytest.fixture
def lock(tmp_path: Path, wheels: dict[str, Wheel]) -> Path:
    """A closed lock of the older ``beta``."""
    path = tmp_path / "tools.txt"
    path.write_text("".join(wheels[each].locked for each in ("alpha 1.0", "beta 1.0", "gamma 1.0")))
    return path


@pytest.fixture
def environment(tmp_path: Path) -> Path:
    return tmp_path / "environment"


def install(lock: Path, environment: Path, server: Index) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - a list, and no shell
        [*INSTALL, str(lock), str(environment)],
        env=server.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )


def holds(environment: Path) -> dict[str, str]:
    """What is in the environment, as its own interpreter sees it."""
    ask = "import importlib.metadata as m; [print(d.name, d.version) for d in m.distributions()]"
    python = environment / "bin" / "python"
    said = subprocess.run([python, "-c", ask], capture_output=True, text=True, check=True)  # noqa: S603 - a list, and no shell
    found = dict(line.split() for line in said.stdout.splitlines())
    return {name: version for name, version in found.items() if name not in {"pip", "setuptools"}}


def test_F_an_environment_is_what_the_lock_lists_for_this_interpreter_and_nothing_newer(
    lock: Path, environment: Path, wheels: dict[str, Wheel]
) -> None:
    with index(*wheels.values()) as server:
        done = install(lock, environment, server)

        assert done.returncode == 0, done.stdout
        assert holds(environment) == {"alpha": "1.0", "beta": "1.0", "gamma": "1.0"}

        # Off a terminal: a line for each package, and nothing that only a terminal reads.
        assert "[1/3] alpha 1.0" in done.stdout
        assert "[3/3] gamma 1.0" in done.stdout
        assert not {"\r", "\x1b"} & set(done.stdout)

        # What is whole is left alone.
        made = (environment / ".ready").stat().st_mtime_ns
        again = install(lock, environment, server)
        assert (again.returncode, again.stdout) == (0, "")
        assert (environment / ".ready").stat().st_mtime_ns == made

        # Another lock makes another environment, of which nothing older is left.
        lock.write_text(wheels["gamma 1.0"].locked)
        assert install(lock, environment, server).returncode == 0
        assert holds(environment) == {"gamma": "1.0"}

        # So does another interpreter.
        ready = environment / ".ready"
        ours = ready.read_text()
        ready.write_text(ours.replace(".", ".9", 1))
        assert "making" in install(lock, environment, server).stdout
        assert ready.read_text() == ours


def test_F_a_lock_with_a_gap_makes_no_environment(
    lock: Path, environment: Path, wheels: dict[str, Wheel]
) -> None:
    lock.write_text(wheels["alpha 1.0"].locked)
    with index(*wheels.values()) as server:
        done = install(lock, environment, server)

    assert done.returncode == 1
    assert "pip check ended with 1" in done.stdout
    assert "alpha 1.0 requires beta, which is not installed" in done.stdout
    assert not (environment / ".ready").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_F_an_environment_whose_making_was_ended_is_made_anew(
    lock: Path, environment: Path, wheels: dict[str, Wheel], number: signal.Signals
) -> None:
    with index(*wheels.values()) as server:
        server.silent.set()
        with subprocess.Popen(  # noqa: S603 - a list, and no shell
            [*INSTALL, str(lock), str(environment)],
            env=server.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as child:
            assert server.asked.wait(240)
            # As a terminal and a machine's end do: to all of them at once.
            os.killpg(child.pid, number)
            said, _ = child.communicate(timeout=60)

        assert child.returncode != 0
        assert (environment / "bin" / "python").exists()
        assert not (environment / ".ready").exists()
        if number != signal.SIGKILL:
            assert "Run the same command again" in said

        server.silent.clear()
        done = install(lock, environment, server)
        assert done.returncode == 0, done.stdout
        assert holds(environment) == {"alpha": "1.0", "beta": "1.0", "gamma": "1.0"}


def test_F_a_step_that_fails_says_what_failed_and_what_to_do(
    lock: Path, environment: Path, wheels: dict[str, Wheel]
) -> None:
    with index(wheels["alpha 1.0"]) as server:
        done = install(lock, environment, server)

    assert done.returncode == 1
    assert "was not made: pip install ended with 1" in done.stdout
    assert "No matching distribution found for beta" in done.stdout
    assert "run the same command again" in done.stdout


def test_a_wheel_with_another_digest_is_refused(
    lock: Path, environment: Path, wheels: dict[str, Wheel], tmp_path: Path
) -> None:
    wheel(tmp_path, "gamma", "1.0", ["beta"])  # another file in the place of the locked one
    with index(*wheels.values()) as server:
        done = install(lock, environment, server)

    assert done.returncode == 1
    assert "DO NOT MATCH THE HASHES" in done.stdout


def test_F_a_terminal_sees_one_line_that_changes(
    lock: Path, environment: Path, wheels: dict[str, Wheel]
) -> None:
    lock.write_text(wheels["gamma 1.0"].locked)
    ours, theirs = pty.openpty()
    with (
        index(*wheels.values()) as server,
        os.fdopen(ours, "rb", buffering=0) as screen,
        subprocess.Popen(  # noqa: S603 - a list, and no shell
            [*INSTALL, str(lock), str(environment)], env=server.environment, stderr=theirs
        ),
    ):
        os.close(theirs)
        shown = b"".join(iter(lambda: read(screen.fileno()), b"")).decode()

    assert "\r\x1b[K    [1/1] gamma 1.0" in shown
    assert "gamma 1.0\n" not in shown.replace("\r\n", "\n")
    assert "is ready" in shown


def read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 4096)
    except OSError:  # EIO: nobody has the other end any more
        return b""


def test_what_is_no_directory_is_left_alone(
    lock: Path, environment: Path, wheels: dict[str, Wheel]
) -> None:
    environment.write_text("dear")
    with index(*wheels.values()) as server:
        done = install(lock, environment, server)

    assert done.returncode == 1
    assert done.stdout.endswith(f"{environment} was not made: it is no directory.  Move it away\n")
    assert environment.read_text() == "dear"


def test_a_directory_of_something_else_is_left_alone(
    lock: Path, environment: Path, wheels: dict[str, Wheel]
) -> None:
    environment.mkdir()
    (environment / "letters").write_text("dear")
    with index(*wheels.values()) as server:
        done = install(lock, environment, server)

    assert done.returncode == 1
    assert "it is a directory, and no environment" in done.stdout
    assert [path.name for path in environment.iterdir()] == ["letters"]


def test_another_environment_behind_a_link_is_left_alone(
    lock: Path, environment: Path, wheels: dict[str, Wheel], tmp_path: Path
) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    (theirs / "pyvenv.cfg").touch()
    environment.symlink_to(theirs)
    with index(*wheels.values()) as server:
        done = install(lock, environment, server)

    assert done.returncode == 1
    assert f"it is a link to {theirs}" in done.stdout
    assert done.stdout.endswith("Remove the link\n")
    assert [path.name for path in theirs.iterdir()] == ["pyvenv.cfg"]
