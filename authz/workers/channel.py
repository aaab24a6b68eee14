"""The orders that a supervisor gives a worker, and the reports that come back.

The channel is a pair of sockets without a name; the worker's end is its standard
input.  So no other process can reach it, and when it closes each side knows that
the other one has ended.  Orders are pickled: the worker trusts the process that
started it.  Reports are JSON, a line each: the supervisor does not trust a process
that reads what callers send.
"""

from __future__ import annotations

import json
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from authz.oauth.provider import ProviderStatus
from authz.workers import metrics

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.admin import IdpStatus
    from authz.kong.files import Sources
    from authz.settings import Settings

REPORT_BYTES_MAX = 64 * 1024 * 1024
_HANDOVER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class Start:
    """Serve this configuration; the first order, sent once."""

    settings: Settings
    sources: Sources
    number: int = 0
    """How many times the configuration has been replaced."""


@dataclass(frozen=True, slots=True)
class Reload:
    """Put this configuration in force: the supervisor has accepted it."""

    sources: Sources
    number: int = 0


@dataclass(frozen=True, slots=True)
class ReportRequest:
    """Send a report."""


@dataclass(frozen=True, slots=True)
class ReloadCertificates:
    """Read the listeners' certificates anew; the configuration stays."""


@dataclass(frozen=True, slots=True)
class Stop:
    """Drain and end; a second time: end at once."""


Order = Start | Reload | ReloadCertificates | ReportRequest | Stop


def written(order: Order) -> bytes:
    """Return an order as it crosses the channel."""
    return pickle.dumps(order)


def next_order(channel: BinaryIO) -> Order | None:
    """Wait for the next order; ``None`` if the supervisor has ended."""
    try:
        order: Order = pickle.load(channel)  # noqa: S301 - from the process that started this one
    except (EOFError, OSError, pickle.UnpicklingError):  # also in the middle of an order
        return None
    return order


@dataclass(frozen=True, slots=True)
class Report:
    """The state of a worker that listens, and its metrics."""

    ready: bool
    providers: Sequence[IdpStatus]
    metrics: metrics.Metrics
    number: int = 0
    """The number of the configuration that is in force in it."""

    def line(self) -> bytes:
        """Return the report as it crosses the channel."""
        providers = [(one.issuer, one.ready, one.detail) for one in self.providers]
        fields = (self.ready, providers, metrics.packed(self.metrics), self.number)
        return json.dumps(fields).encode() + b"\n"

    @classmethod
    def of(cls, line: bytes) -> Report:
        """Read a report; raises ``ValueError`` if it is none."""
        try:
            ready, providers, packed, number = json.loads(line)
            return cls(
                bool(ready),
                [ProviderStatus(*one) for one in providers],
                metrics.unpacked(packed),
                int(number),
            )
        except TypeError as error:
            raise ValueError("a report of another form") from error


def stop_seconds(settings: Settings) -> float:
    """Return how long a worker may take from ``Stop`` to its end."""
    operation = settings.operation
    return operation.drain_delay_seconds + operation.grace_seconds + _HANDOVER_SECONDS
