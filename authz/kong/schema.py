"""A small language to declare what stands in a mapping.

A ``Field`` has a type, and a type reads a node: it returns the value, or
reports what is wrong and returns None.  ``read_fields`` applies a table of
fields to a mapping.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from authz.kong import environment
from authz.kong.document import ListNode, MappingNode, Node, Pasted, Scalar, Unresolved

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping

    from authz.kong.problems import Problems

_BARE_VARIABLE = re.compile(r"\$\{([^{}]*)\}")
_QUOTED_CHARS_MAX = 60


class Type(Protocol):
    """How to read a value of one kind."""

    def read(self, node: Node, name: str, problems: Problems) -> Any:  # noqa: ANN401 - by type
        """Return the value of ``node``, which is not null; None after a report."""


@dataclass(frozen=True, slots=True)
class Text:
    """A string.  ``check`` says what is wrong with it; a secret is never quoted."""

    allowed: tuple[str, ...] = ()
    check: Callable[[str], str | None] | None = None
    secret: bool = False

    def read(self, node: Node, name: str, problems: Problems) -> str | None:
        """Return the text; numbers and booleans have to be quoted, as in Kong."""
        scalar = _scalar(node, "a string", name, problems)
        if scalar is None or scalar.text is None or isinstance(scalar, Unresolved):
            return None if scalar is None else scalar.text
        wrong = self._wrong(scalar, scalar.text, problems)
        if wrong is not None:
            problems.error(node.position, name, wrong)
            return None
        return scalar.text

    def _wrong(self, scalar: Scalar, text: str, problems: Problems) -> str | None:
        if scalar.kind != "a string":
            return f"must be a string, not {scalar.kind}: put it in quotes"
        if "${" in text and not scalar.variables and (bare := _BARE_VARIABLE.search(text)):
            is_whole = bare[0] == text  # else it may be a secret in which such a thing stands
            name = bare[1] if is_whole or not self.secret else ""
            variable = re.sub(r"\W", "_", name).upper().removeprefix("DECK_") or "NAME"
            return f'${{…}} is no variable of decK: write ${{{{ env "DECK_{variable}" }}}}'
        if text.startswith(environment.REFERENCE_START):
            return (
                "cannot be a {vault://…} reference, for Kong resolves none in this field: write "
                'the value, or ${{ env "DECK_NAME" }}'
            )
        if self.allowed and text not in self.allowed:
            return self._not_allowed(scalar, text, problems)
        return self.check(text) if self.check else None

    def _not_allowed(self, scalar: Scalar, text: str, problems: Problems) -> str:
        choice = "must be " + " or ".join(
            filter(None, (", ".join(self.allowed[:-1]), self.allowed[-1]))
        )
        if self.secret or scalar.variables:
            return choice
        hint = problems.did_you_mean(text, self.allowed)
        return f"{choice}, not '{text[:_QUOTED_CHARS_MAX]}'{hint}"


@dataclass(frozen=True, slots=True)
class Boolean:
    """True or false; YAML 1.1's yes, no, on, off, y and n too, as decK's reader has it."""

    def read(self, node: Node, name: str, problems: Problems) -> bool | str | None:
        """Return the boolean; of an unresolved reference its text."""
        scalar = _scalar(node, "true or false", name, problems)
        if scalar is None or scalar.text is None or isinstance(scalar, Unresolved):
            return None if scalar is None else scalar.text
        if scalar.boolean is None:
            without = "" if scalar.plain else ", without quotes"
            problems.error(node.position, name, f"must be true or false{without}")
        return scalar.boolean


@dataclass(frozen=True, slots=True)
class Number:
    """A finite number; the bounds belong to it, ``above`` does not."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None
    whole: bool = False

    def read(self, node: Node, name: str, problems: Problems) -> int | float | str | None:
        """Return the number, an ``int`` wherever it is whole; of an unresolved reference its text.

        A number that decK's reader takes for another one is refused.
        """
        wanted = "a whole number" if self.whole else "a number"
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
        if wrong := self._wrong(number, wanted):
            problems.error(node.position, name, wrong)
            return None
        return int(number) if number == int(number) else number

    def _wrong(self, number: float, wanted: str) -> str | None:
        if not math.isfinite(number) or (self.whole and number != int(number)):
            return f"must be {wanted}"
        if self.above is not None and number <= self.above:
            return f"must be greater than {self.above}"
        if self.minimum is not None and number < self.minimum:
            return f"must be {self.minimum} or more"
        if self.maximum is not None and number > self.maximum:
            return f"must be {self.maximum} or less"
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


