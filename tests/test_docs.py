"""What the documents list is what the code has."""

from __future__ import annotations

import ast
import re
from pathlib import Path

from authz import errors
from authz.decision import ERROR_ROWS
from authz.errors import Reason
from authz.telemetry import Telemetry
from authz.workers.metrics import WorkerTelemetry

ROOT = Path(__file__).parents[1]


def raised() -> dict[str, set[int]]:
    """Which reason is built with which error, by the status that error answers."""
    found: dict[str, set[int]] = {}
    for path in (ROOT / "authz").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.Call) or not node.args:
                continue
            reason, kind = node.args[0], getattr(errors, getattr(node.func, "id", ""), None)
            if not isinstance(reason, ast.Attribute) or reason.attr not in Reason.__members__:
                continue
            if isinstance(kind, type):
                status = next(ERROR_ROWS[k].status for k in kind.__mro__ if k in ERROR_ROWS)
                found.setdefault(Reason[reason.attr], set()).add(status)
    return found


def test_reasons_md_lists_every_reason_with_the_status_it_is_raised_with() -> None:
    rows = re.findall(
        r"^\| (\d+) \| `(\w+)` \|", (ROOT / "docs/reasons.md").read_text(), re.MULTILINE
    )
    documented = {reason: {int(status)} for status, reason in rows}

    assert len(rows) == len(documented)
    assert documented.keys() == set(Reason)
    # Some are raised through a variable: what is seen must agree, and no other status is known.
    for reason, statuses in raised().items():
        assert statuses == documented[reason], reason


def test_metrics_md_lists_every_metric() -> None:
    text = (ROOT / "docs/metrics.md").read_text()
    documented = set(re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE))
    registry = Telemetry().registry
    WorkerTelemetry(registry)
    families = {
        metric.name + {"counter": "_total", "info": "_info"}.get(metric.type, "")
        for metric in registry.collect()
    }

    assert documented == families
