"""Every threat case is a test, or a row of the table that says why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

TESTS = Path(__file__).parent

# How many cases each group has; a few numbers were never given.
GROUPS = {
    "CP": 30,
    "HS": 21,
    "JW": 30,
    "CL": 18,
    "JK": 20,
    "TE": 31,
    "CA": 19,
    "DS": 12,
    "GR": 18,
    "LG": 10,
    "CF": 16,
    "RL": 23,
}
NEVER_GIVEN = {"JW-28"}


def told() -> set[str]:
    """The ids in the names of tests, in the ids of their parameters, and in the table."""
    found: set[str] = set()
    for path in TESTS.rglob("*.py"):
        text = path.read_text("utf-8")
        names = re.findall(r"def (test_\w+)", text)
        found |= {f"{g}-{n}" for name in names for g, n in re.findall(r"([A-Z]{2})_(\d\d)", name)}
        found |= set(re.findall(r'"([A-Z]{2}-\d\d)', text))
    table = (TESTS / "THREATS.md").read_text("utf-8")
    rows = re.findall(r"^\| ([^|]+) \|", table, re.MULTILINE)
    return found | {case for row in rows for case in re.findall(r"[A-Z]{2}-\d\d", row)}


@pytest.mark.parametrize("group", GROUPS)
def test_every_case_of_a_group_is_told(group: str) -> None:
    cases = {f"{group}-{number:02}" for number in range(1, GROUPS[group] + 1)} - NEVER_GIVEN

    assert cases <= told()
