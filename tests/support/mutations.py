"""``make mutate``: break one guard after another, and see that a test fails each time.

Everything happens in a copy of the tree.  First the tests must pass there as it is.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TABLE: Final = ROOT / "tests/mutations.toml"
COPIED: Final = (
    *("authz", "bench", "docs", "protos", "requirements", "seeds", "tests"),
    "pyproject.toml",
)

MUTATION_SECONDS_MAX: Final = 120
UNBROKEN_SECONDS_MAX: Final = 600

_TESTS_FAILED: Final = 1
"""pytest's exit code; others mean that it could not run them."""


class Outcome(Enum):
    """What became of one mutation."""

    KILLED = "killed"
    SURVIVED = "SURVIVED: no test fails"
    ABSENT = "ABSENT: what is broken does not stand there exactly once"
    TIMED_OUT = f"TIMED OUT after {MUTATION_SECONDS_MAX} s"
    NOT_RUN = "NOT RUN: pytest could not run the tests"


@dataclass(frozen=True)
class Mutation:
    """One guard, and how it is broken."""

    rule: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def applied(self, text: str) -> str | None:
        """Return the broken text of the file; ``None``: it cannot be broken this way."""
        return text.replace(self.old, self.new) if text.count(self.old) == 1 else None


def mutations() -> list[Mutation]:
    """Return the rows of the table."""
    rows = tomllib.loads(TABLE.read_text("utf-8"))["mutation"]
    return [
        Mutation(row["rule"], row["file"], row["break"], row["into"], tuple(row["tests"]))
        for row in rows
    ]


def copied(to: Path) -> Path:
    """Copy what the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, to / name, ignore=shutil.ignore_patterns("__pycache__"))
        elif source.exists():
            shutil.copy(source, to / name)
    return to


def run(tree: Path, tests: tuple[str, ...], seconds_max: float) -> int | None:
    """Return pytest's exit code, or ``None`` if it took too long."""
    # The tree's own authz goes before the one that is installed.
    environ = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    with subprocess.Popen(  # noqa: S603 - our own tests
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests],
        cwd=tree,
        env=environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    ) as process:
        try:
            return process.wait(seconds_max)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return None


def outcome(tree: Path, mutation: Mutation) -> Outcome:
    """Break one guard of the copy, run its tests, and mend it."""
    file = tree / mutation.file
    text = file.read_text("utf-8")
    if (broken := mutation.applied(text)) is None:
        return Outcome.ABSENT
    file.write_text(broken, "utf-8")
    try:
        code = run(tree, mutation.tests, MUTATION_SECONDS_MAX)
    finally:
        file.write_text(text, "utf-8")
    if code is None:
        return Outcome.TIMED_OUT
    return {_TESTS_FAILED: Outcome.KILLED, 0: Outcome.SURVIVED}.get(code, Outcome.NOT_RUN)


def main() -> int:
    """Print a line a mutation; return 1 if one of them was not killed."""
    rows = mutations()
    with tempfile.TemporaryDirectory(prefix="authz-mutate-") as directory:
        tree = copied(Path(directory))
        tests = tuple(dict.fromkeys(test for row in rows for test in row.tests))
        if run(tree, tests, UNBROKEN_SECONDS_MAX) != 0:
            print("the tests fail, or cannot be run, with nothing broken")
            return 1
        survived = 0
        for row in rows:
            found = outcome(tree, row)
            survived += found is not Outcome.KILLED
            print(f"{row.rule:<55} {row.file:<40} {found.value}", flush=True)
    print(f"{len(rows) - survived} of {len(rows)} killed")
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main())
