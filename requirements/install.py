"""Make a virtual environment from one lock: ``install.py LOCK DIRECTORY [--project DIR]``.

Nothing is resolved: what the lock lists is installed, with its hashes, and nothing
else, so that no day changes what is installed.  The standard library is all that this
needs, and Python 3.9 reads it far enough to say that it is too old.

The directory holds ``.making`` from the first moment to the last, when that becomes
``.ready``: an environment without ``.ready``, or whose ``.ready`` tells of another
lock or another interpreter, is made anew.  pip keeps what it has fetched.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import os
import platform
import re
import selectors
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import deque
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

PYTHON_MIN = (3, 11)
MAKING, READY = ".making", ".ready"
OUTPUT_LINES_SHOWN = 20
TERMINAL_SECONDS, LINES_SECONDS = 1.0, 10.0
"""How often a step that takes its time shows that it goes on."""

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==\S+", re.MULTILINE)
_ASKING = re.compile(r"Collecting ([\w.-]+)")
_FETCHING = re.compile(
    r"(?:Downloading|Using cached|Processing) (?:\S*/)?([\w.]+)-(\d[^-\s]*?)"
    r"(?:-\S+\.whl|\.tar\.gz)(?: \((.+)\))?$"
)


class InstallError(Exception):
    """The environment was not made; the message says what failed and what to do."""


@dataclass(frozen=True)
class Recipe:
    """An environment: where it stands, and all that decides what is in it."""

    lock: Path
    directory: Path
    project: Path | None = None

    def stamp(self) -> str:
        """Return what ``.ready`` says of a whole environment."""
        parts = (
            [self.lock] if self.project is None else [self.lock, self.project / "pyproject.toml"]
        )
        digests = (hashlib.sha256(part.read_bytes()).hexdigest() for part in parts)
        told = [platform.python_version(), os.path.realpath(sys.executable), platform.machine()]
        return "".join(f"{line}\n" for line in [*told, str(self.directory.absolute()), *digests])

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.directory / "bin" / "python"

    @property
    def is_ready(self) -> bool:
        """Whether the environment is whole, and this recipe's."""
        try:
            return (self.directory / READY).read_text() == self.stamp()
        except (FileNotFoundError, NotADirectoryError):
            return False


def main(arguments: list[str]) -> int:
    """Make the environment if it is not there; return the exit code."""
    parser = argparse.ArgumentParser(description="Make a virtual environment from one lock.")
    parser.add_argument("lock", type=Path)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--project", type=Path, help="installed too, as editable")
    recipe = Recipe(**vars(parser.parse_args(arguments)))
    progress = Progress(sys.stderr)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        with alone(recipe, progress):
            if not recipe.is_ready:
                make(recipe, progress)
    except InstallError as error:
        progress.line(f"{recipe.directory} was not made: {error}")
        return 1
    except KeyboardInterrupt:
        progress.line(
            f"interrupted: {recipe.directory} is not whole.  Run the same command again: "
            "what pip has fetched is not fetched again"
        )
        return 130
    return 0


@contextmanager
def alone(recipe: Recipe, progress: Progress) -> Iterator[None]:
    """Keep other runs from this lock's environment: they wait until this one has ended.

    pip inherits the lock, so one that outlives this process is waited for too.
    """
    with recipe.lock.open() as held:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress.line(f"another run is at work from {recipe.lock}: waiting for it")
            fcntl.flock(held, fcntl.LOCK_EX)
        os.set_inheritable(held.fileno(), True)  # noqa: FBT003 - the function's own signature
        yield


def make(recipe: Recipe, progress: Progress) -> None:
    """Make the environment from nothing; raises ``InstallError``."""
    _demand_python()
    progress.line(
        f"==> making {recipe.directory} from {recipe.lock}, Python {platform.python_version()}"
    )
    _clear(recipe.directory)
    lock = recipe.lock.read_text()
    packages = Packages(len(_PIN.findall(lock)))
    _run([sys.executable, "-m", "venv", str(recipe.directory)], "the environment", progress)
    with tempfile.TemporaryDirectory() as scratch:
        if "--no-binary" in lock:
            # What there is as source only is built by the lock's own setuptools.
            builder = Path(scratch) / "setuptools.txt"
            builder.write_text(_entry(lock, "setuptools"))
            _pip(recipe, progress, "install", *FROM_LOCK, "-r", str(builder), packages=Packages(1))
        _pip(recipe, progress, "install", *FROM_LOCK, "-r", str(recipe.lock), packages=packages)
    if recipe.project is not None:
        _pip(recipe, progress, "install", *AS_IT_STANDS, "--editable", str(recipe.project))
    _pip(recipe, progress, "check")
    making = recipe.directory / MAKING
    making.write_text(recipe.stamp())
    making.rename(recipe.directory / READY)
    progress.line(f"==> {recipe.directory} is ready")


# pip looks nowhere but in the environment for what it builds with.
AS_IT_STANDS = ("--no-deps", "--no-build-isolation", "--use-pep517")
FROM_LOCK = ("--require-hashes", "--only-binary=:all:", *AS_IT_STANDS)


def _demand_python() -> None:
    if sys.version_info < PYTHON_MIN:
        wanted = ".".join(map(str, PYTHON_MIN))
        raise InstallError(
            f"{sys.executable} is Python {platform.python_version()}, and {wanted} or newer is "
            "needed.  Name another one: make PYTHON=python3.11"
        )
    try:
        import ensurepip  # noqa: F401, PLC0415 - Debian has it in a package of its own
    except ImportError as error:
        raise InstallError(
            f"{sys.executable} has no venv module: apt-get install python3-venv"
        ) from error


