"""The command line: one file a command, what several share in ``options`` and ``output``.

Imports that take time stand inside the commands that need them, so that ``--help``,
``health`` and ``version`` answer at once.  A new command is one file and one entry in
``COMMANDS``.
"""

from __future__ import annotations

import os

import click

from authz import __version__
from authz.cli import (
    asked,
    check,
    demo,
    envoy,
    explain,
    health,
    idp,
    manifests,
    reload,
    schema,
    serve,
    validate,
    version,
)
from authz.settings.environment import misspelt

COMMANDS = (
    check.check,
    demo.demo,
    envoy.envoy,
    explain.explain,
    health.health,
    idp.idp,
    manifests.manifests,
    reload.reload,
    schema.schema,
    serve.serve,
    validate.validate,
    version.version,
)


@click.group(
    commands=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, message="authz %(version)s")
@click.pass_context
def main(context: click.Context) -> None:
    """Kong's openid-connect for machine callers, on any Envoy."""
    context.obj = tuple(misspelt(os.environ, known_variables()))
    if context.invoked_subcommand != serve.serve.name:  # it logs them
        for warning in context.obj:
            click.echo(f"warning: {warning}", err=True)


def known_variables() -> set[str]:
    """Return the name of every environment variable that a command reads."""
    options = {option.envvar for command in COMMANDS for option in command.params}
    secrets = (asked.SECRET_VARIABLE, asked.BEARER_VARIABLE)
    files = (f"{secret}_FILE" for secret in secrets)
    return {*demo.PROGRAM_VARIABLES, *secrets, *files, *(o for o in options if isinstance(o, str))}
