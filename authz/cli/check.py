"""``authz check``: decide one request here, and say how."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from authz.cli import options
from authz.cli.output import DENIED, INVALID, UNAVAILABLE, echo_problems
from authz.errors import ConfigurationError
from authz.settings import Settings, secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from authz.authorizer import Outcome
    from authz.decision import Decision
    from authz.model import Request, SourcePosition
    from authz.settings import ConnectTo

SECRET_VARIABLE, BEARER_VARIABLE = "AUTHZ_CHECK_SECRET", "AUTHZ_CHECK_BEARER"


@click.command()
@options.setting("config")
@options.setting("connect_to")
@options.setting("idp_ca_file")
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
    try:
        outcome = asyncio.run(_decide(settings, request))
    except ConfigurationError as error:
        echo_problems(error.problems)
        sys.exit(INVALID)
    click.echo("\n".join(_explained(outcome)))
    sys.exit(_exit_code(outcome))


def _authorization(user: str | None, bearer: str | None) -> str | None:
    """Return the Authorization header's value for what was given, or ``None``."""
    import base64

    if user is not None and bearer is not None:
        raise click.UsageError("-u and --bearer are two credentials: give one")
    try:
        if user is None:
            token = bearer or _revealed(BEARER_VARIABLE)
            return f"Bearer {token}" if token else None
        pair = user if ":" in user else f"{user}:{_client_secret(user)}"
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return f"Basic {base64.b64encode(pair.encode()).decode()}"


def _client_secret(client_id: str) -> str:
    value = _revealed(SECRET_VARIABLE)
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


async def _decide(settings: Settings, request: Request) -> Outcome:
    from authz import logs
    from authz.loading import Loader
    from authz.runtime import Shared
    from authz.telemetry import Telemetry

    # The verdict says what went wrong; what the parts log on the way is not asked for.
    log = logs.setup("error", "text", sys.stderr)
    try:
        async with Shared(settings, Telemetry()) as shared:
            loaded = await Loader(shared, os.environ).load()
            return await loaded.configuration.authorizer.judge(request)
    finally:
        log.close()


def _exit_code(outcome: Outcome) -> int:
    from authz.errors import Unavailable

    if outcome.refusal is None:
        return 0
    return UNAVAILABLE if isinstance(outcome.refusal, Unavailable) else DENIED


def _explained(outcome: Outcome) -> Iterator[str]:
    """Say how a decision came about, without any secret or token."""
    import json

    yield _verdict(outcome)
    trace = outcome.trace
    match, consumer = trace.match, trace.consumer
    if match is not None:
        if match.route is not None:
            yield _placed("route", match.route.name, match.route.position)
        if match.service is not None:
            yield _placed("service", match.service.name, match.service.position)
        if match.plugin is not None:
            yield _placed("plugin", match.plugin.instance_name, match.plugin.position)
    if consumer is not None:
        yield _placed("consumer", consumer.username or consumer.custom_id, consumer.position)
    yield from _changes(outcome.decision)
    if trace.identity is not None:
        yield "claims:"
        yield json.dumps(trace.identity.claims, indent=2)


def _verdict(outcome: Outcome) -> str:
    from authz.decision import Allow

    decision, refusal = outcome.decision, outcome.refusal
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
