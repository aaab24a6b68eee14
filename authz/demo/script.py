"""What the development identity provider heard, and what it is told to say instead."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from starlette.responses import Response, StreamingResponse

if TYPE_CHECKING:
    import threading
    from collections import deque
    from collections.abc import AsyncIterator, Mapping


@dataclass(frozen=True, slots=True)
class Recorded:
    """A request as it arrived; header names are lower-case."""

    endpoint: str
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes

    def header(self, name: str) -> str | None:
        """Return the header's value, ``None`` if it was not sent."""
        return next((value for key, value in self.headers if key == name), None)

    @property
    def form(self) -> dict[str, str]:
        """The body as a form; the last of equal names wins."""
        return dict(parse_qsl(self.body.decode(), keep_blank_values=True))


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint sends instead of its own answer, ``times`` times (``None``: for ever).

    ``status=None``: its own answer, only late.  ``delay_s`` passes before the first
    byte and ``drip_s`` between the body's bytes; ``hold`` keeps the answer back until
    the event is set.
    """

    status: int | None = None
    body: bytes = b""
    headers: tuple[tuple[str, str], ...] = (("content-type", "application/json"),)
    times: int | None = 1
    delay_s: float = 0
    drip_s: float = 0
    hold: threading.Event | None = field(default=None, compare=False)

    async def wait(self) -> None:
        """Return when the answer is due."""
        await asyncio.sleep(self.delay_s)
        # Polled, because another thread sets it, and waiting in a thread could not be cancelled.
        while self.hold is not None and not self.hold.is_set():  # noqa: ASYNC110 - as said
            await asyncio.sleep(0.002)

    def response(self) -> Response:
        """Return the scripted bytes as a response."""
        status = self.status or 200
        response = (
            StreamingResponse(self._bytes(), status) if self.drip_s else Response(self.body, status)
        )
        response.raw_headers += [(k.lower().encode(), v.encode()) for k, v in self.headers]
        return response

    async def _bytes(self) -> AsyncIterator[bytes]:
        for byte in self.body:
            yield bytes([byte])
            await asyncio.sleep(self.drip_s)


def take(answers: deque[Answer]) -> Answer | None:
    """Return the next scripted answer and count it down."""
    if not answers:
        return None
    answer = answers.popleft()
    if answer.times is None:
        answers.appendleft(answer)
    elif answer.times > 1:
        answers.appendleft(replace(answer, times=answer.times - 1))
    return answer


def answer_from(fields: Mapping[str, Any]) -> Answer:
    """Return the answer that JSON describes: ``headers`` an object, ``body`` a string."""
    given = dict(fields)
    if "headers" in given:
        given["headers"] = tuple(given["headers"].items())
    given["body"] = given.get("body", "").encode()
    return Answer(**given)
