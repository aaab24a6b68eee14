"""``authz idp``: an identity provider for development."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from authz.cli import options

if TYPE_CHECKING:
    from authz.settings import TcpAddress


@click.command()
@options.setting(
    "--listen",
    variable="IDP_LISTEN",
    type=options.TCP_ADDRESS,
    default="127.0.0.1:8080",
    help="Where it listens: loopback only.",
)
@options.setting(
    "--issuer",
    variable="IDP_ISSUER",
    help="What its tokens and endpoints carry.  [default: its own address]",
)
def idp(listen: TcpAddress, issuer: str | None) -> None:
    """Run an identity provider for development, with Keycloak's paths and claims."""
    from authz.demo.idp import serve as serve_idp

    sys.exit(serve_idp(listen.host, listen.port, out=sys.stdout, issuer=issuer))
