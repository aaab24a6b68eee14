"""The alerts and the board name only what there is, and each alert has its section."""

from __future__ import annotations

import itertools
import json
import re
from pathlib import Path

from support.observability import BOARD, alerts, expressions, panels

from authz.errors import Reason

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs/metrics.md").read_text()
SUFFIXES = ("_bucket", "_count", "_sum")
WORDS = {
    *("absent", "avg", "by", "count", "histogram_quantile", "increase", "max", "min", "on", "or"),
    *("and", "rate", "sum", "time", "topk"),
}
# Prometheus adds the first two.
LABELS = {"job", "instance", "le"}


def rows() -> dict[str, set[str]]:
    """The metrics that docs/metrics.md lists, each with its labels."""
    found = re.findall(r"^\| `(\w+)` \| \w+ \| (.*?) \|", PAGE, re.MULTILINE)
    return {name: set(re.findall(r"`(\w+)`(?=,| \(| *$)", labels)) for name, labels in found}


def names(expression: str) -> tuple[set[str], set[str]]:
    """The metrics and the labels that a query names."""
    strings = re.sub(r'"[^"]*"', '""', expression)
    labels = set(re.findall(r"(\w+)(?==~?\"|!=)", strings))
    for grouped in re.findall(r"(?:by|on) \(([^)]*)\)", strings):
        labels |= {label.strip() for label in grouped.split(",")}
    bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|(?:by|on) \([^)]*\)", "", strings)
    return set(re.findall(r"[a-z_]{2,}", bare)) - WORDS, labels


def check(expression: str) -> None:
    known = rows()
    metrics, labels = names(expression)
    of_metrics: set[str] = set()
    for metric in metrics:
        base = next((metric.removesuffix(end) for end in SUFFIXES if metric.endswith(end)), metric)
        assert base in known, expression
        of_metrics |= known[base]
    assert labels <= of_metrics | LABELS, expression


def test_every_alert_asks_for_metrics_and_labels_that_there_are() -> None:
    for alert in alerts():
        check(alert["expr"])


def test_every_panel_asks_for_metrics_and_labels_that_there_are() -> None:
    for expression in expressions(json.loads(BOARD.read_text())):
        check(expression)


def test_a_query_for_what_there_is_not_would_be_seen() -> None:
    for expression in ("rate(authz_chekcs_total[5m])", 'authz_checks_total{route="a"}'):
        try:
            check(expression)
        except AssertionError:
            continue
        raise AssertionError(expression)


def test_every_reason_that_an_alert_names_can_be_given() -> None:
    for alert in alerts():
        for pattern in re.findall(r'reason=~?"([^"]*)"', alert["expr"]):
            for one in pattern.split("|"):
                assert [reason for reason in Reason if re.fullmatch(one, reason)], one


def test_every_alert_leads_to_its_section() -> None:
    page = (ROOT / "docs/reasons.md").read_text()
    sections = re.findall(r"^### (\w+)$", page, re.MULTILINE)

    assert sections == [alert["alert"] for alert in alerts()]
    for alert in alerts():
        told = alert["annotations"]
        assert told["runbook"] == f"docs/reasons.md#{alert['alert'].lower()}"
        assert told["summary"].endswith(".")
        assert told["description"].endswith(".")
        assert alert["labels"]["severity"] in ("warning", "critical")


def test_the_panels_of_the_board_have_room_and_names_of_their_own() -> None:
    board = json.loads(BOARD.read_text())
    ids = [panel["id"] for panel in board["panels"]]
    taken = [
        {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        for place in (panel["gridPos"] for panel in board["panels"])
    ]

    assert len(set(ids)) == len(ids)
    assert all(one.isdisjoint(other) for one, other in itertools.combinations(taken, 2))
    assert all(x < 24 for place in taken for x, _ in place)
    for panel in panels(board):
        assert panel["description"].endswith(".")
        assert panel["datasource"]["uid"] == "${datasource}"
