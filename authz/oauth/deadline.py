"""One deadline over a whole exchange, and what was waited for when it came."""

from __future__ import annotations

import asyncio
import contextlib
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, Self

from authz.errors import IdpOutage, Reason

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType


class Deadline:
    """The time that everything inside ``async with`` has.

    Past it the provider counts as unreachable: IdpOutage.
    """

    __slots__ = (
        "_seconds",
        "_token",
        "ends_at",
        "given_up",
        "outer",
        "task",
        "timeout",
        "waits_for",
        "why",
    )

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self.given_up = False
        self.waits_for = "the provider"
        self.why = f"no answer within {seconds:g} s"

    async def __aenter__(self) -> Self:
        """Begin."""
        self.outer = outer = _innermost.get()
        self.ends_at = asyncio.get_running_loop().time() + self._seconds
        self.task = asyncio.current_task()
        # The one around it passes first: no timer of its own.  Unless a task has begun in
        # between, which goes on when that one passes: others may wait for it, too.
        is_covered = outer is not None and outer.task is self.task and outer.ends_at <= self.ends_at
        self.timeout = asyncio.timeout_at(None if is_covered else self.ends_at)
        self._token = _innermost.set(self)
        await self.timeout.__aenter__()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End, and say what was waited for."""
        try:
            await self.timeout.__aexit__(kind, error, traceback)
        except TimeoutError:
            raise IdpOutage(Reason.IDP_UNAVAILABLE, f"{self.waits_for}: {self.why}") from None
        finally:
            _innermost.reset(self._token)

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
    deadline = _innermost.get()
    while deadline is not None:
        deadline.waits_for = what
        deadline = deadline.outer


def that_has_passed() -> Deadline | None:
    """Return whose deadline the cancellation under way is; ``None``: whoever asked has left."""
    innermost, task = _innermost.get(), asyncio.current_task()
    chain = innermost.chain() if innermost else ()
    return next((one for one in chain if one.task is task and one.timeout.expired()), None)
