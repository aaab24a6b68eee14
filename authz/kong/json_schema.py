"""A JSON Schema (draft 2020-12) of the declarative file, for editors.

It derives from the same declarations as the reader.  It is wider than the reader where
JSON Schema cannot say it: the grammar of paths and URLs, what fields mean together, and
which values of a parameter that is not done are refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from authz.kong import content, entities, plugin_entries, plugins, termination
from authz.parameters import PARAMETERS
from authz.parameters.declaration import Parameter, Status
from authz.parameters.kinds import (
    Anything,
    Array,
    Boolean,
    Field,
    Kind,
    MapOf,
    Number,
    Object,
    SecretText,
    Text,
    Whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

Schema = dict[str, Any]

# What the plugins that are done may say.
_CONFIGS: Mapping[str, Mapping[str, Field]] = {
    plugins.OPENID_CONNECT: PARAMETERS,
    plugins.REQUEST_TERMINATION: termination.FIELDS,
}
_TEMPLATE: Schema = {"$ref": "#/$defs/template"}
_SECTIONS = {
    "services": "service",
    "routes": "route",
    "plugins": "plugin",
    "consumers": "consumer",
    "consumer_groups": "consumer_group",
}


def json_schema() -> Schema:
    """Return the schema of one file, as far as authz reads it."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Kong's declarative file, as authz reads it",
        "type": "object",
        "properties": {
            **dict.fromkeys(content.KNOWN, True),
            "_format_version": {
                "anyOf": [{"type": "string", "pattern": r"^3\.[0-9]+$"}, {"const": 3}]
            },
            **{section: _list_of(entity) for section, entity in _SECTIONS.items()},
        },
        "required": ["_format_version"],
        "additionalProperties": False,
        "$defs": {
            "template": {
                "description": "A value from the environment, as decK fills it in.",
                "type": "string",
                "pattern": r"\$\{\{.*\}\}",
            },
            "service": _mapping(entities.SERVICE, routes="route", plugins="plugin"),
            "route": _mapping(entities.ROUTE, plugins="plugin"),
            "consumer": _mapping(entities.CONSUMER, plugins="plugin"),
            "consumer_group": _mapping(entities.CONSUMER_GROUP, plugins="plugin"),
            "plugin": _plugin(),
            **{
                name: {**_mapping(fields), "type": ["object", "null"]}
                for name, fields in _CONFIGS.items()
            },
            **{kind.of.__name__: _object(kind.fields) for kind in _objects(_every_field())},
        },
    }


def _every_field() -> list[Field]:
    tables = (
        entities.SERVICE,
        entities.ROUTE,
        entities.CONSUMER,
        plugin_entries.FIELDS,
        *_CONFIGS.values(),
    )
    return [field for table in tables for field in table.values()]


def _objects(fields: Iterable[Field]) -> Iterator[Object[Any]]:
    """Yield the kinds of mappings in these fields, however deep."""
    for field in fields:
        kind = field.kind.of if isinstance(field.kind, Array) else field.kind
        if isinstance(kind, Object):
            yield kind
            yield from _objects(kind.fields.values())


def _list_of(entity: str) -> Schema:
    return {"type": "array", "items": {"$ref": f"#/$defs/{entity}"}}


def _plugin() -> Schema:
    return {
        **_mapping(plugin_entries.FIELDS),
        "required": ["name"],
        "allOf": [
            {
                "if": {"properties": {"name": {"const": name}}},
                # Not among alternatives: an editor then names the line in it that is wrong.
                "then": {"properties": {"config": {"$ref": f"#/$defs/{name}"}}},
            }
            for name in _CONFIGS
        ],
    }


def _object(fields: Mapping[str, Field]) -> Schema:
    required = [name for name, field in fields.items() if field.required]
    return {**_mapping(fields), **({"required": required} if required else {})}


def _mapping(fields: Mapping[str, Field], **lists: str) -> Schema:
    """Return the schema of a mapping; ``lists`` names the fields that hold entities."""
    return {
        "type": "object",
        "properties": {
            name: _list_of(lists[name]) if name in lists else _field(field)
            for name, field in fields.items()
        },
        "additionalProperties": False,
    }


def _field(field: Field) -> Schema:
    schema = _one_of([*_alternatives(field.kind), *([] if field.absence else [{"type": "null"}])])
    if isinstance(field.kind, Anything):
        schema = {}
    if field.default is not None:
        schema["default"] = field.default
    if isinstance(field, Parameter) and (about := _about(field)):
        schema["description"] = about
    return schema


def _one_of(alternatives: list[Schema]) -> Schema:
    """Return what takes any of these forms."""
    if all(set(form) == {"type"} for form in alternatives):
        types = [form["type"] for form in alternatives]
        return {"type": types if len(types) > 1 else types[0]}
    return {"anyOf": alternatives} if len(alternatives) > 1 else dict(alternatives[0])


def _about(parameter: Parameter) -> str:
    outcome = parameter.becomes
    said = f"{parameter.about[:1].upper()}{parameter.about[1:]}." if parameter.about else ""
    if outcome.status is Status.REFUSED:
        instead = f" Instead: {outcome.instead}." if outcome.instead else ""
        return f"{said} Refused: without it, {outcome.without}.{instead}".lstrip()
    if outcome.status is Status.NOTICED:
        return f"{said} No effect: here {outcome.without}."
    if outcome.status is Status.BROWSER:
        return "Of logins and sessions: changes nothing for machine callers."
    return said


# --- Kinds --------------------------------------------------------------------------


def _alternatives(kind: Kind[Any]) -> list[Schema]:
    """Return the forms that a value of this kind may have in the file."""
    return _FORMS[type(kind)](kind)


def _text(kind: Text) -> list[Schema]:
    return [{"enum": list(kind.allowed)}, _TEMPLATE] if kind.allowed else [{"type": "string"}]


def _number(kind: Number | Whole) -> list[Schema]:
    bounds = {
        "minimum": kind.minimum,
        "maximum": kind.maximum,
        "exclusiveMinimum": kind.above if isinstance(kind, Number) else None,
    }
    type_ = "integer" if isinstance(kind, Whole) else "number"
    said = {name: bound for name, bound in bounds.items() if bound is not None}
    return [{"type": type_, **said}, _TEMPLATE]


def _array(kind: Array[Any]) -> list[Schema]:
    """Return a list, or a bare item: it stands for a list of one."""
    items = _alternatives(kind.of)
    least = {"minItems": kind.at_least} if kind.at_least else {}
    return [{"type": "array", "items": _one_of(items), **least}, *items]


def _map(kind: MapOf[Any]) -> list[Schema]:
    return [{"type": "object", "additionalProperties": _one_of(_alternatives(kind.of))}]


_FORMS: Mapping[type, Callable[[Any], list[Schema]]] = {
    Anything: lambda _: [{}],
    Array: _array,
    Boolean: lambda _: [{"type": "boolean"}, _TEMPLATE],
    MapOf: _map,
    Number: _number,
    Object: lambda kind: [{"$ref": f"#/$defs/{kind.of.__name__}"}],
    SecretText: lambda _: [{"type": "string"}],
    Text: _text,
    Whole: _number,
}
