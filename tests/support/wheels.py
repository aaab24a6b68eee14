"""Small distributions, made on the spot: what installs are tried with."""

from __future__ import annotations

import hashlib
import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


@dataclass(frozen=True)
class Wheel:
    """A wheel, and the lines by which a lock lists it."""

    path: Path
    name: str
    version: str

    @property
    def locked(self) -> str:
        digest = hashlib.sha256(self.path.read_bytes()).hexdigest()
        return f"{self.name}=={self.version} \\\n    --hash=sha256:{digest}\n"


def metadata(name: str, version: str, requires: Iterable[str]) -> str:
    """Return a METADATA file."""
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"]
    return "".join(lines + [f"Requires-Dist: {each}\n" for each in requires])


def write_metadata(site: Path, name: str, version: str, requires: Iterable[str]) -> None:
    """Make ``site`` look as if a distribution were installed there."""
    directory = site / f"{name}-{version}.dist-info"
    directory.mkdir(parents=True)
    (directory / "METADATA").write_text(metadata(name, version, requires))


def wheel(directory: Path, name: str, version: str, requires: Iterable[str] = ()) -> Wheel:
    """Write a wheel with one module of its name, which holds its version."""
    path = directory / f"{name}-{version}-py3-none-any.whl"
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{info}/METADATA": metadata(name, version, requires),
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\n"
        "Tag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{each},,\n" for each in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            # A date of its own, so that equal wheels have equal digests on any day.
            archive.writestr(zipfile.ZipInfo(inside), text)
    return Wheel(path, name, version)
