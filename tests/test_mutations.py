"""The table of ``make mutate`` is true of the tree as it is."""

from __future__ import annotations

import pytest
from support.mutations import ROOT, Mutation, mutations

DESIGN_RULES = {*map(str, range(1, 12)), "11a", "11b"}


@pytest.mark.parametrize("mutation", mutations(), ids=lambda one: one.rule)
def test_a_guard_stands_once_where_the_table_breaks_it(mutation: Mutation) -> None:
    text = (ROOT / mutation.file).read_text("utf-8")
    broken = mutation.applied(text)

    assert broken not in {None, text}
    compile(broken or "", mutation.file, "exec")


@pytest.mark.parametrize("mutation", mutations(), ids=lambda one: one.rule)
def test_the_tests_that_must_fail_are_there(mutation: Mutation) -> None:
    for test in mutation.tests:
        file, _, name = test.partition("::")
        assert f"def {name}" in (ROOT / file).read_text("utf-8")


def test_every_rule_has_a_guard_that_is_broken() -> None:
    assert {mutation.rule.partition(" ")[0] for mutation in mutations()} == DESIGN_RULES
