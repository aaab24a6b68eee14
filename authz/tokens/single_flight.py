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
        self._flights: dict[Hashable, _Flight[V]] = {}

    async def run(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, V]]) -> V:
        """Return what ``call()`` returns, joining the call that is under way for ``key``.

        Raises what the call raises, :class:`~authz.errors.Overloaded` when
        ``calls_max`` calls are under way already, and
        :class:`~authz.errors.Unavailable` when :meth:`aclose` has ended the call.
        """
        return await self._flight(key, call).landing()

    def start(
        self, key: Hashable, call: Callable[[], Coroutine[Any, Any, V]]
    ) -> asyncio.Task[None]:
        """Return the task of the call for ``key``, beginning it if none is under way."""
        return self._flight(key, call).task

    def _flight(self, key: Hashable, call: Callable[[], Coroutine[Any, Any, V]]) -> _Flight[V]:
        flight = self._flights.get(key)
        if flight is None:
            if len(self._flights) >= self._calls_max:
                raise Overloaded(Reason.OVERLOADED, f"{self._calls_max} calls are under way")
            flight = self._flights[key] = _Flight(call, lambda: self._flights.pop(key, None))
        return flight

    def is_under_way(self, key: Hashable) -> bool:
        """Whether a call for ``key`` has begun and not ended."""
        return key in self._flights

    def __len__(self) -> int:
        return len(self._flights)

    async def settled(self) -> None:
        """Return once the calls that are under way now have ended, however they end."""
        if self._flights:
            await asyncio.wait([flight.task for flight in self._flights.values()])

    async def aclose(self) -> None:
        """Cancel what is under way and wait for its end."""
        tasks = [flight.task for flight in self._flights.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class _Flight(Generic[V]):
    """One call, and who waits for it.

    The call itself tells those who wait how it has ended: they go on in the loop's next
    turn.  ``asyncio.shield`` takes two turns, and more time than all of this.
    """

    __slots__ = ("_ended", "_has_landed", "_waiting", "task")

    def __init__(
        self, call: Callable[[], Coroutine[Any, Any, V]], ended: Callable[[], object]
    ) -> None:
        self._ended = ended
        self._has_landed = False
        self._waiting: set[asyncio.Future[V]] = set()
        self.task = asyncio.get_running_loop().create_task(self._fly(call))
        # One that is cancelled before its first step never runs.
        self.task.add_done_callback(lambda _: self._end_early())

    async def landing(self) -> V:
        """Wait for the end of the call; who waits may be cancelled and leave."""
        waiting: asyncio.Future[V] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiting)
        try:
            return await waiting
        finally:
            self._waiting.discard(waiting)

    async def _fly(self, call: Callable[[], Coroutine[Any, Any, V]]) -> None:
        try:
            result = await call()
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who waits
            for waiting in self._land():
                waiting.set_exception(error)
        else:
            for waiting in self._land():
                waiting.set_result(result)

    def _end_early(self) -> None:
        if not self._has_landed:
            for waiting in self._land():
                waiting.set_exception(Unavailable(Reason.OVERLOADED, "authz is closing"))

    def _land(self) -> list[asyncio.Future[V]]:
        """Have ended, before anybody goes on; return who still waits."""
        self._has_landed = True
        self._ended()
        return [waiting for waiting in self._waiting if not waiting.done()]
