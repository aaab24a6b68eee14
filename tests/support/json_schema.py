"""A validator for as much of JSON Schema (draft 2020-12) as our own schema uses."""

from __future__ import annotations

import re
from typing import Any

_TYPES: dict[str, tuple[type, ...]] = {
    "array": (list,),
    "boolean": (bool,),
    "integer": (int,),
    "null": (type(None),),
    "number": (int, float),
    "object": (dict,),
    "string": (str,),
}
_KNOWN = {
    "$defs", "$ref", "$schema", "additionalProperties", "allOf", "anyOf", "const", "default",
    "description", "enum", "exclusiveMinimum", "if", "items", "maximum", "minItems", "minimum",
    "pattern", "properties", "required", "then", "title", "type",
}  # fmt: skip


def is_valid(value: Any, schema: Any, root: Any) -> bool:
    """Tell whether ``value`` is what ``schema``, which is part of ``root``, describes."""
    if schema is True:
        return True
    assert schema.keys() <= _KNOWN, schema.keys() - _KNOWN
    if "$ref" in schema:
        return is_valid(value, root["$defs"][schema["$ref"].removeprefix("#/$defs/")], root)
    return all(
        (
            "type" not in schema or _has_type(value, schema["type"]),
            "enum" not in schema or value in schema["enum"],
            "const" not in schema or value == schema["const"],
            "anyOf" not in schema or any(is_valid(value, one, root) for one in schema["anyOf"]),
            all(is_valid(value, one, root) for one in schema.get("allOf", ())),
            "if" not in schema
            or not is_valid(value, schema["if"], root)
            or is_valid(value, schema["then"], root),
            _is_valid_text(value, schema),
            _is_valid_number(value, schema),
            _is_valid_list(value, schema, root),
            _is_valid_object(value, schema, root),
        )
    )


def _has_type(value: Any, types: str | list[str]) -> bool:
    names = [types] if isinstance(types, str) else types
    if isinstance(value, bool):
        return "boolean" in names
    if isinstance(value, float) and value == int(value):
        return "integer" in names or "number" in names
    return any(isinstance(value, _TYPES[name]) for name in names)


def _is_valid_text(value: Any, schema: Any) -> bool:
    pattern = schema.get("pattern")
    return not isinstance(value, str) or pattern is None or bool(re.search(pattern, value))


def _is_valid_number(value: Any, schema: Any) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return True
    return (
        value >= schema.get("minimum", value)
        and value <= schema.get("maximum", value)
        and ("exclusiveMinimum" not in schema or value > schema["exclusiveMinimum"])
    )


def _is_valid_list(value: Any, schema: Any, root: Any) -> bool:
    if not isinstance(value, list):
        return True
    items = schema.get("items", True)
    return len(value) >= schema.get("minItems", 0) and all(is_valid(x, items, root) for x in value)


def _is_valid_object(value: Any, schema: Any, root: Any) -> bool:
    if not isinstance(value, dict):
        return True
    properties, others = schema.get("properties", {}), schema.get("additionalProperties", True)
    if not value.keys() >= set(schema.get("required", ())):
        return False
    return all(
        (others is not False or name in properties)
        and is_valid(item, properties.get(name, others), root)
        for name, item in value.items()
    )
