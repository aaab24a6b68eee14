"""``authz demo``: the whole of it on this machine."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import sys

import click

from authz.cli import options
from authz.settings.declared import SWITCH

PROGRAM_VARIABLES = ("AUTHZ_ENVOY", "AUTHZ_GRPCURL", "AUTHZ_GUNICORN")
"""Each names a program of the demo that is elsewhere; ``authz.demo.parts.find`` reads them."""


@click.command()
@options.option("--once", variable="DEMO_ONCE", kind=SWITCH, help="End after the requests.")
def demo(*, once: bool) -> None:
    """Start an identity provider, an upstream, authz and Envoy, and make the requests."""
    from authz.demo.run import run

    sys.exit(run(once=once, out=sys.stdout))
