"""Walking into claims: a path is a list of keys, as Kong writes it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


def walk(claims: Mapping[str, Any], path: Sequence[str]) -> Any:  # noqa: ANN401 - JSON is any value
    """Return the value at ``path``, or ``None`` where any level is missing.

    Each item names a member; in an array a number is a position that starts at
    1, as in Kong.  A dot in an item is part of the name.
    """
    value: Any = claims
    for item in path:
        if isinstance(value, dict):
            value = value.get(item)
        elif isinstance(value, list) and item.isascii() and item.isdigit():
            position = int(item)
            value = value[position - 1] if 1 <= position <= len(value) else None
        else:
            return None
    return value


def words(value: Any) -> frozenset[str] | None:  # noqa: ANN401 - JSON is any value
    """Return the words of a claim such as ``scope``: a spaced string, or an array of strings.

    ``None`` for any other shape: a claim of the wrong type grants nothing.
    """
    if isinstance(value, str):
        return frozenset(value.split(" ")) - {""}
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return frozenset(value)
    return None
