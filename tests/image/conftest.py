"""The image, built on stand-ins for the official ones, and containers that run as they will run."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from support.image import Image, run

if TYPE_CHECKING:
    from collections.abc import Iterator

HERE = Path(__file__).parent
TIMEOUT_SECONDS = 900
"""Of one test, with all that it is the first to ask for: Rust is compiled."""
STORAGE = """
[storage]
driver = "overlay"
graphroot = "{store}/root"
runroot = "{store}/run"
"""
CERTIFICATES = "/etc/ssl/certs/ca-certificates.crt"


def pytest_configure() -> None:
    # Who ends a CI job sends SIGTERM: the fixtures must still end what they started.
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.timeout(TIMEOUT_SECONDS))


@pytest.fixture(scope="session")
def image() -> Iterator[Image]:
    assert os.geteuid() == 0, "this is not root, and building without is not set up here"
    with TemporaryDirectory(prefix="authz-image-") as directory:
        store = Path(directory)
        (store / "storage.conf").write_text(STORAGE.format(store=store))
        run(HERE / "stand-in", store=store)
        pip = store / "pip.conf"
        pip.write_text(f"[global]\ncert = {CERTIFICATES}\n")
        # A machine whose TLS goes through an authority of its own mounts it.
        options = (
            "--isolation=chroot",
            *(
                f"--build-arg={name}_IMAGE=localhost/stand-in-{name.lower()}"
                for name in ("RUST", "BUILD", "BASE")
            ),
            f"--volume={CERTIFICATES}:{CERTIFICATES}:ro",
            f"--volume={pip}:/etc/pip.conf:ro",
        )
        run("make", "image", f"OPTIONS={' '.join(options)}", store=store)
        built = Image(store)
        yield built
        built.podman("rm", "--all", "--force", "--time", "0", check=False)
        # The layers are mounted in there.
        built.podman("rmi", "--all", "--force", check=False)
        run("umount", store / "root" / "overlay", store=store, check=False)