@dataclass(frozen=True, slots=True)
class Array:
    """A list of one type; a bare value stands for a list of one, as in Kong's older files."""

    of: Type
    at_least: int = 0

    def read(self, node: Node, name: str, problems: Problems) -> tuple[Any, ...] | None:
        """Return the items, those left out that have been reported."""
        items = node.items if isinstance(node, ListNode) else [node]
        if len(items) < self.at_least:
            problems.error(node.position, name, "must not be empty")
        values = []
        for item in items:
            if item.is_null:
                problems.error(item.position, name, "a list cannot hold null")
            elif (value := self.of.read(item, name, problems)) is not None:
                values.append(value)
        return tuple(values)


@dataclass(frozen=True, slots=True)
class Object:
    """A mapping with fields of its own."""

    fields: Mapping[str, Field]

    def read(self, node: Node, name: str, problems: Problems) -> dict[str, Any] | None:
        """Return the values that are set."""
        mapping = as_mapping(node, name, problems)
        return None if mapping is None else read_fields(mapping, self.fields, problems, f"{name}.")


@dataclass(frozen=True, slots=True)
class MapOf:
    """A mapping from names to values of one type; ``key`` says what is wrong with a name."""

    of: Type
    key: Callable[[str], str | None]

    def read(self, node: Node, name: str, problems: Problems) -> dict[str, Any] | None:
        """Return the values by name."""
        mapping = as_mapping(node, name, problems)
        if mapping is None:
            return None
        values = {}
        for key, entry in mapping.entries.items():
            if wrong := self.key(key):
                problems.error(entry.key.position, f"{name}.{key}", wrong)
            elif entry.value.is_null:
                problems.error(entry.key.position, f"{name}.{key}", "must have a value")
            else:
                values[key] = self.of.read(entry.value, f"{name}.{key}", problems)
        return values


@dataclass(frozen=True, slots=True)
class Anything:
    """What is read past, or read elsewhere."""

    def read(self, node: Node, name: str, problems: Problems) -> Node:  # noqa: ARG002 - Type's
        """Return the node itself."""
        return node


@dataclass(frozen=True, slots=True)
class Field:
    """A field: its type, and Kong's default for it.

    ``also``: further defaults, of Kong's versions from 3.4 on.  ``referenceable``:
    Kong resolves ``{vault://…}`` in it.  ``absence``: what it means that the field
    is not there, where nobody may slip into that; null is then refused.
    """

    type: Type
    default: Any = None
    also: tuple[Any, ...] = ()
    referenceable: bool = False
    absence: str = ""

    def is_default(self, value: Any) -> bool:  # noqa: ANN401 - any field's value
        """Tell whether ``value`` says no more than nothing would; order in lists is none."""
        if isinstance(self.type, Object) and isinstance(value, dict):
            return all(self.type.fields[name].is_default(item) for name, item in value.items())
        return any(_same(value, default) for default in (self.default, *self.also))


def _same(value: object, default: object) -> bool:
    if value in ("", ()):  # Kong knows no difference between empty and unset
        return not default
    if isinstance(value, tuple) and isinstance(default, tuple):
        return len(value) == len(default) and all(item in default for item in value)
    return value == default


def read_fields(
    mapping: MappingNode, fields: Mapping[str, Field], problems: Problems, prefix: str = ""
) -> dict[str, Any]:
    """Return the values that are set and not null, and report the keys that are unknown."""
    values: dict[str, Any] = {}
    for name, entry in mapping.entries.items():
        field = fields.get(name)
        if field is None:
            unknown_key(mapping, name, fields, problems, prefix)
        elif entry.value.is_null and field.absence:
            problems.error(entry.value.position, prefix + name, absent("null", field.absence))
        elif not entry.value.is_null:
            value = field.type.read(entry.value, prefix + name, problems)
            if value is not None:
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
