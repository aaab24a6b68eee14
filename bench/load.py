"""Load: wrk, one thread, a number of connections that each wait for their answer."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from authz.demo.parts import LOOPBACK, PartFailedError, PartMissingError

SECONDS = 1
_SCRIPT = Path(__file__).with_name("load.lua")


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What wrk saw.  A closed loop: a late answer holds its connection's next request back."""

    requests: int
    seconds: float
    p50_ms: float
    p99_ms: float


class Credentials:
    """Authorization values, sent in turn; each listener goes on where it ended."""

    def __init__(self, file: Path, values: list[str]) -> None:
        file.write_text("\n".join(values) + "\n")
        self._file = file
        self.first = values[0]
        self._values = len(values)
        self._next: Counter[int] = Counter()  # by port

    def send(self, port: int, connections: int) -> Load:
        """Send them through a listener for a second; every answer must be 200.

        Raises ``PartFailedError``.
        """
        done = subprocess.run(  # noqa: S603 - a list, and no shell
            [
                program(),
                *("--threads", "1"),
                *("--connections", str(connections)),
                *("--duration", f"{SECONDS}s"),
                *("--timeout", "10s"),
                *("--script", str(_SCRIPT)),
                f"http://{LOOPBACK}:{port}/0/get",
                *("--", str(self._file), str(self._next[port])),
            ],
            capture_output=True,
            text=True,
            timeout=SECONDS + 30,
            check=False,
        )
        last = (done.stdout.strip().splitlines() or [""])[-1]
        if done.returncode != 0 or not last.startswith("{"):
            raise PartFailedError(f"wrk failed: {done.stdout}{done.stderr}")
        result = json.loads(last)
        refused, failed = result.pop("refused"), result.pop("failed")
        if refused or failed or not result["requests"]:
            raise PartFailedError(
                f"of {result['requests']} requests {refused} were refused, {failed} failed"
            )
        load = Load(**result)
        self._next[port] = (self._next[port] + load.requests + connections) % self._values
        return load


def program() -> str:
    """Return wrk's path; raises ``PartMissingError``."""
    found = shutil.which("wrk")
    if found is None:
        raise PartMissingError("wrk: it is not installed: apt-get install wrk")
    return found
