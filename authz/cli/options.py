"""Options that several commands share, and the kinds of their values."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, TypeVar

import click

from authz.settings import (
    Settings,
    parse_address,
    parse_connect_to,
    parse_control,
    parse_tcp_address,
    split_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.settings import TcpAddress

    F = TypeVar("F", bound=Callable[..., Any])

DEFAULTS = Settings()


class Parsed(click.ParamType[object]):
    """A value that one of the functions in ``settings`` reads.

    A repeatable flag's variable holds several, with commas or spaces between.
    """

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Read a value; click adds the names of the flag and its variable to an error."""
        if not isinstance(value, str):
            return value  # a default
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split the variable of a repeatable flag."""
        return split_list(rv)


class Seconds(click.FloatRange):
    """A number of seconds within bounds; NaN is neither below nor above any."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's signature
        """Read a number that is one."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


def _parse_admin(text: str) -> TcpAddress | None:
    return None if text == "off" else parse_tcp_address(text)


ADDRESS = Parsed("address", parse_address)
TCP_ADDRESS = Parsed("host:port", parse_tcp_address)
ADMIN_ADDRESS = Parsed("host:port", _parse_admin)
CONTROL = Parsed("unix:/path", parse_control)
CONNECT_TO = Parsed("host:port:host2:port2", parse_connect_to)
PATH = Parsed("path", str)
SECONDS = Seconds(min=0, max=3600)
AGE_SECONDS = Seconds(min=0, max=1_000_000)
WORKERS_MAX = 256


def setting(
    *names: str,
    variable: str,
    **attributes: Any,  # noqa: ANN401 - they are click's
) -> Callable[[F], F]:
    """Make an option with its ``AUTHZ_*`` variable; the flag wins."""
    attributes = {"show_default": True, **attributes}
    return click.option(*names, envvar=f"AUTHZ_{variable}", show_envvar=True, **attributes)


def config() -> Callable[[F], F]:
    """Make ``-c``: the files of the configuration."""
    return setting(
        "-c",
        "--config",
        variable="CONFIG",
        type=PATH,
        multiple=True,
        required=True,
        help="decK file or directory, several are merged; - is standard input.",
    )


def control(help_text: str, **attributes: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's
    """Make ``--control``: the Unix socket of a running server."""
    return setting("--control", variable="CONTROL", type=CONTROL, help=help_text, **attributes)


def require_plugin() -> Callable[[F], F]:
    """Make ``--require-plugin``."""
    return setting(
        "--require-plugin",
        variable="REQUIRE_PLUGIN",
        is_flag=True,
        help="Refuse routes without openid-connect that do not say that they are open.",
    )


def idp_connection() -> Callable[[F], F]:
    """Make the options that say how an identity provider is reached."""
    connect_to = setting(
        "--connect-to",
        variable="CONNECT_TO",
        type=CONNECT_TO,
        multiple=True,
        help="Connect to HOST2:PORT2 for HOST:PORT, as curl does.  Repeatable.",
    )
    ca_file = setting(
        "--idp-ca-file",
        variable="IDP_CA_FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="PEM certificates to trust for the identity provider.  [default: the system's]",
    )
    return lambda function: connect_to(ca_file(function))


def output() -> Callable[[F], F]:
    """Make ``-o``: text for people, or JSON for machines."""
    choice = click.Choice(["text", "json"])
    return click.option("-o", "--output", type=choice, default="text", show_default=True)
