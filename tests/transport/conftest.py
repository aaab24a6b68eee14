"""What is a law for one transport is one for each."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from support.resident import Resident
from support.transports import NAMES, NATIVE, Make

if TYPE_CHECKING:
    from collections.abc import Iterator

# Nothing in there can run without it; the report's header says that it is missing.
collect_ignore = [] if NATIVE else ["test_native.py"]


@pytest.fixture(params=NAMES)
def make(request: pytest.FixtureRequest) -> Make:
    """A maker of transports; a test that asks for it runs once for each kind."""
    return Make(request.param)


@pytest.fixture
def path() -> Iterator[Path]:
    """A place for a socket; pytest's own paths can be too long for one."""
    with TemporaryDirectory() as directory:
        yield Path(directory) / "authz.sock"


@pytest.fixture
def resident() -> Resident:
    """How many bytes this process has in memory more than it had."""
    return Resident()
