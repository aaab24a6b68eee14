"""Reads a lock, and tells what keeps it from being closed.

A lock is closed if every requirement of every distribution that it pins, extras
included, is met by another of its pins: then installing it needs no decision, and no
day can change what is installed.
"""

from __future__ import annotations

import itertools
import re
import sys
import tomllib
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

ROOT = Path(__file__).parents[2]
LOCKS = ("audit", "dev", "image", "kube", "native", "oldest", "parts", "runtime")

PYTHONS = ("3.11.0", "3.11.2", "3.12.0", "3.13.0")
"""The oldest of each release that a lock is held to, and Debian 12's."""

MACHINES = ("x86_64", "aarch64")

_ENTRY = re.compile(r"^(?P<pin>\w[^\\\n]*?) \\\n(?P<hashes>(?:    --hash=.*\n)+)", re.MULTILINE)
_COMMENT_OR_OPTION = re.compile(r"\s*(#.*|--no-binary .*)?")


@dataclass(frozen=True)
class Pin:
    """One distribution of a lock; ``requirement`` is its line, marker included."""

    requirement: Requirement
    hashes: tuple[str, ...]

    @cached_property
    def name(self) -> str:
        return canonicalize_name(self.requirement.name)

    @cached_property
    def version(self) -> str:
        (only,) = self.requirement.specifier
        assert only.operator == "=="
        return only.version

    def applies(self, where: Mapping[str, str]) -> bool:
        marker = self.requirement.marker
        return marker is None or marker.evaluate({**where, "extra": ""})


def read(lock: Path) -> tuple[Pin, ...]:
    """Return a lock's pins; a line that is none of a lock's is an error."""
    text = lock.read_text()
    rest = _ENTRY.sub("", text).splitlines()
    strange = [line for line in rest if not _COMMENT_OR_OPTION.fullmatch(line)]
    assert not strange, f"{lock}: {strange}"
    return tuple(
        Pin(Requirement(entry["pin"]), tuple(entry["hashes"].split()))
        for entry in _ENTRY.finditer(text)
    )


def lock(name: str) -> Path:
    return ROOT / "requirements" / f"{name}.txt"


def asked_for(name: str) -> list[Requirement]:
    """Return what a lock was made of: pyproject's lists, or the file beside it."""
    if name not in {"runtime", "dev"}:
        lines = lock(name).with_suffix(".in").read_text().splitlines()
        return [Requirement(line) for line in lines if line and line[0] not in "#-"]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = project["dependencies"]
    if name == "dev":
        wanted = wanted + project["optional-dependencies"]["dev"]
    return [Requirement(each) for each in wanted]


def environments() -> list[dict[str, str]]:
    """Return every interpreter and machine that a lock must be right for, as markers see them."""
    return [
        here()
        | {
            "python_version": python.rpartition(".")[0],
            "python_full_version": python,
            "implementation_version": python,
            "platform_machine": machine,
        }
        for python, machine in itertools.product(PYTHONS, MACHINES)
    ]


def here() -> dict[str, str]:
    """The interpreter and the machine that this is."""
    return {name: str(value) for name, value in default_environment().items()}


def installed(directory: Path | None = None) -> dict[str, Distribution]:
    """Return the distributions of an environment, by default of this one, by their names."""
    path = sys.path
    if directory is not None:
        (site,) = (directory / "lib").glob("python3*/site-packages")
        path = [str(site)]
    return {canonicalize_name(found.metadata["Name"]): found for found in distributions(path=path)}


def faults(
    pins: Iterable[Pin],
    roots: Iterable[Requirement],
    metadata: Mapping[str, Distribution],
    where: Mapping[str, str],
) -> list[str]:
    """Tell every requirement that no pin meets, on one interpreter and machine.

    ``metadata`` holds the pinned distributions as they are installed.
    """
    pinned = {pin.name: pin for pin in pins if pin.applies(where)}
    found: list[str] = []
    seen: set[tuple[str, str]] = set()
    asked = [("the project", each) for each in roots if _counts(each, "", where)]
    while asked:
        by, wanted = asked.pop()
        pin = pinned.get(canonicalize_name(wanted.name))
        if pin is None:
            found.append(f"{by} wants {wanted}, which is not locked")
            continue
        if not wanted.specifier.contains(pin.version, prereleases=True):
            found.append(f"{by} wants {wanted}, and {pin.version} is locked")
        for extra in {"", *wanted.extras}:
            if (pin.name, extra) in seen:
                continue
            seen.add((pin.name, extra))
            known = metadata.get(pin.name)
            if known is None or known.version != pin.version:
                found.append(f"{pin.requirement} is not installed: what it wants is not known")
                break
            wants = map(Requirement, known.requires or ())
            asked += [(pin.name, each) for each in wants if _counts(each, extra, where)]
    found += [f"{name} is locked, and nothing wants it" for name in pinned.keys() - _names(seen)]
    return sorted(set(found))


def _counts(wanted: Requirement, extra: str, where: Mapping[str, str]) -> bool:
    return wanted.marker is None or wanted.marker.evaluate({**where, "extra": extra})


def _names(seen: Iterable[tuple[str, str]]) -> set[str]:
    return {name for name, _ in seen}
