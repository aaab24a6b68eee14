"""Print the image's bill of materials, as CycloneDX 1.6: ``sbom.py ENVIRONMENT CARGO_LOCK``.

What Python has is read from the environment, and what is compiled into the native transport
from its lock.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from importlib.metadata import Distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING

from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from packageurl import PackageURL

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


def main(arguments: list[str]) -> int:
    """Print it; 1 if the environment has no authz."""
    parser = argparse.ArgumentParser(description="Print the image's bill of materials.")
    parser.add_argument("environment", type=Path)
    parser.add_argument("cargo_lock", type=Path)
    given = parser.parse_args(arguments)
    [packages] = given.environment.glob("lib/python3*/site-packages")
    found = {each.name: each for each in distributions(path=[str(packages)])}
    if "authz" not in found:
        print(f"{packages} has no authz: install its wheel first", file=sys.stderr)
        return 1
    bom = Bom(components=[*python(found.values()), *rust(given.cargo_lock)])
    bom.metadata.component = component(ComponentType.APPLICATION, found["authz"])
    bom.register_dependency(bom.metadata.component, bom.components)
    print(JsonV1Dot6(bom).output_as_string(indent=1))
    return 0


def python(found: Iterable[Distribution]) -> Iterator[Component]:
    """Yield the distributions of the environment."""
    for each in found:
        if each.name != "authz":
            yield component(ComponentType.LIBRARY, each)


def component(kind: ComponentType, found: Distribution) -> Component:
    """Return one distribution."""
    purl = PackageURL("pypi", None, found.name.lower(), found.version)
    return Component(
        type=kind, name=found.name, version=found.version, purl=purl, bom_ref=str(purl)
    )


def rust(lock: Path) -> Iterator[Component]:
    """Yield the crates of a Cargo.lock, with the digests of what was downloaded."""
    for crate in tomllib.loads(lock.read_text())["package"]:
        if "checksum" in crate:  # all but our own
            purl = PackageURL("cargo", None, crate["name"], crate["version"])
            yield Component(
                type=ComponentType.LIBRARY,
                name=crate["name"],
                version=crate["version"],
                purl=purl,
                bom_ref=str(purl),
                hashes=[HashType(alg=HashAlgorithm.SHA_256, content=crate["checksum"])],
            )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
