"""How long the native transport's two threads may keep Python from each other.

``python -m bench.interval`` prints a table; a minute and a half.  One thread answers from
memory, the other works misses out.  So each is measured beside the other's load, through
a real Envoy, at several switch intervals of Python's:

- cached answers to one caller who asks again and again, beside some 200 misses a second;
- misses, while 64 connections ask for cached answers as fast as they come.
"""

from __future__ import annotations

import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from authz.errors import AuthzError
from bench import edge, load
from bench.fixture import basic, deck
from bench.idp import running_idp
from bench.report import RUNS, Figure, short
from bench.servers import NATIVE, Authz
from bench.through_envoy import IDP_DELAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.edge import Listener
    from bench.load import Credentials, Load

INTERVALS_SECONDS = (0.0001, 0.0005, 0.001, 0.002, 0.005)
"""The last one is Python's own."""

MISSING = 7
"""Connections that miss.  Each waits for the provider, so together they miss 200 times a second."""
STORMING = 64

SECRETS = 8_000
"""More than a run has misses: none is ever repeated, and the caches hold all of them."""

_HEAD = ("interval", "cached", "beside misses", "misses", "beside a storm")


class _AtInterval(Authz):
    """authz on the native transport, with another switch interval."""

    def __init__(self, text: str, interval_s: float) -> None:
        super().__init__(text, transport="native")
        self._interval_s = interval_s

    def command(self, directory: Path) -> list[str]:
        python, _, _, *arguments = super().command(directory)
        return [python, "-m", "bench.at_interval", str(self._interval_s), *arguments]


@dataclass(slots=True)
class _Interval:
    """What was seen at one interval, run by run."""

    seconds: float
    listener: Listener
    cached: list[Load] = field(default_factory=list)
    beside_misses: list[Load] = field(default_factory=list)
    missed: list[Load] = field(default_factory=list)
    beside_storm: list[Load] = field(default_factory=list)

    def __str__(self) -> str:
        return _row(
            f"{self.seconds * 1000:g} ms",
            *(_latency(self.cached), _rate(self.beside_misses)),
            *(_latency(self.missed), _rate(self.beside_storm)),
        )


def _latency(loads: Iterable[Load]) -> str:
    p50 = Figure("p50", "ms", tuple(one.p50_ms for one in loads))
    p99 = Figure("p99", "ms", tuple(one.p99_ms for one in loads))
    return f"p50 {short(p50.median)}, p99 {short(p99.median)} ms ({p99.spread})"


def _rate(loads: Iterable[Load]) -> str:
    rate = Figure("rate", "/s", tuple(one.requests / one.seconds for one in loads))
    return f"{short(rate.median)} /s"


def _row(*cells: str) -> str:
    return "{:<10}{:<42}{:<15}{:<42}{}".format(*cells)


def measure() -> Iterator[_Interval]:
    """Measure all intervals in turn, run after run.

    Raises ``PartMissingError`` or ``PartFailedError``.
    """
    with ExitStack() as stack:
        idp = stack.enter_context(running_idp())
        idp.lay_ready([idp.issue()])
        idp.delay_s = IDP_DELAY_SECONDS
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authz-bench-")))
        cached = load.Credentials(directory / "cached", [basic()])
        missing = load.Credentials(directory / "new", [basic(f"new-{n}") for n in range(SECRETS)])
        intervals = []
        for seconds in INTERVALS_SECONDS:
            authz = stack.enter_context(_AtInterval(deck(idp.issuer), seconds))
            listener = edge.asking(f"{seconds * 1e6:.0f}us", authz.port)
            intervals.append(_Interval(seconds, listener))
        stack.enter_context(edge.ListenersEnvoy([one.listener for one in intervals]))
        threads = stack.enter_context(ThreadPoolExecutor(1))
        for run in range(-1, RUNS):
            for one in intervals:
                turn = partial(_together, threads, one.listener)
                beside_misses, answered = turn((missing, MISSING), (cached, 1))
                beside_storm, missed = turn((cached, STORMING), (missing, MISSING))
                if run < 0:  # fills caches and makes connections
                    continue
                one.cached.append(answered)
                one.beside_misses.append(beside_misses)
                one.missed.append(missed)
                one.beside_storm.append(beside_storm)
        yield from intervals


def _together(
    threads: ThreadPoolExecutor,
    listener: Listener,
    beside: tuple[Credentials, int],
    measured: tuple[Credentials, int],
) -> tuple[Load, Load]:
    """Send both for a second; return what was seen of each."""
    other = threads.submit(beside[0].send, listener.port, beside[1])
    seen = measured[0].send(listener.port, measured[1])
    return other.result(), seen


def main() -> int:
    """Print the table."""
    if not NATIVE:
        print("bench.interval: the native transport is not built: make native", file=sys.stderr)
        return 1
    print(_row(*_HEAD))
    try:
        for interval in measure():
            print(interval, flush=True)
    except AuthzError as error:
        print(f"bench.interval: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
