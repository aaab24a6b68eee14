"""What every transport keeps to, whatever carries the bytes."""

from __future__ import annotations

import asyncio
import socket
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Never

import grpc
import pytest
from support.checks import Echo, ask, channel, health, unary, watch
from support.transports import LOOPBACK

from authz.settings import TcpAddress
from authz.transport import AUTHORIZATION, ListenError
from bench.frames import CHECK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from support.transports import Make

    from authz.settings import Address
    from authz.transport import CheckService, Transport

LONG_SECONDS = 30


@asynccontextmanager
async def running(make: Make, service: CheckService) -> AsyncIterator[Transport]:
    """Run without a word about health: here it is the case."""
    transport = make(service)
    await transport.start()
    try:
        yield transport
    finally:
        await transport.stop(0)


async def code(address: Address, method: str, wire: bytes = b"") -> grpc.StatusCode:
    async with channel(address) as opened:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(opened, method)(wire, timeout=10)
    return caught.value.code()


async def test_the_services_answer_reaches_the_caller_as_it_is(make: Make) -> None:
    async with running(make, Echo(b"answer to ")) as transport:
        assert (
            await ask(transport.addresses[0], b"\x00\xffanything") == b"answer to \x00\xffanything"
        )


async def test_a_cached_answer_is_sent_without_asking_further(make: Make) -> None:
    service = Echo()
    service.memory[b"known"] = b"remembered"
    async with running(make, service) as transport:
        assert await ask(transport.addresses[0], b"known") == b"remembered"

    assert service.deadlines == []


async def test_the_service_hears_how_long_a_request_has_waited_where_that_is_known(
    make: Make,
) -> None:
    service = Echo()
    async with running(make, service) as transport:
        await ask(transport.addresses[0], b"new")

    if make.name == "native":
        asked_memory, asked_loop = service.waits
        assert 0 < asked_memory < asked_loop < 10
    else:
        assert service.waits == [0, 0]


async def test_GR_01_an_empty_message_reaches_the_service(make: Make) -> None:
    async with running(make, Echo(b"asked")) as transport:
        assert await ask(transport.addresses[0], b"") == b"asked"


async def test_GR_02_garbage_bytes_reach_the_service_and_end_in_its_answer(make: Make) -> None:
    async with running(make, Echo()) as transport:
        garbage = b"\xff" * 100
        assert await ask(transport.addresses[0], garbage) == garbage


@pytest.mark.parametrize(
    "method",
    ["/envoy.service.auth.v2.Authorization/Check", f"/{AUTHORIZATION}/check", "/", "/a/b"],
)
async def test_GR_04_another_method_is_unimplemented(make: Make, method: str) -> None:
    service = Echo()
    async with running(make, service) as transport:
        assert await code(transport.addresses[0], method) is grpc.StatusCode.UNIMPLEMENTED
    assert not service.arrived.is_set()


async def test_GR_05_a_message_above_one_mebibyte_is_refused_unread(make: Make) -> None:
    service = Echo()
    async with running(make, service) as transport:
        big = bytes(1024 * 1024 + 1)
        refusal = await code(transport.addresses[0], CHECK, big)
        assert refusal is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert not service.arrived.is_set()
        assert len(await ask(transport.addresses[0], big[:-1])) == len(big) - 1


async def test_large_messages_one_after_the_other_fit_through_one_connection(make: Make) -> None:
    big = bytes(900_000)
    async with running(make, Echo()) as transport, channel(transport.addresses[0]) as opened:
        for _ in range(5):
            assert len(await unary(opened, CHECK)(big, timeout=10)) == len(big)


async def test_GR_07_the_callers_deadline_reaches_the_service(make: Make) -> None:
    service = Echo()
    async with running(make, service) as transport:
        before = asyncio.get_running_loop().time()
        await ask(transport.addresses[0], b"", seconds=LONG_SECONDS)

    [deadline] = service.deadlines
    assert deadline is not None
    assert before < deadline <= before + LONG_SECONDS + 1


async def test_GR_07_a_call_without_a_deadline_says_so(make: Make) -> None:
    service = Echo()
    async with running(make, service) as transport:
        await ask(transport.addresses[0], b"", seconds=None)

    assert service.deadlines == [None]


async def test_GR_08_a_callers_cancellation_reaches_the_service(make: Make) -> None:
    service = Echo()
    service.hold()
    async with running(make, service) as transport, channel(transport.addresses[0]) as opened:
        call = unary(opened, CHECK)(b"")
        await service.arrived.wait()
        call.cancel()
        await service.done.wait()
        service.release()

        assert service.cancelled == 1
        assert await ask(transport.addresses[0], b"next") == b"next"


async def test_GR_08_the_callers_deadline_ends_the_call_and_no_other(make: Make) -> None:
    service = Echo()
    service.hold()
    async with running(make, service) as transport, channel(transport.addresses[0]) as opened:
        patient = unary(opened, CHECK)(b"patient")
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await unary(opened, CHECK)(b"hasty", timeout=0.05)
        service.release()

        assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert await patient == b"patient"


async def test_GR_09_an_exception_in_the_memory_is_no_answer(make: Make) -> None:
    service = Echo(b"worked out ")
    service.memory = Broken()
    async with running(make, service) as transport:
        assert await ask(transport.addresses[0], b"a") == b"worked out a"


async def test_GR_09_an_exception_in_the_decision_is_answered_as_a_fault(make: Make) -> None:
    service = Echo()
    service.error = ValueError("with a secret in it")
    async with running(make, service) as transport:
        assert await ask(transport.addresses[0], b"a") == b"fault ValueError"


