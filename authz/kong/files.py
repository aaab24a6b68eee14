"""The configuration files: found, and read once they keep still.

A file that is read while it is being written may parse all the same, without the
plugins that stand at its end.  So everything is looked at twice, with a pause in
between, and taken only if both looks agree: then every file was, from the end of the
first look to the start of the second, what the second one read, and so were all of
them together.  No clock is asked, for the file system's may be another machine's.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from authz.kong.document import FILE_BYTES_MAX
from authz.kong.problems import Problems
from authz.model import Diagnostic, SourcePosition

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

STDIN = "-"
"""The path that stands for standard input."""

LOOK_PAUSE_SECONDS = 0.25
LOOKS_MAX = 21
"""There are 5 s of pauses between so many looks."""
DIRECTORY_ENTRIES_MAX = 10_000
"""Of all directories together.  Without a bound a link to ``/`` would be followed to its end."""

_SUFFIXES = (".yaml", ".yml", ".json")
# What kubelet's atomic writer keeps beside the links that it shows: every file again.
_CONFIG_MAPS_OWN = re.compile(r"\.\.(?:data|data_tmp|[0-9]{4}_[0-9._]+)")
# kong.yaml~, kong.yaml.bak, .kong.yaml.swp, #kong.yaml#, .kong.yaml.x7Ga2c of rsync
_LIKE_CONFIGURATION = re.compile(r"\.(?:ya?ml|json)", re.IGNORECASE)
_EDITORS_LOCK = ".#"
"""A link that Emacs makes and that leads to no file: it names who is editing."""
_UNREAD_NAMED = 5

States = dict[str, tuple[object, ...]]
"""By path, what differs once a file is written to, replaced or linked elsewhere."""


@dataclass(frozen=True, slots=True)
class Sources:
    """The name and the bytes of each configuration file, and the errors and notices about them."""

    files: tuple[tuple[str, bytes], ...] = ()
    errors: tuple[Diagnostic, ...] = ()
    """With one of these ``files`` is incomplete, and no configuration may be made of it."""
    notices: tuple[Diagnostic, ...] = ()


def read_stdin() -> bytes:
    """Read standard input, at most one byte more than a configuration may have."""
    return sys.stdin.buffer.read(FILE_BYTES_MAX + 1)


class Reading:
    """One reading of the files: looks, until two in a row agree."""

    def __init__(self, paths: Iterable[str], stdin: Callable[[], bytes] = read_stdin) -> None:
        self._paths = tuple(paths)
        self._stdin = stdin
        self._streams: dict[str, bytes] = {}
        self._before: States | None = None
        self._looks = 0

    def look(self) -> Sources | None:
        """Look at everything once.

        Returns ``None`` if something has moved since the look before, or there was
        none: look again after ``LOOK_PAUSE_SECONDS``.  After ``LOOKS_MAX`` of them the
        sources are errors that name what moved.
        """
        before, now = self._before, _Look()
        for path in self._paths:
            if path == STDIN or _is_stream(Path(path)):
                now.take_stream(path, self._whole_stream(path))
            else:
                now.take(Path(path))
        self._before = now.states
        self._looks += 1
        if not now.states or now.states == before:
            return now.sources()
        if before is None or self._looks < LOOKS_MAX:
            return None
        return Sources(errors=tuple(_moving(before, now.states)))

    def _whole_stream(self, path: str) -> bytes | OSError:
        """Read to the end, once: a stream cannot be read a second time."""
        if path not in self._streams:
            if path == STDIN:
                self._streams[path] = self._stdin()
            else:
                try:
                    self._streams[path] = _first_bytes(Path(path))[0]
                except OSError as error:
                    return error
        return self._streams[path]


def is_rereadable(paths: Iterable[str]) -> bool:
    """Tell whether paths can be read again: files and directories, not standard input or pipes.

    The writer of a pipe is gone by then, and opening the pipe would wait for another one.
    A path that does not exist can be looked at again: it is then reported as missing.
    """
    return not any(path == STDIN or _is_stream(Path(path)) for path in paths)


def _is_stream(path: Path) -> bool:
    try:
        mode = path.stat().st_mode
    except OSError:
        return False
    return not stat.S_ISREG(mode) and not stat.S_ISDIR(mode)


# --- One look ---------------------------------------------------------------------


@dataclass(slots=True)
class _Look:
    """The files that were there at one time, each with its state."""

    states: States = field(default_factory=dict)
    _files: list[tuple[str, bytes]] = field(default_factory=list)
    _problems: Problems = field(default_factory=Problems)
    _entries: int = 0

    def sources(self) -> Sources:
        return Sources(tuple(self._files), self._problems.errors, self._problems.notices)

    def take_stream(self, path: str, data: bytes | OSError) -> None:
        if isinstance(data, OSError):
            self._error(Path(path), f"cannot be read: {data.strerror}")
        else:
            self._files.append(("<stdin>" if path == STDIN else path, data))

    def take(self, path: Path) -> None:
        """Take a file, or a directory with everything below it."""
        try:
            is_directory = stat.S_ISDIR(path.stat().st_mode)
        except OSError as error:
            self._failed(path, error)
            return
        if is_directory:
            self._take_tree(path)
        else:
            self._read(path)

    def _take_tree(self, top: Path) -> None:
        files, unread = len(self._files), list[str]()
        problems = len(self._problems.errors)
        self._walk(top, (), unread)
        if files == len(self._files) and problems == len(self._problems.errors):
            self._error(top, "is a directory without .yaml, .yml or .json files")
        if unread:
            others = len(unread) - _UNREAD_NAMED
            more = f" and {others} more" if others > 0 else ""
            self._problems.notice(
                _position(top),
                "file",
                "these look like configuration and are not read, being backups, unfinished copies "
                f"or locks by their names: {', '.join(unread[:_UNREAD_NAMED])}{more}",
            )

    def _walk(self, directory: Path, above: tuple[tuple[int, int], ...], unread: list[str]) -> None:
        """Read what a directory holds.  Links are followed: a ConfigMap consists of them."""
        try:
            status = directory.stat()
            with os.scandir(directory) as entries:
                names = sorted(entry.name for entry in entries)
        except OSError as error:
            self._failed(directory, error)
            return
        own = (status.st_dev, status.st_ino)
        if own in above:
            self._error(directory, "is a link to a directory that it stands in")
            return
        self._entries += len(names)
        if self._entries > DIRECTORY_ENTRIES_MAX:
            self._error(directory, f"makes more than {DIRECTORY_ENTRIES_MAX} entries to look at")
            return
        for name in names:
            if not _CONFIG_MAPS_OWN.fullmatch(name):
                self._enter(directory / name, (*above, own), unread)

    def _enter(self, path: Path, above: tuple[tuple[int, int], ...], unread: list[str]) -> None:
        try:
            mode = path.stat().st_mode
        except OSError as error:
            if path.name.startswith(_EDITORS_LOCK) and path.is_symlink():
                unread.append(self._passed_over(path))
            else:
                self._failed(path, error)
            return
        if stat.S_ISDIR(mode):
            self._walk(path, above, unread)
        elif not path.name.lower().endswith(_SUFFIXES):
            if _LIKE_CONFIGURATION.search(path.name):
                unread.append(self._passed_over(path))
        elif stat.S_ISREG(mode):
            self._read(path)
        else:
            self._error(path, "is no file: a directory is read again at every reload")

    def _passed_over(self, path: Path) -> str:
        """Note a file that is not read but may be renamed to one that is, as an upload is."""
        try:
            status = path.lstat()
        except OSError as error:
            self.states[str(path)] = (error.errno,)
        else:
            self.states[str(path)] = (status.st_ino, status.st_size, status.st_mtime_ns)
        return path.name

    def _read(self, path: Path) -> None:
        try:
            data, status = _first_bytes(path)
            target = os.path.realpath(path)
        except OSError as error:
            self._failed(path, error)
            return
        self._files.append((str(path), data))
        self.states[str(path)] = (
            target,
            status.st_dev,
            status.st_ino,
            status.st_size,
            status.st_mtime_ns,
            status.st_ctime_ns,
            hashlib.blake2b(data).digest(),
        )

    def _failed(self, path: Path, error: OSError) -> None:
        self._error(path, f"cannot be read: {error.strerror}{_link(path)}")

    def _error(self, path: Path, message: str) -> None:
        # An error is a state too: a file may be missing for a moment, while an editor puts a
        # new one in its place, and is there again at the next look.
        self.states[str(path)] = (message,)
        self._problems.error(_position(path), "file", message)


def _first_bytes(path: Path) -> tuple[bytes, os.stat_result]:
    """Return the content and the state of the file afterwards, even if it was renamed."""
    with path.open("rb") as stream:
        # One byte more than is allowed tells that the file is too large.
        data = stream.read(FILE_BYTES_MAX + 1)
        return data, os.fstat(stream.fileno())


def _link(path: Path) -> str:
    try:
        return f", a link to {path.readlink()}"
    except OSError:  # it is no link, or may not be read
        return ""


def _moving(before: States, now: States) -> Iterable[Diagnostic]:
    """Name the paths that differ between two looks."""
    message = (
        f"does not keep still: it changed again within {LOOK_PAUSE_SECONDS:g} s, at every one of "
        f"{LOOKS_MAX} looks; wait until it is written, or write another file and rename it"
    )
    for path in sorted(before.keys() | now.keys()):
        if before.get(path) != now.get(path):
            yield Diagnostic(_position(Path(path)), "file", message)


def _position(path: Path) -> SourcePosition:
    return SourcePosition(str(path), 1, 1)
