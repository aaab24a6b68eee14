"""How a setting is declared: once, as a field that knows its flag, its variable and its help.

A dataclass field made by ``setting`` is the only place that names a setting.  The flags and
variables of ``authz serve``, the table of settings in the README, and the names that
``environment.misspelt`` knows are derived from it.  Nothing here knows click.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from authz.header_names import TOKEN

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

VARIABLE_PREFIX = "AUTHZ_"
_KEY = "setting"


@dataclass(frozen=True, slots=True)
class Kind:
    """What the text of a value means."""

    metavar: str
    """What the help calls a value: its form (``HOST:PORT``) or its unit (``SECONDS``)."""
    parse: Callable[[str], object] = str
    """Return the value, or raise ``ValueError`` with what to write instead."""
    choices: tuple[str, ...] = ()
    """All values, where they are few."""


SWITCH = Kind("")
"""True or false: a flag without a value."""


def _header_name(text: str) -> str:
    name = text.lower()
    if re.fullmatch(TOKEN, name) is None:
        raise ValueError(f"{text!r} is no name of a header: write x-envoy-external-address")
    return name


HEADER_NAME = Kind("NAME", _header_name)
PATH = Kind("PATH")


def _existing(text: str) -> str:
    if not Path(text).is_file():
        raise ValueError(f"{text!r} is no file that can be read")
    return text


FILE = Kind("FILE", _existing)
"""The path of a file that is there."""


def choice(*names: str) -> Kind:
    """Return the kind of which these are all values."""
    return Kind("", choices=names)


def whole(unit: str, *, least: int, most: int | None = None) -> Kind:
    """Return the kind of whole numbers of a unit, from ``least`` to ``most``."""

    def parse(text: str) -> int:
        try:
            value = int(text) if text.isascii() else None
        except ValueError:
            value = None
        if value is None or value < least or (most is not None and value > most):
            raise ValueError(f"{text[:40]!r} is no whole number {_between(least, most)}")
        return value

    return Kind(unit.upper(), parse)


def seconds(*, most: float) -> Kind:
    """Return the kind of seconds, from 0 to ``most``, with or without a fraction."""

    def parse(text: str) -> float:
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value <= most:  # NaN is not
            raise ValueError(f"{text[:40]!r} is no number of seconds {_between(0, most)}")
        return value

    return Kind("SECONDS", parse)


def _between(least: float, most: float | None) -> str:
    return f"of at least {least}" if most is None else f"from {least} to {most}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A declared setting."""

    flags: tuple[str, ...]
    """``-c`` and ``--config``; the last one is the long one."""
    kind: Kind
    help: str
    """One sentence for people: what it does, not how it works."""
    default: object
    """The value, not its text.  A tuple: the flag may be repeated."""
    unset: str
    """What the default means to people, where it is no value of this kind."""
    required: bool

    @property
    def name(self) -> str:
        """The long flag as an identifier: ``idp_ca_file`` for ``--idp-ca-file``."""
        return self.flags[-1].removeprefix("--").replace("-", "_")

    @property
    def variable(self) -> str:
        """The environment variable: ``AUTHZ_IDP_CA_FILE`` for ``--idp-ca-file``."""
        return VARIABLE_PREFIX + self.name.upper()

    @property
    def repeatable(self) -> bool:
        """Whether the flag may be given more than once."""
        return isinstance(self.default, tuple)

    @property
    def default_texts(self) -> tuple[str, ...]:
        """The default as one would write it, a text a value; empty: there is none to write."""
        if self.default is None or isinstance(self.default, bool):
            return ()
        values = self.default if isinstance(self.default, tuple) else (self.default,)
        return tuple(map(str, values))


def setting(
    *flags: str,
    kind: Kind,
    default: T,
    help: str,  # noqa: A002 - the command line's word
    unset: str = "",
    required: bool = False,
) -> T:
    """Declare a dataclass field that is a setting; the field's type is that of ``default``."""
    declared = Setting(
        flags=flags, kind=kind, default=default, help=help, unset=unset, required=required
    )
    return field(default=default, metadata={_KEY: declared})


def settings_of(group: type) -> dict[str, Setting]:
    """Return the settings that a dataclass declares, by the name of the field."""
    return {one.name: one.metadata[_KEY] for one in fields(group) if _KEY in one.metadata}
