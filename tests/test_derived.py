"""Texts that are derived from the code are those that ``make derived`` would write."""

from __future__ import annotations

import pytest
from support.derived import DERIVED, ROOT


@pytest.mark.parametrize("name", DERIVED)
def test_what_is_derived_from_the_code_is_up_to_date(name: str) -> None:
    text = (ROOT / name).read_text("utf-8")

    assert text == DERIVED[name](text), f"{name} is out of date: run make derived"
