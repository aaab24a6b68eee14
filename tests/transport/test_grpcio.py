"""What only the grpcio transport does: Unix sockets, reflection, the health probe."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import grpc
import pytest
from grpc_reflection.v1alpha.reflection_pb2 import (
    ServerReflectionRequest,
    ServerReflectionResponse,
)
from support.checks import Echo, ask, channel, health

from authz.envoy.check import POOL
from authz.settings import TcpAddress, UnixAddress, parse_address
from authz.transport import AUTHORIZATION, ListenError
from authz.transport.grpcio import GrpcioTransport, probe

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from authz.settings import Address

LOOPBACK = TcpAddress("127.0.0.1", 0)
REFLECT = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"


@pytest.fixture
def path() -> Iterator[Path]:
    """A place for a socket; pytest's own paths can be too long for one."""
    with TemporaryDirectory() as directory:
        yield Path(directory) / "authz.sock"


def kind(path: Path) -> str:
    """Show what stands at ``path`` as ls does, or nothing."""
    try:
        return stat.filemode(path.lstat().st_mode)
    except FileNotFoundError:
        return ""


@asynccontextmanager
async def running(*listen: Address, name: bytes = b"", **options: bool) -> AsyncIterator[Address]:
    pool = POOL if options.get("reflection") else None
    transport = GrpcioTransport(Echo(name), listen, pool=pool)
    await transport.start()
    try:
        await transport.set_serving(True)
        yield transport.addresses[0]
    finally:
        await transport.stop(0)


async def test_a_unix_socket_answers_like_a_port(path: Path) -> None:
    async with running(UnixAddress(str(path)), name=b"over unix ") as address:
        assert await ask(address, b"hello") == b"over unix hello"
        assert await health(address) == "SERVING"


async def test_a_socket_path_is_no_uri(path: Path) -> None:
    odd = path.with_name("a%20b?c.sock")
    async with running(UnixAddress(str(odd))):
        assert kind(odd).startswith("s")


async def test_GR_10_a_unix_socket_is_for_its_owner_and_group_only(path: Path) -> None:
    umask = os.umask(0)
    try:
        async with running(UnixAddress(str(path))):
            assert kind(path) == "srw-rw----"
            assert os.umask(0) == 0  # the process keeps its own
    finally:
        os.umask(umask)


async def test_GR_18_a_second_server_on_a_live_socket_is_refused(path: Path) -> None:
    async with running(UnixAddress(str(path)), name=b"first ") as address:
        with pytest.raises(ListenError, match="another authz listens there"):
            await GrpcioTransport(Echo(), [address], pool=None).start()

        assert await ask(address, b"") == b"first "


async def test_RL_11_a_socket_left_behind_by_a_dead_server_is_replaced(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async with running(UnixAddress(str(path)), name=b"alive") as address:
        assert await ask(address, b"") == b"alive"


async def test_a_socket_that_another_program_listens_on_is_left_to_it(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ListenError, match="something else stands or listens there"):
            await GrpcioTransport(Echo(), [UnixAddress(str(path))], pool=None).start()

        assert kind(path).startswith("s")


async def test_a_file_at_the_sockets_path_is_never_removed(path: Path) -> None:
    path.open("w").close()
    with pytest.raises(ListenError, match="something else stands"):
        await GrpcioTransport(Echo(), [UnixAddress(str(path))], pool=None).start()

    assert kind(path).startswith("-")


async def test_a_socket_in_a_missing_directory_names_the_reason(path: Path) -> None:
    address = UnixAddress(str(path.parent / "missing" / "authz.sock"))
    with pytest.raises(ListenError, match="No such file or directory"):
        await GrpcioTransport(Echo(), [address], pool=None).start()


async def test_a_stopped_server_leaves_no_socket_and_frees_its_lock(path: Path) -> None:
    async with running(UnixAddress(str(path))):
        pass
    assert kind(path) == ""

    async with running(UnixAddress(str(path)), name=b"again") as address:
        assert await ask(address, b"") == b"again"


@pytest.mark.parametrize("second", ["unix:/nowhere/authz.sock", "127.0.0.1:{taken}"])
async def test_a_start_that_fails_frees_the_lock_that_it_took(path: Path, second: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bad = parse_address(second.format(taken=taken.getsockname()[1]))
        with pytest.raises(ListenError):
            await GrpcioTransport(Echo(), [UnixAddress(str(path)), bad], pool=None).start()

    async with running(UnixAddress(str(path)), name=b"free") as address:
        assert await ask(address, b"") == b"free"


async def reflect(address: Address, question: bytes) -> bytes:
    async with channel(address) as opened:
        answers = [answer async for answer in _reflection(opened)(iter([question]))]
    return b"".join(answers)


def _reflection(opened: grpc.aio.Channel) -> grpc.aio.StreamStreamMultiCallable[bytes, bytes]:
    return opened.stream_stream(REFLECT)


async def test_reflection_lists_every_service() -> None:
    question = ServerReflectionRequest(list_services="*")
    async with running(LOOPBACK, reflection=True) as address:
        wire = await reflect(address, question.SerializeToString())

    answer = ServerReflectionResponse.FromString(wire).list_services_response
    assert {service.name for service in answer.service} == {
        AUTHORIZATION,
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
    }


@pytest.mark.parametrize("symbol", [AUTHORIZATION, "grpc.health.v1.Health"])
async def test_reflection_describes_what_it_lists(symbol: str) -> None:
    question = ServerReflectionRequest(file_containing_symbol=symbol)
    async with running(LOOPBACK, reflection=True) as address:
        wire = await reflect(address, question.SerializeToString())

    answer = ServerReflectionResponse.FromString(wire).file_descriptor_response
    assert symbol.rpartition(".")[2].encode() in answer.file_descriptor_proto[0]


async def test_GR_14_without_reflection_its_service_does_not_exist() -> None:
    async with running(LOOPBACK) as address, channel(address) as opened:
        call = _reflection(opened)(iter([b""]))

        assert await call.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_the_probe_tells_the_status(path: Path) -> None:
    async with running(UnixAddress(str(path))) as address:
        assert await asyncio.to_thread(probe, address) == "SERVING"
        assert await asyncio.to_thread(probe, address, "unknown") == "NOT_FOUND"


def test_the_probe_tells_that_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

    assert probe(TcpAddress("127.0.0.1", port)) == "UNAVAILABLE"
