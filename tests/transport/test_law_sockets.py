"""What every transport keeps to on a Unix socket."""

from __future__ import annotations

import os
import socket
import stat
from contextlib import asynccontextmanager, contextmanager
from typing import TYPE_CHECKING

import pytest
from support.checks import Echo, ask, health
from support.transports import serving

from authz.settings import UnixAddress, parse_address
from authz.transport import ListenError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from support.transports import Make

    from authz.settings import Address


def kind(path: Path) -> str:
    """Show what stands at ``path`` as ls does, or nothing."""
    try:
        return stat.filemode(path.lstat().st_mode)
    except FileNotFoundError:
        return ""


@asynccontextmanager
async def running(make: Make, path: Path, name: bytes = b"") -> AsyncIterator[Address]:
    async with serving(make(Echo(name), [UnixAddress(str(path))])) as transport:
        yield transport.addresses[0]


@contextmanager
def as_user(user: int, group: int) -> Iterator[None]:
    """Be another user, whom root's rights do not help; needs root to become one again."""
    before = os.geteuid(), os.getegid()
    os.setegid(group)
    os.seteuid(user)
    try:
        yield
    finally:
        os.seteuid(before[0])
        os.setegid(before[1])


async def test_a_unix_socket_answers_like_a_port(make: Make, path: Path) -> None:
    async with running(make, path, b"over unix ") as address:
        assert await ask(address, b"hello") == b"over unix hello"
        assert await health(address) == "SERVING"


async def test_a_socket_path_is_no_uri(make: Make, path: Path) -> None:
    odd = path.with_name("a%20b?c.sock")
    async with running(make, odd):
        assert kind(odd).startswith("s")


async def test_GR_10_a_unix_socket_is_for_its_owner_and_group_only(make: Make, path: Path) -> None:
    umask = os.umask(0)
    try:
        async with running(make, path):
            assert kind(path) == "srw-rw----"
            assert os.umask(0) == 0  # the process keeps its own
    finally:
        os.umask(umask)


@pytest.mark.parametrize("umask", [0, 0o077])
async def test_E_11_the_sockets_lock_is_for_its_owner_and_group_too(
    make: Make, path: Path, umask: int
) -> None:
    before = os.umask(umask)
    try:
        async with running(make, path):
            assert kind(path.with_name(f"{path.name}.lock")) == "-rw-rw----"
            assert kind(path) == "srw-rw----"
    finally:
        os.umask(before)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become two other users")
async def test_E_11_a_second_user_of_the_group_takes_over_from_the_first(
    make: Make, path: Path
) -> None:
    shared, first, second = 60_001, 60_002, 60_003
    os.chown(path.parent, -1, shared)
    path.parent.chmod(0o2770)
    for user in (first, second):
        with as_user(user, shared):
            async with running(make, path, b"mine") as address:
                assert await ask(address, b"") == b"mine"
    assert path.with_name(f"{path.name}.lock").stat().st_uid == first


async def test_GR_18_a_second_server_on_a_live_socket_is_refused(make: Make, path: Path) -> None:
    async with running(make, path, b"first ") as address:
        with pytest.raises(ListenError, match="another authz listens there"):
            await make(Echo(), [address]).start()

        assert await ask(address, b"") == b"first "


async def test_RL_11_a_socket_left_behind_by_a_dead_server_is_replaced(
    make: Make, path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async with running(make, path, b"alive") as address:
        assert await ask(address, b"") == b"alive"


async def test_a_socket_that_another_program_listens_on_is_left_to_it(
    make: Make, path: Path
) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ListenError, match="something else stands or listens there"):
            await make(Echo(), [UnixAddress(str(path))]).start()

        assert kind(path).startswith("s")


async def test_a_file_at_the_sockets_path_is_never_removed(make: Make, path: Path) -> None:
    path.open("w").close()
    with pytest.raises(ListenError, match="something else stands"):
        await make(Echo(), [UnixAddress(str(path))]).start()

    assert kind(path).startswith("-")


async def test_a_socket_in_a_missing_directory_names_the_reason(make: Make, path: Path) -> None:
    address = UnixAddress(str(path.parent / "missing" / "authz.sock"))
    with pytest.raises(ListenError, match="No such file or directory"):
        await make(Echo(), [address]).start()


async def test_a_stopped_server_leaves_no_socket_and_frees_its_lock(make: Make, path: Path) -> None:
    async with running(make, path):
        pass
    assert kind(path) == ""

    async with running(make, path, b"again") as address:
        assert await ask(address, b"") == b"again"


@pytest.mark.parametrize("second", ["unix:/nowhere/authz.sock", "127.0.0.1:{taken}"])
async def test_a_start_that_fails_frees_the_lock_that_it_took(
    make: Make, path: Path, second: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        bad = parse_address(second.format(taken=taken.getsockname()[1]))
        with pytest.raises(ListenError):
            await make(Echo(), [UnixAddress(str(path)), bad]).start()

    async with running(make, path, b"free") as address:
        assert await ask(address, b"") == b"free"
