"""The command line.  The home of click.

Imports that take time stand in the commands that need them, so that ``--help``,
``health`` and ``version`` answer at once.
"""
# ruff: noqa: PLC0415 - as said above

from __future__ import annotations

import math
import os
import sys
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from authz.errors import ConfigurationError
from authz.settings import (
    ConnectTo,
    LogDecisions,
    LogFormat,
    LogLevel,
    Settings,
    TcpAddress,
    TransportName,
    UnixAddress,
    parse_address,
    parse_connect_to,
    parse_control,
    parse_tcp_address,
    secret,
    split_list,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from authz.build import Explanation
    from authz.decision import Decision
    from authz.model import Diagnostic, Gateway, Request, SourcePosition
    from authz.settings import Address

    F = TypeVar("F", bound=Callable[..., Any])

INVALID, UNREACHABLE, DENIED, UNAVAILABLE = 1, 2, 3, 4
"""Exit codes; 0 is success and 2 a usage error, as click has it."""

DEFAULTS = Settings()


class Parsed(click.ParamType[object]):
    """A value that one of the functions in ``settings`` reads.

    A repeatable flag's variable holds several, with commas or spaces between.
    """

    def __init__(self, name: str, parse: Callable[[str], object]) -> None:
        self.name = name
        self._parse = parse

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> object:
        """Read a value; click adds the names of the flag and its variable to an error."""
        if not isinstance(value, str):
            return value  # a default
        try:
            return self._parse(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)

    def split_envvar_value(self, rv: str) -> list[str]:
        """Split the variable of a repeatable flag."""
        return split_list(rv)


class Seconds(click.FloatRange):
    """A number of seconds within bounds; NaN is neither below nor above any."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # noqa: ANN401 - click's signature
        """Read a number that is one."""
        seconds = super().convert(value, param, ctx)
        if not math.isfinite(seconds):
            self.fail(f"{value} is no number of seconds", param, ctx)
        return seconds


def _parse_admin(text: str) -> TcpAddress | None:
    return None if text == "off" else parse_tcp_address(text)


ADDRESS = Parsed("address", parse_address)
TCP_ADDRESS = Parsed("host:port", parse_tcp_address)
ADMIN_ADDRESS = Parsed("host:port", _parse_admin)
CONTROL = Parsed("unix:/path", parse_control)
CONNECT_TO = Parsed("host:port:host2:port2", parse_connect_to)
PATH = Parsed("path", str)
SECONDS = Seconds(min=0, max=3600)
AGE_SECONDS = Seconds(min=0, max=1_000_000)
WORKERS_MAX = 256
OUTPUT = click.Choice(["text", "json"])


def _setting(
    *names: str,
    variable: str,
    **attributes: Any,  # noqa: ANN401 - they are click's
) -> Callable[[F], F]:
    """Make an option with its ``AUTHZ_*`` variable; the flag wins."""
    attributes = {"show_default": True, **attributes}
    return click.option(*names, envvar=f"AUTHZ_{variable}", show_envvar=True, **attributes)


def _config() -> Callable[[F], F]:
    return _setting(
        "-c",
        "--config",
        variable="CONFIG",
        type=PATH,
        multiple=True,
        required=True,
        help="decK file or directory, several are merged; - is standard input.",
    )


def _control(help_text: str, **attributes: Any) -> Callable[[F], F]:  # noqa: ANN401 - click's
    return _setting("--control", variable="CONTROL", type=CONTROL, help=help_text, **attributes)


def _require_plugin() -> Callable[[F], F]:
    return _setting(
        "--require-plugin",
        variable="REQUIRE_PLUGIN",
        is_flag=True,
        help="Refuse routes without openid-connect that do not say that they are open.",
    )


def _idp_connection() -> Callable[[F], F]:
    connect_to = _setting(
        "--connect-to",
        variable="CONNECT_TO",
        type=CONNECT_TO,
        multiple=True,
        help="Connect to HOST2:PORT2 for HOST:PORT, as curl does.  Repeatable.",
    )
    ca_file = _setting(
        "--idp-ca-file",
        variable="IDP_CA_FILE",
        type=click.Path(exists=True, dir_okay=False),
        help="PEM certificates to trust for the identity provider.  [default: the system's]",
    )
    return lambda function: connect_to(ca_file(function))


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def main() -> None:
    """Kong's openid-connect for machine callers, on any Envoy."""


# --- serve ----------------------------------------------------------------------


@main.command()
@_config()
@_setting(
    "--listen",
    variable="LISTEN",
    type=ADDRESS,
    multiple=True,
    default=DEFAULTS.listen,
    show_default=str(DEFAULTS.listen[0]),
    help="Where Envoy calls: HOST:PORT or unix:/PATH.  Repeatable.",
)
@_setting(
    "--admin",
    variable="ADMIN",
    type=ADMIN_ADDRESS,
    default=str(DEFAULTS.admin),
    help="Where /livez, /readyz and /metrics are; off for nowhere.",
)
@_control("Where authz reload reaches this server: unix:/PATH, for its owner only.")
@_require_plugin()
@_idp_connection()
@_setting(
    "--transport",
    variable="TRANSPORT",
    type=click.Choice(get_args(TransportName)),
    default=DEFAULTS.transport,
    help="What carries the calls; auto takes native where it is installed.",
)
@_setting(
    "--tls-cert",
    variable="TLS_CERT",
    type=PATH,
    help="PEM chain for TLS on HOST:PORT; read anew when it changes, and on SIGHUP.",
)
@_setting("--tls-key", variable="TLS_KEY", type=PATH, help="PEM key of --tls-cert.")
@_setting(
    "--tls-client-ca",
    variable="TLS_CLIENT_CA",
    type=PATH,
    help="PEM certificates; only clients with a certificate signed by one may connect.",
)
@_setting(
    "--allow-plaintext",
    variable="ALLOW_PLAINTEXT",
    is_flag=True,
    help="Listen beyond loopback without TLS.",
)
@_setting(
    "--max-connection-age",
    "max_connection_age_seconds",
    variable="MAX_CONNECTION_AGE",
    type=AGE_SECONDS,
    default=DEFAULTS.max_connection_age_seconds,
    help="Seconds after which callers are asked to connect anew; 0: never.",
)
@_setting(
    "--reflection/--no-reflection",
    variable="REFLECTION",
    default=DEFAULTS.reflection,
    help="Describe the services to grpcurl.",
)
@_setting(
    "--workers",
    variable="WORKERS",
    type=click.IntRange(min=1, max=WORKERS_MAX),
    default=DEFAULTS.workers,
    help="Processes that serve, on the same ports; above 1 with a supervisor.",
)
@_setting(
    "--log-level",
    variable="LOG_LEVEL",
    type=click.Choice(get_args(LogLevel)),
    default=DEFAULTS.log_level,
    help="Least level that is logged.",
)
@_setting(
    "--log-format",
    variable="LOG_FORMAT",
    type=click.Choice(get_args(LogFormat)),
    default=lambda: "text" if sys.stderr.isatty() else "json",
    show_default="text on a terminal, else json",
    help="Form of a log line.",
)
@_setting(
    "--log-decisions",
    variable="LOG_DECISIONS",
    type=click.Choice(get_args(LogDecisions)),
    default=DEFAULTS.log_decisions,
    help="Which decisions are logged.",
)
@_setting(
    "--drain-delay",
    "drain_delay_seconds",
    variable="DRAIN_DELAY",
    type=SECONDS,
    default=DEFAULTS.drain_delay_seconds,
    help="Seconds to go on after a signal to stop, with health NOT_SERVING.",
)
@_setting(
    "--grace",
    "grace_seconds",
    variable="GRACE",
    type=SECONDS,
    default=DEFAULTS.grace_seconds,
    help="Seconds that calls in flight get to end.",
)
@_setting(
    "--cache-entries",
    variable="CACHE_ENTRIES",
    type=click.IntRange(min=1),
    default=DEFAULTS.cache_entries,
    help="Most entries of each cache.",
)
@_setting(
    "--cache-bytes",
    variable="CACHE_BYTES",
    type=click.IntRange(min=1),
    default=DEFAULTS.cache_bytes,
    help="Most bytes of each cache.",
)
@_setting(
    "--idp-concurrency",
    variable="IDP_CONCURRENCY",
    type=click.IntRange(min=1),
    default=DEFAULTS.idp_concurrency,
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


# --- reload ---------------------------------------------------------------------


@main.command()
@_control("Where the server listens for this: its --control.", required=True)
@click.option(
    "--may-open",
    "may_open",
    metavar="NAME",
    multiple=True,
    help="Route (or service) that may lose its authentication by this reload.  Repeatable.",
)
@click.option(
    "--timeout",
    "timeout_seconds",
    type=SECONDS,
    default=60,
    show_default=True,
    help="Seconds to wait for the outcome.",
)
def reload(*, control: UnixAddress, may_open: tuple[str, ...], timeout_seconds: float) -> None:
    """Have a running server read its configuration anew, and say what became of it.

    A reload that takes the authentication from a route is refused, unless the file
    says that it is meant (the tag authz-open on the route, or its plugin there with
    enabled: false), or --may-open names the route.

    Exits with 0 if the new configuration is in force, 1 if it was refused, 2 if the
    server cannot be asked.
    """
    from authz.control import ask_for_reload

    try:
        problems = ask_for_reload(control, may_open, seconds=timeout_seconds)
    except OSError as error:
        reason = error.strerror or str(error)
        click.echo(f"cannot ask the server at {control}: {reason}", err=True)
        sys.exit(UNREACHABLE)
    if problems:
        _echo_problems(problems)
        sys.exit(INVALID)
    click.echo("reloaded")


# --- validate -------------------------------------------------------------------


@main.command()
@_config()
@_require_plugin()
@click.option("-o", "--output", type=OUTPUT, default="text", show_default=True)
def validate(*, config: tuple[str, ...], require_plugin: bool, output: str) -> None:
    """Check the configuration and say everything that is wrong with it.

    Exits with 0 if it is valid, 1 if not.
    """
    from authz.kong import state
    from authz.kong.openings import require_plugins

    gateway: Gateway | None = None
    problems: tuple[Diagnostic, ...] = ()
    try:
        found = state.load(config, os.environ)
        if require_plugin:
            require_plugins(found)
        gateway = found
    except ConfigurationError as error:
        problems = error.problems
    if output == "json":
        click.echo(_validation_json(gateway, problems))
    else:
        _echo_validation(gateway, problems)
    sys.exit(INVALID if problems else 0)


def _validation_json(gateway: Gateway | None, problems: Iterable[Diagnostic]) -> str:
    import json

    def listed(diagnostics: Iterable[Diagnostic]) -> list[dict[str, object]]:
        return [
            {
                "file": one.position.file,
                "line": one.position.line,
                "column": one.position.column,
                "parameter": one.parameter,
                "message": one.message,
            }
            for one in diagnostics
        ]

    result = {
        "valid": gateway is not None,
        "errors": listed(problems),
        "notices": listed(gateway.notices if gateway else ()),
    }
    return json.dumps(result, indent=2)


def _echo_validation(gateway: Gateway | None, problems: tuple[Diagnostic, ...]) -> None:
    if gateway is None:
        _echo_problems(problems)
        click.echo(f"invalid: {_count(problems, 'error')}", err=True)
        return
    for notice in gateway.notices:
        click.echo(f"notice: {notice}")
    counts = (
        _count(gateway.services, "service"),
        _count(gateway.routes, "route"),
        _count(gateway.plugins, "plugin"),
        _count(gateway.consumers, "consumer"),
        _count(gateway.notices, "notice"),
    )
    click.echo(f"valid: {', '.join(counts)}")


def _count(things: tuple[object, ...], noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


def _echo_problems(problems: Iterable[object]) -> None:
    for problem in problems:
        click.echo(str(problem), err=True)


def _load(config: tuple[str, ...]) -> Gateway:
    """Load the configuration, or say what is wrong with it and exit."""
    from authz.kong import state

    try:
        return state.load(config, os.environ)
    except ConfigurationError as error:
        _echo_problems(error.problems)
        sys.exit(INVALID)


# --- check ----------------------------------------------------------------------


@main.command()
@_config()
@_idp_connection()
@click.option("-u", "--user", metavar="ID[:SECRET]", help="Client credentials, sent as Basic.")
@click.option("--bearer", metavar="TOKEN", help="Token, sent as Bearer.")
@click.option("-X", "--request", "method", default="GET", show_default=True, help="Method.")
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'", help="Header.")
@click.argument("url")
def check(
    *,
    config: tuple[str, ...],
    connect_to: tuple[ConnectTo, ...],
    idp_ca_file: str | None,
    user: str | None,
    bearer: str | None,
    method: str,
    headers: tuple[str, ...],
    url: str,
) -> None:
    """Decide one request here, against the real identity provider, and say how.

    A secret on the command line shows in the list of processes.  Leave it away
    and it is asked for, or read from AUTHZ_CHECK_SECRET; a token from
    AUTHZ_CHECK_BEARER.  Both also from the file that the variable with _FILE
    names.  Exits with 0 for allow, 3 for deny, 4 if it cannot be known.
    """
    import asyncio

    request = _request(url, method, headers, _authorization(user, bearer))
    settings = Settings(config=config, connect_to=connect_to, idp_ca_file=idp_ca_file)
    explanation = asyncio.run(_explain(_load(config), settings, request))
    click.echo("\n".join(_explained(explanation)))
    sys.exit(_exit_code(explanation))


def _authorization(user: str | None, bearer: str | None) -> str | None:
    """Return the Authorization header's value for what was given, or ``None``."""
    import base64

    if user is not None and bearer is not None:
        raise click.UsageError("-u and --bearer are two credentials: give one")
    try:
        if user is None:
            token = bearer or _revealed("AUTHZ_CHECK_BEARER")
            return f"Bearer {token}" if token else None
        pair = user if ":" in user else f"{user}:{_client_secret(user)}"
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _client_secret(client_id: str) -> str:
    value = _revealed("AUTHZ_CHECK_SECRET")
    if value is not None:
        return value
    if sys.stdin.isatty():
        return str(click.prompt(f"Secret of {client_id}", hide_input=True, err=True))
    raise click.UsageError("-u has no secret: write ID:SECRET or set AUTHZ_CHECK_SECRET(_FILE)")


def _revealed(variable: str) -> str | None:
    found = secret(os.environ, variable)
    return None if found is None else found.reveal()


def _request(url: str, method: str, lines: Iterable[str], authorization: str | None) -> Request:
    """Make the request that Envoy would ask about."""
    from urllib.parse import urlsplit

    from authz.model import Request

    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.netloc or "@" in parts.netloc:
        raise click.UsageError(f"{url!r}: write http://HOST[:PORT]/PATH; credentials go to -u")
    headers: dict[str, str] = {} if authorization is None else {"authorization": authorization}
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise click.UsageError(f"-H {line!r}: write 'NAME: VALUE'")
        name, value = name.strip().lower(), value.strip()
        # Envoy joins what was sent twice.
        headers[name] = f"{headers[name]},{value}" if name in headers else value
    return Request(
        method=method,
        scheme=parts.scheme,
        host=headers.pop("host", parts.netloc),
        path=(parts.path or "/") + (f"?{parts.query}" if parts.query else ""),
        headers=headers,
        # What a client names in its handshake (RFC 6066 section 3); to an address, nothing.
        server_name=_server_name(parts.hostname) if parts.scheme == "https" else "",
    )


def _server_name(host: str | None) -> str:
    from ipaddress import ip_address

    try:
        ip_address(host or "")
    except ValueError:
        return host or ""
    return ""


async def _explain(gateway: Gateway, settings: Settings, request: Request) -> Explanation:
    from authz import logs
    from authz.build import build
    from authz.telemetry import Telemetry

    # The verdict says what went wrong; what the parts log on the way is not asked for.
    log = logs.setup("error", "text", sys.stderr)
    configuration = build(gateway, settings, Telemetry())
    try:
        return await configuration.explain(request)
    finally:
        await configuration.aclose()
        log.close()


def _exit_code(explanation: Explanation) -> int:
    from authz.errors import Unavailable

    if explanation.refusal is None:
        return 0
    return UNAVAILABLE if isinstance(explanation.refusal, Unavailable) else DENIED


def _explained(explanation: Explanation) -> Iterator[str]:
    """Say how a decision came about, without any secret or token."""
    import json

    yield _verdict(explanation)
    match, consumer = explanation.match, explanation.consumer
    if match is not None:
        if match.route is not None:
            yield _placed("route", match.route.name, match.route.position)
        if match.service is not None:
            yield _placed("service", match.service.name, match.service.position)
        if match.plugin is not None:
            yield _placed("plugin", match.plugin.instance_name, match.plugin.position)
    if consumer is not None:
        yield _placed("consumer", consumer.username or consumer.custom_id, consumer.position)
    yield from _changes(explanation.decision)
    if explanation.claims is not None:
        yield "claims:"
        yield json.dumps(explanation.claims, indent=2)


def _verdict(explanation: Explanation) -> str:
    from authz.decision import Allow

    decision, refusal = explanation.decision, explanation.refusal
    if isinstance(decision, Allow):
        return "allow"
    return f"deny {decision.status}: {refusal}" if refusal else f"deny {decision.status}"


def _placed(noun: str, name: str | None, position: SourcePosition) -> str:
    return f"{noun}: {name or '(no name)'} ({position})"


def _changes(decision: Decision) -> Iterator[str]:
    """Say what becomes of the request on its way to the upstream, or what the caller gets."""
    from authz.decision import Allow

    if not isinstance(decision, Allow):
        yield f"body: {decision.body}"
        yield from (f"answer header: {name}: {value}" for name, value in decision.headers)
        return
    for name, value in sorted(decision.headers.items()):
        yield f"sets header: {name}: {_shown(name, value)}"
    # Each is removed in every mixture of - and _; once is enough to read.
    removed = sorted({name.replace("_", "-") for name in decision.headers_to_remove})
    if removed:
        yield f"removes headers: {', '.join(removed)}"
    if decision.query_parameters_to_remove:
        yield f"removes from the query: {', '.join(sorted(decision.query_parameters_to_remove))}"


def _shown(name: str, value: str) -> str:
    from authz import header_names

    # The identity that a person debugs by.  Every other value may be a token.
    if name.lower() in header_names.IDENTITY:
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme} ***" if space else "***"


# --- envoy ----------------------------------------------------------------------


@main.command()
@_config()
@_setting(
    "--authz",
    variable="ENVOY_AUTHZ",
    type=ADDRESS,
    default=str(DEFAULTS.listen[0]),
    help="Where authz listens: HOST:PORT or unix:/PATH.",
)
@_setting(
    "--listen",
    variable="ENVOY_LISTEN",
    type=TCP_ADDRESS,
    default="127.0.0.1:8000",
    help="Where Envoy listens.",
)
@_setting(
    "--admin",
    variable="ENVOY_ADMIN",
    type=TCP_ADDRESS,
    default="127.0.0.1:9901",
    help="Where Envoy's own admin pages are.",
)
@_setting(
    "--connect-to",
    variable="ENVOY_CONNECT_TO",
    type=CONNECT_TO,
    multiple=True,
    help="Connect to HOST2:PORT2 for a service at HOST:PORT.  Repeatable.",
)
@_setting(
    "--upstream",
    variable="ENVOY_UPSTREAM",
    type=TCP_ADDRESS,
    help="Where requests go that the file has no service for.",
)
def envoy(
    *,
    config: tuple[str, ...],
    authz: Address,
    listen: TcpAddress,
    admin: TcpAddress,
    connect_to: tuple[ConnectTo, ...],
    upstream: TcpAddress | None,
) -> None:
    """Print the Envoy bootstrap that belongs to the configuration."""
    gateway = _load(config)  # before Envoy's types are imported, which takes a second
    from authz.envoy.bootstrap import BootstrapOptions, render

    options = BootstrapOptions(
        authz=authz.path if isinstance(authz, UnixAddress) else _pair(authz),
        listen=_pair(listen),
        admin=_pair(admin),
        upstream=None if upstream is None else _pair(upstream),
        connect_to=dict(_redirected(gateway, connect_to)),
    )
    try:
        click.echo(render(gateway, options), nl=False)
    except ConfigurationError as error:
        _echo_problems(error.problems)
        sys.exit(INVALID)


def _redirected(
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


# --- demo, idp ------------------------------------------------------------------


@main.command()
@_setting("--once", variable="DEMO_ONCE", is_flag=True, help="End after the requests.")
def demo(*, once: bool) -> None:
    """Start an identity provider, an upstream, authz and Envoy, and make the requests."""
    from authz.demo.run import run

    sys.exit(run(once=once, out=sys.stdout))


@main.command()
@_setting(
    "--listen",
    variable="IDP_LISTEN",
    type=TCP_ADDRESS,
    default="127.0.0.1:8080",
    help="Where it listens: loopback only.",
)
@_setting(
    "--issuer",
    variable="IDP_ISSUER",
    help="What its tokens and endpoints carry.  [default: its own address]",
)
def idp(listen: TcpAddress, issuer: str | None) -> None:
    """Run an identity provider for development, with Keycloak's paths and claims."""
    from authz.demo.idp import serve as serve_idp

    sys.exit(serve_idp(listen.host, listen.port, out=sys.stdout, issuer=issuer))


# --- health, version ------------------------------------------------------------


@main.command()
@_setting(
    "--address",
    "addresses",
    variable="LISTEN",
    type=ADDRESS,
    multiple=True,
    default=DEFAULTS.listen,
    show_default=", ".join(map(str, DEFAULTS.listen)),
    help="Where authz listens.  Repeatable.",
)
@_setting(
    "--tls-ca",
    variable="HEALTH_TLS_CA",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM certificates that may have signed the server's: asks with TLS.",
)
@_setting(
    "--tls-cert",
    variable="HEALTH_TLS_CERT",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM chain to show, where the server wants one.",
)
@_setting(
    "--tls-key",
    variable="HEALTH_TLS_KEY",
    type=click.Path(exists=True, dir_okay=False),
    help="PEM key of --tls-cert.",
)
@_setting(
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
    from authz.transport.grpcio import ProbeTls, probe

    if tls_ca is None and (tls_cert or tls_key or tls_server_name):
        raise click.UsageError("to ask with TLS give --tls-ca")
    if (tls_cert is None) != (tls_key is None):
        raise click.UsageError("--tls-cert and --tls-key belong together")
    tls = tls_ca and ProbeTls(ca=tls_ca, cert=tls_cert, key=tls_key, server_name=tls_server_name)
    answers = {address: probe(address, tls=tls or None) for address in addresses}
    for address, answer in answers.items():
        click.echo(f"{address} {answer}")
    sys.exit(0 if set(answers.values()) == {"SERVING"} else 1)


@main.command()
@click.option("-o", "--output", type=OUTPUT, default="text", show_default=True)
def version(output: str) -> None:
    """Print the version, and with -o json those of the parts."""
    from authz import __version__

    click.echo(f"authz {__version__}" if output == "text" else _versions_json(__version__))


def _versions_json(authz_version: str) -> str:
    import json
    import platform
    from importlib.metadata import version as version_of

    parts = ("cryptography", "grpcio", "httpx", "protobuf", "PyJWT")
    versions = {"authz": authz_version, "python": platform.python_version()}
    return json.dumps(versions | {part.lower(): version_of(part) for part in parts}, indent=2)
