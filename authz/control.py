"""The Unix socket on which ``authz reload`` asks a running server, for its owner only.

It is no page of ``--admin``, because nothing that the network reaches may change the
server, and no signal, because a signal carries no names.  A question is one line of
JSON, and so is the answer.
"""

from __future__ import annotations

import asyncio
import json
import socket
from contextlib import ExitStack
from typing import TYPE_CHECKING

from authz.transport.sockets import OWNER_UMASK, listen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from authz.settings import UnixAddress

    Reload = Callable[[frozenset[str]], Awaitable[Sequence[str]]]

LINE_BYTES_MAX = 1024 * 1024
QUESTION_SECONDS = 5.0
"""How long a connected command may take to send its question."""
ANSWER_SECONDS = 5.0
"""How long a command may take to read the answer."""
CONNECTIONS_MAX = 16


class Control:
    """The server's side, from ``start`` to ``stop``.

    ``reload`` takes the names that may be opened, and returns the problems for which the
    reload was refused, a line each; none if it was not.
    """

    def __init__(self, address: UnixAddress, reload: Reload) -> None:
        self._address = address
        self._reload = reload
        self._server: asyncio.Server | None = None
        self._until = ExitStack()
        self._answering: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Listen from now on; raises ``ListenError``."""
        listener = listen(self._address, self._until, umask=OWNER_UMASK)
        self._server = await asyncio.start_unix_server(
            self._accept, sock=listener, limit=LINE_BYTES_MAX
        )

    async def stop(self) -> None:
        """Stop listening; commands that wait for an answer get none."""
        if self._server is not None:
            self._server.close()
        for task in self._answering:
            task.cancel()
        await asyncio.gather(*self._answering, return_exceptions=True)
        await asyncio.sleep(0)  # the loop closes aborted connections in its next round
        self._until.close()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._answering) >= CONNECTIONS_MAX:
            writer.close()
            return
        task = asyncio.create_task(self._answer(reader, writer))
        self._answering.add(task)
        task.add_done_callback(self._answering.discard)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(QUESTION_SECONDS):
                may_open = _names(await reader.readline())
            problems = await self._reload(may_open)
            async with asyncio.timeout(ANSWER_SECONDS):
                writer.write(json.dumps({"problems": list(problems)}).encode() + b"\n")
                writer.close()
                await writer.wait_closed()
        except (ConnectionError, TimeoutError, ValueError):
            pass  # the peer went away, does not read, or is no authz reload
        finally:
            writer.transport.abort()


def ask_for_reload(
    address: UnixAddress, may_open: Iterable[str], *, seconds: float
) -> tuple[str, ...]:
    """Have the server at ``address`` reload; return the problems for which it refused.

    Raises ``OSError`` if no server listens there or none answers within ``seconds``.
    """
    question = json.dumps({"may_open": sorted(set(may_open))}).encode() + b"\n"
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(seconds)
        connection.connect(address.path)
        connection.sendall(question)
        with connection.makefile("rb") as answers:
            line = answers.readline(LINE_BYTES_MAX)
    try:
        return tuple(map(str, json.loads(line)["problems"]))
    except (ValueError, LookupError, TypeError):
        raise ConnectionError("it closed the connection without an answer") from None


def _names(line: bytes) -> frozenset[str]:
    """Read a question; raises ``ValueError`` if it is none."""
    question = json.loads(line)
    names = question.get("may_open") if isinstance(question, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise ValueError("a question of another form")
    return frozenset(names)
