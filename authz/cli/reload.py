"""``authz reload``: have a running server read its configuration anew."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from authz.cli import options
from authz.cli.output import INVALID, UNREACHABLE, echo_problems
from authz.settings import WAIT_SECONDS_MAX
from authz.settings.declared import seconds

if TYPE_CHECKING:
    from authz.settings import UnixAddress


@click.command()
@options.setting("control", required=True, help="Where the server listens for this: its --control.")
@click.option(
    "--may-open",
    "may_open",
    metavar="NAME",
    multiple=True,
    help="Route (or service) that may lose its authentication by this reload.  Repeatable.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    default="60",
    show_default=True,
    help="How long to wait for the outcome.",
    **options.of_kind(seconds(most=WAIT_SECONDS_MAX)),
)
def reload(*, control: UnixAddress, may_open: tuple[str, ...], timeout_seconds: float) -> None:
    """Have a running server read its configuration anew, and say what became of it.

    A reload that takes the authentication from a route is refused, unless the file
    says that it is meant (the tag authz-open on the route, or its plugin there with
    enabled: false), or --may-open names the route.

    Exits with 0 if the new configuration is in force, 1 if it was refused, 2 if the
    server cannot be asked.
    """
    from authz.control import ask_for_reload

    try:
        problems = ask_for_reload(control, may_open, seconds=timeout_seconds)
    except OSError as error:
        reason = error.strerror or str(error)
        click.echo(f"cannot ask the server at {control}: {reason}", err=True)
        sys.exit(UNREACHABLE)
    if problems:
        echo_problems(problems)
        sys.exit(INVALID)
    click.echo("reloaded")
