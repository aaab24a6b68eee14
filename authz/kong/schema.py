"""Read the values of a file by the kinds that its fields are declared to have.

``read`` returns the value of one node, or reports what is wrong and returns None.
``read_fields`` applies a table of fields to a mapping.
"""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any, TypeVar

from authz.kong import environment
from authz.kong.document import ListNode, MappingNode, Node, Pasted, Scalar, Unresolved
from authz.parameters.kinds import (
    Anything,
    Array,
    Boolean,
    MapOf,
    Number,
    Object,
    SecretText,
    Text,
    Whole,
)
from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from authz.kong.problems import Problems
    from authz.parameters.kinds import Field, Kind

T = TypeVar("T")

_BARE_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_QUOTED_CHARS_MAX = 60


def read(kind: Kind[T], node: Node, name: str, problems: Problems) -> T | None:
    """Return the value of ``node``, which is not null; None after a report.

    Of an unresolved reference it is the reference's own text, whatever the kind: such
    a value takes no effect, and whoever reads it leaves it out.
    """
    value: T | None = _READERS[type(kind)](kind, node, name, problems)
    return value


# --- Texts ------------------------------------------------------------------------


def _text(kind: Text, node: Node, name: str, problems: Problems) -> str | None:
    """Return the text; numbers and booleans have to be quoted, as in Kong."""
    scalar = _scalar(node, "a string", name, problems)
    if scalar is None or scalar.text is None or isinstance(scalar, Unresolved):
        return None if scalar is None else scalar.text
    return _checked(scalar, scalar.text, kind, name, problems)


def _secret(kind: SecretText, node: Node, name: str, problems: Problems) -> Secret | None:
    """Return the text as a secret, which no message quotes."""
    scalar = _scalar(node, "a string", name, problems)
    if scalar is None or scalar.text is None:
        return None
    if isinstance(scalar, Unresolved):
        return Secret(scalar.text)
    text = _checked(scalar, scalar.text, kind, name, problems)
    return None if text is None else Secret(text)


def _checked(
    scalar: Scalar, text: str, kind: Text | SecretText, name: str, problems: Problems
) -> str | None:
    wrong = _wrong_text(scalar, text, kind, problems)
    if wrong is None:
        return text
    problems.error(scalar.position, name, wrong)
    return None


def _wrong_text(
    scalar: Scalar, text: str, kind: Text | SecretText, problems: Problems
) -> str | None:
    secret = isinstance(kind, SecretText)
    if scalar.kind != "a string":
        return f"must be a string, not {scalar.kind}: put it in quotes"
    if "${" in text and not scalar.variables and (bare := _BARE_VARIABLE.search(text)):
        is_whole = bare[0] == text  # else it may be a secret in which such a thing stands
        name = bare[1] if is_whole or not secret else ""
        variable = re.sub(r"\W", "_", name).upper().removeprefix("DECK_") or "NAME"
        return f'${{…}} is no variable of decK: write ${{{{ env "DECK_{variable}" }}}}'
    if text.startswith(environment.REFERENCE_START):
        return (
            "cannot be a {vault://…} reference, for Kong resolves none in this field: write "
            'the value, or ${{ env "DECK_NAME" }}'
        )
    if isinstance(kind, Text) and kind.allowed and text not in kind.allowed:
        return _not_allowed(scalar, text, kind.allowed, problems)
    return kind.check(text) if kind.check else None


def _not_allowed(scalar: Scalar, text: str, allowed: tuple[str, ...], problems: Problems) -> str:
    choice = "must be " + " or ".join(filter(None, (", ".join(allowed[:-1]), allowed[-1])))
    if scalar.variables:
        return choice
    hint = problems.did_you_mean(text, allowed)
    return f"{choice}, not '{text[:_QUOTED_CHARS_MAX]}'{hint}"


# --- Booleans and numbers ---------------------------------------------------------


def _boolean(_: Boolean, node: Node, name: str, problems: Problems) -> bool | str | None:
    """Return the boolean; YAML 1.1's yes, no, on, off, y and n too, as decK's reader has it."""
    scalar = _scalar(node, "true or false", name, problems)
    if scalar is None or scalar.text is None or isinstance(scalar, Unresolved):
        return None if scalar is None else scalar.text
    if scalar.boolean is None:
        without = "" if scalar.plain else ", without quotes"
        problems.error(node.position, name, f"must be true or false{without}")
    return scalar.boolean


