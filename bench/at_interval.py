"""``authz`` with another switch interval: ``python -m bench.at_interval SECONDS serve …``."""

from __future__ import annotations

import sys

from authz.cli import main
from authz.transport import native

if __name__ == "__main__":
    native.SWITCH_INTERVAL_SECONDS = float(sys.argv.pop(1))
    main()
