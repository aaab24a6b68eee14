"""What the kernel says of a process, and what the figures were taken on."""

from __future__ import annotations

import ctypes
import os
import platform
import re
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from authz.demo.parts import find

if TYPE_CHECKING:
    from collections.abc import Iterator

_LIBC = ctypes.CDLL(None, use_errno=True)


def cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far: user and system, of all its threads, past ones too.

    clock_getcpuclockid(3): what ``/proc/PID/stat`` counts in hundredths of a second,
    and here in nanoseconds; a run of a second needs that.
    """
    clock = ctypes.c_int()
    error: int = _LIBC.clock_getcpuclockid(pid, ctypes.byref(clock))
    if error:
        raise ProcessLookupError(error, os.strerror(error))
    return time.clock_gettime(clock.value)


def resident_megabytes(pid: int | str) -> float:
    """Return what a process holds in memory now (VmRSS); ``"self"`` is this one."""
    status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    line = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1]) / 1024


def description() -> Iterator[str]:
    """Yield what the figures depend on, a sentence each."""
    yield f"{_processor()}, {len(os.sched_getaffinity(0))} cores"
    yield f"Linux {platform.release()}, Python {platform.python_version()}"
    yield _envoy()


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _envoy() -> str:
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        [find("envoy"), "--version"], capture_output=True, text=True, timeout=30, check=False
    )
    # It says: envoy version, then <commit>/<version>/Clean/RELEASE/BoringSSL.
    version = re.search(r"/(\d+\.\d+\.\d+)/", done.stdout)
    return f"Envoy {version[1] if version else 'of an unknown version'}"
