"""docs/benchmarks.md and its picture, from the figures of one run."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from authz.demo.parts import CHECKOUT
from bench import chart, machine, rows
from bench.block import HEAD
from bench.growth import Growth
from bench.report import Figure, short
from bench.through_envoy import FORGETFUL_ENTRIES, POOL, ROUNDS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.block import Block, Result

DOCUMENT = CHECKOUT / "docs" / "benchmarks.md"
PICTURE = DOCUMENT.with_suffix(".svg")
PICTURED_CONNECTIONS = 16

NATIVE_OVER_GO_MAX, NATIVE_OVER_TONIC_MAX, GRPCIO_OVER_AIO_MAX = 0.6, 1.8, 1.1

_HEAD = """\
<!-- Written by `make bench`: change bench/document.py, not this file. -->
# Benchmarks

What a Check costs the one who answers it, through a real Envoy, beside peers that do
nothing at all. Speeds drift with the machine: **read ratios, not microseconds**. Each ratio
compares two turns of one round, a few seconds apart.

![CPU time per Check](benchmarks.svg)
"""

_STRANGERS = """\
The dearest request that anybody can make who has no credential, by input: CPU time of
the decision, bytes to bytes, on a file that reads every place and has 50 routes by
regular expression and 50 by header. For each input a family of hostile requests is tried
(`bench/strangers.py`); the row is the dearest of them. The transport and the log's line
are not in it. Then the dearest of all without pause on one connection, and what four
connections of a known caller notice of it.
"""

_METHOD = f"""\
## Method

- One command, `make bench`: wrk (one thread) → Envoy (one worker) → the authorizer, all on
  loopback and on the same cores. Envoy answers each allowed request itself
  (`direct_response`), so no upstream takes part.
- Every row has its own listener of the one Envoy; the rows take turns, a second each,
  {ROUNDS} rounds, another one first in each round. Figures are medians, with the lowest and
  the highest run in brackets.
- CPU per Check: user and system time of all threads of the authorizer's process
  (`clock_getcpuclockid`), divided by the Checks that Envoy counted (`ext_authz.ok`). It is
  the figure to compare: requests per second and latencies include Envoy and wrk, which
  share the cores.
- wrk is a closed loop: its percentiles are those of callers who wait for each other.
- "Cached": one credential. "First seen" and "miss": {POOL:,} credentials in turn before
  caches of {FORGETFUL_ENTRIES}, so that each has been forgotten when it comes again. `/metrics`
  is read around each turn: a run whose answers did not come from where its name says fails.
- An aim is met if every run meets it, and not met if none does; else the table says in
  how many.
- The peers give the very bytes that ours gives, and read none. MB is resident memory after
  the turns.
"""

_AGAIN = """\
## Again

    apt-get install wrk        # and, for the peers: golang, cargo
    make bench                 # writes this file; less than ten minutes

A row whose tools are missing says "not built"; all others are measured.
"""


@dataclass
class Document:
    """Collects what has been measured, in the order of measuring."""

    blocks: list[Block] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    growth: list[Growth | Figure] = field(default_factory=list)
    strangers: list[Figure] = field(default_factory=list)

    def aims(self) -> Iterator[Figure]:
        """Yield every figure with an aim."""
        for unit in rows.CACHED:
            block = self._pictured(unit)
            if block is not None:
                aims = (
                    block.over(rows.NATIVE, rows.GRPC_GO, NATIVE_OVER_GO_MAX),
                    block.over(rows.NATIVE, rows.TONIC, NATIVE_OVER_TONIC_MAX),
                    block.over(rows.GRPCIO, rows.GRPC_AIO, GRPCIO_OVER_AIO_MAX),
                )
                yield from (aim for aim in aims if aim is not None)
        yield from (figure for figure in self.figures if figure.most is not None)
        for one in self.growth:
            figure = one.ratio if isinstance(one, Growth) else one
            if figure.most is not None:
                yield figure
        yield from (figure for figure in self.strangers if figure.most is not None)

    def write(self) -> None:
        """Write the document and its picture."""
        PICTURE.write_text(self._picture(), encoding="utf-8")
        DOCUMENT.write_text("\n".join(self._text()) + "\n", encoding="utf-8")

    def _pictured(self, unit: str) -> Block | None:
        wanted = (unit, PICTURED_CONNECTIONS)
        return next((b for b in self.blocks if (b.unit, b.connections) == wanted), None)

    def _picture(self) -> str:
        groups = [
            (
                unit,
                [_bar(block, result) for result in block.results if result.row is not rows.ALONE],
            )
            for unit in rows.UNITS
            if (block := self._pictured(unit)) is not None
        ]
        title = f"CPU time per Check, {PICTURED_CONNECTIONS} connections (µs)"
        return chart.render(title, groups)

    def _text(self) -> Iterator[str]:
        yield _HEAD
        yield from (f"- {line}" for line in machine.description())
        yield "\n## Aims\n"
        yield from _table(("figure", "measured", "", "aim"), map(_aim_cells, self.aims()))
        yield "\n## Through Envoy\n"
        yield from self._blocks()
        yield "\n## What each row does\n"
        cells = ((row.name, row.does, row.does_not) for row in rows.ROWS)
        yield from _table(("row", "does", "does not"), cells)
        yield "\n## How cost grows\n"
        yield from self._growth()
        yield "\n## What a stranger can cost\n"
        yield _STRANGERS
        yield from _table(("figure", "measured", "", "aim"), map(_aim_cells, self.strangers))
        yield "\n## Without Envoy\n"
        yield from _table(("figure", "measured", ""), (_aim_cells(f)[:3] for f in self.figures))
        yield ""
        yield _METHOD
        yield _AGAIN.rstrip()

    def _blocks(self) -> Iterator[str]:
        for block in self.blocks:
            yield f"### {block.title}\n"
            yield from _table(HEAD, block.cells())
            yield ""

    def _growth(self) -> Iterator[str]:
        yield (
            "Every look-up is a dict read, or a binary search in the router. Each size asks about\n"
            "all that it has, in turn, so the largest finds its entries in main memory and not in\n"
            "the processor's cache: what little grows is that.\n"
        )
        grown = [one for one in self.growth if isinstance(one, Growth)]
        yield from _table(("what", "µs at each size", "largest ÷ smallest"), map(_grown, grown))
        yield ""
        others = (_aim_cells(one)[:3] for one in self.growth if isinstance(one, Figure))
        yield from _table(("figure", "measured", ""), others)


def _bar(block: Block, result: Result) -> chart.Bar:
    over = block.over(result.row, rows.GRPC_GO)
    note = "" if over is None else f", {short(over.median)} of grpc-go"
    spread = (min(result.cpu.values), max(result.cpu.values))
    ours = result.row in {rows.GRPCIO, rows.NATIVE}
    return chart.Bar(result.row.name, result.cpu.median, spread, note, ours)


def _aim_cells(figure: Figure) -> tuple[str, str, str, str]:
    spread = f"({figure.spread})" if len(figure.values) > 1 else ""
    return figure.name, f"{short(figure.median)} {figure.unit}", spread, figure.aim


def _grown(growth: Growth) -> tuple[str, str, str]:
    pairs = zip(growth.sizes, growth.costs, strict=True)
    costs = ", ".join(f"{size:,}: {short(cost.median)}" for size, cost in pairs)
    return growth.name, costs, f"{growth.ratio.median:.2f} ({growth.ratio.spread})"


def _table(head: tuple[str, ...], cells: Iterable[Iterable[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield "|" + "---|" * len(head)
    yield from (f"| {' | '.join(row)} |" for row in cells)
