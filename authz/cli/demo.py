"""``authz demo``: the whole of it on this machine."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import sys

import click

from authz.cli import options
from authz.settings.declared import SWITCH

ENVOY_VARIABLE = "AUTHZ_ENVOY"
"""Names the Envoy to start; ``authz.demo.parts.program`` reads it."""


@click.command()
@options.option("--once", variable="DEMO_ONCE", kind=SWITCH, help="End after the requests.")
def demo(*, once: bool) -> None:
    """Start an identity provider, an upstream, authz and Envoy, and make the requests."""
    from authz.demo.run import run

    sys.exit(run(once=once, out=sys.stdout))