class Broken(dict[bytes, bytes]):
    """A memory that cannot be read."""

    def get(self, *_: object) -> Never:
        raise KeyError("with a secret in it")


@pytest.mark.parametrize(
    "noise",
    [
        b"GET / HTTP/1.1\r\nhost: a\r\n\r\n",
        bytes.fromhex("16030100a5010000a10303") + bytes(165),  # the head of a TLS ClientHello
        bytes(1024 * 1024),
    ],
    ids=["http1", "tls", "zeros"],
)
async def test_GR_12_what_is_no_http2_is_hung_up_on(make: Make, noise: bytes) -> None:
    async with running(make, Echo()) as transport:
        address = transport.addresses[0]
        assert isinstance(address, TcpAddress)
        await asyncio.to_thread(_send_and_wait_for_the_end, address, noise)

        assert await ask(address, b"still here") == b"still here"


def _send_and_wait_for_the_end(address: TcpAddress, noise: bytes) -> None:
    with socket.create_connection((address.host, address.port), timeout=20) as connection:
        try:
            connection.sendall(noise)
            while connection.recv(65536):
                pass
        except (ConnectionResetError, BrokenPipeError):
            pass  # hung up on in the middle: as good an end


async def test_GR_13_health_says_not_serving_until_told_otherwise(make: Make) -> None:
    async with running(make, Echo()) as transport:
        address = transport.addresses[0]
        assert await health(address) == "NOT_SERVING"
        await transport.set_serving(True)
        assert await health(address) == "SERVING"
        assert await health(address, AUTHORIZATION) == "SERVING"
        await transport.set_serving(False)
        assert await health(address, AUTHORIZATION) == "NOT_SERVING"


async def test_GR_13_health_of_an_unknown_service_is_not_found(make: Make) -> None:
    async with running(make, Echo()) as transport:
        await transport.set_serving(True)
        assert await health(transport.addresses[0], "envoy.service.auth.v2") == "NOT_FOUND"


async def test_GR_13_a_watcher_hears_every_change(make: Make) -> None:
    async with (
        running(make, Echo()) as transport,
        aclosing(watch(transport.addresses[0])) as statuses,
    ):
        heard = [await anext(statuses)]
        for serving in (True, False):
            await transport.set_serving(serving)
            heard.append(await anext(statuses))

    assert heard == ["NOT_SERVING", "SERVING", "NOT_SERVING"]


async def test_a_watcher_of_an_unknown_service_hears_that_it_is_unknown(make: Make) -> None:
    async with (
        running(make, Echo()) as transport,
        aclosing(watch(transport.addresses[0], "x")) as statuses,
    ):
        assert await anext(statuses) == "SERVICE_UNKNOWN"


async def test_GR_18_a_port_in_use_is_refused_by_name(make: Make) -> None:
    async with running(make, Echo(b"first ")) as transport:
        address = transport.addresses[0]
        with pytest.raises(
            ListenError, match=rf"cannot listen on {address}: Address already in use"
        ):
            await make(Echo(), [address]).start()

        assert await ask(address, b"") == b"first "


async def test_a_start_that_fails_gives_back_the_addresses_it_had(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        free = _free_port()
        addresses = [TcpAddress("127.0.0.1", free), TcpAddress(*taken.getsockname())]
        with pytest.raises(ListenError):
            await make(Echo(), addresses).start()

    with socket.create_server(("127.0.0.1", free)):
        pass


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


async def test_RL_10_a_stop_lets_calls_in_flight_end_and_takes_no_new_ones(make: Make) -> None:
    service = Echo()
    service.hold()
    async with running(make, service) as transport, channel(transport.addresses[0]) as opened:
        in_flight = unary(opened, CHECK)(b"in flight")
        await service.arrived.wait()
        stop = asyncio.create_task(transport.stop(LONG_SECONDS))
        late = await code(transport.addresses[0], CHECK)
        service.release()

        assert await in_flight == b"in flight"
        assert late is grpc.StatusCode.UNAVAILABLE
        await asyncio.wait_for(stop, 10)


async def test_a_second_stop_without_grace_ends_the_first_at_once(make: Make) -> None:
    service = Echo()
    service.hold()
    async with running(make, service) as transport, channel(transport.addresses[0]) as opened:
        in_flight = unary(opened, CHECK)(b"in flight")
        await service.arrived.wait()
        stop = asyncio.create_task(transport.stop(LONG_SECONDS))
        await asyncio.wait_for(transport.stop(0), 10)
        await asyncio.wait_for(stop, 10)

        with pytest.raises(grpc.aio.AioRpcError):
            await in_flight


async def test_a_stop_does_not_wait_for_those_who_watch_health(make: Make) -> None:
    async with (
        running(make, Echo()) as transport,
        aclosing(watch(transport.addresses[0])) as statuses,
    ):
        await transport.set_serving(True)
        heard = [await anext(statuses)]
        await asyncio.wait_for(transport.stop(LONG_SECONDS), 10)
        heard += [status async for status in statuses]

    assert heard == ["SERVING", "NOT_SERVING"]


async def test_ports_given_as_zero_are_told_as_they_are(make: Make) -> None:
    transport = make(Echo(b"a"), [LOOPBACK, LOOPBACK])
    await transport.start()
    try:
        ports = {address.port for address in transport.addresses if isinstance(address, TcpAddress)}
        assert len(ports) == 2
        assert 0 not in ports
        assert [await ask(address, b"") for address in transport.addresses] == [b"a", b"a"]
    finally:
        await transport.stop(0)
