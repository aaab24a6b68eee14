"""``authz serve``: answer Envoy's calls."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import os
import sys
from typing import get_args

import click

from authz.cli import options
from authz.settings import LogDecisions, LogFormat, LogLevel, Settings, TransportName


@click.command()
@options.config()
@options.setting(
    "--listen",
    variable="LISTEN",
    type=options.ADDRESS,
    multiple=True,
    default=options.DEFAULTS.listen,
    show_default=str(options.DEFAULTS.listen[0]),
    help="Where Envoy calls: HOST:PORT or unix:/PATH.  Repeatable.",
)
@options.setting(
    "--admin",
    variable="ADMIN",
    type=options.ADMIN_ADDRESS,
    default=str(options.DEFAULTS.admin),
    help="Where /livez, /readyz and /metrics are; off for nowhere.",
)
@options.control("Where authz reload reaches this server: unix:/PATH, for its owner only.")
@options.require_plugin()
@options.idp_connection()
@options.setting(
    "--transport",
    variable="TRANSPORT",
    type=click.Choice(get_args(TransportName)),
    default=options.DEFAULTS.transport,
    help="What carries the calls; auto takes native where it is installed.",
)
@options.setting(
    "--tls-cert",
    variable="TLS_CERT",
    type=options.PATH,
    help="PEM chain for TLS on HOST:PORT; read anew when it changes, and on SIGHUP.",
)
@options.setting("--tls-key", variable="TLS_KEY", type=options.PATH, help="PEM key of --tls-cert.")
@options.setting(
    "--tls-client-ca",
    variable="TLS_CLIENT_CA",
    type=options.PATH,
    help="PEM certificates; only clients with a certificate signed by one may connect.",
)
@options.setting(
    "--allow-plaintext",
    variable="ALLOW_PLAINTEXT",
    is_flag=True,
    help="Listen beyond loopback without TLS.",
)
@options.setting(
    "--max-connection-age",
    "max_connection_age_seconds",
    variable="MAX_CONNECTION_AGE",
    type=options.AGE_SECONDS,
    default=options.DEFAULTS.max_connection_age_seconds,
    help="Seconds after which callers are asked to connect anew; 0: never.",
)
@options.setting(
    "--reflection/--no-reflection",
    variable="REFLECTION",
    default=options.DEFAULTS.reflection,
    help="Describe the services to grpcurl.",
)
@options.setting(
    "--workers",
    variable="WORKERS",
    type=click.IntRange(min=1, max=options.WORKERS_MAX),
    default=options.DEFAULTS.workers,
    help="Processes that serve, on the same ports; above 1 with a supervisor.",
)
@options.setting(
    "--log-level",
    variable="LOG_LEVEL",
    type=click.Choice(get_args(LogLevel)),
    default=options.DEFAULTS.log_level,
    help="Least level that is logged.",
)
@options.setting(
    "--log-format",
    variable="LOG_FORMAT",
    type=click.Choice(get_args(LogFormat)),
    default=lambda: "text" if sys.stderr.isatty() else "json",
    show_default="text on a terminal, else json",
    help="Form of a log line.",
)
@options.setting(
    "--log-decisions",
    variable="LOG_DECISIONS",
    type=click.Choice(get_args(LogDecisions)),
    default=options.DEFAULTS.log_decisions,
    help="Which decisions are logged.",
)
@options.setting(
    "--drain-delay",
    "drain_delay_seconds",
    variable="DRAIN_DELAY",
    type=options.SECONDS,
    default=options.DEFAULTS.drain_delay_seconds,
    help="Seconds to go on after a signal to stop, with health NOT_SERVING.",
)
@options.setting(
    "--grace",
    "grace_seconds",
    variable="GRACE",
    type=options.SECONDS,
    default=options.DEFAULTS.grace_seconds,
    help="Seconds that calls in flight get to end.",
)
@options.setting(
    "--cache-entries",
    variable="CACHE_ENTRIES",
    type=click.IntRange(min=1),
    default=options.DEFAULTS.cache_entries,
    help="Most entries of each cache.",
)
@options.setting(
    "--cache-bytes",
    variable="CACHE_BYTES",
    type=click.IntRange(min=1),
    default=options.DEFAULTS.cache_bytes,
    help="Most bytes of each cache.",
)
@options.setting(
    "--idp-concurrency",
    variable="IDP_CONCURRENCY",
    type=click.IntRange(min=1),
    default=options.DEFAULTS.idp_concurrency,
    help="Most requests under way to an identity provider.",
)
@click.pass_context
def serve(ctx: click.Context, /, **_settings: object) -> None:
    """Answer Envoy's ext_authz calls.

    SIGHUP and authz reload read the configuration anew; SIGTERM drains and stops, a second
    one at once.
    """
    from authz import server
    from authz.workers import supervisor

    settings = Settings(**ctx.params)
    run = server.run if settings.workers == 1 else supervisor.run
    sys.exit(run(settings, os.environ))
