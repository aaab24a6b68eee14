"""The command line: one file a command, what several share in ``options`` and ``output``.

Imports that take time stand inside the commands that need them, so that ``--help``,
``health`` and ``version`` answer at once.  A new command is one file and one entry in
``COMMANDS``.
"""

from __future__ import annotations

import click

from authz.cli import check, demo, envoy, health, idp, reload, schema, serve, validate, version

COMMANDS = (
    check.check,
    demo.demo,
    envoy.envoy,
    health.health,
    idp.idp,
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
def main() -> None:
    """Kong's openid-connect for machine callers, on any Envoy."""