def _number(
    kind: Number | Whole, node: Node, name: str, problems: Problems
) -> int | float | str | None:
    """Return the number, an ``int`` wherever it is whole.

    A number that decK's reader takes for another one is refused.
    """
    wanted = "a whole number" if isinstance(kind, Whole) else "a number"
    scalar = _scalar(node, wanted, name, problems)
    if scalar is None or scalar.text is None or isinstance(scalar, Unresolved):
        return None if scalar is None else scalar.text
    number = scalar.number
    if scalar.deck_integer is not None and scalar.deck_integer != number:
        problems.error(node.position, name, _other_number(scalar, scalar.deck_integer))
        return None
    if number is None:
        problems.error(node.position, name, f"must be {wanted}, without quotes or unit")
        return None
    if wrong := _wrong_number(kind, number, wanted):
        problems.error(node.position, name, wrong)
        return None
    return int(number) if number == int(number) else number


def _wrong_number(kind: Number | Whole, number: float, wanted: str) -> str | None:
    if not math.isfinite(number) or (isinstance(kind, Whole) and number != int(number)):
        return f"must be {wanted}"
    if isinstance(kind, Number) and kind.above is not None and number <= kind.above:
        return f"must be greater than {kind.above}"
    if kind.minimum is not None and number < kind.minimum:
        return f"must be {kind.minimum} or more"
    if kind.maximum is not None and number > kind.maximum:
        return f"must be {kind.maximum} or less"
    return None


def _other_number(scalar: Scalar, number: int) -> str:
    """Say what decK reads instead, which YAML 1.1 has and YAML 1.2 has not."""
    text = scalar.text or ""
    why = "in base eight, as" if re.fullmatch("[-+]?0[0-9_]+", text) else "as"
    if scalar.variables:
        return f"decK reads the value of {scalar.variables[0]} {why} another number: write digits"
    plain = re.sub("_|^[+]|(?<![1-9])0+(?=[1-9])", "", text)
    also = f", or {plain} if you mean that" if "eight" in why else ""
    return f"decK reads {text[:_QUOTED_CHARS_MAX]} {why} {number}: write {number}{also}"


# --- Lists and mappings -----------------------------------------------------------


def _array(kind: Array[Any], node: Node, name: str, problems: Problems) -> tuple[Any, ...]:
    """Return the items, without those that have been reported.

    A bare value stands for a list of one, as in Kong's older files.
    """
    items = node.items if isinstance(node, ListNode) else [node]
    if len(items) < kind.at_least:
        problems.error(node.position, name, "must not be empty")
    values = []
    for item in items:
        if item.is_null:
            problems.error(item.position, name, "a list cannot hold null")
        elif (value := read(kind.of, item, name, problems)) is not None:
            values.append(value)
    return tuple(values)


def _object(kind: Object[Any], node: Node, name: str, problems: Problems) -> Any:  # noqa: ANN401 - what the kind makes
    """Return what the mapping's fields make."""
    mapping = as_mapping(node, name, problems)
    if mapping is None:
        return None
    fields = kind.fields
    values = read_fields(mapping, fields, problems, f"{name}.")
    required = {field for field, declared in fields.items() if declared.required}
    if required and all(entry.value.is_null for entry in mapping.entries.values()):
        return None  # a dump of Kong's has a line for each field
    for field in sorted(required):
        if (value := mapping.get(field)) is None or value.is_null:
            problems.error(node.position, f"{name}.{field}", "is required")
    if not values.keys() >= required:
        return None
    return kind.of(**{fields[field].attribute: value for field, value in values.items()})


def _map(kind: MapOf[Any], node: Node, name: str, problems: Problems) -> dict[str, Any] | None:
    """Return the values by name."""
    mapping = as_mapping(node, name, problems)
    if mapping is None:
        return None
    values = {}
    for key, entry in mapping.entries.items():
        if wrong := kind.key(key):
            problems.error(entry.key.position, f"{name}.{key}", wrong)
        elif entry.value.is_null:
            problems.error(entry.key.position, f"{name}.{key}", "must have a value")
        else:
            values[key] = read(kind.of, entry.value, f"{name}.{key}", problems)
    return values


def _anything(_: Anything, node: Node, _name: str, _problems: Problems) -> Node:
    """Return the node itself."""
    return node


_READERS: Mapping[type, Callable[..., Any]] = {
    Anything: _anything,
    Array: _array,
    Boolean: _boolean,
    MapOf: _map,
    Number: _number,
    Object: _object,
    SecretText: _secret,
    Text: _text,
    Whole: _number,
}


