"""What every transport keeps to with peers that stall, vanish, flood or break HTTP/2."""

from __future__ import annotations

import asyncio
import os
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from typing import TYPE_CHECKING

import grpc
import pytest
from support.checks import Echo, ask, channel, health, unary
from support.http2 import NO_MESSAGE, connected, reset
from support.transports import serving

from authz.transport import LIMITS, Limits
from bench.frames import (
    CHECK,
    CONTINUATION,
    DATA,
    END_HEADERS,
    END_STREAM,
    GOAWAY,
    HEADERS,
    MAX_CONCURRENT_STREAMS,
    PING,
    PREFACE,
    RST_STREAM,
    SETTINGS,
    WINDOW_UPDATE,
    call_headers,
    fields,
    frame,
    message,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from support.http2 import Peer
    from support.resident import Resident
    from support.transports import Make

    from authz.settings import Address

MEBIBYTE = 1024 * 1024
SOON_SECONDS = 0.3
PINGS = Limits(ping_seconds=1, ping_timeout_seconds=1)
CYCLES = 10_000
WATCH = "/grpc.health.v1.Health/Watch"


@asynccontextmanager
async def running(
    make: Make, service: Echo | None = None, limits: Limits = LIMITS
) -> AsyncIterator[Address]:
    async with serving(make(service or Echo(), limits=limits)) as transport:
        yield transport.addresses[0]


# --- Peers that say nothing ------------------------------------------------------


@pytest.mark.parametrize(
    "beginning", [b"", PREFACE[:10], bytes.fromhex("160301")], ids=["silence", "half", "tls"]
)
async def test_GR_12_a_peer_that_does_not_finish_its_greeting_is_hung_up_on(
    make: Make, beginning: bytes
) -> None:
    async with running(make, limits=Limits(handshake_seconds=SOON_SECONDS)) as address:
        async with connected(address, greet=False) as peer:
            await peer.send(beginning)
            assert await peer.hung_up()
        assert await ask(address, b"others") == b"others"


async def test_a_peer_that_does_not_answer_pings_is_hung_up_on(make: Make) -> None:
    service = Echo()
    service.hold()
    async with running(make, service, PINGS) as address:
        async with connected(address) as peer:
            peer.answers_pings = False
            await peer.send(call_headers(1) + message(1, b"lost"))
            assert await peer.until(PING) is not None
            assert await peer.hung_up()
        await service.done.wait()

        assert service.cancelled == 1


async def test_an_idle_peer_that_answers_pings_stays(make: Make) -> None:
    async with (
        running(make, limits=PINGS) as address,
        connected(address) as peer,
    ):
        for _ in range(2):
            assert await peer.until(PING) is not None
        await peer.send(call_headers(1) + message(1, b"awake"))

        assert await peer.answer(1) == b"awake"


async def test_a_call_whose_message_never_comes_ends_with_its_deadline(make: Make) -> None:
    service = Echo()
    async with running(make, service) as address, connected(address) as peer:
        await peer.send(call_headers(1, (b"grpc-timeout", b"100m")))
        await ended(peer, 1)
        await peer.send(call_headers(3) + message(3, b"next"))

        assert await peer.answer(3) == b"next"
    assert len(service.deadlines) == 1


async def test_G_15_messages_that_are_never_sent_whole_keep_no_other_out(make: Make) -> None:
    """So many of a megabyte would be all the room that there is, if it were kept for them."""
    head = b"\0" + MEBIBYTE.to_bytes(4)
    async with running(make) as address, AsyncExitStack() as stack:
        for _ in range(130):
            peer = await stack.enter_async_context(connected(address))
            await peer.send(call_headers(1) + frame(DATA, 0, 1, head))
            await peer.send(frame(PING, 0, 0, bytes(8)))
            assert await peer.until(PING)

        assert await ask(address, bytes(900_000)) == bytes(900_000)


async def ended(peer: Peer, stream: int) -> None:
    """Wait for the end of a stream, by trailers or by reset."""
    async for one in peer.frames():
        if one.stream == stream and (one.kind == RST_STREAM or one.flags & 1):
            return
    raise AssertionError("the server hung up")


async def test_GR_08_a_connection_that_is_gone_cancels_its_calls(make: Make) -> None:
    service = Echo()
    service.hold()
    async with running(make, service) as address:
        async with connected(address) as peer:
            await peer.send(call_headers(1) + message(1, b"lost"))
            await service.arrived.wait()
            peer.kill()
        await service.done.wait()

        assert service.cancelled == 1


async def test_GR_08_a_reset_stream_cancels_its_call_and_no_other(make: Make) -> None:
    service = Echo()
    service.hold()
    async with running(make, service) as address, connected(address) as peer:
        await peer.send(call_headers(1) + message(1, b"first"))
        await peer.send(call_headers(3) + message(3, b"second"))
        while len(service.deadlines) < 2:
            await service.arrived.wait()
            service.arrived.clear()
        await peer.send(reset(1))
        await service.done.wait()
        service.release()

        assert await peer.answer(3) == b"second"
        assert service.cancelled == 1


# --- Deadlines as they stand on the wire -----------------------------------------


@pytest.mark.parametrize(
    ("told", "at_most"),
    [(b"2H", 7200), (b"3M", 180), (b"40S", 40), (b"50000m", 50), (b"60000000u", 60)],
    ids=["hours", "minutes", "seconds", "milliseconds", "microseconds"],
)
async def test_GR_07_a_deadline_is_read_in_each_unit(
    make: Make, told: bytes, at_most: float
) -> None:
    service = Echo()
    async with running(make, service) as address, connected(address) as peer:
        now = asyncio.get_running_loop().time()
        await peer.send(call_headers(1, (b"grpc-timeout", told)) + message(1, b"a"))
        assert await peer.answer(1) == b"a"

    [deadline] = service.deadlines
    assert deadline is not None
    assert at_most - 5 < deadline - now <= at_most + 1


@pytest.mark.parametrize("told", [b"1x", b"S", b"-1S", b"9" * 19 + b"S", b"1.5S", b"\xff"])
async def test_GR_07_a_deadline_that_is_none_harms_nobody_else(make: Make, told: bytes) -> None:
    async with running(make) as address:
        async with connected(address) as peer:
            await peer.send(call_headers(1, (b"grpc-timeout", told)) + message(1, b"a"))
            await ended(peer, 1)
        assert await ask(address, b"others") == b"others"


# --- Peers that break HTTP/2 -----------------------------------------------------

BROKEN = {
    "a continuation of nothing": frame(CONTINUATION, END_HEADERS, 1),
    "settings of a stream": frame(SETTINGS, 0, 1),
    "a ping of the wrong size": frame(PING, 0, 0, b"1"),
    "garbage for header fields": frame(HEADERS, END_HEADERS, 1, b"\xff" * 40),
}


@pytest.mark.parametrize("broken", BROKEN.values(), ids=BROKEN.keys())
async def test_GR_12_a_malformed_frame_ends_its_connection_and_no_other(
    make: Make, broken: bytes
) -> None:
    async with running(make) as address:
        async with connected(address) as peer:
            with suppress(ConnectionError):
                await peer.send(broken)
            assert await peer.hung_up()
        assert await ask(address, b"others") == b"others"


@pytest.mark.parametrize("content", NO_MESSAGE.values(), ids=NO_MESSAGE.keys())
async def test_GR_12_a_call_without_a_whole_message_reaches_nobody_and_harms_no_other(
    make: Make, content: bytes
) -> None:
    service = Echo()
    async with running(make, service) as address, connected(address) as peer:
        await peer.send(call_headers(1) + frame(DATA, END_STREAM, 1, content))
        await peer.send(call_headers(3) + message(3, b"next"))

        assert await peer.answer(3) == b"next"
        assert len(service.deadlines) == 1


async def test_GR_12_a_frame_above_its_size_reaches_nobody(make: Make) -> None:
    service = Echo()
    async with running(make, service) as address:
        async with connected(address) as peer:
            await flood(peer, iter([frame(DATA, 0, 7, bytes(MEBIBYTE))]))
        assert await ask(address, b"others") == b"others"
    assert len(service.deadlines) == 1


async def test_DS_10_a_connection_says_how_many_calls_it_takes_at_once(make: Make) -> None:
    async with running(make) as address, connected(address) as peer:
        settings = await peer.until(SETTINGS)
        assert settings is not None
        pairs = [settings.payload[at : at + 6] for at in range(0, len(settings.payload), 6)]

    told = {int.from_bytes(pair[:2]): int.from_bytes(pair[2:]) for pair in pairs}
    assert told[MAX_CONCURRENT_STREAMS] == LIMITS.streams_per_connection


async def test_headers_above_their_cap_are_refused_and_the_next_call_is_not(make: Make) -> None:
    service = Echo()
    async with running(make, service) as address, channel(address) as opened:
        large = ("x-large", "x" * (LIMITS.header_bytes + 1))
        call = unary(opened, CHECK)(b"", metadata=[large], timeout=10)
        assert (await call.code()).name != "OK"
        assert not service.arrived.is_set()

        assert await unary(opened, CHECK)(b"next", timeout=10) == b"next"


# --- Peers that flood ------------------------------------------------------------


async def flood(peer: Peer, chunks: Iterator[bytes]) -> int:
    """Send until the server hangs up or there is no more; return the bytes that it took."""
    sent = 0
    listening = asyncio.create_task(peer.hung_up())
    with suppress(ConnectionError):
        for chunk in chunks:
            if listening.done():
                break
            await peer.send(chunk)
            sent += len(chunk)
    listening.cancel()
    return sent


async def answered(address: Address) -> None:
    """Wait for an answer to another caller: grpcio may shed a few calls before, as it should."""
    async with asyncio.timeout(20):
        while True:
            with suppress(grpc.aio.AioRpcError):
                assert await ask(address, b"others") == b"others"
                return


async def test_DS_10_endless_header_fields_are_not_kept(make: Make, resident: Resident) -> None:
    """CVE-2024-27316: HEADERS that END_HEADERS never follows."""

    def chunks() -> Iterator[bytes]:
        field = fields((b"x", b"y" * 16_000))
        yield frame(HEADERS, 0, 1, field)
        for _ in range(8 * 1024):
            yield frame(CONTINUATION, 0, 1, field)

    async with running(make) as address:
        async with connected(address) as peer:
            assert await flood(peer, chunks()) < 128 * MEBIBYTE, "never hung up on"
        assert await ask(address, b"others") == b"others"
    assert resident.grown < 96 * MEBIBYTE


@pytest.mark.parametrize("body", [b"", b"question"], ids=["begun", "asked"])
async def test_DS_10_calls_that_are_taken_back_at_once_are_not_kept(
    make: Make, resident: Resident, body: bytes
) -> None:
    """CVE-2023-44487, rapid reset: each call is over before the limit of calls counts it."""

    def chunks() -> Iterator[bytes]:
        for first in range(1, 40_000, 200):
            yield b"".join(
                call_headers(stream) + (message(stream, body) if body else b"") + reset(stream)
                for stream in range(first, first + 200, 2)
            )

    service = Echo()
    service.hold()
    async with running(make, service) as address:
        async with connected(address) as peer:
            await flood(peer, chunks())
        service.release()
        await answered(address)
        assert await health(address) == "SERVING"
    assert resident.grown < 48 * MEBIBYTE


async def test_DS_10_watchers_that_leave_are_forgotten(make: Make, resident: Resident) -> None:
    async with running(make) as address, connected(address) as peer:
        await peer.send(frame(WINDOW_UPDATE, 0, 0, b"\x3f\xff\xff\xff"))
        for first in range(1, 40_000, 200):
            streams = range(first, first + 200, 2)
            watching = (call_headers(one, method=WATCH) + message(one, b"") for one in streams)
            await peer.send(b"".join(watching))
            assert await peer.until(DATA, streams[-1])
            await peer.send(b"".join(map(reset, streams)))

        assert resident.grown < 32 * MEBIBYTE


async def test_DS_10_peers_that_come_and_vanish_leave_nothing_open(make: Make) -> None:
    async with running(make) as address:
        await ask(address, b"warm")
        before = open_files()
        for cycle in range(CYCLES):
            async with connected(address, greet=cycle % 2 == 0) as peer:
                if cycle % 4 == 0:
                    await peer.send(call_headers(1) + message(1, b"bye"))
                peer.kill()
        async with asyncio.timeout(20):
            while open_files() > before:
                assert await ask(address, b"others") == b"others"


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count needs no paths


# --- The end of a connection -----------------------------------------------------


async def test_a_connection_of_age_ends_and_its_calls_do_not(make: Make) -> None:
    service = Echo()
    service.hold()
    async with (
        running(make, service, Limits(connection_age_seconds=SOON_SECONDS)) as address,
        connected(address) as peer,
    ):
        await peer.send(call_headers(1) + message(1, b"in flight"))
        assert await peer.until(GOAWAY) is not None
        service.release()

        assert await peer.answer(1) == b"in flight"
        assert await peer.hung_up()
        assert await ask(address, b"anew") == b"anew"


async def test_a_connection_of_age_waits_so_long_for_its_calls(make: Make) -> None:
    service = Echo()
    service.hold()
    age = Limits(connection_age_seconds=SOON_SECONDS, connection_age_grace_seconds=SOON_SECONDS)
    async with running(make, service, age) as address:
        async with connected(address) as peer:
            await peer.send(call_headers(1) + message(1, b"endless"))
            assert await peer.hung_up()
        await service.done.wait()

        assert service.cancelled == 1


async def test_RL_10_a_stop_says_so_and_lets_what_it_has_seen_end(make: Make) -> None:
    service = Echo()
    service.hold()
    transport = make(service)
    await transport.start()
    async with connected(transport.addresses[0]) as peer:
        await peer.send(call_headers(1) + message(1, b"in flight"))
        await service.arrived.wait()
        stop = asyncio.create_task(transport.stop(20))
        assert await peer.until(GOAWAY) is not None
        service.release()

        assert await peer.answer(1) == b"in flight"
        assert await peer.hung_up()
        await asyncio.wait_for(stop, 10)
