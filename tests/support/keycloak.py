"""A real Keycloak, fetched from Maven Central once and started afresh for each use."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from authz.demo.parts import CHECKOUT, PartMissingError, Process, answers, free_port

if TYPE_CHECKING:
    from typing import Self

VERSION = "26.5.2"
ARTIFACT = f"org.keycloak:keycloak-quarkus-dist:{VERSION}:tar.gz"
HOSTNAME = "http://keycloak.keycloak:8080"
DOWNLOADS = CHECKOUT / ".parts" / "keycloak"
DOWNLOAD_TIMEOUT_SECONDS = 900


class Keycloak(Process):
    """Keycloak in development mode with one realm, on a free loopback port.

    Tokens and discovery carry ``hostname`` wherever it listens.  Keys and data live
    as long as the object does: they outlast a stop and a start, and end with ``close``.
    """

    name = "keycloak"
    ready_within_s = 180

    def __init__(self, realm_file: Path, *, realm: str = "kong", hostname: str = HOSTNAME) -> None:
        super().__init__()
        self.port = free_port()
        self.issuer = f"{hostname}/realms/{realm}"
        self.url = f"http://127.0.0.1:{self.port}"
        self._hostname = hostname
        self._realm = realm
        self._realm_file = realm_file
        self._home: Path | None = None

    @property
    def token_endpoint(self) -> str:
        """The token endpoint at the address where it really listens."""
        return f"{self.url}/realms/{self._realm}/protocol/openid-connect/token"

    def command(self, directory: Path) -> list[str]:
        # A home of its own: two Keycloaks in one directory share their database file.
        if self._home is None:
            self._home = Path(tempfile.mkdtemp(prefix="keycloak-"))
            shutil.copytree(distribution(), self._home, dirs_exist_ok=True)
            imports = self._home / "data" / "import"
            imports.mkdir(parents=True)
            shutil.copy(self._realm_file, imports)
        return [
            str(self._home / "bin" / "kc.sh"),
            "start-dev",
            "--import-realm",
            "--http-host=127.0.0.1",
            f"--http-port={self.port}",
            f"--hostname={self._hostname}",
            "--cache=local",
        ]

    def environment(self, directory: Path) -> dict[str, str]:
        return dict(os.environ) | {"JAVA_OPTS_KC_HEAP": "-Xms64m -Xmx512m"}

    def is_ready(self) -> bool:
        return answers(f"{self.url}/realms/{self._realm}/.well-known/openid-configuration")

    def close(self) -> None:
        """Stop and remove the home."""
        self.stop()
        if self._home is not None:
            shutil.rmtree(self._home, ignore_errors=True)
            self._home = None

    def __enter__(self) -> Self:
        try:
            return super().__enter__()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()


def distribution() -> Path:
    """Return Keycloak's unpacked distribution, fetched with Maven on first use."""
    unpacked = DOWNLOADS / f"keycloak-{VERSION}"
    if unpacked.exists():
        return unpacked
    archive = _download()
    with tempfile.TemporaryDirectory(dir=DOWNLOADS) as scratch:
        subprocess.run(["tar", "-xzf", archive, "-C", scratch], check=True)  # noqa: S603, S607 - no shell; the system's tar
        # Renamed when complete, so that an interrupted first use leaves nothing half done.
        (Path(scratch) / unpacked.name).rename(unpacked)
    archive.unlink()
    return unpacked


def _download() -> Path:
    maven = shutil.which("mvn")
    if maven is None or shutil.which("java") is None:
        raise PartMissingError("keycloak: apt-get install maven default-jre-headless")
    DOWNLOADS.mkdir(parents=True, exist_ok=True)
    print(f"==> fetching Keycloak {VERSION} from Maven Central", flush=True)  # noqa: T201 - it takes minutes
    fetch = [maven, "-q", "-B", "dependency:copy", f"-Dartifact={ARTIFACT}"]
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        [*fetch, f"-DoutputDirectory={DOWNLOADS}"],
        cwd=DOWNLOADS,
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_TIMEOUT_SECONDS,
        check=False,
    )
    if done.returncode != 0:
        raise PartMissingError(f"keycloak: mvn could not fetch {ARTIFACT}:\n{done.stdout}")
    return DOWNLOADS / f"keycloak-quarkus-dist-{VERSION}.tar.gz"


if __name__ == "__main__":
    print(f"==> Keycloak {VERSION} is at {distribution()}")  # noqa: T201 - for `make e2e`
