"""No day changes what is installed: each lock holds all that its distributions want.

What needs an environment of its own is held by ``tests/packaging``.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from support import locks
from support.wheels import write_metadata

if TYPE_CHECKING:
    from pathlib import Path

HASH = re.compile(r"--hash=sha256:[0-9a-f]{64}")


def where_id(where: dict[str, str]) -> str:
    return f"{where['python_full_version']}-{where['platform_machine']}"


@pytest.mark.parametrize("name", locks.LOCKS)
def test_a_lock_pins_each_version_by_hash_and_names_no_address(name: str) -> None:
    pins = locks.read(locks.lock(name))

    assert pins
    for pin in pins:
        assert pin.version
        assert pin.hashes
        assert all(HASH.fullmatch(each.rstrip("\\").strip()) for each in pin.hashes if each != "\\")
    assert "://" not in locks.lock(name).read_text()


def test_F_every_lock_is_known_here() -> None:
    assert {path.stem for path in locks.lock("dev").parent.glob("*.txt")} == set(locks.LOCKS)


def test_npms_lock_has_a_hash_for_each_package_and_names_no_address() -> None:
    lock = locks.ROOT / "tests" / "e2e" / "oidc-provider" / "package-lock.json"
    packages = json.loads(lock.read_text())["packages"]
    locked = {name: each for name, each in packages.items() if name}

    assert "node_modules/oidc-provider" in locked
    assert all(each["integrity"].startswith("sha512-") for each in locked.values())
    assert "://" not in lock.read_text()


@pytest.mark.parametrize("where", locks.environments(), ids=where_id)
@pytest.mark.parametrize("name", ["runtime", "dev"])
def test_F_each_requirement_of_a_locked_distribution_is_locked(
    name: str, where: dict[str, str]
) -> None:
    # This environment is made from dev.txt, and runtime.txt is a part of that.
    pins = locks.read(locks.lock(name))

    assert locks.faults(pins, locks.asked_for(name), locks.installed(), where) == []


def test_F_what_runs_is_locked_in_the_versions_that_are_tested() -> None:
    runtime, dev = (
        {(pin.name, pin.version, str(pin.requirement.marker)) for pin in locks.read(lock)}
        for lock in map(locks.lock, ("runtime", "dev"))
    )

    assert runtime <= dev


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An environment with one distribution that wants another's extra, as pytest-cov does."""
    packages = tmp_path / "lib" / "python3.11" / "site-packages"
    write_metadata(packages, "tester", "1.0", ["measure[toml]>=2"])
    write_metadata(packages, "measure", "2.0", ["reader>=1; extra == 'toml'"])
    write_metadata(packages, "reader", "1.5", [])
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "fault"),
    [
        (["tester==1.0", "measure==2.0", "reader==1.5"], None),
        (["tester==1.0", "measure==2.0"], 'measure wants reader>=1; extra == "toml", which is'),
        (["tester==1.0", "reader==1.5"], "tester wants measure[toml]>=2, which is not locked"),
        (["tester==1.0", "measure==1.9", "reader==1.5"], "and 1.9 is locked"),
        (
            ["tester==1.0", "measure==2.0", "reader==1.5 ; python_version < '3'"],
            "measure wants reader>=1",
        ),
        (["tester==1.0", "measure==2.0", "reader==1.4"], "reader==1.4 is not installed"),
        (["tester==1.0", "measure==2.0", "reader==1.5", "other==1"], "other is locked, and"),
    ],
)
def test_F_a_lock_with_a_gap_is_told(site: Path, lines: list[str], fault: str | None) -> None:
    lock = site / "lock.txt"
    lock.write_text("".join(f"{line} \\\n    --hash=sha256:{'0' * 64}\n" for line in lines))

    found = locks.faults(
        locks.read(lock), [Requirement("tester")], locks.installed(site), locks.here()
    )

    if fault is None:
        assert found == []
    else:
        assert any(fault in each for each in found), found


def test_the_interpreter_that_runs_this_is_one_that_the_locks_are_held_to() -> None:
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in {
        python.rpartition(".")[0] for python in locks.PYTHONS
    }


@pytest.mark.parametrize(
    ("target", "made"),
    [
        ("demo", {".runtime", ".parts"}),
        ("test", {".venv"}),
    ],
)
def test_F_a_command_makes_the_environments_that_it_needs_and_no_others(
    target: str, made: set[str]
) -> None:
    said = subprocess.run(  # noqa: S603 - a list, and no shell
        ["make", "--dry-run", "--no-print-directory", target],  # noqa: S607 - the system's make
        cwd=locks.ROOT,
        # What `make` is told on the command line of this run is no part of the question.
        env={name: value for name, value in os.environ.items() if not name.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line.split() for line in said.stdout.splitlines()]
    found = {words[3] for words in lines if words[1:2] == ["requirements/install.py"]}

    assert found == made
