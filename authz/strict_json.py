"""JSON as a security decision needs it: one text, one meaning.

The standard decoder takes UTF-16, a byte order mark, NaN and repeated names,
and fails in three different ways.  Here all of that is one error.
"""

from __future__ import annotations

import json
import math
import re
from typing import Any, Final, NoReturn

DEPTH_MAX: Final = 16
# Objects and arrays: each costs some function calls, and 12 kB of them milliseconds.  A
# token as large as we take has room for 1,300 that say anything.
CONTAINERS_MAX: Final = 1_500
QUOTED_CHARS_MAX: Final = 100

# A string, or what is left of one that never ends.  The closing quote is optional
# so that every attempt succeeds: one that could fail would be made again at each
# escaped quote, and 16 kB of them would keep a core busy for a second.
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_AS_BRACKETS: Final = bytes.maketrans(b"{}", b"[]")
_OTHER_BYTES: Final = bytes(set(range(256)) - set(b"{}[]"))


class InvalidJSONError(ValueError):
    """The text is not strict JSON.  The message never quotes the text."""


class TooLargeJSONError(InvalidJSONError):
    """The text is more than is read here, strict JSON or not."""


def loads(text: bytes) -> Any:  # noqa: ANN401 - JSON is any value
    """Decode one JSON value.

    UTF-8 without BOM, no repeated names (RFC 8725 section 2.4 on duplicates),
    no NaN or Infinity, finite numbers, at most ``DEPTH_MAX`` levels and
    ``CONTAINERS_MAX`` objects and arrays (brackets in strings count too).  Bound the
    size before calling.  Raises :class:`InvalidJSONError`.
    """
    openings = text.count(b"{") + text.count(b"[")
    if openings > CONTAINERS_MAX:
        raise TooLargeJSONError(f"more than {CONTAINERS_MAX} objects and arrays")
    if openings > DEPTH_MAX:  # else it cannot be too deep: the common case
        _check_depth(text)
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except InvalidJSONError:
        raise
    except (ValueError, RecursionError):  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise InvalidJSONError("not valid JSON in UTF-8") from None


def _check_depth(text: bytes) -> None:
    brackets = _STRING.sub(b"", text).translate(_AS_BRACKETS, _OTHER_BYTES)
    for _ in range(DEPTH_MAX):
        left = brackets.replace(b"[]", b"")  # without the innermost level of all that is left
        if len(left) == len(brackets):
            break
        brackets = left
    if brackets:
        raise TooLargeJSONError(f"nested deeper than {DEPTH_MAX} levels, or never closed")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        raise InvalidJSONError("a name stands twice in one object")
    return members


def _constant(_name: str) -> NoReturn:
    raise InvalidJSONError("NaN and Infinity are no JSON numbers")


def _float(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidJSONError("a number is out of range")
    return number


# --- Telling what was found ----------------------------------------------------------


def quoted(value: object) -> str:
    """Return a value as JSON in printable ASCII, at most ``QUOTED_CHARS_MAX`` characters.

    For a message about a value that somebody has vouched for.  Anything else is told by
    :func:`kind`.
    """
    text = json.dumps(value).replace("\x7f", "\\u007f")
    return text if len(text) <= QUOTED_CHARS_MAX else f"{text[: QUOTED_CHARS_MAX - 3]}..."


def kind(value: object) -> str:
    """Return what kind of value this is, for a message that must not repeat it."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str):
        return "another string" if value else "an empty string"
    if isinstance(value, int | float):
        return "a number"
    return "an array" if isinstance(value, list) else "an object"


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
)
