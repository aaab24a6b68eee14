"""Print every figure as soon as it is measured; in the end write docs/benchmarks.md."""

from __future__ import annotations

import sys
import time

from authz.errors import AuthzError
from bench import decisions, growth, machine, process, strangers, through_envoy, workers
from bench.document import DOCUMENT, Document


def main() -> int:
    """Run all benchmarks: less than ten minutes, building the peers aside."""
    started, document = time.monotonic(), Document()
    try:
        print(", ".join(machine.description()), flush=True)
        for block in through_envoy.measure():
            print(f"\n{block}", flush=True)
            document.blocks.append(block)
        print()
        for measure in (decisions.measure, process.measure, workers.measure):
            for figure in measure():
                print(figure, flush=True)
                document.figures.append(figure)
        for grown in growth.measure():
            print(grown, flush=True)
            document.growth.append(grown)
        for figure in strangers.measure():
            print(figure, flush=True)
            document.strangers.append(figure)
    except AuthzError as error:
        print(f"make bench: {error}", file=sys.stderr)
        return 1
    document.write()
    print("\nAims")
    for aim in document.aims():
        print(aim)
    minutes = (time.monotonic() - started) / 60
    print(f"\n{DOCUMENT.name} and its picture are in {DOCUMENT.parent}; {minutes:.1f} minutes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
