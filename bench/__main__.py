"""Print every figure as soon as it is measured."""

from __future__ import annotations

import os
import platform
import sys

from bench import decisions, process
from bench.report import RUNS


def main() -> None:
    """Run all benchmarks; a minute or so."""
    print(f"Python {platform.python_version()}, {os.cpu_count()} cores, medians of {RUNS} runs")
    for measure in (decisions.measure, process.measure):
        for figure in measure():
            print(figure)
            sys.stdout.flush()


if __name__ == "__main__":
    main()
