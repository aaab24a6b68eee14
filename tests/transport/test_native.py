"""What only the native transport promises: the loop may stall, and Python may fail."""

from __future__ import annotations

import asyncio
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, suppress
from typing import TYPE_CHECKING

import grpc
import pytest
from support import tls
from support.checks import Echo, ask
from support.http2 import NO_MESSAGE, connected, reset
from support.transports import LOOPBACK, Make, serving

from authz.envoy.check import POOL
from authz.settings import UnixAddress
from authz.transport import Limits, ListenError
from authz.transport.choice import transport_class
from authz.transport.tls import CertificateFiles
from bench.frames import (
    DATA,
    END_HEADERS,
    END_STREAM,
    FRAME_BYTES,
    HEADERS,
    PING,
    SETTINGS,
    WINDOW_UPDATE,
    call_headers,
    frame,
    message,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from support.http2 import Peer
    from support.resident import Resident

    from authz.settings import Address, TransportName
    from authz.transport.tls import Certificate

MEBIBYTE = 1024 * 1024
WAIT_SECONDS = 20
SOON_SECONDS = 0.3
make = Make("native")


def meanwhile(work: Callable[[], Coroutine[Any, Any, bytes]]) -> bytes:
    """Do it in a thread with a loop of its own; the caller's loop stands still until then."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(work())).result(WAIT_SECONDS)


async def test_a_stalled_loop_does_not_stall_cached_answers() -> None:
    service = Echo()
    service.memory[b"known"] = b"remembered"
    async with serving(make(service)) as transport:
        [address] = transport.addresses
        answer = meanwhile(lambda: ask(address, b"known"))

    assert answer == b"remembered"


async def test_a_call_that_a_stalled_loop_cannot_answer_waits_for_it() -> None:
    async with serving(make(Echo(b"late "))) as transport:
        [address] = transport.addresses
        with ThreadPoolExecutor(1) as thread:
            waiting = thread.submit(lambda: asyncio.run(ask(address, b"call")))
            meanwhile(lambda: nothing(address))

            assert await asyncio.wrap_future(waiting) == b"late call"


async def nothing(address: Address) -> bytes:
    """Let a caller come and go who sends nothing."""
    async with connected(address):
        return b""


async def test_DS_10_calls_taken_back_from_a_stalled_loop_fill_no_memory(
    resident: Resident,
) -> None:
    """Each is to be cancelled in the loop, which hears of it only when it goes on."""
    service = Echo()
    service.memory[b"known"] = b"seen"

    async def ask_and_take_back(address: Address) -> bytes:
        async with connected(address) as peer:
            for stream in range(1, 12_000, 4):
                await peer.send(call_headers(stream) + message(stream, bytes(60_000)))
                await peer.send(call_headers(stream + 2) + message(stream + 2, b"known"))
                assert await peer.answer(stream + 2) == b"seen"
                await peer.send(reset(stream))
        return b"done"

    async with serving(make(service)) as transport:
        [address] = transport.addresses
        assert meanwhile(lambda: ask_and_take_back(address)) == b"done"
        assert await ask(address, b"others") == b"others"
    assert len(service.deadlines) < 3000
    assert resident.grown < 128 * MEBIBYTE


def opened(stream: int) -> bytes:
    """A request in twelve bytes: POST http / (RFC 7541 appendix A), so that many fit one read."""
    return frame(HEADERS, END_HEADERS, stream, b"\x83\x86\x84")


def taken_back(stream: int) -> bytes:
    return opened(stream) + reset(stream)


def broken(stream: int) -> bytes:
    """A window above 2^31-1 ends the stream, and not the connection (RFC 9113 section 6.9.1)."""
    return opened(stream) + frame(WINDOW_UPDATE, 0, stream, b"\x7f\xff\xff\xff")


@pytest.mark.parametrize(
    ("call", "calls", "hung_up"),
    [
        pytest.param(taken_back, 1_000, False, id="CVE-2023-44487 within the bound"),
        pytest.param(taken_back, 10_000, True, id="CVE-2023-44487"),
        pytest.param(broken, 1_000, False, id="CVE-2025-8671 within the bound"),
        pytest.param(broken, 10_000, True, id="CVE-2025-8671"),
    ],
)
async def test_DS_10_who_makes_work_for_nothing_is_hung_up_on(
    call: Callable[[int], bytes], calls: int, hung_up: bool
) -> None:
    async with serving(make(Echo())) as transport, connected(transport.addresses[0]) as peer:
        with suppress(ConnectionError):
            await peer.send(b"".join(map(call, range(1, 2 * calls, 2))))
            await peer.send(frame(PING, 0, 0, b"alive?!?"))
        answered = await peer.until(PING)

        assert (answered is None) == hung_up


@pytest.mark.parametrize(
    "content",
    [*NO_MESSAGE.values(), b"\0\0\0\0\1xy"],
    ids=[*NO_MESSAGE, "longer than it says"],
)
async def test_GR_12_a_call_without_a_whole_message_is_ended_at_once(content: bytes) -> None:
    service = Echo()
    async with (
        serving(make(service)) as transport,
        connected(transport.addresses[0]) as peer,
    ):
        await peer.send(call_headers(1) + frame(DATA, END_STREAM, 1, content))

        refusal = await peer.until(HEADERS, 1)
        assert refusal is not None
        assert refusal.flags & END_STREAM
        assert not service.arrived.is_set()


async def test_DS_10_what_follows_a_message_is_not_collected() -> None:
    limits = Limits(message_bytes=100)
    async with (
        serving(make(Echo(), limits=limits)) as transport,
        connected(transport.addresses[0]) as peer,
    ):
        await peer.send(call_headers(1) + frame(DATA, 0, 1, b"\0\0\0\0\1x" + bytes(50)))
        assert await peer.until(WINDOW_UPDATE, 1)
        await peer.send(frame(DATA, 0, 1, bytes(50)))

        refusal = await peer.until(HEADERS, 1)
        assert refusal is not None
        assert refusal.flags & END_STREAM


async def test_a_service_that_cannot_even_fail_is_a_gRPC_error_without_its_text() -> None:
    service = Echo()
    service.error = ValueError("with a secret in it")
    service.fault = None  # type: ignore[assignment,method-assign] # nothing can call this
    async with serving(make(service)) as transport:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await ask(transport.addresses[0], b"a")

    assert caught.value.code() is grpc.StatusCode.INTERNAL
    assert caught.value.details() == "internal error"


async def test_the_threads_switch_often_while_it_runs_and_as_before_afterwards() -> None:
    before = sys.getswitchinterval()
    async with serving(make(Echo())):
        assert sys.getswitchinterval() < before
        assert any(one.name.startswith("authz-native") for one in threading.enumerate())

    assert sys.getswitchinterval() == before
    assert not any(one.name.startswith("authz-native") for one in threading.enumerate())


async def test_DS_10_reflection_is_not_answered_faster_than_it_is_read(
    resident: Resident,
) -> None:
    """One stream, whose answers are never taken: each question is small, each answer a file."""
    symbol = b"envoy.service.auth.v3.Authorization"
    question = b"\x22" + bytes([len(symbol)]) + symbol
    method = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    no_window = frame(SETTINGS, 0, 0, b"\0\4" + bytes(4))  # SETTINGS_INITIAL_WINDOW_SIZE
    framed = b"\0" + len(question).to_bytes(4) + question
    async with (
        serving(make(Echo(), pool=POOL)) as transport,
        connected(transport.addresses[0]) as peer,
    ):
        assert await peer.until(WINDOW_UPDATE)  # from here on the connection has a large one
        await peer.send(no_window + call_headers(1, method=method))
        with suppress(TimeoutError):  # half a window is read, or would be: more never is
            async with asyncio.timeout(2):
                for _ in range(5):
                    await peer.send(frame(DATA, 0, 1, framed * 300) * 38)
                    await peer.until(WINDOW_UPDATE, 1)

        assert resident.grown < 64 * MEBIBYTE


@pytest.mark.parametrize(
    "sent", [b"", b"\0\0\0\0\2x", b"\0\0\1\0\0" + bytes(50_000)], ids=["nothing", "half", "large"]
)
async def test_G_15_a_message_that_does_not_arrive_in_time_is_answered_and_never_an_error(
    sent: bytes,
) -> None:
    service = Echo()
    async with (
        serving(make(service, limits=Limits(message_seconds=SOON_SECONDS))) as transport,
        connected(transport.addresses[0]) as peer,
    ):
        await peer.send(call_headers(1))
        for at in range(0, len(sent), FRAME_BYTES):
            await peer.send(frame(DATA, 0, 1, sent[at : at + FRAME_BYTES]))
        assert await peer.answer(1) == b"overloaded"
        trailers = await peer.until(HEADERS, 1)
        await peer.send(call_headers(3) + message(3, b"next"))

        assert trailers is not None
        assert trailers.flags & END_STREAM
        assert await peer.answer(3) == b"next"
        assert len(service.deadlines) == 1


def part(stream: int) -> bytes:
    """A call of 60,000 bytes, of which 40,000 are sent."""
    content = b"\0" + (60_000).to_bytes(4) + bytes(40_000)
    frames = [content[at : at + FRAME_BYTES] for at in range(0, len(content), FRAME_BYTES)]
    return call_headers(stream) + b"".join(frame(DATA, 0, stream, one) for one in frames)


def rest(stream: int) -> bytes:
    return frame(DATA, 0, stream, bytes(10_000)) + frame(DATA, END_STREAM, stream, bytes(10_000))


async def test_G_15_a_connection_holds_its_share_of_bytes_and_all_hold_no_more_than_there_is() -> (
    None
):
    limits = Limits(held_bytes=140_000, held_bytes_per_connection=70_000)
    async with serving(make(Echo(), limits=limits)) as transport:
        [address] = transport.addresses
        async with connected(address) as one, connected(address) as two:
            for peer in (one, two):
                assert await peer.until(WINDOW_UPDATE)  # from here on it has a large one
            await one.send(part(1) + part(3) + rest(3))
            assert await one.answer(3) == b"overloaded"  # more than its share
            await two.send(part(1))
            await two.send(frame(PING, 0, 0, bytes(8)))
            assert await two.until(PING)
            async with connected(address) as third:
                assert await third.until(WINDOW_UPDATE)
                await third.send(part(1) + rest(1))
                assert await third.answer(1) == b"overloaded"  # more than is left
                await third.send(call_headers(3) + message(3, b"small"))
                assert await third.answer(3) == b"small"
                await one.send(reset(1))
                await one.send(frame(PING, 0, 0, bytes(8)))
                assert await one.until(PING)
                await third.send(part(5) + rest(5))
                assert len(await third.answer(5)) > 10_000
            await two.send(rest(1))

            assert len(await two.answer(1)) > 10_000


@pytest.mark.parametrize(
    ("length", "limits"),
    [
        pytest.param(12, Limits(held_bytes_per_connection=10), id="no room"),
        pytest.param(2 * MEBIBYTE, Limits(), id="too large"),
    ],
)
async def test_G_15_what_is_on_its_way_when_a_message_is_refused_ends_no_connection(
    length: int, limits: Limits
) -> None:
    """To h2 it is a fault of the peer's, unless it remembers who ended the stream."""
    service = Echo()
    service.memory[b"known"] = b"seen"
    begun = b"\0" + length.to_bytes(4) + bytes(10)
    async with (
        serving(make(service, limits=limits)) as transport,
        connected(transport.addresses[0]) as peer,
    ):
        for first in range(1, 2_801, 400):
            streams = range(first, first + 400, 2)
            await peer.send(b"".join(call_headers(n) + frame(DATA, 0, n, begun) for n in streams))
            for _ in range(2):  # by the second answer the calls before the first have been seen
                await peer.send(frame(PING, 0, 0, bytes(8)))
                assert await peer.until(PING)
            await peer.send(b"".join(frame(DATA, END_STREAM, n, bytes(2)) for n in streams))
        await peer.send(call_headers(2_801) + message(2_801, b"known"))

        assert await peer.answer(2_801) == b"seen"


async def test_G_15_calls_that_wait_for_the_loop_hold_their_bytes() -> None:
    service = Echo()
    service.hold()
    service.memory[b"known"] = b"seen"
    limits = Limits(held_bytes=25_000)
    async with serving(make(service, limits=limits)) as transport:
        [address] = transport.addresses
        async with connected(address) as peer:
            await peer.send(call_headers(1) + message(1, bytes(15_000)))
            await service.arrived.wait()
            await peer.send(call_headers(3) + message(3, bytes(15_000)))
            assert await peer.answer(3) == b"overloaded"
            await peer.send(call_headers(5) + message(5, b"known"))
            assert await peer.answer(5) == b"seen"
            service.release()
            assert await peer.until(DATA, 1)
            await peer.send(call_headers(7) + message(7, bytes(15_000)))

            assert await peer.until(DATA, 7)


async def test_G_15_a_source_has_its_share_of_unfinished_handshakes() -> None:
    limits = Limits(handshakes=5, handshakes_per_source=3, handshake_seconds=600)
    async with serving(make(Echo(), limits=limits)) as transport, AsyncExitStack() as stack:
        [address] = transport.addresses

        async def silent(source: str) -> Peer:
            return await stack.enter_async_context(
                connected(address, greet=False, local_address=source)
            )

        first = await silent("127.0.0.1")
        for source in ("127.0.0.1", "127.0.0.1", "127.0.0.2"):
            await silent(source)
        assert await (await silent("127.0.0.1")).hung_up()  # a fourth of one source
        await silent("127.0.0.3")
        assert await (await silent("127.0.0.4")).hung_up()  # a sixth of all

        await first.greet()
        assert await first.until(SETTINGS)
        assert await ask(address, b"next") == b"next"


class Slow(CertificateFiles):
    """Files on a disk that answers when the test says."""

    def __init__(self, files: tls.Files) -> None:
        super().__init__(files.chain, files.key, None)
        self.quick = threading.Event()
        self.quick.set()
        self.asked = threading.Event()

    def current(self) -> Certificate:
        self.asked.set()
        self.quick.wait(WAIT_SECONDS)
        return super().current()


async def test_G_15_a_handshake_keeps_no_call_waiting(tmp_path: Path, path: Path) -> None:
    files = tls.Files(tmp_path)
    files.write()
    slow = Slow(files)
    listen = (LOOPBACK, UnixAddress(str(path)))
    async with serving(make(Echo(), listen, certificates=slow)) as transport:
        port, socket = transport.addresses
        slow.asked.clear()
        slow.quick.clear()
        handshake = asyncio.create_task(ask(port, b"safe", tls=tls.client()))
        await asyncio.to_thread(slow.asked.wait)
        try:
            assert await ask(socket, b"meanwhile") == b"meanwhile"
            assert not handshake.done()
        finally:
            slow.quick.set()

        assert await handshake == b"safe"


async def test_a_key_that_only_openssl_knows_is_an_error_of_every_start(tmp_path: Path) -> None:
    files = tls.Files(tmp_path)
    files.write_unusual()
    certificates = CertificateFiles(files.chain, files.key, None)
    transport = make(Echo(), certificates=certificates)
    for _ in range(2):  # never without TLS in its place
        with pytest.raises(ListenError, match="cannot listen with TLS"):
            await transport.start()


@pytest.mark.parametrize("name", ["auto", "native"])
def test_it_is_what_runs_where_it_is_installed(name: TransportName) -> None:
    transport = transport_class(name)(Echo(), [LOOPBACK], pool=None)

    assert transport.name == "native"


# --- A peer that speaks HTTP/1 -----------------------------------------------------------

HTTP1 = b"POST /envoy.service.auth.v3.Authorization/Check HTTP/1.1\r\nhost: authz\r\n\r\n"


async def hung_up(address: Address, *parts: bytes) -> None:
    """Send this, piece by piece, and wait for the end of the connection."""
    async with connected(address, greet=False) as peer:
        with suppress(ConnectionError):
            for part in parts:
                await peer.send(part)
        assert await peer.hung_up()


async def test_E_10_peers_that_speak_http1_are_told_of_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with serving(make(Echo())) as transport:
        [address] = transport.addresses
        for _ in range(3):
            await hung_up(address, HTTP1)
        assert await ask(address, b"call") == b"call"

    [told] = [record for record in caplog.records if "HTTP/1" in record.getMessage()]
    assert told.levelname == "WARNING"
    assert "http2_protocol_options" in told.getMessage()


@pytest.mark.parametrize(
    "opening",
    [b"\x16\x03\x01" + b"x" * 32, b"POST", b"PRI * HTTP/1.1" + b"x" * 32, b"x /" + b"x" * 32],
    ids=["TLS", "half a word", "nearly HTTP/2", "no method"],
)
async def test_E_10_whatever_else_is_no_http2_is_hung_up_on_in_silence(
    caplog: pytest.LogCaptureFixture, opening: bytes
) -> None:
    limits = Limits(handshake_seconds=0.2)
    async with serving(make(Echo(), limits=limits)) as transport:
        await hung_up(transport.addresses[0], opening)

    assert not [record for record in caplog.records if "HTTP/1" in record.getMessage()]
