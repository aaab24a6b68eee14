"""The health probe, against every transport."""

from __future__ import annotations

import asyncio
import socket
from typing import TYPE_CHECKING

from support.checks import Echo
from support.transports import serving

from authz.settings import TcpAddress, UnixAddress
from authz.transport.probe import probe

if TYPE_CHECKING:
    from pathlib import Path

    from support.transports import Make


async def test_the_probe_tells_the_status(make: Make, path: Path) -> None:
    async with serving(make(Echo(), [UnixAddress(str(path))])) as transport:
        [address] = transport.addresses
        assert await asyncio.to_thread(probe, address) == "SERVING"
        assert await asyncio.to_thread(probe, address, "unknown") == "NOT_FOUND"


def test_the_probe_tells_that_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert probe(TcpAddress("127.0.0.1", port)) == "UNAVAILABLE"
