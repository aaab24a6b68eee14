"""Figures: several runs of each, the median, and the ratio to a peer, pair by pair."""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

RUNS = 7


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing: a value per run, in ``unit``; ``most`` is the aim, if there is one."""

    name: str
    unit: str
    values: tuple[float, ...]
    most: float | None = None

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.values)

    @property
    def spread(self) -> str:
        """The lowest and the highest value."""
        return f"{short(min(self.values))} to {short(max(self.values))}"

    @property
    def aim(self) -> str:
        """What the figure should be, and whether it is."""
        if self.most is None:
            return ""
        meeting = sum(value <= self.most for value in self.values)
        if meeting == len(self.values):
            verdict = "met"
        elif meeting == 0:
            verdict = "not met"
        else:  # a figure that flips from run to run is a range, and no aim that is met
            verdict = f"in {meeting} of {len(self.values)} runs"
        return f"{short(self.most)} or less: {verdict}"

    def __str__(self) -> str:
        aim = f"   {self.aim}" if self.aim else ""
        return f"{self.name:<60} {short(self.median):>7} {self.unit:<3} ({self.spread}){aim}"


def short(value: float) -> str:
    """Return a number with three significant digits, and no exponent."""
    if abs(value) >= 100:  # noqa: PLR2004 - three digits
        return f"{value:,.0f}"
    return f"{value:.3g}"


def ratio(
    name: str, ours: Sequence[float], peer: Sequence[float], most: float | None = None
) -> Figure:
    """Compare run by run: the machine's speed drifts, and drifts for both."""
    pairs = zip(ours, peer, strict=True)
    return Figure(name, "x", tuple(one / other for one, other in pairs), most)
