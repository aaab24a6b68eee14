"""What answers ``authz reload``, and what asks, over a real socket."""

from __future__ import annotations

import asyncio
import socket
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest

from authz.control import CONNECTIONS_MAX, LINE_BYTES_MAX, Control, ask_for_reload
from authz.settings import UnixAddress
from authz.transport import ListenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


class Reloading:
    """A server that reloads as the test says."""

    def __init__(self) -> None:
        self.asked: list[frozenset[str]] = []
        self.arrived: asyncio.Queue[frozenset[str]] = asyncio.Queue()
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self, may_open: frozenset[str]) -> list[str]:
        self.asked.append(may_open)
        self.arrived.put_nowait(may_open)
        await self.go.wait()
        return [f"refused {name}" for name in sorted(may_open)]


@pytest.fixture
def address(tmp_path: Path) -> UnixAddress:
    return UnixAddress(str(tmp_path / "control.sock"))


@asynccontextmanager
async def controlled(address: UnixAddress) -> AsyncIterator[Reloading]:
    reloading = Reloading()
    control = Control(address, reloading)
    await control.start()
    try:
        yield reloading
    finally:
        await control.stop()


async def sent(address: UnixAddress, data: bytes) -> bytes:
    """Send this, and return all that comes back."""
    reader, writer = await asyncio.open_unix_connection(address.path)
    writer.write(data)
    writer.write_eof()
    try:
        return await asyncio.wait_for(reader.read(), 20)
    except ConnectionResetError:
        return b""
    finally:
        writer.close()


async def test_a_question_is_answered_with_the_outcome(address: UnixAddress) -> None:
    async with controlled(address) as reloading:
        answer = await asyncio.to_thread(ask_for_reload, address, ["b", "a"], seconds=20)

    assert answer == ("refused a", "refused b")
    assert reloading.asked == [frozenset({"a", "b"})]


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\n",
        b"nonsense\n",
        b"[]\n",
        b"{}\n",
        b'{"may_open": "a"}\n',
        b'{"may_open": [1]}\n',
        b"\xff\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"[" * 100_000 + b"\n",
        b"x" * (2 * LINE_BYTES_MAX),
    ],
    ids=lambda line: repr(line[:20]),
)
async def test_what_is_no_question_changes_nothing_and_gets_no_answer(
    address: UnixAddress, line: bytes
) -> None:
    async with controlled(address) as reloading:
        assert await sent(address, line) == b""
        assert await asyncio.to_thread(ask_for_reload, address, [], seconds=20) == ()
        assert reloading.asked == [frozenset()]


async def test_a_server_that_ends_meanwhile_is_said_to_have_given_no_answer(
    address: UnixAddress,
) -> None:
    async with controlled(address) as reloading:
        reloading.go.clear()
        asking = asyncio.create_task(asyncio.to_thread(ask_for_reload, address, [], seconds=20))
        await reloading.arrived.get()
    with pytest.raises(ConnectionError, match="closed the connection without an answer"):
        await asking


async def test_an_answer_is_not_waited_for_without_end(address: UnixAddress) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(address.path)
        silent.listen()
        with pytest.raises(TimeoutError):
            await asyncio.to_thread(ask_for_reload, address, [], seconds=0.01)


async def test_so_many_may_ask_at_once_and_no_more(address: UnixAddress) -> None:
    async with controlled(address) as reloading:
        reloading.go.clear()
        asking = [
            asyncio.create_task(sent(address, b'{"may_open": []}\n'))
            for _ in range(CONNECTIONS_MAX)
        ]
        for _ in asking:
            await reloading.arrived.get()
        assert await sent(address, b'{"may_open": []}\n') == b""
        reloading.go.set()
        assert set(await asyncio.gather(*asking)) == {b'{"problems": []}\n'}


async def test_a_second_server_is_refused_and_the_first_one_stays(address: UnixAddress) -> None:
    async with controlled(address):
        with pytest.raises(ListenError, match="another authz listens there"):
            await Control(address, Reloading()).start()
        assert await asyncio.to_thread(ask_for_reload, address, [], seconds=20) == ()
