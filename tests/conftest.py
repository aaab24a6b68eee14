"""Fixtures that every room's tests may ask for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import hypothesis
import pytest
from support.clock import Clock
from support.idp import RunningIdp
from support.running import RunningAuthz, gateway, logged
from support.scripted import Script, ScriptedServer
from support.transports import NAMES, NATIVE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from support.running import MakeAuthz
    from support.scripted import Serve

    from authz.model import Gateway


# A busy machine is no failure: no test asserts a time.
hypothesis.settings.register_profile("authz", deadline=None)
hypothesis.settings.load_profile("authz")


def pytest_report_header() -> str:
    """Say once which transports the laws are held against."""
    absent = "" if NATIVE else "; native is not installed: make native"
    return f"transports: {', '.join(NAMES)}{absent}"


@pytest.fixture
def clock() -> Clock:
    """A clock that the test moves."""
    return Clock()


@pytest.fixture
def idp() -> Iterator[RunningIdp]:
    """A fresh development identity provider on a port of its own."""
    with RunningIdp() as running:
        yield running


@pytest.fixture
def scripted() -> Iterator[Serve]:
    """A maker of servers that play byte-level scripts; they end with the test."""
    servers: list[ScriptedServer] = []

    def serve(*scripts: Script) -> ScriptedServer:
        servers.append(ScriptedServer(*scripts))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


@pytest.fixture
async def make_authz(idp: RunningIdp, caplog: pytest.LogCaptureFixture) -> AsyncIterator[MakeAuthz]:
    """A maker of running configurations; at the end nothing secret may have been told."""
    caplog.set_level(logging.DEBUG)
    made: list[RunningAuthz] = []

    def build(
        of: Gateway | None = None,
        *,
        clock: Clock | None = None,
        settings: Any = None,
        **parameters: Any,
    ) -> RunningAuthz:
        running = RunningAuthz(of or gateway(idp, **parameters), clock=clock, **(settings or {}))
        made.append(running)
        return made[-1]

    yield build
    for running in made:
        await running.shared.aclose()
        running.check_nothing_leaked(logged(caplog.records))
