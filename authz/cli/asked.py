"""A request on the command line, decided here: what ``check`` and ``explain`` share."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import click

from authz.cli import options
from authz.cli.output import DENIED, INVALID, UNAVAILABLE, echo_problems
from authz.errors import ConfigurationError
from authz.settings import Settings, secret

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from authz.authorizer import Outcome
    from authz.explanation import Step
    from authz.model import Gateway, Request
    from authz.settings import ConnectTo

    F = TypeVar("F", bound=Callable[..., Any])

SECRET_VARIABLE, BEARER_VARIABLE = "AUTHZ_CHECK_SECRET", "AUTHZ_CHECK_BEARER"


class Asked(TypedDict):
    """What the options of ``request`` give to a command."""

    config: tuple[str, ...]
    connect_to: tuple[ConnectTo, ...]
    idp_ca_file: str | None
    user: str | None
    bearer: str | None
    method: str
    headers: tuple[str, ...]
    url: str


def request(function: F) -> F:
    """Make the options and the argument that describe a request, and how it is decided."""
    decorators = (
        options.setting("config"),
        options.setting("connect_to"),
        options.setting("idp_ca_file"),
        click.option("-u", "--user", metavar="ID[:SECRET]", help="A pair, sent as Basic."),
        click.option("--bearer", metavar="TOKEN", help="A token, sent as Bearer."),
        click.option(
            "-X",
            "--request",
            "method",
            metavar="METHOD",
            default="GET",
            show_default=True,
            help="The request's method.",
        ),
        click.option(
            "-H",
            "--header",
            "headers",
            metavar="'NAME: VALUE'",
            multiple=True,
            help="A header of the request.  Repeatable.",
        ),
        click.argument("url"),
    )
    for decorate in reversed(decorators):  # the one that is applied last comes first
        function = decorate(function)
    return function


def decide(asked: Asked) -> tuple[Outcome, list[Step], Gateway]:
    """Decide the request against the real provider.

    Returns the outcome, what was looked up and called on the way, and the file.  Ends the
    command if the configuration is wrong.
    """
    import asyncio

    wanted = _request(
        asked["url"],
        asked["method"],
        asked["headers"],
        _authorization(asked["user"], asked["bearer"]),
    )
    settings = Settings.of(
        config=asked["config"], connect_to=asked["connect_to"], idp_ca_file=asked["idp_ca_file"]
    )
    try:
        return asyncio.run(_decide(settings, wanted))
    except ConfigurationError as error:
        echo_problems(error.problems)
        sys.exit(INVALID)


def exit_code(outcome: Outcome) -> int:
    """Return 0 for allow, 3 for deny, 4 if it cannot be known."""
    from authz.errors import Unavailable

    if outcome.refusal is None:
        return 0
    return UNAVAILABLE if isinstance(outcome.refusal, Unavailable) else DENIED


async def _decide(settings: Settings, request: Request) -> tuple[Outcome, list[Step], Gateway]:
    from authz import logs
    from authz.explanation import RecordingTelemetry, called
    from authz.loading import Loader
    from authz.oauth.door import observed
    from authz.runtime import Shared

    # The verdict says what went wrong; what the parts log on the way is not asked for.
    log = logs.setup("error", "text", sys.stderr)
    telemetry = RecordingTelemetry()
    try:
        async with Shared(settings, telemetry) as shared:
            loaded = await Loader(shared, os.environ).load()
            with observed() as calls:
                outcome = await loaded.configuration.authorizer.judge(request)
            noted = [*telemetry.steps, *map(called, calls)]
            return outcome, noted, loaded.configuration.gateway
    finally:
        log.close()


def _authorization(user: str | None, bearer: str | None) -> str | None:
    """Return the Authorization header's value for what was given, or ``None``."""
    from authz.credentials import basic

    if user is not None and bearer is not None:
        raise click.UsageError("-u and --bearer are two credentials: give one")
    try:
        if user is None:
            token = bearer or _revealed(BEARER_VARIABLE)
            return f"Bearer {token}" if token else None
        client_id, colon, secret = user.partition(":")
        secret = secret if colon else _client_secret(client_id)
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    return basic(client_id, secret)


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
