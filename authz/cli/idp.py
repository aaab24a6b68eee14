"""``authz idp``: an identity provider for development."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from authz.cli import options
from authz.settings.declared import Kind

if TYPE_CHECKING:
    from authz.settings import TcpAddress


@click.command()
@options.option(
    "--listen",
    variable="IDP_LISTEN",
    kind=options.TCP_ADDRESS,
    default="127.0.0.1:8080",
    help="Where it listens: loopback only.",
)
@options.option(
    "--issuer",
    variable="IDP_ISSUER",
    kind=Kind("URL"),
    help="What its tokens and endpoints carry.",
    show_default="its own address",
)
def idp(listen: TcpAddress, issuer: str | None) -> None:
    """Run an identity provider for development, with Keycloak's paths and claims."""
    from authz.demo.idp import serve as serve_idp

    sys.exit(serve_idp(listen.host, listen.port, out=sys.stdout, issuer=issuer))