def _clear(directory: Path) -> None:
    """Leave nothing in the directory but the mark that it is being made."""
    if directory.is_symlink():
        raise InstallError(
            f"it is a link to {directory.resolve()}, and an environment is for one place only.  "
            "Remove the link"
        )
    if directory.exists() and not directory.is_dir():
        raise InstallError("it is no directory.  Move it away")
    directory.mkdir(parents=True, exist_ok=True)
    ours = ("pyvenv.cfg", MAKING, READY)
    if any(directory.iterdir()) and not any((directory / name).exists() for name in ours):
        raise InstallError("it is a directory, and no environment.  Move it away")
    (directory / MAKING).touch()
    (directory / READY).unlink(missing_ok=True)
    for path in directory.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != MAKING:
            path.unlink()


def _entry(lock: str, name: str) -> str:
    """Return one package's lines of the lock."""
    found = re.search(rf"^{name}==.*\n(?:[ #].*\n)*", lock, re.MULTILINE)
    if found is None:
        raise InstallError(f"the lock builds a package from source and lists no {name}: make lock")
    return found.group()


def _pip(
    recipe: Recipe, progress: Progress, *arguments: str, packages: Packages | None = None
) -> None:
    command = [str(recipe.python), "-I", "-m", "pip", "--disable-pip-version-check", *arguments]
    if arguments[0] == "install":
        command += ["--progress-bar=off", "--no-input"]
    _run(command, f"pip {arguments[0]}", progress, packages)


def _run(
    command: list[str], what: str, progress: Progress, packages: Packages | None = None
) -> None:
    """Run a command to its end, and show how far it is; raises ``InstallError``."""
    packages = packages or Packages(0)
    told: deque[str] = deque(maxlen=OUTPUT_LINES_SHOWN)
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    child = subprocess.Popen(  # noqa: S603 - a list, and no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        close_fds=False,  # the lock goes with it: see `alone`
        env=environment,
    )
    assert child.stdout is not None  # noqa: S101 - for the types: it was asked for
    with child.stdout as output:
        try:
            for line in _lines(output, progress):
                told.append(line)
                worth_a_line = packages.heard(line)
                progress.step(packages.current, worth_a_line=worth_a_line)
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            raise
    if child.wait() != 0:
        after = f" after {packages.current}" if packages.current else ""
        shown = "\n".join(f"    {line}" for line in told)
        raise InstallError(
            f"{what} ended with {child.returncode}{after}:\n{shown}\n"
            "If this was the network, or the disk was full: mend that and run the same command "
            "again.  What pip has fetched is not fetched again"
        )


def _lines(output: IO[bytes], progress: Progress) -> Iterator[str]:
    """Yield what a child writes, line by line, and let the screen live while it is silent."""
    rest = b""
    with selectors.DefaultSelector() as selector:
        selector.register(output, selectors.EVENT_READ)
        while True:
            if not selector.select(progress.every_seconds):
                progress.still()
                continue
            read = os.read(output.fileno(), 65536)
            if not read:
                break
            *whole, rest = (rest + read).split(b"\n")
            yield from (line.decode(errors="replace").rstrip() for line in whole)
    if rest:
        yield rest.decode(errors="replace").rstrip()


@dataclass
class Packages:
    """What pip is at, read from what it says.

    Older ones fetch each package when they have asked for it, newer ones all at the end.
    """

    of: int
    current: str = ""
    _fetched: int = 0

    def heard(self, line: str) -> bool:
        """Read one line of pip's; tell whether that is worth a line of ours."""
        line = line.strip()
        if asking := _ASKING.match(line):
            self.current = f"asking for {asking[1]}"
        elif fetching := _FETCHING.match(line):
            self._fetched += 1
            name, version, size = fetching.groups()
            told = f"[{self._fetched}/{self.of}] {name.replace('_', '-')} {version}"
            self.current = f"{told}, {size}" if size else told
            return True
        elif line.startswith("Installing collected packages:"):
            self.current = f"unpacking, {line.count(',') + 1} in all"
            return True
        return False


class Progress:
    """One line that changes on a terminal, a line for each step elsewhere."""

    def __init__(self, out: IO[str]) -> None:
        self._out = out
        self._live = out.isatty()
        self._step, self._since = "", 0.0
        self.every_seconds = TERMINAL_SECONDS if self._live else LINES_SECONDS

    def line(self, text: str) -> None:
        """Print a line that stays."""
        self._write(f"{text}\n")
        self._step = ""

    def step(self, text: str, *, worth_a_line: bool) -> None:
        """Show what is being done now: always on a terminal, if it is worth a line elsewhere."""
        if text != self._step:
            self._step, self._since = text, time.monotonic()
            if self._live or worth_a_line:
                self._write(f"    {text}" if self._live else f"    {text}\n")

    def still(self) -> None:
        """Show that the step goes on."""
        if self._step:
            text = f"    {self._step}, {time.monotonic() - self._since:.0f} s"
            self._write(text if self._live else f"{text}\n")

    def _write(self, text: str) -> None:
        print(f"\r\x1b[K{text}" if self._live else text, end="", file=self._out, flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
