"""How much memory this process has."""

from __future__ import annotations

import os
from pathlib import Path


class Resident:
    """Remembers how much it was."""

    def __init__(self) -> None:
        self._before = self._now()

    @property
    def grown(self) -> int:
        return self._now() - self._before

    @staticmethod
    def _now() -> int:
        pages = Path("/proc/self/statm").read_text("ascii").split()[1]
        return int(pages) * os.sysconf("SC_PAGESIZE")
