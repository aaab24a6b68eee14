"""The alerts and the board, as an operator loads them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_FOLDER = Path(__file__).parents[2] / "deploy/observability"
RULES = _FOLDER / "prometheus-rules.yaml"
BOARD = _FOLDER / "grafana-dashboard.json"


def alerts() -> list[dict[str, Any]]:
    """Every alert, in the order of the file."""
    groups = yaml.safe_load(RULES.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(board: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Every panel of the board that shows something."""
    return [panel for panel in board["panels"] if panel["type"] != "row"]


def expressions(board: Mapping[str, Any]) -> Iterator[str]:
    """Every query of the board, with what Grafana would put in the place of its variables."""
    for panel in panels(board):
        for target in panel["targets"]:
            yield (
                target["expr"]
                .replace("$__rate_interval", "5m")
                .replace("$job", "authz")
                .replace("$instance", ".+")
            )
