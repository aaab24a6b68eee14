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

# Structure only: brackets inside strings must not count.
_STRUCTURE: Final = re.compile(rb'"(?:[^"\\]|\\.)*"|([\[{])|([\]}])', re.DOTALL)


class InvalidJSONError(ValueError):
    """The text is not strict JSON.  The message never quotes the text."""


def loads(text: bytes) -> Any:  # noqa: ANN401 - JSON is any value
    """Decode one JSON value.

    UTF-8 without BOM, no repeated names (RFC 8725 section 2.4 on duplicates),
    no NaN or Infinity, finite numbers, at most ``DEPTH_MAX`` levels.  Bound the
    size before calling.  Raises :class:`InvalidJSONError`.
    """
    _check_depth(text)
    try:
        return _DECODER.decode(text.decode("utf-8"))
    except InvalidJSONError:
        raise
    except (ValueError, RecursionError):  # JSONDecodeError and UnicodeDecodeError are ValueErrors
        raise InvalidJSONError("not valid JSON in UTF-8") from None


def _check_depth(text: bytes) -> None:
    # A text without that many openings cannot be too deep: the common case.
    if text.count(b"{") + text.count(b"[") <= DEPTH_MAX:
        return
    depth = 0
    for match in _STRUCTURE.finditer(text):
        depth += (match[1] is not None) - (match[2] is not None)
        if depth > DEPTH_MAX:
            raise InvalidJSONError(f"nested deeper than {DEPTH_MAX} levels")


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


_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_float=_float
)
