"""One text, one meaning: what the strict decoder takes, and what it takes it for."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.work import calls_of

from authz.strict_json import (
    CONTAINERS_MAX,
    DEPTH_MAX,
    InvalidJSONError,
    TooLargeJSONError,
    loads,
)

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

JSON_VALUES: SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(min_value=-(2**64), max_value=2**64)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


def depth(value: object) -> int:
    """How many arrays and objects stand inside one another."""
    match value:
        case dict():
            return 1 + max(map(depth, value.values()), default=0)
        case list():
            return 1 + max(map(depth, value), default=0)
        case _:
            return 0


def nested(levels: int) -> bytes:
    return b"[" * levels + b"]" * levels


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param(b' {"a": [1, 2.5, true, null]}\r\n', {"a": [1, 2.5, True, None]}, id="object"),
        pytest.param('{"é": "ü"}'.encode(), {"é": "ü"}, id="UTF-8"),
        pytest.param(rb'"\ud83d\ude00"', "😀", id="escaped surrogate pair"),
        pytest.param(b"-0.5e-3", -0.0005, id="number"),
        pytest.param(b'"' + b"[" * 100 + b'"', "[" * 100, id="brackets in a string"),
        pytest.param(b'["\\"[[[[[[[[[[[[[[[[[[[["]', ['"' + "[" * 20], id="after an escaped quote"),
        pytest.param(b'["\\\\",' + b"[]," * 20 + b"0]", ["\\", *[[]] * 20, 0], id="backslash"),
        pytest.param(b"[" + b"[]," * 50 + b"0]", [*[[]] * 50, 0], id="wide, not deep"),
        pytest.param(b"[" + b"{}," * 50 + b"0]", [*[{}] * 50, 0], id="wide with objects"),
    ],
)
def test_json_is_what_it_says(text: bytes, value: object) -> None:
    assert loads(text) == value


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{} {}", id="two values"),
        pytest.param(b"{}\x00", id="NUL behind"),
        pytest.param(b"[1,]", id="trailing comma"),
        pytest.param(b"{'a': 1}", id="single quotes"),
        pytest.param(b"[1] // one", id="comment"),
        pytest.param(b"\xef\xbb\xbf{}", id="BOM"),
        pytest.param("{}".encode("utf-16"), id="UTF-16 with BOM"),
        pytest.param("{}".encode("utf-16-le"), id="UTF-16-LE"),
        pytest.param("{}".encode("utf-32-be"), id="UTF-32-BE"),
        pytest.param(b'"\xe9"', id="Latin-1"),
        pytest.param(b'"\xc0\xa2"', id="overlong UTF-8"),
        pytest.param(b'"\xed\xa0\x80"', id="surrogate in UTF-8"),
        pytest.param(b'"a\nb"', id="bare newline in a string"),
        pytest.param(b'"\\x41"', id="no JSON escape"),
        pytest.param(b"NaN", id="NaN"),
        pytest.param(b"[Infinity]", id="Infinity"),
        pytest.param(b"-Infinity", id="-Infinity"),
        pytest.param(b"1e400", id="float out of range"),
        pytest.param(b"-" + b"9" * 400 + b".0", id="long float out of range"),
        pytest.param(b"9" * 5000, id="integer of 5000 digits"),
        pytest.param(b"01", id="leading zero"),
        pytest.param(b"+1", id="plus sign"),
        pytest.param(b"1_000", id="underscore"),
        pytest.param("٩".encode(), id="Arabic-Indic digit"),
        pytest.param(b"0x10", id="hexadecimal"),
        pytest.param(b"True", id="Python's True"),
        pytest.param(b"\x0b1", id="vertical tab before"),
        pytest.param("\u00a01".encode(), id="no-break space before"),
    ],
)
def test_what_is_not_strict_json_is_one_error(text: bytes) -> None:
    with pytest.raises(InvalidJSONError):
        loads(text)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b'{"a": 1, "a": 1}', id="equal values"),
        pytest.param(b'{"a": 1, "\\u0061": 2}', id="one name escaped"),
        pytest.param(b'[{"b": {"a": 1, "b": 2, "a": null}}]', id="inside"),
        pytest.param(b'{"": 1, "": 2}', id="empty name"),
    ],
)
def test_a_name_that_stands_twice_is_refused(text: bytes) -> None:
    with pytest.raises(InvalidJSONError, match="a name stands twice"):
        loads(text)


def test_equal_names_in_different_objects_are_fine() -> None:
    assert loads(b'{"a": {"a": 1}, "b": {"a": 2}}') == {"a": {"a": 1}, "b": {"a": 2}}


@pytest.mark.parametrize("levels", [DEPTH_MAX + 1, 100_000], ids=["one too deep", "far too deep"])
@pytest.mark.parametrize("opening", [b"[", b'{"a":', b'[{"a":'], ids=["array", "object", "both"])
def test_nesting_has_an_end(opening: bytes, levels: int) -> None:
    with pytest.raises(
        InvalidJSONError, match=r"nested deeper than 16 levels|more than 1500 objects"
    ):
        loads(opening * levels)


def test_sixteen_levels_are_not_too_deep() -> None:
    assert depth(loads(nested(DEPTH_MAX))) == DEPTH_MAX
    assert depth(loads(b"[" + nested(DEPTH_MAX - 1) + b",[],[]]")) == DEPTH_MAX


def test_a_string_that_never_ends_is_looked_at_once() -> None:
    # Searched again from each of its quotes, this would take hours instead of no time.
    with pytest.raises(InvalidJSONError):
        loads(b"[]" * 20 + b'"' + b'\\"' * 1_000_000)


def test_the_error_quotes_nothing_of_the_text() -> None:
    for text in (b'{"hunter2": }', b'{"hunter2": 1, "hunter2": 2}', b"hunter2", b'"\xff hunter2"'):
        with pytest.raises(InvalidJSONError) as caught:
            loads(text)
        assert "hunter2" not in str(caught.value)
        assert caught.value.__cause__ is None


@given(JSON_VALUES)
@example([[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]])
def test_every_value_of_bounded_depth_comes_back_as_it_was(value: Any) -> None:
    text = json.dumps(value, ensure_ascii=False).encode()
    if depth(value) > DEPTH_MAX:
        with pytest.raises(InvalidJSONError):
            loads(text)
    else:
        assert loads(text) == json.loads(text)


@given(st.binary() | st.text(alphabet='[]{}",:\\0a ', max_size=80).map(str.encode))
@example(b"[]" * 17 + b'"\\')
@example(b'{"":' * 9 + b"[" * 9)
def test_whatever_the_bytes_there_is_a_value_or_one_kind_of_error(text: bytes) -> None:
    try:
        value = loads(text)
    except InvalidJSONError:
        return
    assert value == json.loads(text)
    assert depth(value) <= DEPTH_MAX


def test_G_10_as_many_objects_and_arrays_as_a_token_has_room_for_are_read() -> None:
    most = CONTAINERS_MAX - 1

    assert len(loads(b"[" + b",".join([b"{}"] * most) + b"]")) == most


@pytest.mark.parametrize(
    "text",
    [
        b"[" + b",".join([b"{}"] * CONTAINERS_MAX) + b"]",
        b"[" + b",".join([b"[]"] * CONTAINERS_MAX) + b"]",
        b"[" * CONTAINERS_MAX * 10,
    ],
    ids=["objects", "arrays", "depth"],
)
def test_G_10_more_objects_and_arrays_than_that_are_refused_unread(text: bytes) -> None:
    with pytest.raises(TooLargeJSONError, match="more than 1500 objects and arrays"):
        loads(text)


@pytest.mark.parametrize("size", [1_000, 10_000])
def test_G_10_the_work_for_a_text_is_bounded_whatever_its_brackets(size: int) -> None:
    for piece in (b'{"a":{}},', b"{},", b"[],", b"[[[[[[[[[[[[]]]]]]]]]]]],", b"[", b'{"a":'):
        text = b"[" + piece * (size // len(piece)) + b"0]"

        def read(text: bytes = text) -> None:
            with suppress(InvalidJSONError):
                loads(text)

        assert calls_of(read) < 8_000
