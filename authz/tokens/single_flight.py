"""One call for all who want the same thing at the same time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from authz.errors import Overloaded, Reason, Unavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Hashable

V = TypeVar("V")


class SingleFlight(Generic[V]):
    """Calls under way, one per key.

    Each runs in a task of its own: a caller that is cancelled (Envoy's deadline)
    leaves, the call goes on, and its result is there for the retry.  Nothing is
    kept of a call that has ended.
    """

    def __init__(self, *, calls_max: int) -> None:
        self._calls_max = calls_max
        self._tasks: dict[Hashable, asyncio.Task[V]] = {}

    async def run(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return what ``call()`` returns, joining the call that is under way for ``key``.

        Raises what the call raises, :class:`~authz.errors.Overloaded` when
        ``calls_max`` calls are under way already, and
        :class:`~authz.errors.Unavailable` when :meth:`aclose` has ended the call.
        """
        task = self.start(key, call)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            if task.cancelled() and not _is_cancelled():
                raise Unavailable(Reason.OVERLOADED, "authz is closing") from None
            raise

    def start(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, V]]) -> asyncio.Task[V]:
        """Return the task of the call for ``key``, beginning it if none is under way."""
        task = self._tasks.get(key)
        if task is None:
            if len(self._tasks) >= self._calls_max:
                raise Overloaded(Reason.OVERLOADED, f"{self._calls_max} calls are under way")
            task = asyncio.get_running_loop().create_task(call())
            self._tasks[key] = task
            task.add_done_callback(lambda done: self._landed(key, done))
        return task

    def _landed(self, key: Hashable, task: asyncio.Task[V]) -> None:
        del self._tasks[key]
        if not task.cancelled():
            # Everyone may have left: mark the error as seen, or asyncio complains.
            task.exception()

    def is_under_way(self, key: Hashable) -> bool:
        """Whether a call for ``key`` has begun and not ended."""
        return key in self._tasks

    def __len__(self) -> int:
        return len(self._tasks)

    async def settled(self) -> None:
        """Return once the calls that are under way now have ended, however they end."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks.values()))

    async def aclose(self) -> None:
        """Cancel what is under way and wait for its end."""
        tasks = tuple(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _is_cancelled() -> bool:
    """Whether it is the caller itself that has to end."""
    caller = asyncio.current_task()
    return caller is not None and caller.cancelling() > 0
