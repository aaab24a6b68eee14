"""``authz health``: ask a running server whether it serves."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from authz.cli import options
from authz.settings import DECLARED
from authz.settings.declared import FILE, Kind

if TYPE_CHECKING:
    from authz.settings import Address


@click.command()
@options.option(
    "--address",
    "addresses",
    variable="LISTEN",
    kind=options.ADDRESS,
    multiple=True,
    default=DECLARED["listen"].default_texts,
    help="Where authz listens.  Repeatable.",
)
@options.option(
    "--tls-ca",
    variable="HEALTH_TLS_CA",
    kind=FILE,
    help="PEM certificates that may have signed the server's: asks with TLS.",
)
@options.option(
    "--tls-cert",
    variable="HEALTH_TLS_CERT",
    kind=FILE,
    help="PEM chain to show, where the server wants one.",
)
@options.option(
    "--tls-key",
    variable="HEALTH_TLS_KEY",
    kind=FILE,
    help="PEM key of --tls-cert.",
)
@options.option(
    "--tls-server-name",
    variable="HEALTH_TLS_SERVER_NAME",
    kind=Kind("NAME"),
    help="Name in the server's certificate.",
    show_default="the address",
)
def health(
    *,
    addresses: tuple[Address, ...],
    tls_ca: str | None,
    tls_cert: str | None,
    tls_key: str | None,
    tls_server_name: str | None,
) -> None:
    """Ask a running server whether it serves: for probes without a gRPC client.

    Exits with 0 if every address says SERVING, 1 if not.
    """
    from authz.transport.probe import ProbeTls, probe

    if tls_ca is None and (tls_cert or tls_key or tls_server_name):
        raise click.UsageError("to ask with TLS give --tls-ca")
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    tls = tls_ca and ProbeTls(ca=tls_ca, cert=tls_cert, key=tls_key, server_name=tls_server_name)
    answers = {address: probe(address, tls=tls or None) for address in addresses}
    for address, answer in answers.items():
        click.echo(f"{address} {answer}")
    sys.exit(0 if set(answers.values()) == {"SERVING"} else 1)
