"""What every transport keeps to with TLS."""

from __future__ import annotations

import asyncio
import logging
import os
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from support import tls
from support.checks import Echo, ask
from support.http2 import connected
from support.transports import LOOPBACK, serving

from authz.settings import UnixAddress
from authz.transport import LIMITS, Limits, ListenError
from authz.transport.probe import ProbeTls, probe
from authz.transport.tls import CertificateFiles

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from support.transports import Make
    from trustme import CA

    from authz.settings import Address

CLIENTS = tls.authority("clients")
STRANGER = tls.authority("stranger")


@pytest.fixture
def files(tmp_path: Path) -> tls.Files:
    """A certificate on disk, and the authority that signs clients."""
    written = tls.Files(tmp_path)
    written.write(clients=CLIENTS)
    return written


@asynccontextmanager
async def running(
    make: Make, files: tls.Files, *, mutual: bool = False, limits: Limits = LIMITS
) -> AsyncIterator[tuple[Address, CertificateFiles]]:
    read = CertificateFiles(files.chain, files.key, files.client_ca if mutual else None)
    async with serving(make(Echo(b"safe "), certificates=read, limits=limits)) as transport:
        yield transport.addresses[0], read


async def refused(address: Address, credentials: grpc.ChannelCredentials | None) -> bool:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await ask(address, b"", tls=credentials)
    return caught.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_client_that_trusts_the_authority_is_answered(make: Make, files: tls.Files) -> None:
    async with running(make, files) as (address, _):
        assert await ask(address, b"hello", tls=tls.client()) == b"safe hello"


async def test_a_client_without_tls_is_hung_up_on(make: Make, files: tls.Files) -> None:
    async with running(make, files) as (address, _):
        assert await refused(address, None)
        assert await ask(address, b"next", tls=tls.client()) == b"safe next"


@pytest.mark.parametrize("beginning", [b"", bytes.fromhex("160301")], ids=["silence", "half"])
async def test_GR_12_a_peer_that_does_not_finish_its_handshake_is_hung_up_on(
    make: Make, files: tls.Files, beginning: bytes
) -> None:
    limits = Limits(handshake_seconds=0.3)
    async with (
        running(make, files, limits=limits) as (address, _),
        connected(address, greet=False) as peer,
    ):
        await peer.send(beginning)

        assert await peer.hung_up()


async def test_G_15_peers_that_do_not_finish_their_handshakes_keep_no_other_waiting(
    make: Make, files: tls.Files
) -> None:
    async with running(make, files) as (address, _), AsyncExitStack() as stack:
        for _ in range(100):
            peer = await stack.enter_async_context(connected(address, greet=False))
            await peer.send(bytes.fromhex("160301"))

        assert await ask(address, b"next", tls=tls.client()) == b"safe next"


async def test_a_client_that_the_right_authority_has_signed_is_answered(
    make: Make, files: tls.Files
) -> None:
    async with running(make, files, mutual=True) as (address, _):
        assert await ask(address, b"hello", tls=tls.client(signed_by=CLIENTS)) == b"safe hello"


@pytest.mark.parametrize("signed_by", [None, STRANGER], ids=["unsigned", "stranger"])
async def test_GR_11_any_other_client_is_refused(
    make: Make, files: tls.Files, signed_by: CA | None
) -> None:
    async with running(make, files, mutual=True) as (address, _):
        assert await refused(address, tls.client(signed_by=signed_by))


async def test_a_unix_socket_beside_it_stays_without(
    make: Make, files: tls.Files, path: Path
) -> None:
    read = CertificateFiles(files.chain, files.key, None)
    listen = (LOOPBACK, UnixAddress(str(path)))
    async with serving(make(Echo(b"safe "), listen, certificates=read)) as transport:
        port, socket = transport.addresses
        assert await ask(port, b"port", tls=tls.client()) == b"safe port"
        assert await ask(socket, b"file") == b"safe file"


