"""``authz validate``: check the configuration."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from authz.cli import options
from authz.cli.output import INVALID, echo_problems
from authz.errors import ConfigurationError
from authz.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.model import Diagnostic, Gateway


@click.command()
@options.setting("config")
@options.setting("require_plugin")
@options.output
def validate(*, config: tuple[str, ...], require_plugin: bool, output: str) -> None:
    """Check the configuration and say everything that is wrong with it.

    Exits with 0 if it is valid, 1 if not.
    """
    from authz.loading import load_gateway

    gateway: Gateway | None = None
    problems: tuple[Diagnostic, ...] = ()
    try:
        settings = Settings.of(config=config, require_plugin=require_plugin)
        gateway = load_gateway(settings, os.environ)
    except ConfigurationError as error:
        problems = error.problems
    if output == "json":
        click.echo(_validation_json(gateway, problems))
    else:
        _echo_validation(gateway, problems)
    sys.exit(INVALID if problems else 0)


def _validation_json(gateway: Gateway | None, problems: Iterable[Diagnostic]) -> str:
    import json

    def listed(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
        return [
            {
                "file": one.position.file,
                "line": one.position.line,
                "column": one.position.column,
                "parameter": one.parameter,
                "message": one.message,
            }
            for one in diagnostics
        ]

    result = {
        "valid": gateway is not None,
        "errors": listed(problems),
        "notices": listed(gateway.notices if gateway else ()),
    }
    return json.dumps(result, indent=2)


def _echo_validation(gateway: Gateway | None, problems: tuple[Diagnostic, ...]) -> None:
    if gateway is None:
        echo_problems(problems)
        click.echo(f"invalid: {_count(problems, 'error')}", err=True)
        return
    for notice in gateway.notices:
        click.echo(f"notice: {notice}")
    counts = (
        _count(gateway.services, "service"),
        _count(gateway.routes, "route"),
        _count(gateway.plugins, "plugin"),
        _count(gateway.consumers, "consumer"),
        _count(gateway.notices, "notice"),
    )
    click.echo(f"valid: {', '.join(counts)}")


def _count(things: tuple[object, ...], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"
