"""Ask advisory databases about everything that is locked: ``make audit``.

Python's locks by pip-audit, which asks OSV, and Rust's by cargo-audit, which reads
RustSec's database.  It ends with 0 only if both were asked about everything and told of
nothing that ``advisories.toml`` does not list; with 1 for an advisory, and with 2 if a
part was not run.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

HERE = Path(__file__).parent
CHECKOUT = HERE.parent
TIMEOUT_SECONDS = 600
ERROR_LINES_SHOWN = 1

CLEAN, FOUND, NOT_RUN = 0, 1, 2

_PIN = re.compile(r"^([A-Za-z0-9._-]+)==(\S+)", re.MULTILINE)

Pin = tuple[str, str]
"""A distribution's name and version."""


class NotRunError(Exception):
    """A database was not asked, or not about everything; the message says why."""


@dataclass(frozen=True)
class Advisory:
    """What is known of one version of one package."""

    package: str
    version: str
    names: frozenset[str]
    """Its own id and those of the same advisory elsewhere."""
    fixed_in: str
    where: str

    def __str__(self) -> str:
        known = ", ".join(sorted(self.names))
        return f"{self.package} {self.version} ({self.where}): {known}; {self.fixed_in}"


@dataclass(frozen=True)
class Accepted:
    """An advisory that does not concern authz, and why."""

    id: str
    package: str
    reason: str

    def covers(self, advisory: Advisory) -> bool:
        """Tell whether this is the advisory that is meant."""
        return self.package == advisory.package and self.id in advisory.names


def main(arguments: list[str]) -> int:
    """Audit every lock; return the exit code."""
    parser = argparse.ArgumentParser(description="Known vulnerabilities of what is locked.")
    parser.add_argument("--locks", type=Path, default=HERE, help="directory of the *.txt")
    parser.add_argument("--advisories", type=Path, default=HERE / "advisories.toml")
    parser.add_argument("--osv-url", help="another server with OSV's interface")
    parser.add_argument("--rustsec-db", help="a copy of RustSec's database, read as it is")
    parser.add_argument("--cargo-audit", default=_cargo_audit(), help="the program")
    asked = parser.parse_args(arguments)
    accepted = [
        Accepted(**each) for each in tomllib.loads(asked.advisories.read_text())["accepted"]
    ]
    parts = {
        "Python": _python(asked.locks, asked.osv_url),
        "Rust": _rust(asked.cargo_audit, asked.rustsec_db),
    }
    found: list[Advisory] = []
    code = CLEAN
    for name, advisories in parts.items():
        try:
            told = list(advisories)
        except NotRunError as error:
            _say(f"{name}: NOT RUN: {error}")
            code = NOT_RUN
        else:
            _say(f"{name}: asked, {len(told)} advisories")
            found += told
    refused = _judge(found, accepted)
    if code != NOT_RUN:
        _name_stale(found, accepted)
    return FOUND if refused and code == CLEAN else code


def _judge(found: Iterable[Advisory], accepted: Sequence[Accepted]) -> int:
    """Say of each advisory whether it is accepted; return how many are not."""
    refused = 0
    for advisory in found:
        reason = next((each.reason for each in accepted if each.covers(advisory)), None)
        refused += reason is None
        _say(f"  {advisory}" if reason is None else f"  accepted: {advisory}: {reason}")
    return refused


def _name_stale(found: Sequence[Advisory], accepted: Iterable[Accepted]) -> None:
    for each in accepted:
        if not any(map(each.covers, found)):
            _say(f"  {each.id} of {each.package} is accepted and no longer found: take it out")


# --- Python ------------------------------------------------------------------------


def _python(locks: Path, osv_url: str | None) -> Iterator[Advisory]:
    """Yield what OSV knows of the pins of every lock; raises ``NotRunError``."""
    pins: dict[Pin, list[str]] = defaultdict(list)
    for lock in sorted(locks.glob("*.txt")):
        for pin in _PIN.findall(lock.read_text()):
            pins[pin].append(lock.name)
    for chosen in _one_version_each(pins):
        yield from _pip_audit(chosen, pins, osv_url)


def _one_version_each(pins: Iterable[Pin]) -> Iterator[list[Pin]]:
    """Part pins so that no name stands twice in a part: pip-audit refuses that."""
    left = list(pins)
    while left:
        part = dict(reversed(left))
        yield list(part.items())
        left = [pin for pin in left if part[pin[0]] != pin[1]]


def _pip_audit(
    pins: Sequence[Pin], where: Mapping[Pin, list[str]], osv_url: str | None
) -> Iterator[Advisory]:
    with tempfile.TemporaryDirectory() as scratch:
        asked = Path(scratch) / "requirements.txt"
        asked.write_text("".join(f"{name}=={version}\n" for name, version in pins))
        command = [sys.executable, "-m", "pip_audit", "--disable-pip", "--no-deps"]
        command += ["--format=json", "--progress-spinner=off", "--vulnerability-service=osv"]
        command += [f"--osv-url={osv_url}"] if osv_url else []
        report = _report([*command, "-r", str(asked)])
    told = report["dependencies"]
    skipped = [f"{each['name']}: {each['skip_reason']}" for each in told if "skip_reason" in each]
    if skipped or len(told) != len(pins):
        raise NotRunError("; ".join(skipped) or f"{len(told)} of {len(pins)} were asked for")
    for each in told:
        for known in each["vulns"]:
            yield Advisory(
                package=each["name"],
                version=each["version"],
                names=frozenset({known["id"], *known["aliases"]}),
                fixed_in=f"fixed in {', '.join(known['fix_versions']) or 'no version'}",
                where=", ".join(where[each["name"], each["version"]]),
            )


# --- Rust --------------------------------------------------------------------------


def _cargo_audit() -> str | None:
    """Return the program that `make audit` has built, or another one."""
    ours = shutil.which("cargo-audit", path=str(Path(sys.executable).parent))
    return ours or shutil.which("cargo-audit")


def _rust(program: str | None, database: str | None) -> Iterator[Advisory]:
    """Yield what RustSec knows of every Cargo.lock; raises ``NotRunError``."""
    if program is None:
        raise NotRunError("cargo-audit is not installed: `make audit` builds it where cargo is")
    source = ["--db", database, "--no-fetch"] if database else []
    for lock in sorted(CHECKOUT.glob("*/**/Cargo.lock")):
        if "target" in lock.parts:
            continue
        report = _report([program, "audit", "--json", *source, "--file", str(lock)])
        for each in report["vulnerabilities"]["list"]:
            advisory, package = each["advisory"], each["package"]
            yield Advisory(
                package=package["name"],
                version=package["version"],
                names=frozenset({advisory["id"], *advisory["aliases"]}),
                fixed_in=f"fixed in {', '.join(each['versions']['patched']) or 'no version'}",
                where=str(lock.relative_to(CHECKOUT)),
            )


# -----------------------------------------------------------------------------------


def _report(command: Sequence[str]) -> dict[str, Any]:
    """Run a tool and return the JSON object that it writes; raises ``NotRunError``.

    The exit code is no help: it is 1 for an advisory, and 1 for a database out of reach.
    """
    try:
        done = subprocess.run(  # noqa: S603 - a list, and no shell
            command, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise NotRunError(f"no answer within {TIMEOUT_SECONDS} s") from error
    try:
        report: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        raise NotRunError(
            " / ".join(lines[-ERROR_LINES_SHOWN:]) or f"the tool ended with {done.returncode}"
        ) from error
    return report


def _say(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command prints


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
