"""YAML as authz reads it: places, types, and everything that is refused."""

from __future__ import annotations

from typing import Any

import pytest
from support.configuration import FORMAT, complaints

from authz.errors import ConfigurationError
from authz.kong import document
from authz.kong.document import ListNode, MappingNode, Node, Scalar
from authz.kong.problems import Problems
from authz.model import SourcePosition


def parsed(text: str | bytes, **environ: str) -> MappingNode:
    problems = Problems()
    data = text if isinstance(text, bytes) else text.encode()
    node = document.parse(data, "kong.yaml", environ, problems)
    problems.raise_errors()
    assert isinstance(node, MappingNode)
    return node


def plain(node: Node) -> Any:
    if isinstance(node, MappingNode):
        return {name: plain(entry.value) for name, entry in node.entries.items()}
    return [plain(item) for item in node.items] if isinstance(node, ListNode) else node


def scalar(text: str) -> Scalar:
    node = parsed(f"key: {text}").get("key")
    assert isinstance(node, Scalar)
    return node


def test_every_key_and_value_knows_its_line_and_column() -> None:
    root = parsed("a:\n  - b: x\n    ü: [1, 22]\n")
    items = root.get("a")
    assert isinstance(items, ListNode)
    first = items.items[0]
    assert isinstance(first, MappingNode)
    assert first.key_position("ü") == SourcePosition("kong.yaml", 3, 5)
    numbers = first.get("ü")
    assert isinstance(numbers, ListNode)
    assert numbers.items[1].position == SourcePosition("kong.yaml", 3, 12)


def test_a_number_with_more_digits_than_python_reads_is_infinite() -> None:
    assert scalar("9" * 5000).number == float("inf")


def test_a_merge_key_gives_way_to_what_is_written() -> None:
    root = parsed("base: &b {x: 1, y: 2}\nuse: {<<: *b, y: 3}\n")
    use = root.get("use")
    assert isinstance(use, MappingNode)
    assert {
        name: e.value.text for name, e in use.entries.items() if isinstance(e.value, Scalar)
    } == {
        "y": "3",
        "x": "1",
    }


def test_CF_01_a_duplicate_key_is_reported_with_both_lines() -> None:
    assert complaints(FORMAT + "services: []\nservices: []\n") == [
        "3:1: services: stands here a second time; first on line 2"
    ]


def test_CF_01_a_python_tag_builds_nothing() -> None:
    [complaint, *_] = complaints(FORMAT + "_ignore: !!python/object/apply:os.system [id]\n")
    assert complaint.startswith("2:10: file: a YAML tag is refused")


def test_CF_01_anchors_that_multiply_are_stopped() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 10)]
    [complaint] = complaints("\n".join(lines))
    assert f"grows beyond {document.NODES_MAX} values" in complaint


def test_CF_01_an_anchor_inside_itself_is_refused() -> None:
    assert complaints("a: &a [*a]") == ["1:8: file: the anchor 'a' stands inside itself"]


def test_CF_01_deep_nesting_is_stopped_before_the_stack_is() -> None:
    [complaint] = complaints("[" * 100_000)
    assert complaint == f"1:65: file: is nested deeper than {document.DEPTH_MAX} levels"


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "1:1: file: is empty: write a configuration into it"),
        (b"a: \0", "1:4: file: the character U+0000 cannot stand in YAML"),
        (b"a: b\nc: \xff", "2:4: file: is not UTF-8 from here on"),
        ("a: b".encode("utf-16"), "1:1: file: is not UTF-8 from here on"),
        (b"- 1", "1:1: file: must be a mapping, not a list"),
        (b"a: 1\n---\nb: 2\n", "2:1: file: a second document begins here: one file, one document"),
        (
            b"a: *b",
            "1:4: file: an alias of no anchor above; a text that begins with * needs quotes",
        ),
        (b"? [a]\n: b\n", "1:3: file: a key must be text"),
        (b"<<: 1\n", "1:5: <<: must name one mapping, or a list of them"),
        ("a: \ue000".encode(), "1:4: file: U+E000 and U+E001 cannot stand in a file"),
    ],
)
def test_CF_01_what_is_no_document_is_said_with_its_place(data: bytes, complaint: str) -> None:
    assert complaint in complaints(data)


@pytest.mark.parametrize("text", ["a: [", "a: b: c", "\t- a", "{a: 1}}", "%YAML 3.0\n---\na"])
def test_CF_01_bad_yaml_is_one_complaint_with_a_place(text: str) -> None:
    [complaint] = complaints(text)
    assert ": file: is no YAML: " in complaint


def test_CF_01_a_byte_order_mark_is_read_past() -> None:
    assert parsed(b"\xef\xbb\xbfa: b").position == SourcePosition("kong.yaml", 1, 1)


def test_CF_01_a_file_that_is_too_large_is_not_parsed() -> None:
    problems = Problems()
    assert document.parse(b" " * (document.FILE_BYTES_MAX + 1), "f", {}, problems) is None
    with pytest.raises(ConfigurationError, match=f"larger than {document.FILE_BYTES_MAX} bytes"):
        problems.raise_errors()


def test_with_defaults_fills_what_is_absent_or_null() -> None:
    own, defaults = parsed("a: 1\nb: null\n"), parsed("a: 2\nb: 3\nc: 4\n")
    merged = own.with_defaults(defaults)
    assert {name: node.text for name in "abc" if isinstance(node := merged.get(name), Scalar)} == {
        "a": "1",
        "b": "3",
        "c": "4",
    }
    assert own.with_defaults(None) is own


def test_merged_over_goes_into_mappings_and_keeps_an_explicit_null() -> None:
    own, base = parsed("m: {x: 1}\nn: null\n"), parsed("m: {x: 0, y: 2}\nn: 5\n")
    merged = own.merged_over(base)
    assert plain(merged)["m"].keys() == {"x", "y"}
    assert merged.get("n") is None
