"""A port that workers share, and nobody else."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest

from authz.settings import TcpAddress, UnixAddress
from authz.transport import ListenError
from authz.workers.ports import reserve
from authz.workers.supervisor import PAUSE_SECONDS_MAX, STEADY_SECONDS, next_pause

ANY = TcpAddress("127.0.0.1", 0)


def worker(address: TcpAddress) -> socket.socket:
    """Listen as gRPC does with ``so_reuseport``."""
    return socket.create_server((address.host, address.port), reuse_port=True)


def test_workers_share_the_port_with_its_holder() -> None:
    address, holder = reserve(ANY)
    with holder, worker(address), worker(address):
        assert address.port != 0


def test_no_connection_ends_at_the_holder() -> None:
    address, holder = reserve(ANY)
    with holder, pytest.raises(ConnectionRefusedError):
        socket.create_connection((address.host, address.port))


@pytest.mark.parametrize("listening", [False, True], ids=["before", "while"])
def test_GR_18_a_second_supervisor_is_refused(*, listening: bool) -> None:
    address, holder = reserve(ANY)
    with holder, closing(worker(address)) as one:
        if not listening:
            one.close()
        with pytest.raises(ListenError, match=f"{address}: Address already in use"):
            reserve(address)


def test_GR_18_a_stranger_without_reuse_cannot_listen_between_two_workers() -> None:
    address, holder = reserve(ANY)
    with holder, pytest.raises(OSError, match="in use"):
        socket.create_server((address.host, address.port))


def test_the_port_is_free_when_the_holder_is_gone() -> None:
    address, holder = reserve(ANY)
    holder.close()
    again, holder = reserve(address)
    holder.close()

    assert again == address


def test_connections_that_an_earlier_server_has_left_are_not_in_the_way() -> None:
    with socket.create_server(("127.0.0.1", 0)) as earlier:
        address = TcpAddress(*earlier.getsockname())
        with socket.create_connection((address.host, address.port)) as client:
            earlier.accept()[0].close()  # first, so that its side stays in TIME_WAIT
            assert client.recv(1) == b""
    _, holder = reserve(address)
    holder.close()


def test_an_address_of_another_machine_is_refused() -> None:
    address = TcpAddress("192.0.2.1", 0)
    with pytest.raises(ListenError, match="Cannot assign requested address"):
        reserve(address)


def test_a_unix_socket_cannot_be_shared() -> None:
    with pytest.raises(ListenError, match="belongs to one process"):
        reserve(UnixAddress("/run/authz/authz.sock"))


def test_a_crash_loop_slows_down_to_a_bound_and_a_life_forgives_it() -> None:
    pauses = [0.0]
    for _ in range(12):
        pauses.append(next_pause(pauses[-1], lived_seconds=1))

    assert pauses[1:4] == [0.1, 0.2, 0.4]
    assert pauses[-1] == PAUSE_SECONDS_MAX
    assert next_pause(PAUSE_SECONDS_MAX, lived_seconds=STEADY_SECONDS) == 0.1
