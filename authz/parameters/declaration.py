"""How a parameter is declared: once, as a field of a frozen dataclass.

``param`` gives a dataclass field its kind, Kong's default, and what becomes of
the parameter here.  The table of parameters, the reader, the typed values,
``docs/parameters.md``, ``authz schema`` and the cache keys derive from it.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar, overload

from authz.parameters.kinds import DECLARATION, Array, Field

if TYPE_CHECKING:
    from typing import Unpack

    from authz.parameters.kinds import Kind

T = TypeVar("T")


class Status(Enum):
    """What becomes of a parameter that is set to something else than its default."""

    DONE = "done"
    """It takes effect."""
    BROWSER = "browser flow"
    """It is about sessions and logins: nothing changes for machine callers."""
    NOTICED = "noticed"
    """It takes no effect, and no answer depends on it: one notice says what is done instead."""
    REFUSED = "refused"
    """To ignore it would change who gets in, or what the upstream sees."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What becomes of a parameter.

    Of one that is refused, ``without`` says what it means to remove it, and
    ``instead`` what to write in its place, if there is anything.  ``values``: of a
    choice, the values that are done, if not all are; ``without`` is about the others.
    Of one that is only noticed, ``without`` says what is done instead.
    """

    status: Status
    without: str = ""
    instead: str = ""
    values: tuple[str, ...] = ()


DONE = Outcome(Status.DONE)
BROWSER = Outcome(Status.BROWSER)


def partly(*values: str, without: str) -> Outcome:
    """Return the outcome of a choice of which only these values are done here."""
    return Outcome(Status.DONE, without, values=values)


def noticed(instead: str) -> Outcome:
    """Return the outcome of a parameter on which no answer depends, and that does nothing here."""
    return Outcome(Status.NOTICED, instead)


def refused(without: str, instead: str = "") -> Outcome:
    """Return the outcome of a parameter that is not done here."""
    return Outcome(Status.REFUSED, without, instead)


@dataclass(frozen=True, slots=True)
class Parameter(Field):
    """A field of the plugin's ``config``.

    ``used_by``: the only methods that look at it, if not all do.  ``about``: what it
    is for, in a few words.  ``here``: the value that stands for Kong's default here,
    where that is narrower.
    """

    becomes: Outcome = DONE
    used_by: frozenset[str] = frozenset()
    about: str = ""
    here: Any = None

    @property
    def status(self) -> Status:
        """What becomes of it."""
        return self.becomes.status

    @property
    def value(self) -> Any:  # noqa: ANN401 - any parameter's value
        """The typed value where the file says nothing."""
        if self.here is not None:
            return self.here
        return () if self.default is None and isinstance(self.kind, Array) else self.default


class Details(TypedDict, total=False):
    """What a declaration may say besides kind and default; see ``Parameter``."""

    becomes: Outcome
    also: tuple[object, ...]
    referenceable: bool
    used_by: frozenset[str]
    about: str
    null: object
    name: str


@overload
def param(
    kind: Array[T],
    default: tuple[T, ...] | None = None,
    *,
    here: tuple[T, ...] | None = None,
    **details: Unpack[Details],
) -> tuple[T, ...]: ...
@overload
def param(kind: Kind[T], default: T, **details: Unpack[Details]) -> T: ...
@overload
def param(kind: Kind[T], default: None = None, **details: Unpack[Details]) -> T | None: ...
def param(kind: Kind[Any], default: object = None, **details: Any) -> Any:
    """Declare a parameter: its kind, Kong's newest default, and what becomes of it.

    A list whose default is null is an empty tuple here.
    """
    parameter = Parameter(kind, default, **details)
    return dataclasses.field(default=parameter.value, metadata={DECLARATION: parameter})


def required(kind: Kind[T], **details: Unpack[Details]) -> T:
    """Declare a parameter that its mapping cannot be without."""
    parameter = Parameter(kind, required=True, **details)
    field: T = dataclasses.field(metadata={DECLARATION: parameter})
    return field
