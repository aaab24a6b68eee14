"""``authz serve --workers N`` as an operator runs it: real processes, read by their log."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import grpc
from support.running import read

from bench.frames import CHECK

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from support.running import Answer

SECONDS = 20


class Served:
    """A supervisor and its workers; a context manager, which ends them all."""

    def __init__(self, *arguments: str, workers: int = 2, stdin: str = "") -> None:
        defaults = ("--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0")
        command = (*defaults, "--workers", str(workers), *arguments)
        self.process = subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
            [sys.executable, "-m", "authz", "serve", *command],
            stdin=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            process_group=0,
        )
        assert self.process.stdin is not None
        self.process.stdin.write(stdin)
        self.process.stdin.close()
        self.lines: list[dict[str, Any]] = []
        self.pids: list[int] = []
        """Every worker that has ever served, in the order in which they began."""

    def serving(self, workers: int = 2) -> Self:
        """Return once so many more workers serve."""
        for _ in range(workers):
            line = self.until("serving")
            pid = line.get("pid", self.process.pid)  # one process does not say whose a line is
            if pid not in self.pids:
                self.pids.append(pid)
        return self

    def until(self, start: str) -> dict[str, Any]:
        """Read the log up to a line that begins so, and return it."""
        assert self.process.stderr is not None
        for text in self.process.stderr:
            self.lines.append(json.loads(text))
            if self.lines[-1]["message"].startswith(start):
                return self.lines[-1]
        raise AssertionError(f"ended before {start!r}: {self.lines}")

    def rest(self) -> list[str]:
        """Read to the end: that is when the last process that writes there has ended."""
        assert self.process.stderr is not None
        read = [json.loads(text) for text in self.process.stderr]
        self.lines += read
        return [line["message"] for line in read]

    @property
    def address(self) -> str:
        """Where the workers listen."""
        return str(self._supervising("listen")[0])

    def page(self, path: str) -> tuple[int, str]:
        """Return status and body of one of the operator's pages."""
        host, _, port = self._supervising("admin").rpartition(":")
        connection = HTTPConnection(host, int(port), timeout=SECONDS)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def metric(self, series: str) -> float | None:
        """Return one series of ``/metrics``, written as there."""
        for line in self.page("/metrics")[1].splitlines():
            name, _, value = line.rpartition(" ")
            if name == series:
                return float(value)
        return None

    def _supervising(self, field: str) -> Any:
        """Return what the supervisor says of itself, or the only process, which says it first."""
        return next(line for line in self.lines if field in line)[field]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        # The group is the supervisor's own; a worker that outlives it is in there too.
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.rest()
        assert self.process.stderr is not None
        self.process.stderr.close()


class Callers:
    """Connections, each with a port of its own, so that the kernel spreads them.

    That all of 40 go to one of two workers happens once in 2^39 runs.
    """

    def __init__(self, address: str, count: int = 40) -> None:
        options = (("grpc.use_local_subchannel_pool", 1), ("grpc.enable_http_proxy", 0))
        self.channels = [grpc.insecure_channel(address, options) for _ in range(count)]

    def send(self, wire: bytes) -> list[grpc.Future[bytes]]:
        """Ask over each connection at once."""
        methods: list[grpc.UnaryUnaryMultiCallable[bytes, bytes]]
        methods = [channel.unary_unary(CHECK) for channel in self.channels]
        return [method.future(wire, SECONDS, wait_for_ready=True) for method in methods]

    def ask(self, wire: bytes) -> list[Answer]:
        """Ask over each connection and return the answers."""
        return answers(self.send(wire))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for channel in self.channels:
            channel.close()


def answers(calls: Iterable[grpc.Future[bytes]]) -> list[Answer]:
    """Wait for the answers to ``Callers.send``."""
    return [read(call.result()) for call in calls]
