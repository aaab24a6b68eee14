"""Compare what an answer costs in two checkouts: ``python -m bench.against PATH [PAIRS]``.

PATH is the other checkout, the old one as a rule, with an environment of its own in
``.venv``.  In each pair both run anew, because where a process's memory happens to lie
makes a tenth; and they take turns of less than a second, because the machine's speed
drifts, and drifts for both.  A side's cost is that of its quickest turn.  Printed are
the costs of both and the median of the pairs' ratios, this checkout ÷ the other.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from authz.demo.parts import CHECKOUT
from bench.report import Figure, ratio

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

PAIRS = 9
TURNS = 4
RATIO_MAX = 1.03
# The figures of a cached answer, which may not grow; the others are for a look.
CACHED = ("process", "grpcio", "native")


class Side:
    """A checkout that is being measured."""

    def __init__(self, orders: IO[str], values: IO[str]) -> None:
        self._orders, self._values = orders, values
        self.figures = self._line().rstrip("\n").split("\t")
        """What it can measure, by name."""

    def measure(self, figure: str) -> float:
        """Have it measure once."""
        print(figure, file=self._orders, flush=True)
        return float(self._line())

    def _line(self) -> str:
        line = self._values.readline()
        if not line:
            raise RuntimeError("a side has ended; what it said stands above")
        return line


@contextmanager
def running(checkout: Path) -> Iterator[Side]:
    """Run the side of a checkout, under its own interpreter."""
    python = checkout / ".venv" / "bin" / "python"
    process = subprocess.Popen(  # noqa: S603 - a list, and no shell
        # Each its own program: what it has to build is that checkout's.
        [str(python) if python.exists() else sys.executable, str(checkout / "bench" / "turn.py")],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout), "PYTHONHASHSEED": "0"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:  # which closes its input in the end: then it ends, and what it runs with it
        yield Side(cast("IO[str]", process.stdin), cast("IO[str]", process.stdout))


def compare(other: Path, pairs: int) -> Iterator[Figure]:
    """Measure both sides in turn."""
    costs: dict[str, list[tuple[float, float]]] = {}
    for _ in range(pairs):
        with running(CHECKOUT) as ours, running(other) as theirs:
            for figure in ours.figures:
                if figure in theirs.figures:
                    turns = [(ours.measure(figure), theirs.measure(figure)) for _ in range(TURNS)]
                    own, others = zip(*turns, strict=True)
                    costs.setdefault(figure, []).append((min(own), min(others)))
    for figure, both in costs.items():
        own, others = zip(*both, strict=True)
        bound = RATIO_MAX if figure in CACHED else None
        yield Figure(f"{figure}: this checkout", "µs", own)
        yield Figure(f"{figure}: the other", "µs", others)
        yield ratio(f"{figure}: this ÷ the other", own, others, bound)


def main(arguments: Sequence[str]) -> int:
    """Print the comparison; 1 if the median of the ratios is above its bound."""
    parser = argparse.ArgumentParser(prog="python -m bench.against", description=__doc__)
    parser.add_argument("checkout", type=Path, metavar="PATH")
    parser.add_argument("pairs", type=int, nargs="?", default=PAIRS, metavar="PAIRS")
    given = parser.parse_args(arguments)
    worse = False
    for figure in compare(given.checkout.resolve(), given.pairs):
        print(figure, flush=True)
        worse |= figure.most is not None and figure.median > figure.most
    return int(worse)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
