"""A block of the table: every row at one unit of work and one number of connections."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench import rows
from bench.report import Figure, ratio, short

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.load import Load
    from bench.rows import Row

HEAD = (
    *("row", "µs CPU per Check", "÷ grpc-go", "÷ tonic"),
    *("requests/s", "p50 ms", "p99 ms", "MB"),
)
_PRINTED = "{:<25}{:>24}{:>11}{:>9}{:>12}{:>8}{:>8}{:>6}"


@dataclass(frozen=True, slots=True)
class Turn:
    """A second of load.  CPU per request, in µs, of the authorizer and of Envoy."""

    cpu_us: float
    envoy_us: float
    load: Load


@dataclass(frozen=True, slots=True)
class Result:
    """A row's turns, and what its process held in memory after them (MB)."""

    row: Row
    turns: Sequence[Turn]
    megabytes: float | None

    @property
    def cpu(self) -> Figure:
        """The authorizer's CPU time per Check."""
        return Figure("CPU per Check", "µs", tuple(turn.cpu_us for turn in self.turns))

    @property
    def rate(self) -> Figure:
        """Requests per second, as the caller sees them."""
        rates = (turn.load.requests / turn.load.seconds for turn in self.turns)
        return Figure("requests", "/s", tuple(rates))

    @property
    def p50(self) -> Figure:
        """The latency that half of the requests stay below."""
        return Figure("p50", "ms", tuple(turn.load.p50_ms for turn in self.turns))

    @property
    def p99(self) -> Figure:
        """The latency that all but a hundredth of the requests stay below."""
        return Figure("p99", "ms", tuple(turn.load.p99_ms for turn in self.turns))


@dataclass(frozen=True, slots=True)
class Block:
    """All rows that were measured, and why the others were not."""

    unit: str
    connections: int
    results: Sequence[Result]
    absent: Mapping[Row, str]

    @property
    def title(self) -> str:
        """The unit of work and the number of connections."""
        plural = "" if self.connections == 1 else "s"
        return f"{self.unit}, {self.connections} connection{plural}"

    def over(self, row: Row, peer: Row, most: float | None = None) -> Figure | None:
        """Return a row's CPU time per Check as a multiple of a peer's; ``None``: not measured."""
        values = {result.row: result.cpu.values for result in self.results}
        if row not in values or peer not in values:
            return None
        return ratio(f"{row.name} ÷ {peer.name}: {self.title}", values[row], values[peer], most)

    def cells(self) -> Iterator[tuple[str, ...]]:
        """Yield the lines of the table, one text for each column of ``HEAD``."""
        for result in self.results:
            asks = result.row is not rows.ALONE
            yield (
                result.row.name,
                f"{short(result.cpu.median)} ({result.cpu.spread})" if asks else "",
                self._over(result.row, rows.GRPC_GO),
                self._over(result.row, rows.TONIC),
                short(result.rate.median),
                short(result.p50.median),
                short(result.p99.median),
                "" if result.megabytes is None else short(result.megabytes),
            )
        for row, why in self.absent.items():
            yield (row.name, why, *[""] * (len(HEAD) - 2))

    def _over(self, row: Row, peer: Row) -> str:
        over = None if row is rows.ALONE else self.over(row, peer)
        return "" if over is None else f"{over.median:.2f}"

    def __str__(self) -> str:
        lines = (_PRINTED.format(*cells) for cells in (HEAD, *self.cells()))
        return "\n".join([self.title, *lines])
