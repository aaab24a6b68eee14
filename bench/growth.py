"""How cost grows: the same decision with more credentials, routes and consumers around it."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
import tracemalloc
from dataclasses import dataclass
from itertools import cycle, islice
from typing import TYPE_CHECKING, Any

from authz.build import build
from authz.kong.router import Router
from authz.model import Claims, Request
from authz.policy.consumers import ConsumerDirectory, Consumers
from authz.runtime import Shared
from authz.settings import Settings
from authz.telemetry import Telemetry
from bench.fixture import basic, check_request, deck, gateway, usernames
from bench.idp import running_idp
from bench.machine import resident_megabytes
from bench.report import RUNS, Figure, ratio
from bench.servers import Authz

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from authz.build import Configuration
    from bench.idp import BenchIdp

CREDENTIALS = (10, 1_000, 100_000)
ROUTES = (1, 100, 10_000)
CONSUMERS = (1, 10_000)
FLAT = 1.3

CALLS = 2_000
BATCH = 50
SAMPLE = RUNS * CALLS
"""Most things that are looked up, in turn: of many, none is looked up twice."""

EXCHANGED = 1_000
AT_ONCE = 16
STARTS = 3
START_SECONDS_MAX = 3

_ROOMY = Settings.of(cache_entries=2 * CREDENTIALS[-1], cache_bytes=2**30)


@dataclass(frozen=True, slots=True)
class Subject:
    """Something to ask at one size, and the next arguments to ask with.

    Arguments are made in small batches just before: requests are as warm in the
    processor's cache as a socket delivers them, and what they are about is not.
    """

    size: int
    ask: Callable[[Any], object]
    arguments: Iterator[Any]

    def cost_us(self) -> float:
        """Return the time of one call."""
        spent = 0.0
        for _ in range(CALLS // BATCH):
            batch = list(islice(self.arguments, BATCH))
            started = time.perf_counter()
            for argument in batch:
                self.ask(argument)
            spent += time.perf_counter() - started
        return spent / CALLS * 1e6


@dataclass(frozen=True, slots=True)
class Growth:
    """The cost of one thing at several sizes, and the ratio of the largest to the smallest."""

    name: str
    sizes: Sequence[int]
    costs: Sequence[Figure]
    most: float | None = None

    @classmethod
    def of(cls, name: str, subjects: Sequence[Subject], most: float | None = None) -> Growth:
        """Measure the sizes in turn, run after run."""
        runs = [[subject.cost_us() for subject in subjects] for _ in range(RUNS)]
        costs = [Figure(name, "µs", values) for values in zip(*runs, strict=True)]
        return cls(name, [subject.size for subject in subjects], costs, most)

    @property
    def ratio(self) -> Figure:
        """How much more the largest costs than the smallest, run by run."""
        return ratio(self.name, self.costs[-1].values, self.costs[0].values, self.most)

    def __str__(self) -> str:
        pairs = zip(self.sizes, self.costs, strict=True)
        costs = ", ".join(f"{size:,}: {cost.median:.3g} µs" for size, cost in pairs)
        aim = f"   {self.ratio.aim}" if self.most else ""
        return f"{self.name:<42} {costs}   x {self.ratio.median:.2f}{aim}"


def measure() -> Iterator[Growth | Figure]:
    """Measure all growth; a minute or two."""
    # Elliptic signatures: a hundred thousand of them are made in seconds.
    with running_idp("ES256") as idp, asyncio.Runner() as runner:
        yield from _credentials(runner, idp)
        yield _exchanged(runner, idp)
        yield _routes(runner, idp)
        yield _routing(idp)
        yield from _consumers(runner, idp)
        yield _start(idp)


def _credentials(runner: asyncio.Runner, idp: BenchIdp) -> Iterator[Growth | Figure]:
    opened, subjects = [], []
    for size in CREDENTIALS:
        shared = Shared(_ROOMY, Telemetry())
        configuration = build(gateway(idp.issuer), shared)
        before = resident_megabytes("self")
        kept = runner.run(_fill(configuration, idp, size))
        held = resident_megabytes("self") - before - sum(map(sys.getsizeof, kept)) / 2**20
        subjects.append(
            Subject(size, configuration.authorizer.cached, map(check_request, cycle(kept)))
        )
        opened.append(shared)
    yield Growth.of("cached decision, by cached credentials", subjects, FLAT)
    each = held * 1024 / CREDENTIALS[-1]
    token = len(idp.issue())
    yield Figure(f"memory per cached Bearer token of {token} bytes", "kB", (each,))
    for shared in opened:
        runner.run(shared.aclose())


async def _fill(configuration: Configuration, idp: BenchIdp, size: int) -> list[str]:
    """Have so many tokens verified and remembered; return the headers of some, evenly chosen."""
    kept, every = [], max(1, size // SAMPLE)
    for number in range(size):
        header = f"Bearer {idp.issue()}"
        await configuration.authorizer.check(check_request(header), None)
        if number % every == 0:
            kept.append(header)
    return kept


def _exchanged(runner: asyncio.Runner, idp: BenchIdp) -> Figure:
    """Measure what a credential holds that was exchanged for a token."""
    shared = Shared(_ROOMY, Telemetry())
    configuration = build(gateway(idp.issuer), shared)

    async def exchange(secrets: Iterable[str]) -> None:
        for secret in secrets:
            await configuration.authorizer.check(check_request(basic(secret)), None)

    async def all_of(prefix: str) -> None:
        secrets = [f"{prefix}-{number}" for number in range(EXCHANGED)]
        await asyncio.gather(
            *(exchange(secrets[fast_path::AT_ONCE]) for fast_path in range(AT_ONCE))
        )

    runner.run(all_of("warm"))  # buffers and connections are not a credential's
    gc.collect()
    # Few credentials: resident memory would show nothing of them.
    tracemalloc.start()
    runner.run(all_of("then"))
    gc.collect()
    held, _peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    runner.run(shared.aclose())
    name = "memory per cached Basic credential and its token"
    return Figure(name, "kB", (held / 1024 / EXCHANGED,))


def _routes(runner: asyncio.Runner, idp: BenchIdp) -> Growth:
    opened, subjects = [], []
    for size in ROUTES:
        shared = Shared(_ROOMY, Telemetry())
        configuration = build(gateway(idp.issuer, routes=size), shared)
        header = f"Bearer {idp.issue()}"
        names = [f"route-{number}" for number in range(size)]
        runner.run(_ask_all(configuration, [check_request(header, name) for name in names]))
        requests = (check_request(header, name) for name in cycle(names))
        subjects.append(Subject(size, configuration.authorizer.cached, requests))
        opened.append(shared)
    growth = Growth.of("cached decision, by routes", subjects, FLAT)
    for shared in opened:
        runner.run(shared.aclose())
    return growth


async def _ask_all(configuration: Configuration, wires: Iterable[bytes]) -> None:
    for wire in wires:
        await configuration.authorizer.check(wire, None)


def _routing(idp: BenchIdp) -> Growth:
    """Measure the router alone, for requests whose route Envoy does not name."""
    subjects = []
    for size in ROUTES:
        router = Router(gateway(idp.issuer, routes=size))
        requests = (Request(host="localhost", path=f"/{n}/get") for n in cycle(range(size)))
        subjects.append(Subject(size, router.match, requests))
    return Growth.of("routing by path alone, by routes", subjects)


def _consumers(runner: asyncio.Runner, idp: BenchIdp) -> Iterator[Growth]:
    opened, cached, found = [], [], []
    for size in CONSUMERS:
        content = gateway(idp.issuer, consumers=size)
        shared = Shared(_ROOMY, Telemetry())
        configuration = build(content, shared)
        header = f"Bearer {idp.issue()}"
        runner.run(_ask_all(configuration, [check_request(header)]))
        cached.append(
            Subject(size, configuration.authorizer.cached, map(check_request, cycle([header])))
        )
        consumers = Consumers(content.plugins[0].config, ConsumerDirectory(content.consumers))
        claims = (Claims({"client_id": name}) for name in cycle(usernames(size)))
        found.append(Subject(size, consumers.find, claims))
        opened.append(shared)
    yield Growth.of("cached decision, by consumers", cached, FLAT)
    yield Growth.of("finding the consumer alone, by consumers", found)
    for shared in opened:
        runner.run(shared.aclose())


def _start(idp: BenchIdp) -> Figure:
    text = deck(idp.issuer, routes=ROUTES[-1], consumers=CONSUMERS[-1])
    seconds = []
    for _ in range(STARTS):
        started = time.perf_counter()
        with Authz(text):
            seconds.append(time.perf_counter() - started)
    name = f"start with {ROUTES[-1]:,} routes and {CONSUMERS[-1]:,} consumers"
    return Figure(name, "s", tuple(seconds), START_SECONDS_MAX)
