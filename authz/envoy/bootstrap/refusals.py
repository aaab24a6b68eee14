"""What a file says and Envoy cannot do as Kong does: refused, each with its place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from authz.envoy.bootstrap import upstream_tls
from authz.envoy.bootstrap.regexes import header_regex, is_rewritten, path_regex
from authz.kong.protocols import HTTP_AND_GRPC
from authz.kong.router import Router
from authz.kong.rules import is_regex, split_host
from authz.model import Diagnostic, Route, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.envoy.bootstrap.options import BootstrapOptions
    from authz.model import Gateway

# Characters of a path that stand in Kong's file and on the wire alike.  Kong decodes the
# others before it compares, Envoy does not.
_VERBATIM_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
_HOST = re.compile(r"\*|(?:\*[^*]+|[^*]+\*?)")


def problems(gateway: Gateway, options: BootstrapOptions) -> Iterator[Diagnostic]:
    """Yield everything in the file that Envoy cannot do as Kong."""
    for service in gateway.services:
        if service.enabled:
            yield from _service_problems(service)
            yield from upstream_tls.problems(service, gateway)
    for route in gateway.routes:
        if route.service is None or route.service.enabled:
            yield from _route_problems(route, options)
    catch_all = Router(gateway).catch_all
    if catch_all is not None and options.upstream is None:
        yield Diagnostic(
            catch_all.guards[0].position,
            "routes",
            "the file has no routes, so it names no upstream: give one (--upstream HOST:PORT)",
        )


def _service_problems(service: Service) -> Iterator[Diagnostic]:
    if service.protocol not in HTTP_AND_GRPC:
        yield Diagnostic(
            service.position,
            "protocol",
            f"{service.protocol} cannot be written for Envoy yet: use http, https, grpc or grpcs",
        )


def _route_problems(route: Route, options: BootstrapOptions) -> Iterator[Diagnostic]:
    for name, message in _unsupported(route, options):
        yield Diagnostic(route.positions.get(name, route.position), name, message)


def _unsupported(route: Route, options: BootstrapOptions) -> Iterator[tuple[str, str]]:
    """Yield each field of a route that Envoy would not do as Kong, and why."""
    if route.snis:
        yield "snis", "cannot be written for Envoy yet: remove it from this route"
    yield from (("headers", message) for message in header_problems(route))
    yield from (("paths", message) for message in map(path_problem, route.paths) if message)
    yield from (("hosts", message) for message in map(_host_problem, route.hosts) if message)
    if set(route.protocols).isdisjoint(HTTP_AND_GRPC):
        yield (
            "protocols",
            "the listener speaks http and grpc: name one of them, with or without TLS",
        )
    if route.path_handling != "v0":
        yield "path_handling", f"{route.path_handling} cannot be written for Envoy: use v0"
    if route.service is None and options.upstream is None:
        yield "service", "none is named: name one, or give --upstream HOST:PORT"


def path_problem(path: str) -> str | None:
    """Say what in a path Envoy would not compare as Kong does; ``None``: nothing."""
    if is_regex(path):
        try:
            path_regex(path[1:])
        except ValueError as error:
            return f"{path}: {error}"
        return None
    if not _VERBATIM_PATH.fullmatch(path):
        return f"{path!r} has characters that Envoy does not decode: use plain ones"
    return None


def header_problems(route: Route) -> Iterator[str]:
    """Yield what in the headers that a route asks for Envoy would not compare as Kong does."""
    for name, values in route.headers.items():
        if is_rewritten(name):
            yield f"Envoy has changed {name} before it looks for a route: ask for another header"
            continue
        try:
            header_regex(values)
        except ValueError as error:
            yield f"{name}: {error}"


def _host_problem(host: str) -> str | None:
    if not _HOST.fullmatch(split_host(host)[0]):
        return f"{host} must have one * at most, at the start or at the end"
    return None
