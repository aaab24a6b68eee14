"""What is written as YAML is read back as it was, by PyYAML and by readers of other dialects."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from authz.yaml_writer import write

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda values: st.lists(values) | st.dictionaries(st.text(), values),
)


@given(JSON)
def test_what_is_written_is_read_back_as_it_was(value: object) -> None:
    assert yaml.safe_load(write(value)) == value


# yaml-cpp, which Envoy reads with, takes y and 0X1F for a boolean and a number; Go's reader
# takes 1e3 and 08 for numbers.
@pytest.mark.parametrize(
    "text",
    [
        *("true", "Yes", "off", "y", "N", "null", "~", ""),
        *("1", "-1", "08", "017", "0o17", "0x1f", "0X1F", "0b1", "1e3", "1E-3", ".5e1", "1_000"),
    ],
)
def test_a_text_that_some_reader_takes_for_another_value_stands_in_quotes(text: str) -> None:
    assert write({"name": text}) == f"name: '{text}'\n"


@pytest.mark.parametrize(
    "text", ["oidc-route", "127.0.0.1", "60s", "a, b", r"^/a\.b$", "é", "1.0.0", "x" * 500]
)
def test_other_texts_stand_plainly_on_one_line(text: str) -> None:
    assert write({"name": text}) == f"name: {text}\n"


def test_keys_keep_their_order_and_a_value_that_is_used_twice_stands_twice() -> None:
    shared = {"b": [1]}

    assert write({"z": shared, "a": shared}) == "z:\n  b:\n  - 1\na:\n  b:\n  - 1\n"


def test_a_text_of_several_lines_stands_as_it_is() -> None:
    assert write({"file": "a: 1\nb: '2'\n"}) == "file: |\n  a: 1\n  b: '2'\n"
    assert write(["\n x\n"]) == "- |2\n\n   x\n"
