"""A second identity provider: the npm package ``oidc-provider``, installed by ``npm ci``."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from authz.demo.parts import CHECKOUT, LOOPBACK, PartMissingError, Process, answers, free_port

if TYPE_CHECKING:
    from collections.abc import Sequence

SOURCE = CHECKOUT / "tests" / "e2e" / "oidc-provider"
INSTALLED = CHECKOUT / ".parts" / "oidc-provider"
INSTALL_TIMEOUT_SECONDS = 300
NODE_MIN = 20

JWT_AUDIENCE = "https://api.example.com"
"""The audience of its JWT access tokens."""

_RECIPE = ("package.json", "package-lock.json", ".npmrc")


class OidcProvider(Process):
    """The provider on a free loopback port, with these clients (metadata of RFC 7591).

    Those whose ``scope`` is ``jwt`` get JWT access tokens, the others opaque ones.
    """

    name = "oidc-provider"
    ready_within_s = 60

    def __init__(self, clients: Sequence[dict[str, Any]]) -> None:
        super().__init__()
        self.port = free_port()
        self.issuer = f"http://{LOOPBACK}:{self.port}"
        self._clients = clients

    def command(self, directory: Path) -> list[str]:
        # Node looks for packages beside the file that imports them.
        (directory / "node_modules").symlink_to(distribution() / "node_modules")
        shutil.copy(SOURCE / "server.mjs", directory)
        settings = {"port": self.port, "jwtResource": JWT_AUDIENCE, "clients": self._clients}
        (directory / "settings.json").write_text(json.dumps(settings), "utf-8")
        return [node(), str(directory / "server.mjs"), str(directory / "settings.json")]

    def is_ready(self) -> bool:
        return answers(f"{self.issuer}/.well-known/openid-configuration")


def distribution() -> Path:
    """Return the directory with the package and all that it needs, installed on first use."""
    recipe = b"".join((SOURCE / name).read_bytes() for name in _RECIPE)
    whole = INSTALLED / hashlib.sha256(recipe).hexdigest()[:16]
    if whole.exists():
        return whole
    node()
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=INSTALLED) as scratch:
        made = Path(scratch) / "whole"
        made.mkdir()
        for name in _RECIPE:
            shutil.copy(SOURCE / name, made)
        _install(made)
        # Renamed when complete, so that an interrupted first use leaves nothing half done.
        made.rename(whole)
    return whole


def node() -> str:
    """Return the path of Node; raises ``PartMissingError`` if it is missing or too old."""
    found = shutil.which("node")
    if found is None or shutil.which("npm") is None:
        raise PartMissingError("oidc-provider: apt-get install nodejs npm")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True)  # noqa: S603 - a list, and no shell
    version = said.stdout.strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_MIN:
        raise PartMissingError(f"oidc-provider: {found} is {version}, wanted v{NODE_MIN} or newer")
    return found


def _install(directory: Path) -> None:
    print("==> installing oidc-provider with npm", flush=True)  # noqa: T201 - it takes a while
    done = subprocess.run(
        ["npm", "ci"],  # noqa: S607 - found by `node`
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=INSTALL_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise PartMissingError(f"oidc-provider: npm ci failed in {directory}:\n{done.stdout}")


if __name__ == "__main__":
    print(f"==> oidc-provider is at {distribution()}")  # noqa: T201 - for `make e2e`
