"""Which transport runs where the native one is not installed, or broken."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

MISSING = "raise ModuleNotFoundError(\"No module named 'authz_native'\", name='authz_native')"
BROKEN = "raise ImportError('authz_native.so: wrong ELF class')"


def serve(tmp_path: Path, module: str, name: str) -> subprocess.CompletedProcess[str]:
    """Run ``authz serve`` with ``module`` in the place of ``authz_native``, until it has chosen."""
    (tmp_path / "authz_native.py").write_text(module)
    # A port that it may not have ends it right after the choice.
    config = tmp_path / "kong.yaml"
    config.write_text('_format_version: "3.0"\n')
    arguments = ["serve", "-c", str(config), "--transport", name, "--listen", "unix:/nowhere/x"]
    return subprocess.run(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, "-m", "authz", *arguments, "--admin", "off", "--log-format", "text"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


def test_native_that_is_not_installed_is_an_error_that_says_what_to_do(tmp_path: Path) -> None:
    done = serve(tmp_path, MISSING, "native")

    assert done.returncode == 1
    assert "No module named 'authz_native'; install authz[native]" in done.stderr


@pytest.mark.parametrize("name", ["auto", "grpcio"])
def test_without_it_grpcio_runs_and_nothing_is_said(tmp_path: Path, name: str) -> None:
    done = serve(tmp_path, MISSING, name)

    assert "cannot listen on unix:/nowhere/x" in done.stderr
    assert "authz_native" not in done.stderr


def test_one_that_cannot_be_loaded_is_told_before_grpcio_takes_its_place(tmp_path: Path) -> None:
    done = serve(tmp_path, BROKEN, "auto")

    assert "authz_native is installed and cannot be loaded" in done.stderr
    assert "wrong ELF class" in done.stderr
    assert "cannot listen on unix:/nowhere/x" in done.stderr
