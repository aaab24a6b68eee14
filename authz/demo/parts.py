"""The real parts around authz as child processes: Envoy, httpbin, grpcurl, authz itself.

::

    with Httpbin() as httpbin, Envoy(bootstrap, admin) as envoy:
        ...

Each process leads a group of its own and is ended by that group's id.  Its output
goes to a file, and is shown when it does not become ready.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from abc import ABC, abstractmethod
from contextlib import suppress
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING

from authz.errors import AuthzError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Self

LOOPBACK = "127.0.0.1"
POLL_SECONDS = 0.02
OUTPUT_LINES_SHOWN = 30
CHECKOUT = Path(__file__).resolve().parents[2]
PARTS = CHECKOUT / ".parts"

_LOWEST_PORT, _EPHEMERAL_PORTS = 15_000, 32_768
# Each process begins its search at a random port, so that two that search at the same time
# seldom choose the same one.
_FIRST_PORT = _LOWEST_PORT + secrets.randbelow(_EPHEMERAL_PORTS - _LOWEST_PORT)
_PORTS: Iterator[int] = cycle(
    (*range(_FIRST_PORT, _EPHEMERAL_PORTS), *range(_LOWEST_PORT, _FIRST_PORT))
)


class PartMissingError(AuthzError):
    """A program is not installed; the message says in one line what to do."""


class PartFailedError(AuthzError):
    """A process ended, or did not become ready in time; the message has its last output."""


def find(name: str, environ: Mapping[str, str] = os.environ, *, parts: Path = PARTS) -> str:
    """Return the path of a program: ``AUTHZ_<NAME>``, the checkout's ``.parts``, ``PATH``.

    Raises ``PartMissingError``.
    """
    variable = f"AUTHZ_{name.upper()}"
    named = environ.get(variable)
    # Without this mark the installation was not completed: see requirements/install.py.
    whole = (parts / ".ready").exists()
    beside = parts / "bin" / name
    found = named or (str(beside) if whole and beside.exists() else shutil.which(name))
    if found is None or not os.access(found, os.X_OK):
        where = f"{found} is not a program" if found else "it is not installed"
        raise PartMissingError(
            f"{name}: {where}; run `make demo` in a source checkout, "
            f"or name the program in {variable}"
        )
    return found


def free_port() -> int:
    """Return a loopback port that nobody uses now, another one at each call.

    It lies below the range (ip(7): ip_local_port_range) from which the kernel takes
    a port for whoever asks for any, and for every outgoing connection: between now
    and the child's bind, up to a minute later, it would take one of those again.
    """
    while True:
        port = next(_PORTS)
        with suppress(OSError), socket.socket() as probe:
            probe.bind((LOOPBACK, port))
            return port


def accepts(port: int) -> bool:
    """Whether something accepts TCP connections on this loopback port."""
    with suppress(OSError), socket.create_connection((LOOPBACK, port), timeout=1):
        return True
    return False


def answers(url: str) -> bool:
    """Whether a GET of ``url`` gives a 2xx within a second."""
    # Loopback is never reached through a proxy, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with suppress(OSError), opener.open(url, timeout=1):
        return True
    return False


class Process(ABC):
    """A child process; usable as a context manager, which starts it and waits for it.

    A stopped process can be started again.  ``name`` and ``ready_within_s`` are for
    messages and bounds, ``grace_s`` is how long it may take to end on SIGTERM.
    """

    name: str
    ready_within_s: float = 15
    grace_s: float = 10

    def __init__(self) -> None:
        self._child: subprocess.Popen[bytes] | None = None
        self._directory: Path | None = None
        self._output = ""

    @abstractmethod
    def command(self, directory: Path) -> list[str]:
        """Return the command line; ``directory`` lives as long as the process does."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether the process does its work, asked over its real sockets."""

    def environment(self, directory: Path) -> dict[str, str]:  # noqa: ARG002 - for subclasses
        """Return the child's environment: by default our own."""
        return dict(os.environ)

    def start(self) -> Self:
        """Start the process; returns at once."""
        self._directory = Path(tempfile.mkdtemp(prefix=f"authz-{self.name}-"))
        try:
            self._child = self._spawn(self._directory)
        except BaseException:
            self._remove_directory()
            raise
        return self

    def _spawn(self, directory: Path) -> subprocess.Popen[bytes]:
        with (directory / "output").open("wb") as output:
            return subprocess.Popen(  # noqa: S603 - a list, and no shell
                self.command(directory),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=self.environment(directory),
                start_new_session=True,
            )

    def wait_ready(self) -> Self:
        """Return once the process is ready; raises ``PartFailedError`` and stops it otherwise."""
        deadline = time.monotonic() + self.ready_within_s
        while not self.is_ready():
            if not self.running:
                self._fail(f"ended with code {self.stop()}")
            if time.monotonic() > deadline:
                self.stop()
                self._fail(f"was not ready within {self.ready_within_s:g} s")
            time.sleep(POLL_SECONDS)
        return self

    def stop(self) -> int | None:
        """End the whole group and return the exit code; ``None`` if it never ran.

        SIGTERM first, SIGKILL after ``grace_s``.
        """
        child, self._child = self._child, None
        if child is None:
            return None
        self._signal_group(child, signal.SIGTERM)
        try:
            code = child.wait(self.grace_s)
        except subprocess.TimeoutExpired:
            self._signal_group(child, signal.SIGKILL)
            code = child.wait()
        # The leader may have left helpers behind in its group.
        self._signal_group(child, signal.SIGKILL)
        self._output = self.output()
        self._remove_directory()
        return code

    def send_signal(self, number: int) -> None:
        """Send a signal to the process alone, not to its group."""
        if self._child is not None:
            self._child.send_signal(number)

    def wait(self, timeout_s: float) -> int:
        """Wait for the process to end by itself and return its exit code.

        Raises ``subprocess.TimeoutExpired``.
        """
        if self._child is None:
            raise PartFailedError(f"{self.name} is not running")
        return self._child.wait(timeout_s)

    @property
    def running(self) -> bool:
        """Whether the process has been started and has not ended."""
        return self._child is not None and self._child.poll() is None

    @property
    def pid(self) -> int | None:
        """The process id, ``None`` before the start and after the stop."""
        return None if self._child is None else self._child.pid

    def output(self) -> str:
        """Return what the process has written so far, or had written when it was stopped."""
        if self._directory is None:
            return self._output
        return (self._directory / "output").read_text(errors="replace")

    def _remove_directory(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None

    def _fail(self, what: str) -> None:
        shown = self.output().splitlines()[-OUTPUT_LINES_SHOWN:]
        raise PartFailedError(
            "\n".join([f"{self.name} {what}:", *(f"    {line}" for line in shown)])
        )

    @staticmethod
    def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, number)

    def __enter__(self) -> Self:
        self.start()
        try:
            return self.wait_ready()
        except BaseException:  # an interrupt while waiting must not leave the child behind
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