async def test_a_new_certificate_is_used_from_the_next_handshake_on(
    make: Make, files: tls.Files
) -> None:
    async with running(make, files) as (address, _):
        assert await ask(address, b"old", tls=tls.client()) == b"safe old"
        files.write(STRANGER)

        assert await refused(address, tls.client())
        assert await ask(address, b"new", tls=tls.client(STRANGER)) == b"safe new"


async def test_another_authority_of_the_clients_is_used_from_the_next_handshake_on(
    make: Make, files: tls.Files
) -> None:
    async with running(make, files, mutual=True) as (address, _):
        files.write(clients=STRANGER)

        assert await refused(address, tls.client(signed_by=CLIENTS))
        assert await ask(address, b"new", tls=tls.client(signed_by=STRANGER)) == b"safe new"


BREAK = pytest.mark.parametrize(
    "damage", [tls.Files.empty, tls.Files.lose_key, tls.Files.mix], ids=lambda how: how.__name__
)


@BREAK
async def test_a_broken_pair_leaves_the_old_one_in_force_and_is_logged_once(
    make: Make,
    files: tls.Files,
    damage: Callable[[tls.Files], None],
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running(make, files) as (address, _):
        damage(files)
        with caplog.at_level(logging.ERROR):
            answers = [await ask(address, b"still", tls=tls.client()) for _ in range(2)]
        files.write(STRANGER)

        assert answers == [b"safe still"] * 2
        assert len(caplog.records) == 1
        assert "the certificate of before stays in force" in caplog.text
        assert await ask(address, b"new", tls=tls.client(STRANGER)) == b"safe new"


@BREAK
def test_a_broken_pair_at_the_start_is_an_error(
    files: tls.Files, damage: Callable[[tls.Files], None]
) -> None:
    damage(files)
    with pytest.raises(ListenError, match=r"cannot listen with TLS: .*\.pem"):
        CertificateFiles(files.chain, files.key, None)


def test_a_key_with_a_password_is_an_error_and_asks_nobody(files: tls.Files) -> None:
    Path(files.key).write_bytes(tls.encrypted_key(b"secret"))
    with pytest.raises(ListenError, match="the key is encrypted"):
        CertificateFiles(files.chain, files.key, None)


async def test_a_new_certificate_is_seen_though_time_and_size_of_its_file_are_the_old_ones(
    make: Make, files: tls.Files
) -> None:
    """As ``rsync --times --inplace`` leaves them."""
    both = [Path(files.chain), Path(files.key)]
    for file in both:
        file.write_bytes(padded(file))
    async with running(make, files) as (address, _):
        stranger = tls.Files(files.directory / "stranger")
        stranger.write(STRANGER)
        for file, new in zip(both, (stranger.chain, stranger.key), strict=True):
            time = file.stat().st_mtime_ns
            file.write_bytes(padded(Path(new)))
            os.utime(file, ns=(time, time))

        assert await ask(address, b"new", tls=tls.client(STRANGER)) == b"safe new"


def padded(path: Path) -> bytes:
    """The file's content, in as many bytes as any other."""
    return path.read_bytes().ljust(4096, b"\n")


async def test_the_probe_asks_with_tls(make: Make, files: tls.Files, tmp_path: Path) -> None:
    question = ProbeTls(ca=str(tls.ca_file(tmp_path)))
    async with running(make, files) as (address, _):
        assert await asyncio.to_thread(probe, address, tls=question) == "SERVING"
        assert await asyncio.to_thread(probe, address) == "UNAVAILABLE"


async def test_the_probe_shows_a_certificate_of_its_own(
    make: Make, files: tls.Files, tmp_path: Path
) -> None:
    own = tls.Files(tmp_path / "own")
    own.write(CLIENTS)
    question = ProbeTls(
        ca=str(tls.ca_file(tmp_path)), cert=own.chain, key=own.key, server_name="127.0.0.1"
    )
    async with running(make, files, mutual=True) as (address, _):
        assert await asyncio.to_thread(probe, address, tls=question) == "SERVING"
