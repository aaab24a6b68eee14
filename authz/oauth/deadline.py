"""One deadline over a whole exchange, and what was waited for when it came."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

from authz.errors import IdpOutage, Reason

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Deadline:
    """The time that everything inside :func:`within` has."""

    __slots__ = ("given_up", "outer", "timeout", "waits_for", "why")

    def __init__(self, seconds: float, outer: Deadline | None) -> None:
        self.given_up = False
        self.timeout = asyncio.timeout(seconds)
        self.outer = outer
        self.waits_for = "the provider"
        self.why = f"no answer within {seconds:g} s"

    def give_up(self, why: str) -> None:
        """Let it pass now, unless it has passed already."""
        if self.timeout.expired():
            return
        self.given_up = True
        self.why = why
        self.timeout.reschedule(0)

    def chain(self) -> Iterator[Deadline]:
        """Yield this one, and those around it."""
        deadline: Deadline | None = self
        while deadline is not None:
            yield deadline
            deadline = deadline.outer


_innermost: Final[ContextVar[Deadline | None]] = ContextVar("deadline", default=None)


@contextlib.asynccontextmanager
async def within(seconds: float) -> AsyncIterator[Deadline]:
    """Put one deadline over everything inside; past it the provider counts as unreachable."""
    deadline = Deadline(seconds, _innermost.get())
    token = _innermost.set(deadline)
    try:
        async with deadline.timeout:
            yield deadline
    except TimeoutError:
        raise IdpOutage(Reason.IDP_UNAVAILABLE, f"{deadline.waits_for}: {deadline.why}") from None
    finally:
        _innermost.reset(token)


class Waiting:
    """What a request waits for; empty: nothing, or a call that another request has begun."""

    __slots__ = ("what",)

    def __init__(self) -> None:
        self.what = ""


_waiting: Final[ContextVar[Waiting | None]] = ContextVar("waiting", default=None)


@contextlib.contextmanager
def watched() -> Iterator[Waiting]:
    """Note what is waited for inside, also in tasks that begin inside."""
    waiting = Waiting()
    token = _waiting.set(waiting)
    try:
        yield waiting
    finally:
        _waiting.reset(token)


def waits_for(what: str) -> None:
    """Say what is waited for from now on, for the message of a deadline that passes."""
    if (waiting := _waiting.get()) is not None:
        waiting.what = what
    innermost = _innermost.get()
    for deadline in innermost.chain() if innermost else ():
        deadline.waits_for = what


def that_has_passed() -> Deadline | None:
    """Return whose deadline the cancellation under way is; ``None``: whoever asked has left."""
    innermost = _innermost.get()
    chain = innermost.chain() if innermost else ()
    return next((deadline for deadline in chain if deadline.timeout.expired()), None)
