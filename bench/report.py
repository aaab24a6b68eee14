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
    """One measured thing: a value per run, in ``unit``."""

    name: str
    unit: str
    values: tuple[float, ...]
    aim: str = ""

    @property
    def median(self) -> float:
        """The figure to quote."""
        return statistics.median(self.values)

    def __str__(self) -> str:
        spread = f"{min(self.values):.4g} to {max(self.values):.4g}"
        aim = f"   aim: {self.aim}" if self.aim else ""
        return f"{self.name:<58} {self.median:>9.4g} {self.unit:<3} ({spread}){aim}"


def ratio(name: str, ours: Sequence[float], peer: Sequence[float], aim: str = "") -> Figure:
    """Compare run by run: the machine's speed drifts, and drifts for both."""
    pairs = zip(ours, peer, strict=True)
    return Figure(name, "x", tuple(one / other for one, other in pairs), aim)
