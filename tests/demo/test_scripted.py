"""The scripted server sends exactly the bytes and faults that it is told to."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest
from support.scripted import (
    ScriptedServer,
    answer,
    drip,
    flood,
    half_close,
    read_request,
    reset,
    send,
    silence,
)

if TYPE_CHECKING:
    from support.scripted import Serve

    Maker = Serve

GET = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n"
POST = b"POST / HTTP/1.1\r\ncontent-length: 3\r\n\r\na=b"


def exchange(server: ScriptedServer, request: bytes) -> bytes:
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
        peer.sendall(request)
        received = b""
        while data := peer.recv(65_536):
            received += data
        return received


def test_it_answers_after_the_whole_request_and_records_it(scripted: Maker) -> None:
    server = scripted([read_request, answer(b"{}")])

    assert exchange(server, POST).endswith(b"\r\n\r\n{}")
    assert server.received == [POST]


def test_a_keep_alive_connection_is_closed_before_its_second_answer(scripted: Maker) -> None:
    server = scripted([read_request, answer(b"1"), read_request])

    assert exchange(server, GET + GET).count(b"HTTP/1.1") == 1
    assert server.received == [GET + GET]


def test_each_connection_has_its_script_and_the_last_one_stays(scripted: Maker) -> None:
    server = scripted([send(b"first")], [send(b"later")])

    assert [exchange(server, b"") for _ in range(3)] == [b"first", b"later", b"later"]


def test_a_reset_is_seen_as_a_reset(scripted: Maker) -> None:
    server = scripted([read_request, reset])

    with pytest.raises(ConnectionResetError):
        exchange(server, GET)


def test_a_dripped_answer_and_a_half_close_arrive(scripted: Maker) -> None:
    server = scripted([read_request, drip(b"abc", 0.001), half_close, silence])

    assert exchange(server, GET) == b"abc"


def test_a_flood_ends_when_the_peer_goes(scripted: Maker) -> None:
    server = scripted([flood(b"x" * 1000)])

    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
        assert peer.recv(10).startswith(b"x")
    server.close()


def test_closing_ends_a_connection_that_is_never_answered() -> None:
    server = ScriptedServer([silence])
    with socket.create_connection(("127.0.0.1", server.port), timeout=5) as peer:
        peer.sendall(GET)
        while not server.received or server.received[0] != GET:
            pass
        server.close()

        assert peer.recv(1) == b""
