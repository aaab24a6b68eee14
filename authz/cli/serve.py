"""``authz serve``: answer Envoy's calls."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import os
import sys

import click

from authz.cli import options
from authz.settings import Settings
from authz.settings.environment import unread_proxies


@click.command()
@options.settings
@click.pass_context
def serve(ctx: click.Context, /, **_settings: object) -> None:
    """Answer Envoy's ext_authz calls.

    SIGHUP and authz reload read the configuration anew; SIGTERM drains and stops, a second
    one at once.
    """
    from authz import descriptors, server
    from authz.workers import supervisor

    settings = Settings.of(**ctx.params)
    run = server.run if settings.operation.workers == 1 else supervisor.run
    short = descriptors.allow_enough(settings)
    warnings = (*ctx.obj, *unread_proxies(os.environ), *([short] if short else ()))
    sys.exit(run(settings, os.environ, warnings))