class Httpbin(Process):
    """httpbin under gunicorn: an upstream that answers with what it received."""

    name = "httpbin"

    def __init__(self, port: int | None = None) -> None:
        super().__init__()
        self.port = port or free_port()

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash."""
        return f"http://{LOOPBACK}:{self.port}"

    def command(self, directory: Path) -> list[str]:
        """Return gunicorn's command line."""
        bind = f"--bind={LOOPBACK}:{self.port}"
        temporary = f"--worker-tmp-dir={directory}"
        return [find("gunicorn"), bind, "--threads=4", temporary, "httpbin:app"]

    def environment(self, directory: Path) -> dict[str, str]:
        """Return our environment with a HOME of its own: gunicorn puts a control socket there."""
        return dict(os.environ) | {"HOME": str(directory)}

    def is_ready(self) -> bool:
        """Whether ``/status/200`` answers."""
        return answers(f"{self.url}/status/200")


class Envoy(Process):
    """A real Envoy with a complete bootstrap (YAML or JSON text).

    ``admin`` is the port of the bootstrap's admin listener on loopback.
    """

    name = "envoy"

    def __init__(self, bootstrap: str, admin: int, *, workers: int = 2) -> None:
        super().__init__()
        self.bootstrap = bootstrap
        self.admin = admin
        self.workers = workers

    def command(self, directory: Path) -> list[str]:
        """Return Envoy's command line; hot restart would need shared memory of its own."""
        file = directory / "envoy.yaml"
        file.write_text(self.bootstrap)
        return [
            find("envoy"),
            *("--config-path", str(file)),
            *("--concurrency", str(self.workers)),
            *("--log-level", "warning"),
            "--disable-hot-restart",
        ]

    def is_ready(self) -> bool:
        """Whether Envoy says LIVE: clusters are initialised and listeners are up."""
        return answers(f"http://{LOOPBACK}:{self.admin}/ready")


class Authz(Process):
    """``authz`` itself: ``Authz(["serve", "-c", …], ready_url="http://127.0.0.1:…/readyz")``.

    ``AUTHZ_*`` variables of our own environment do not reach it; ``env`` does.
    """

    name = "authz"

    def __init__(
        self, arguments: list[str], *, ready_url: str, env: dict[str, str] | None = None
    ) -> None:
        super().__init__()
        self.arguments = arguments
        self.ready_url = ready_url
        self.env = env or {}

    def command(self, directory: Path) -> list[str]:  # noqa: ARG002 - it needs no files
        """Return the command line, with this interpreter."""
        return authz_command(*self.arguments)

    def environment(self, directory: Path) -> dict[str, str]:  # noqa: ARG002 - as above
        """Return our environment without settings, and with ``env``."""
        return authz_environment() | self.env

    def is_ready(self) -> bool:
        """Whether ``ready_url`` answers 2xx."""
        return answers(self.ready_url)


def authz_command(*arguments: str) -> list[str]:
    """Return the command line of ``authz`` under this interpreter."""
    return [sys.executable, "-m", "authz", *arguments]


def authz_environment() -> dict[str, str]:
    """Return our environment without authz's own variables: a demo starts from defaults."""
    return {k: v for k, v in os.environ.items() if not k.startswith("AUTHZ_")}


def run_authz(*arguments: str, timeout_s: float = 120) -> str:
    """Run one ``authz`` command to its end and return its output; raises ``PartFailedError``."""
    try:
        done = subprocess.run(  # noqa: S603 - a list, and no shell
            authz_command(*arguments),
            env=authz_environment(),
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise PartFailedError(
            f"authz {arguments[0]} was not done within {timeout_s:g} s: is the machine very busy?"
        ) from error
    if done.returncode != 0:
        raise PartFailedError(f"authz {arguments[0]} ended with {done.returncode}:\n{done.stderr}")
    return done.stdout


def grpcurl(*arguments: str, timeout_s: float = 30) -> subprocess.CompletedProcess[str]:
    """Run grpcurl with ``-plaintext`` and return how it ended."""
    return subprocess.run(  # noqa: S603 - a list, and no shell
        [find("grpcurl"), "-plaintext", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
