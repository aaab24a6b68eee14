"""What a route of Kong's says and Gateway API cannot."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from authz.envoy.bootstrap.parts import is_ip
from authz.envoy.bootstrap.unsayable import header_problems, path_problem
from authz.kong.protocols import HTTP_AND_GRPC
from authz.kong.rules import routing_table, split_host
from authz.kubernetes.matches import UnsayableError, matches_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.kubernetes.matches import Match
    from authz.model import Route, Service

HEADER_MATCHES_MAX = 16

_METHODS = frozenset(
    {"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}
)
_LABEL = "[a-z0-9](?:[-a-z0-9]*[a-z0-9])?"
_HOSTNAME = re.compile(rf"(?:\*\.)?{_LABEL}(?:\.{_LABEL})*")
_HEADER_VALUE = re.compile(r"[!-~]+(?:[\t ]?[!-~]+)*")


def unsayable(
    route: Route, upstream: Service | None, *, tls: str | None
) -> Iterator[tuple[str, str]]:
    """Yield each field that cannot be said, and why.

    ``upstream``: where requests go without a service.  ``tls``: the Secret with the
    certificate of the Gateway.
    """
    yield from _unsayable_conditions(route)
    yield from _unsayable_ends(route, upstream, tls)
    try:
        for rule in routing_table([route]):
            for match in matches_of(0, rule):
                _check(match)
    except UnsayableError as error:
        yield error.field, str(error)
    except ValueError:
        return  # said above: a path or a header that cannot be read for Envoy


def _unsayable_conditions(route: Route) -> Iterator[tuple[str, str]]:
    if route.snis:
        yield "snis", "Gateway API compares server names with the Host only: ask for hosts"
    for host in route.hosts:
        if message := _host_problem(host):
            yield "hosts", f"{host}: {message}"
    yield from (("paths", message) for message in map(path_problem, route.paths) if message)
    yield from (("headers", message) for message in header_problems(route))
    if len(route.headers) > HEADER_MATCHES_MAX:
        yield "headers", f"Gateway API takes {HEADER_MATCHES_MAX} at most"
    if unknown := sorted(set(route.methods) - _METHODS):
        yield "methods", f"Gateway API does not know {', '.join(unknown)}"


def _unsayable_ends(
    route: Route, upstream: Service | None, tls: str | None
) -> Iterator[tuple[str, str]]:
    """Yield what cannot be said of the listener and of the service."""
    if route.path_handling != "v0":
        yield "path_handling", f"{route.path_handling} cannot be said: use v0"
    if (route.service or upstream) is None:
        yield "service", "none is named: name one, or give --upstream HOST:PORT"
    elif route.service is not None and route.service.protocol not in HTTP_AND_GRPC:
        yield "protocols", f"its service is for {route.service.protocol}: use http or https"
    if not set(HTTP_AND_GRPC) & set(route.protocols):
        yield "protocols", "the Gateway speaks http, https, grpc and grpcs: name one of them"
    elif not {"http", "grpc"} & set(route.protocols) and not tls:
        yield (
            "protocols",
            "the route is for TLS alone: give --tls-secret, and let the Gateway be written",
        )


def _check(match: Match) -> None:
    route = match.route
    if match.is_grpc and match.rewrite is not None:
        raise UnsayableError("strip_path", "a GRPCRoute changes no path: set false", route)
    if match.is_grpc and route.methods:
        raise UnsayableError("methods", "a GRPCRoute asks for no method: leave it out", route)
    for name, value in match.headers:
        if not _HEADER_VALUE.fullmatch(value):
            raise UnsayableError("headers", f"{name}: has what Gateway API does not take", route)


def _host_problem(host: str) -> str | None:
    name, port = split_host(host)
    if port is not None:
        return "a Gateway's listener has the port, not a route: leave it out"
    if name != "*" and (is_ip(name) or not _HOSTNAME.fullmatch(name)):
        return "Gateway API takes a name, or *. before one"
    return None
