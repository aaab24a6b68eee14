"""Options: click's side of the settings, and the kinds of value that commands share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

import click

from authz.settings import DECLARED
from authz.settings.addresses import parse_address, parse_connect_to, parse_tcp_address
from authz.settings.declared import SWITCH, VARIABLE_PREFIX, Kind, Setting
from authz.settings.environment import split_list

if TYPE_CHECKING:
    from collections.abc import Callable

    F = TypeVar("F", bound=Callable[..., Any])


class Parsed(click.ParamType[object]):
    """A value that a function reads, which raises ``ValueError`` with what to write instead.

    A repeatable flag's variable holds several, with commas or spaces between.
    """

    def __init__(self, kind: Kind) -> None:
        self.name = kind.metavar.lower()
        self._kind = kind

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Read a value; click adds the names of the flag and its variable to an error."""
        if not isinstance(value, str):
            return value  # a default
        try:
            return self._kind.parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split the variable of a repeatable flag."""
        return split_list(rv)


ADDRESS = Kind("ADDRESS", parse_address)
TCP_ADDRESS = Kind("HOST:PORT", parse_tcp_address)
CONNECT_TO = Kind("HOST:PORT:HOST2:PORT2", parse_connect_to)


def of_kind(kind: Kind) -> dict[str, Any]:
    """Return click's attributes of an option whose values are of this kind."""
    if kind is SWITCH:
        return {"is_flag": True}
    if kind.choices:
        return {"type": click.Choice(kind.choices)}
    return {"type": Parsed(kind), "metavar": kind.metavar}


def option(
    *names: str,
    kind: Kind,
    variable: str,
    **attributes: Any,  # noqa: ANN401 - they are click's
) -> Callable[[F], F]:
    """Make an option with its ``AUTHZ_*`` variable; the flag wins."""
    shown: dict[str, Any] = {
        "show_default": True,
        "show_envvar": True,
        "envvar": f"AUTHZ_{variable}",
    }
    return click.option(*names, **(shown | of_kind(kind) | attributes))


def setting(name: str, **changes: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's attributes
    """Make the option of one setting of ``serve``; ``changes`` are attributes that differ."""
    declared = DECLARED[name]
    *short, long = declared.flags
    if declared.default is True:
        long = f"{long}/--no-{long.removeprefix('--')}"
    attributes: dict[str, Any] = {
        "help": f"{declared.help}  Repeatable." if declared.repeatable else declared.help,
        "multiple": declared.repeatable,
        "required": declared.required,
        "show_default": declared.unset or True,
    }
    attributes |= _default(declared) | changes
    if attributes["required"]:
        attributes["show_default"] = False
    variable = declared.variable.removeprefix(VARIABLE_PREFIX)
    return option(*short, long, kind=declared.kind, variable=variable, **attributes)


def settings(function: F) -> F:
    """Make an option of every setting of ``serve``, in the order of their declaration."""
    for name in reversed(DECLARED):  # the decorator that is applied last comes first
        function = setting(name)(function)
    return function


def output(function: F) -> F:
    """Make ``-o``: text for people, or JSON for machines."""
    choice = click.Choice(["text", "json"])
    return click.option("-o", "--output", type=choice, default="text", show_default=True)(function)


def _default(declared: Setting) -> dict[str, Any]:
    if declared.kind is SWITCH:
        return {"default": declared.default}
    texts = declared.default_texts
    if not texts:
        return {}
    return {"default": texts if declared.repeatable else texts[0]}
