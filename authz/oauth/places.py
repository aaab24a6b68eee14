"""How many calls to one provider may be under way, and whose turn is next."""

from __future__ import annotations

import asyncio
from collections import Counter, OrderedDict
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from authz.errors import Overloaded, Reason

if TYPE_CHECKING:
    from collections.abc import Hashable

# How long a call waits for a place, by its priority.  A stranger comes again; of those
# who are known many wait for one call.
WAIT_SECONDS_MAX: Final = (5.0, 5.0, 1.0)
# How many calls of one priority wait at the same time.
WAITING_MAX: Final = 4_096
# One place in so many is never a stranger's.
PLACES_PER_RESERVED: Final = 8


class Priority(IntEnum):
    """Who goes first when all places are taken."""

    OWN = 0
    """Keys, discovery, and renewals: many callers depend on each."""
    KNOWN = 1
    """A caller whose credential has been accepted before."""
    STRANGER = 2


@dataclass(frozen=True, slots=True)
class Asker:
    """For whom a call is made.

    Within one priority the places go in turn to the sources (where a request came
    from) that wait at the same time, and within a source to its clients (folded ids).
    """

    priority: Priority = Priority.OWN
    source: Hashable = None
    client: Hashable = None


OURSELVES: Final = Asker()


class Places:
    """A bulkhead: ``places_max`` calls at once; the others wait in a bounded, fair queue."""

    def __init__(self, places_max: int) -> None:
        self._free = places_max
        reserved = places_max // PLACES_PER_RESERVED
        self._left_alone = (0, 0, reserved)
        self._queues = tuple(_Queue() for _ in Priority)

    async def take(self, asker: Asker) -> None:
        """Take a place, waiting for it up to ``WAIT_SECONDS_MAX``.

        Raises Overloaded if the queue is full, or if the wait was in vain.
        """
        priority = asker.priority
        if self._free > self._left_alone[priority]:
            self._free -= 1
            return
        queue, turn = self._queues[priority], asyncio.get_running_loop().create_future()
        if not queue.add(asker, turn):
            raise Overloaded(
                Reason.OVERLOADED, "too many calls to the provider wait for a place already"
            )
        wait_s = WAIT_SECONDS_MAX[priority]
        try:
            async with asyncio.timeout(wait_s):
                await turn
        except BaseException as error:
            queue.remove(asker, turn)
            if turn.done() and not turn.cancelled():
                self.give_back()  # its turn had come in the same moment
            if isinstance(error, TimeoutError):
                raise Overloaded(
                    Reason.OVERLOADED, f"no place among the calls to the provider in {wait_s:g} s"
                ) from None
            raise

    def give_back(self) -> None:
        """Leave a place to whoever is next."""
        self._free += 1
        for queue, left_alone in zip(self._queues, self._left_alone, strict=True):
            while self._free > left_alone and (turn := queue.next()) is not None:
                if turn.cancelled():
                    continue  # it waits no more, and has not said so yet
                self._free -= 1
                turn.set_result(None)


class _Queue:
    """Who waits, by source and by client; both take turns."""

    def __init__(self) -> None:
        self._sources: OrderedDict[
            Hashable, OrderedDict[Hashable, dict[asyncio.Future[None], None]]
        ] = OrderedDict()
        self._waiting: Counter[Hashable] = Counter()
        self._total = 0

    def add(self, asker: Asker, turn: asyncio.Future[None]) -> bool:
        """Append a turn, unless its source has its share of the queue already.

        A source may have as many as there is room left for others: one alone fills half
        of the queue, and there is always room for one that is new.
        """
        if self._waiting[asker.source] >= WAITING_MAX - self._total:
            return False
        clients = self._sources.setdefault(asker.source, OrderedDict())
        clients.setdefault(asker.client, {})[turn] = None
        self._waiting[asker.source] += 1
        self._total += 1
        return True

    def next(self) -> asyncio.Future[None] | None:
        """Take out whose turn it is."""
        if not self._sources:
            return None
        source, clients = next(iter(self._sources.items()))
        client, turns = next(iter(clients.items()))
        self._sources.move_to_end(source)
        clients.move_to_end(client)
        turn = next(iter(turns))
        self._take_out(source, client, turn)
        return turn

    def remove(self, asker: Asker, turn: asyncio.Future[None]) -> bool:
        """Take out one that waits no more; false if its turn had come."""
        clients = self._sources.get(asker.source)
        if clients is None or turn not in clients.get(asker.client, {}):
            return False
        self._take_out(asker.source, asker.client, turn)
        return True

    def _take_out(self, source: Hashable, client: Hashable, turn: asyncio.Future[None]) -> None:
        clients = self._sources[source]
        del clients[client][turn]
        if not clients[client]:
            del clients[client]
        if not clients:
            del self._sources[source]
        self._waiting[source] -= 1
        self._total -= 1
        if not self._waiting[source]:
            del self._waiting[source]
