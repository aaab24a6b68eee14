"""The kinds of values that a configuration file has, as data.

``kong.schema`` reads them and ``kong.json_schema`` describes them to editors.
``Kind[T]`` is a kind whose values are ``T``, so that a declared field and its
annotation cannot disagree.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

DECLARATION = "declaration"
"""The key of a :class:`Field` in the metadata of a dataclass's field."""


class Kind(Generic[T_co]):
    """A kind of value."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Text(Kind[str]):
    """A string.  ``check`` returns what is wrong with it, or None."""

    allowed: tuple[str, ...] = ()
    check: Callable[[str], str | None] | None = None


@dataclass(frozen=True, slots=True)
class SecretText(Kind[Secret]):
    """A string that no message may quote.  ``check`` as in ``Text``."""

    check: Callable[[str], str | None] | None = None


@dataclass(frozen=True, slots=True)
class Boolean(Kind[bool]):
    """True or false."""


@dataclass(frozen=True, slots=True)
class Number(Kind[float]):
    """A finite number.  ``minimum`` and ``maximum`` are allowed values, ``above`` is not."""

    minimum: float | None = None
    maximum: float | None = None
    above: float | None = None


@dataclass(frozen=True, slots=True)
class Whole(Kind[int]):
    """A whole number.  ``minimum`` and ``maximum`` are allowed values."""

    minimum: int | None = None
    maximum: int | None = None


@dataclass(frozen=True, slots=True)
class Array(Kind[tuple[T_co, ...]]):
    """A list of one kind, with at least so many items."""

    of: Kind[T_co]
    at_least: int = 0


@dataclass(frozen=True, slots=True)
class Object(Kind[T_co]):
    """A mapping with fields of its own: a dataclass that declares them."""

    of: type[T_co]

    @property
    def fields(self) -> Mapping[str, Field]:
        """The fields by their names in the file."""
        return {field.name: field for field in declared(self.of)}


@dataclass(frozen=True, slots=True)
class MapOf(Kind["Mapping[str, T_co]"]):
    """A mapping from names to values of one kind.  ``key`` returns what is wrong with a name."""

    of: Kind[T_co]
    key: Callable[[str], str | None]


@dataclass(frozen=True, slots=True)
class Anything(Kind[object]):
    """What is read past, or read elsewhere."""


@dataclass(frozen=True, slots=True)
class Field:
    """A field of a mapping in the file: its kind, and Kong's default for it.

    ``also``: further defaults, of Kong's versions from 3.4 on.  ``referenceable``:
    Kong resolves ``{vault://…}`` in it.  ``absence``: what it would mean that the
    field is not there; null is then refused.  ``null``: the value that an explicit
    null stands for; None: null is as good as no line.  ``required``: its mapping cannot be
    without it.  ``name`` and ``attribute``:
    the name in the file and in Python, where a dataclass declares the field.
    """

    kind: Kind[Any]
    default: Any = None
    also: tuple[Any, ...] = ()
    referenceable: bool = False
    absence: str = ""
    null: Any = None
    required: bool = False
    name: str = ""
    attribute: str = ""

    def is_default(self, value: Any) -> bool:  # noqa: ANN401 - any field's value
        """Tell whether ``value`` means the same as no line; the order of a list means nothing."""
        if isinstance(self.kind, Object) and isinstance(value, self.kind.of):
            return all(
                field.is_default(getattr(value, field.attribute))
                for field in self.kind.fields.values()
            )
        return any(_same(value, default) for default in (self.default, *self.also))


def _same(value: object, default: object) -> bool:
    if value in (None, "", ()):  # Kong makes no difference between empty and unset
        return not default
    if isinstance(value, tuple) and isinstance(default, tuple):
        return len(value) == len(default) and all(item in default for item in value)
    return value == default


def declared(owner: type) -> tuple[Field, ...]:
    """Return the fields that a dataclass declares, in their order."""
    return tuple(
        dataclasses.replace(declaration, name=declaration.name or field.name, attribute=field.name)
        for field in dataclasses.fields(owner)
        if (declaration := field.metadata.get(DECLARATION)) is not None
    )
