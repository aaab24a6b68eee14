"""``authz envoy``: print the Envoy bootstrap that belongs to the configuration."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from authz.cli import options
from authz.cli.output import INVALID, echo_problems, load
from authz.errors import ConfigurationError
from authz.settings import DECLARED, UnixAddress
from authz.settings.declared import PATH, whole

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import Gateway
    from authz.settings import Address, ConnectTo, TcpAddress

TRUSTED_HOPS_MAX = 16
CA_FILE = "/etc/ssl/certs/ca-certificates.crt"
"""Debian's."""


@click.command()
@options.setting("config")
@options.option(
    "--authz",
    variable="ENVOY_AUTHZ",
    kind=options.ADDRESS,
    default=DECLARED["listen"].default_texts[0],
    help="Where authz listens: HOST:PORT or unix:/PATH.",
)
@options.option(
    "--listen",
    variable="ENVOY_LISTEN",
    kind=options.TCP_ADDRESS,
    default="127.0.0.1:8000",
    help="Where Envoy listens.",
)
@options.option(
    "--admin",
    variable="ENVOY_ADMIN",
    kind=options.TCP_ADDRESS,
    default="127.0.0.1:9901",
    help="Where Envoy's own admin pages are.",
)
@options.option(
    "--connect-to",
    variable="ENVOY_CONNECT_TO",
    kind=options.CONNECT_TO,
    multiple=True,
    help="Connect to HOST2:PORT2 for a service at HOST:PORT.  Repeatable.",
)
@options.option(
    "--upstream",
    variable="ENVOY_UPSTREAM",
    kind=options.TCP_ADDRESS,
    help="Where requests go that the file has no service for.",
)
@options.option(
    "--trusted-hops",
    variable="ENVOY_TRUSTED_HOPS",
    kind=whole("proxies", least=0, most=TRUSTED_HOPS_MAX),
    default="0",
    help="How many proxies stand before Envoy: what they say of the client, and whether it speaks "
    "https (x-forwarded-proto), is taken.  Nobody else may reach Envoy then.",
)
@options.option(
    "--ca-file",
    variable="ENVOY_CA_FILE",
    kind=PATH,
    default=CA_FILE,
    help="PEM certificates that services over TLS are verified by, on Envoy's machine.",
)
def envoy(
    *,
    config: tuple[str, ...],
    authz: Address,
    listen: TcpAddress,
    admin: TcpAddress,
    connect_to: tuple[ConnectTo, ...],
    upstream: TcpAddress | None,
    trusted_hops: int,
    ca_file: str,
) -> None:
    """Print the Envoy bootstrap that belongs to the configuration.

    What of the file it does not say is named on standard error, with its place.
    """
    gateway = load(config)  # before Envoy's types are imported, which takes a second
    from authz.envoy.bootstrap import BootstrapOptions, notices, render

    options = BootstrapOptions(
        authz=authz.path if isinstance(authz, UnixAddress) else _pair(authz),
        listen=_pair(listen),
        admin=_pair(admin),
        upstream=None if upstream is None else _pair(upstream),
        connect_to=dict(redirected(gateway, connect_to)),
        trusted_hops=trusted_hops,
        ca_file=ca_file,
    )
    try:
        text = render(gateway, options)
    except ConfigurationError as error:
        echo_problems(error.problems)
        sys.exit(INVALID)
    echo_problems(f"notice: {notice}" for notice in sorted(notices(gateway, options)))
    click.echo(text, nl=False)


def redirected(
    gateway: Gateway, rules: tuple[ConnectTo, ...]
) -> Iterator[tuple[tuple[str, int], tuple[str, int]]]:
    """Say where each service is reached that a rule is for; the first rule decides."""
    for service in gateway.services:
        targets = (rule.target(service.host, service.port) for rule in rules)
        target = next((target for target in targets if target is not None), None)
        if target is not None:
            yield (service.host, service.port), target


def _pair(address: TcpAddress) -> tuple[str, int]:
    return address.host, address.port
