"""What only the grpcio transport does: its threads take turns."""

from __future__ import annotations

import os

from support.checks import Echo, ask
from support.transports import Make, serving

make = Make("grpcio")


def threads() -> set[int]:
    return {int(task) for task in os.listdir("/proc/self/task")}  # noqa: PTH208 - names only


async def test_no_thread_of_gRPC_interrupts_the_loop_while_it_serves() -> None:
    before = os.sched_getscheduler(0)
    others = threads()
    async with serving(make(Echo())) as transport:
        await ask(transport.addresses[0], b"call")
        started = threads() - others

        assert os.sched_getscheduler(0) == os.SCHED_BATCH
        assert set(map(os.sched_getscheduler, started)) <= {os.SCHED_BATCH}
    assert os.sched_getscheduler(0) == before
