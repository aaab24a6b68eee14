"""``authz health``: ask a running server whether it serves."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from authz.cli import options

if TYPE_CHECKING:
    from authz.settings import Address


@click.command()
@options.setting(
    "--address",
    "addresses",
    variable="LISTEN",
    type=options.ADDRESS,
    multiple=True,
    default=options.DEFAULTS.listen,
    show_default=", ".join(map(str, options.DEFAULTS.listen)),
    help="Where authz listens.  Repeatable.",
)
@options.setting(
    "--tls-ca",
    variable="HEALTH_TLS_CA",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM certificates that may have signed the server's: asks with TLS.",
)
@options.setting(
    "--tls-cert",
    variable="HEALTH_TLS_CERT",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM chain to show, where the server wants one.",
)
@options.setting(
    "--tls-key",
    variable="HEALTH_TLS_KEY",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM key of --tls-cert.",
)
@options.setting(
    "--tls-server-name",
    variable="HEALTH_TLS_SERVER_NAME",
    help="Name in the server's certificate.  [default: the address]",
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
