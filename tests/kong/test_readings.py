"""Small files, and what each is read as: ``readings/*.yaml``, one list of cases a file.

A case ``says`` what it shows, and has a ``file`` (or several ``files``, or
``parameters`` of a plugin about which there is nothing else to say) and perhaps
an ``environ``.  Then it ``reads`` values, ``complains`` with exactly these
errors, or gives ``notices`` (an empty list: none).  A file without a
``_format_version`` gets one, unless the case is ``bare``.

``deck`` is what decK makes of the same text, and ``seen`` is how that is known:

- ``yaml``: run through decK's own YAML reader (sigs.k8s.io/yaml 1.4.0);
- ``schema``: in the JSON schema that decK checks a file with;
- ``source``: read in decK's or Kong's public source;
- ``docs``: documented by Kong;
- ``believed``: not looked up.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.configuration import FORMAT, with_parameters

from authz.errors import ConfigurationError
from authz.kong import state
from authz.kong.files import Sources
from authz.methods import METHOD_NAMES
from authz.model import Gateway, OpenIDConnect, Secret

Case = dict[str, Any]

READINGS = sorted((Path(__file__).parent / "readings").glob("*.yaml"))
CASES: list[Case] = [case for path in READINGS for case in yaml.safe_load(path.read_text("utf-8"))]
EVIDENCE = {"yaml", "yaml and schema", "schema", "source", "docs", "believed"}
FIRST = {
    "service": "services.0",
    "route": "routes.0",
    "consumer": "consumers.0",
    "config": "plugins.0.config",
}


def load(case: Case) -> Gateway:
    files = case.get("files") or {"kong.yaml": text(case)}
    sources = ((name, headed(written, case).encode()) for name, written in files.items())
    return state.parse(Sources(tuple(sources)), case.get("environ", {}), METHOD_NAMES)


def text(case: Case) -> str:
    if "file" in case:
        return str(case["file"])
    lines = case["parameters"].splitlines()
    return with_parameters(*lines, instead_of=lines[0].partition(":")[0])


def headed(written: str, case: Case) -> str:
    return written if case.get("bare") or "_format_version" in written else FORMAT + written


def complaints(case: Case) -> list[str]:
    try:
        load(case)
    except ConfigurationError as error:
        return [f"{problem.parameter}: {problem.message}" for problem in error.problems]
    return []


def found(gateway: Gateway, path: str) -> Any:
    """Return what stands at ``route.paths`` or ``plugins.0.config.scopes``."""
    head, _, rest = path.partition(".")
    value: Any = gateway
    for step in [*FIRST.get(head, head).split("."), *filter(None, rest.split("."))]:
        if isinstance(value, OpenIDConnect):
            value = value.flat()[step]
        else:
            value = value[int(step)] if step.isdigit() else getattr(value, step)
    return comparable(value)


def comparable(value: Any) -> Any:
    if isinstance(value, tuple):
        return [comparable(item) for item in value]
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, dict):
        return {name: comparable(item) for name, item in value.items()}
    return value


def of(group: str) -> pytest.MarkDecorator:
    """Return the cases that begin with ``group``; with nothing, those of no group."""
    pattern = rf"{group} .*" if group else r"(?!D[0-9]+ ).*"
    chosen = [case for case in CASES if re.fullmatch(pattern, case["says"])]
    return pytest.mark.parametrize("case", chosen, ids=[case["says"] for case in chosen])


def check(case: Case) -> None:
    if "complains" in case:
        said = complaints(case)
        assert len(said) == len(case["complains"]), said
        for wanted in case["complains"]:
            assert any(wanted in line for line in said), said
        return
    gateway = load(case)
    for path, value in case.get("reads", {}).items():
        assert found(gateway, path) == value, path
    if "notices" in case:
        said = [f"{notice.parameter}: {notice.message}" for notice in gateway.notices]
        for wanted in case["notices"]:
            assert any(wanted in line for line in said), said
        assert case["notices"] or not said


@of("D2")
def test_D_02_yaml_1_1s_booleans_are_booleans_where_one_is_wanted_and_texts_elsewhere(
    case: Case,
) -> None:
    check(case)


@of("D3")
def test_D_03_a_number_that_deck_reads_as_another_one_is_refused(case: Case) -> None:
    check(case)


@of("D4")
def test_D_04_a_merge_is_read_only_where_deck_and_yaml_agree(case: Case) -> None:
    check(case)


@of("D5")
def test_D_05_nothing_is_decided_by_a_field_that_is_there_and_says_nothing(case: Case) -> None:
    check(case)


@of("D6")
def test_D_06_a_variable_is_a_list_where_deck_reads_one_and_else_what_differs_is_said(
    case: Case,
) -> None:
    check(case)


@of("D7")
def test_D_07_a_reference_is_followed_only_where_it_takes_effect(case: Case) -> None:
    check(case)


@of("D9")
def test_D_09_what_deck_reads_is_read_and_what_is_refused_has_its_true_reason(case: Case) -> None:
    check(case)


@of("D12")
def test_D_12_what_may_stand_in_another_file_is_asked_for(case: Case) -> None:
    check(case)


@of("D13")
def test_D_13_a_template_that_is_not_done_is_to_be_rendered_first(case: Case) -> None:
    check(case)


@of("")
def test_a_small_file_is_read_as_it_is_written_down(case: Case) -> None:
    check(case)


def test_the_table_has_more_than_a_hundred_cases_and_says_how_decks_side_is_known() -> None:
    assert len({case["says"] for case in CASES}) == len(CASES) >= 100
    for case in CASES:
        assert case["seen"] in EVIDENCE, case["says"]
        assert "deck" in case, case["says"]
        assert {"reads", "complains", "notices"} & case.keys(), case["says"]
