"""One connection, one request at a time, and each answer for the request that it answers."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import json
import socket
import threading
from typing import TYPE_CHECKING, Final

import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.client import client
from support.running import KONG_ID, gateway
from support.scenes import OTHER_ID, OTHER_SECRET, verdict
from support.scripted import ScriptedServer, read_request, send, silence
from support.scripted import answer as sends
from support.tls import ca_file, server_context

from authz.errors import IdpOutage
from authz.oauth.connection import (
    HEAD_BYTES_MAX,
    INTERIM_ANSWERS_MAX,
    Answer,
    Connection,
    ConnectionLost,
    Origin,
    ProtocolError,
)
from authz.oauth.connections import Resolver, dial

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence
    from pathlib import Path

    from support.idp import RunningIdp
    from support.running import RunningAuthz
    from support.scripted import Connection as Peer
    from support.scripted import Script

    from authz.oauth.connections import Address

    MakeAuthz = Callable[..., RunningAuthz]
    Serve = Callable[..., ScriptedServer]

ORIGIN: Final = Origin(secure=False, host="127.0.0.1", port=80)
REFUSED: Final = [read_request, sends(b'{"error":"invalid_client"}', "401 Unauthorized")]


def answered(body: bytes, *headers: str, status: str = "HTTP/1.1 200 OK") -> bytes:
    """An answer as these headers frame it; without any by its length."""
    lines = [status, *(headers or (f"content-length: {len(body)}",))]
    return "\r\n".join([*lines, "", ""]).encode() + body


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)


def token_answer(idp: RunningIdp, client_id: str) -> bytes:
    return json.dumps({"access_token": idp.issue(client_id), "token_type": "Bearer"}).encode()


# --- Two callers, one provider that says too much ----------------------------------------


def _one_segment(own: bytes, others: bytes) -> Script:
    return [send(answered(own) + answered(others))]


def _behind_chunks(own: bytes, others: bytes) -> Script:
    return [send(answered(chunked(own), "transfer-encoding: chunked") + answered(others))]


def _a_segment_with_its_end(own: bytes, others: bytes) -> Script:
    return [send(answered(own)[:-1]), send(answered(own)[-1:] + answered(others))]


def _only_its_beginning(own: bytes, others: bytes) -> Script:
    stray = answered(others)
    return [send(answered(own) + stray[:20]), read_request, send(stray[20:])]


def _an_empty_line_first(own: bytes, others: bytes) -> Script:
    return [send(answered(own) + b"\r\n"), read_request, send(answered(others))]


def _an_interim_answer_first(own: bytes, others: bytes) -> Script:
    return [send(answered(own) + b"HTTP/1.1 103 Early Hints\r\n\r\n" + answered(others))]


def _http_1_0(own: bytes, others: bytes) -> Script:
    head = ("connection: keep-alive", f"content-length: {len(own)}")
    first = answered(own, *head, status="HTTP/1.0 200 OK")
    return [send(first), read_request, send(answered(others))]


def _closing(own: bytes, others: bytes) -> Script:
    head = ("connection: close", f"content-length: {len(own)}")
    return [send(answered(own, *head)), read_request, send(answered(others))]


SAYING_TOO_MUCH: Final = [
    _one_segment,
    _behind_chunks,
    _a_segment_with_its_end,
    _only_its_beginning,
    _an_empty_line_first,
    _an_interim_answer_first,
    _http_1_0,
    _closing,
]


async def test_G_09_an_answer_that_came_between_two_requests_lets_nobody_in(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    own, others = (answered(token_answer(idp, client)) for client in (OTHER_ID, KONG_ID))
    asked_again, came = threading.Event(), threading.Event()

    def strays(peer: Peer) -> None:
        asked_again.wait(20)
        send(others)(peer)
        came.set()

    with ScriptedServer([read_request, send(own), strays, silence], REFUSED) as server:
        authz = make_authz(gateway(idp, token_endpoint=f"{server.url}/token"))

        assert verdict(await authz.basic(OTHER_ID, OTHER_SECRET)) == "403 consumer_unknown"
        asked_again.set()
        await asyncio.to_thread(came.wait, 20)
        assert verdict(await authz.basic(KONG_ID, "a guess")) == "401 secret_rejected"


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "TLS"])
@pytest.mark.parametrize("script", SAYING_TOO_MUCH)
async def test_G_09_what_is_left_of_one_answer_lets_no_other_caller_in(
    idp: RunningIdp,
    make_authz: MakeAuthz,
    tmp_path: Path,
    script: Callable[[bytes, bytes], Script],
    secure: bool,
) -> None:
    played = script(token_answer(idp, OTHER_ID), token_answer(idp, KONG_ID))
    tls = server_context("127.0.0.1") if secure else None
    with ScriptedServer([read_request, *played, silence], REFUSED, tls=tls) as server:
        authz = make_authz(
            gateway(idp, token_endpoint=f"{server.url}/token"),
            settings={"idp_ca_file": str(ca_file(tmp_path))},
        )

        assert verdict(await authz.basic(OTHER_ID, OTHER_SECRET)) == "403 consumer_unknown"
        assert verdict(await authz.basic(KONG_ID, "a guess")) == "401 secret_rejected"
        assert [received.count(b"POST /token") for received in server.received] == [1, 1]


@pytest.mark.parametrize("seen", [True, False], ids=["seen", "not seen yet"])
async def test_G_09_what_comes_between_two_requests_answers_neither(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve, seen: bool
) -> None:
    first_is_answered, stray_is_there = threading.Event(), threading.Event()
    server = scripted(
        [
            read_request,
            send(answered(token_answer(idp, OTHER_ID))),
            lambda _: first_is_answered.wait(20),
            send(answered(token_answer(idp, KONG_ID))),
            lambda _: stray_is_there.set(),
            silence,
        ],
        REFUSED,
    )
    authz = make_authz(token_endpoint=f"{server.url}/token")
    await authz.basic(OTHER_ID, OTHER_SECRET)
    first_is_answered.set()
    if seen:
        await asyncio.to_thread(stray_is_there.wait, 20)
    else:
        stray_is_there.wait(20)  # the event loop is held up: only the kernel knows

    assert verdict(await authz.basic(KONG_ID, "a guess")) == "401 secret_rejected"
    assert [received.count(b"POST /token") for received in server.received] == [1, 1]


@pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.5, 0.9, 0.999])
async def test_G_09_the_answer_to_a_cancelled_exchange_is_nobodys(
    scripted: Serve, share: float
) -> None:
    answer = answered(b'"for the one who left"' * 10)
    cut = int(share * len(answer))
    begun, left = threading.Event(), threading.Event()
    server = scripted(
        [
            read_request,
            send(answer[:cut]),
            lambda _: begun.set(),
            lambda _: left.wait(20),
            send(answer[cut:]),
            silence,
        ],
        [read_request, sends(b'"for the next"')],
    )
    async with client(connections_max=1) as http:
        exchange = asyncio.create_task(http.get(server.url, bytes_max=10_000))
        await asyncio.to_thread(begun.wait, 20)
        exchange.cancel()
        with pytest.raises(asyncio.CancelledError):
            await exchange
        left.set()

        assert (await http.get(server.url, bytes_max=100)).body == b'"for the next"'
    assert [received.count(b"GET /") for received in server.received] == [1, 1]


# --- What is kept, and what is not -------------------------------------------------------


@pytest.mark.parametrize(
    ("answer", "connections"),
    [
        pytest.param(answered(b"{}"), 1, id="length"),
        pytest.param(answered(chunked(b"{}"), "Transfer-Encoding: Chunked"), 1, id="chunks"),
        pytest.param(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" + answered(b"{}"),
            1,
            id="interim answers",
        ),
        pytest.param(answered(b"{}", "content-length: 2", "connection: close"), 2, id="close"),
        pytest.param(
            answered(b"{}", "content-length: 2", status="HTTP/1.0 200 OK"), 2, id="HTTP/1.0"
        ),
    ],
)
async def test_G_09_a_connection_is_kept_after_one_answer_framed_in_one_way(
    scripted: Serve, answer: bytes, connections: int
) -> None:
    server = scripted([read_request, send(answer)] * 2)
    async with client(connections_max=1) as http:
        for _ in range(2):
            assert (await http.get(server.url, bytes_max=100)).body == b"{}"

    assert len(server.connections) == connections


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(answered(b"{}", "content-length: 2", "content-length: 3"), id="two lengths"),
        pytest.param(
            answered(b"{}", "content-length: 2", "Content-Length: 2"), id="one length twice"
        ),
        pytest.param(answered(b"{}", "content-length: 2, 3"), id="a list of lengths"),
        pytest.param(
            answered(chunked(b"{}"), "transfer-encoding: chunked", "content-length: 2"),
            id="chunks and a length",
        ),
        pytest.param(
            answered(chunked(b"{}"), "content-length: 2", "transfer-encoding: chunked"),
            id="a length and chunks",
        ),
        pytest.param(answered(b"{}", "content-length: 2", "content-length:"), id="an empty length"),
        pytest.param(answered(b"{}", "Transfer-Encoding:"), id="an empty coding"),
        pytest.param(
            answered(b"2;" + b"x" * 2 * HEAD_BYTES_MAX, "transfer-encoding: chunked"),
            id="a chunk's extension without end",
        ),
        pytest.param(
            answered(
                chunked(b"{}")[:-2] + b"a: b\r\n" * HEAD_BYTES_MAX, "transfer-encoding: chunked"
            ),
            id="a trailer without end",
        ),
        pytest.param(
            b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * HEAD_BYTES_MAX, id="a head without end"
        ),
        pytest.param(answered(b"{}", "content-length: +2"), id="a sign"),
        pytest.param(answered(b"{}", "content-length : 2"), id="a space before the colon"),
        pytest.param(answered(chunked(b"{}"), "transfer-encoding: gzip, chunked"), id="coded"),
        pytest.param(
            # Not chunked to llhttp, so nothing of ours may take it for that.
            answered(chunked(b"{}"), "transfer-encoding: chunked \t"),
            id="blanks behind a coding",
        ),
        pytest.param(
            answered(chunked(b"{}"), "transfer-encoding: chunked", "transfer-encoding: identity"),
            id="two codings",
        ),
        pytest.param(answered(b"2\r\n{}xx0\r\n\r\n", "transfer-encoding: chunked"), id="no CRLF"),
        pytest.param(answered(b"-2\r\n{}\r\n", "transfer-encoding: chunked"), id="negative chunk"),
        pytest.param(b"HTTP/1.1 101 Switching Protocols\r\n\r\n" + answered(b"{}"), id="101"),
        pytest.param(b"HTTP/1.1 099 ?\r\n\r\n" + answered(b"{}"), id="099"),
        pytest.param(
            b"HTTP/1.1 100 Go\r\n\r\n" * (INTERIM_ANSWERS_MAX + 1) + answered(b"{}"),
            id="interim answers without end",
        ),
    ],
)
async def test_G_09_an_answer_whose_end_is_in_doubt_is_no_answer(
    scripted: Serve, answer: bytes
) -> None:
    server = scripted([read_request, send(answer), silence])
    async with client(connections_max=1) as http:
        with pytest.raises(IdpOutage, match=r"no HTTP/1\.1"):
            await http.get(server.url, bytes_max=100)

    assert len(server.connections) == 1


# --- A connection alone ------------------------------------------------------------------


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[Connection, socket.socket]]:
    """A connection and the socket of its peer."""
    ours, theirs = socket.socketpair()
    connection = Connection(ORIGIN)
    await asyncio.get_running_loop().create_connection(lambda: connection, sock=ours)
    try:
        yield connection, theirs
    finally:
        connection.abort()
        theirs.close()
        await asyncio.sleep(0)


REQUEST: Final = b"GET / HTTP/1.1\r\nhost: idp.test\r\n\r\n"


async def whole(connection: Connection) -> bytes:
    return bytes((await connection.ask(REQUEST, body_bytes_max=10_000)).body)


async def say(peer: socket.socket, pieces: Sequence[bytes]) -> None:
    """Send piece by piece; the other side sees each by itself."""
    for piece in pieces:
        peer.sendall(piece)
        await asyncio.sleep(0)
        await asyncio.sleep(0)


def split(data: bytes, positions: set[int]) -> list[bytes]:
    cuts = [0, *sorted(position % (len(data) + 1) for position in positions), len(data)]
    return [data[a:b] for a, b in itertools.pairwise(cuts) if a < b]


CREDENTIAL_LOCATIONS: Final = st.sets(st.integers(0, 10_000), max_size=4)
FRAMED: Final = st.sampled_from(
    [
        answered(b'{"a":1}'),
        answered(chunked(b'{"a":1}'), "transfer-encoding: chunked"),
        answered(
            b'4\r\n{"a"\r\n3;x=y\r\n:1}\r\n0\r\nexpires: 0\r\n\r\n', "transfer-encoding: chunked"
        ),
        b"HTTP/1.1 100 Continue\r\n\r\n" + answered(b'{"a":1}'),
    ]
)
STRAY: Final = st.one_of(
    st.sampled_from([b"\r\n", b"H", b"HTTP/1.1 100 Go\r\n\r\n", answered(b"2"), answered(b"")]),
    st.binary(min_size=1, max_size=50),
)


@settings(deadline=None)
@given(answer=FRAMED, positions=CREDENTIAL_LOCATIONS)
async def test_G_09_an_answer_is_the_same_wherever_the_network_cuts_it(
    answer: bytes, positions: set[int]
) -> None:
    async with connected() as (connection, peer):
        for _ in range(2):
            reading = asyncio.create_task(whole(connection))
            await asyncio.sleep(0)
            await say(peer, split(answer, positions))

            assert await reading == b'{"a":1}'
            assert connection.rest()


@settings(deadline=None)
@given(answer=FRAMED, stray=STRAY, positions=CREDENTIAL_LOCATIONS)
async def test_G_09_whatever_follows_an_answer_ends_its_connection(
    answer: bytes, stray: bytes, positions: set[int]
) -> None:
    async with connected() as (connection, peer):
        reading = asyncio.create_task(whole(connection))
        await asyncio.sleep(0)
        peer.recv(10_000)
        pieces = split(answer + stray, positions)
        talking = asyncio.create_task(say(peer, pieces))
        assert await reading == b'{"a":1}'
        connection.rest()
        await asyncio.gather(talking, return_exceptions=True)

        with pytest.raises(ConnectionLost):
            await whole(connection)
        assert not connection.heard
        assert await heard_by(peer) == b""


async def heard_by(peer: socket.socket) -> bytes:
    """What the peer of a connection that has ended got before the end."""
    await asyncio.sleep(0)  # the turn in which asyncio closes what was aborted
    try:
        return peer.recv(10_000)
    except ConnectionResetError:
        return b""


@pytest.mark.parametrize("turns", [0, 2], ids=["not seen yet", "seen"])
async def test_G_09_a_server_that_speaks_first_is_not_asked(turns: int) -> None:
    async with connected() as (connection, peer):
        peer.sendall(answered(b"{}"))
        for _ in range(turns):
            await asyncio.sleep(0)

        with pytest.raises(ConnectionLost):
            await whole(connection)
        assert await heard_by(peer) == b""


async def test_G_09_what_follows_a_fault_makes_it_no_better() -> None:
    async with connected() as (connection, _):
        reading = asyncio.create_task(whole(connection))
        await asyncio.sleep(0)
        # As uvloop does with what has come: piece by piece, in one turn.
        connection.data_received(b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * HEAD_BYTES_MAX)
        connection.data_received(b"content-length: 0\r\n\r\n")

        with pytest.raises(ProtocolError):
            await reading
        assert not connection.rest()


async def test_an_answer_takes_no_memory_once_it_has_been_read() -> None:
    async with connected() as (connection, peer):
        gc.collect()  # what other tests have left
        gc.disable()  # servers look for cycles seldom
        try:
            reading = asyncio.create_task(whole(connection))
            await asyncio.sleep(0)
            await say(peer, [answered(b"{}")])
            assert await reading == b"{}"
            assert not [one for one in gc.get_objects() if isinstance(one, Answer)]
        finally:
            gc.enable()


async def test_G_09_an_answer_to_half_a_request_is_no_answer(scripted: Serve) -> None:
    def answer_at_the_first_byte(peer: Peer) -> None:
        peer.sock.recv(1)
        peer.sock.sendall(answered(b"{}"))

    left = threading.Event()
    server = scripted([answer_at_the_first_byte, lambda _: left.wait(20)])
    connection = await dial(ORIGIN, await Resolver().look_up("127.0.0.1", server.port), None)
    more_than_the_kernel_holds = b"x" * 64 * 1024 * 1024

    with pytest.raises(ConnectionLost):
        await connection.ask(REQUEST + more_than_the_kernel_holds, body_bytes_max=100)
    assert not connection.heard
    left.set()


# --- Beside another reader -----------------------------------------------------------------

HEADER_LINES: Final = (
    "content-length: 2",
    "Content-Length: 3",
    "content-length: 0",
    "content-length: 2, 2",
    "transfer-encoding: chunked",
    "Transfer-Encoding: Chunked ",
    "transfer-encoding: identity",
    "connection: close",
    "connection: keep-alive",
    "x-a: b",
    "x-a:",
    "x a: b",
    " folded",
    "content-length : 2",
)
STATUS_LINES: Final = (
    "HTTP/1.1 200 OK",
    "HTTP/1.1 200",
    "HTTP/1.0 200 OK",
    "HTTP/1.1 400 Bad",
    "HTTP/1.1 204 None",
    "HTTP/1.1 304 Same",
    "HTTP/2 200 OK",
    "HTTP/1.1 2000 OK",
    "ICY 200 OK",
)
BODIES: Final = (
    b"{}",
    b"{}x",
    b"",
    b"2\r\n{}\r\n0\r\n\r\n",
    b"0\r\n\r\n",
    b"2\r\n{}",
    b"2\n{}\n0\n\n",
)
ANSWERS: Final = st.builds(
    lambda status, lines, end, body: end.join([status, *lines, "", ""]).encode() + body,
    st.sampled_from(STATUS_LINES),
    st.lists(st.sampled_from(HEADER_LINES), max_size=3),
    st.sampled_from(["\r\n"] * 5 + ["\n"]),
    st.sampled_from(BODIES),
)


def read_by_h11(answer: bytes) -> tuple[int, bytes, bool] | None:
    """Status, body, and whether the connection may be kept; ``None``: no answer."""
    http = h11.Connection(h11.CLIENT)
    for event in (
        h11.Request(method="GET", target="/", headers=[("host", "a")]),
        h11.EndOfMessage(),
    ):
        http.send(event)
    http.receive_data(answer)
    http.receive_data(b"")  # the end
    events: list[object] = [None]
    try:
        while not isinstance(events[-1], h11.EndOfMessage):
            events.append(http.next_event())
    except h11.RemoteProtocolError:
        return None
    status = next(event.status_code for event in events if isinstance(event, h11.Response))
    body = b"".join(event.data for event in events if isinstance(event, h11.Data))
    left_over, _ = http.trailing_data
    return status, body, not left_over and http.their_state is h11.DONE


@settings(deadline=None, max_examples=500)
@given(answer=ANSWERS)
async def test_G_09_what_we_read_in_an_answer_h11_reads_too(answer: bytes) -> None:
    theirs = read_by_h11(answer)
    async with connected() as (connection, peer):
        reading = asyncio.create_task(connection.ask(REQUEST, body_bytes_max=100))
        await asyncio.sleep(0)
        peer.sendall(answer)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        if not reading.done():
            peer.shutdown(socket.SHUT_WR)
        try:
            ours = await reading
        except (ConnectionLost, ProtocolError):
            return
        kept = connection.rest()
        assert theirs is not None
        assert (ours.status, bytes(ours.body)) == theirs[:2]
        assert theirs[2] or not kept


# --- Addresses ---------------------------------------------------------------------------


def addresses(port: int, *hosts: str) -> list[Address]:
    return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", (host, port)) for host in hosts]


async def test_each_address_of_a_host_is_tried_until_one_answers(scripted: Serve) -> None:
    server = scripted([read_request, sends(b"{}")])  # it listens on 127.0.0.1 alone
    hosts = "127.0.0.2", "127.0.0.3", "127.0.0.1"
    connection = await dial(ORIGIN, addresses(server.port, *hosts), None)

    assert await whole(connection) == b"{}"
    connection.abort()
    with pytest.raises(ConnectionRefusedError):
        await dial(ORIGIN, addresses(server.port, "127.0.0.2", "127.0.0.3"), None)


async def test_an_address_that_is_silent_keeps_nobody_from_the_next(scripted: Serve) -> None:
    server = scripted([read_request, sends(b"{}")])
    with contextlib.ExitStack() as opened:
        full = opened.enter_context(socket.create_server(("127.0.0.2", server.port), backlog=0))
        for _ in range(2):  # more than it queues: the kernel drops whoever comes then
            waiting = opened.enter_context(socket.socket())
            waiting.settimeout(0)
            waiting.connect_ex(full.getsockname())

        for hosts in ("127.0.0.2", "127.0.0.1"), ("127.0.0.2", "127.0.0.3", "127.0.0.1"):
            connection = await dial(ORIGIN, addresses(server.port, *hosts), None)
            assert await whole(connection) == b"{}"
            connection.abort()