def read_fields(
    mapping: MappingNode, fields: Mapping[str, Field], problems: Problems, prefix: str = ""
) -> dict[str, Any]:
    """Return the values that are set, and report the keys that are unknown.

    A null is no value, unless the field says which one it stands for.
    """
    values: dict[str, Any] = {}
    for name, entry in mapping.entries.items():
        field = fields.get(name)
        if field is None:
            unknown_key(mapping, name, fields, problems, prefix)
        elif entry.value.is_null and field.absence:
            problems.error(entry.value.position, prefix + name, absent("null", field.absence))
        elif entry.value.is_null:
            if field.null is not None:
                values[name] = field.null
        elif (value := read(field.kind, entry.value, prefix + name, problems)) is not None:
            values[name] = value
    return values


def absent(found: str, meaning: str) -> str:
    """Say that a field is there and says nothing, and what that would mean."""
    return f"is {found}: {meaning}; write a value, or remove the line if you mean that"


def refuse_absence(mapping: MappingNode, meanings: Mapping[str, str], problems: Problems) -> bool:
    """Report the fields that are null or empty, whose absence means what ``meanings`` say.

    Not where all of them are written: that is how ``kong config db_export`` says
    "none", and an oversight does not look so.  Return whether there was one.
    """
    if meanings.keys() <= mapping.entries.keys():
        return False
    found = False
    for name, meaning in meanings.items():
        entry = mapping.entries.get(name)
        if entry is not None and (entry.value.is_null or is_empty(entry.value)):
            said = "null" if entry.value.is_null else "empty"
            problems.error(entry.value.position, name, absent(said, meaning))
            found = True
    return found


def is_empty(node: Node | None) -> bool:
    """Tell whether there is nothing: no value, or one without anything in it."""
    if isinstance(node, ListNode):
        return not node.items
    return node is None or (isinstance(node, MappingNode) and not node.entries)


def names_set(mapping: MappingNode) -> tuple[str, ...]:
    """Return the keys whose values are neither null nor false."""
    return tuple(
        name
        for name, entry in mapping.entries.items()
        if not entry.value.is_null
        and not (isinstance(entry.value, Scalar) and entry.value.boolean is False)
    )


def unknown_key(
    mapping: MappingNode, name: str, known: Collection[str], problems: Problems, prefix: str = ""
) -> None:
    """Report a key that nobody knows, with the nearest that somebody does."""
    position = mapping.key_position(name)
    problems.error(
        position, prefix + name, f"is not known here{problems.did_you_mean(name, known)}"
    )


def as_mapping(node: Node, name: str, problems: Problems) -> MappingNode | None:
    """Return ``node`` if it is a mapping, else report what it is."""
    if isinstance(node, MappingNode):
        return node
    problems.error(node.position, name, f"must be a mapping, not {node.kind}")
    return None


def as_list(node: Node | None, name: str, problems: Problems) -> list[Node]:
    """Return the items of ``node``; nothing if it is absent or no list, which is reported."""
    if node is None or node.is_null:
        return []
    if isinstance(node, ListNode):
        return node.items
    problems.error(node.position, name, f"must be a list, not {node.kind}")
    return []


def _quotes(node: Node) -> str:
    """Return what to do about a reference without quotes, whose braces are a mapping's."""
    names = node.entries if isinstance(node, MappingNode) else ()
    is_reference = any(f"{{{key}".startswith(environment.REFERENCE_START) for key in names)
    return ": put {vault://…} in quotes" if is_reference else ""


def _scalar(node: Node, wanted: str, name: str, problems: Problems) -> Scalar | None:
    variables = node.variables if isinstance(node, Scalar | ListNode) else ()
    if not isinstance(node, Scalar) and not variables:
        problems.error(node.position, name, f"must be {wanted}, not {node.kind}{_quotes(node)}")
        return None
    if not isinstance(node, Scalar) or node.pasted is Pasted.STRUCTURE:
        problems.error(
            node.position,
            name,
            f"the value of {variables[0]} is more than one value to decK, which pastes it "
            f"into the YAML, and {wanted} is wanted: put quotes around the template to keep it "
            "one text, or write the items one by one",
        )
        return None
    if node.pasted is Pasted.OTHER_TEXT:
        problems.notice(
            node.position,
            name,
            f"the value of {', '.join(dict.fromkeys(variables))} is taken as it stands; decK "
            "pastes it into the YAML, and reads another text or none: other quotes around the "
            "template make both read the same",
        )
    return node
