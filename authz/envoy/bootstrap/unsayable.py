"""What in a route of Kong's cannot be said to Envoy: field by field, each with its place."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from authz.envoy.bootstrap.regexes import header_regex, is_rewritten, path_regex
from authz.kong.protocols import HTTP_AND_GRPC
from authz.kong.rules import is_regex, split_host
from authz.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import Route

# Characters of a path that stand in Kong's file and on the wire alike.  Kong decodes the
# others before it compares, Envoy does not.
_VERBATIM_PATH = re.compile(r"/[A-Za-z0-9\-._~!$&'()*+,;=:@/]*")
_HOST = re.compile(r"\*|(?:\*[^*]+|[^*]+\*?)")


def unsayable(route: Route) -> Iterator[Diagnostic]:
    """Yield everything in a route that Envoy cannot do as Kong, each at its field's place."""
    for name, message in _fields(route):
        yield Diagnostic(route.positions.get(name, route.position), name, message)


def _fields(route: Route) -> Iterator[tuple[str, str]]:
    """Yield each field of a route that Envoy would not do as Kong, and why."""
    if route.snis:
        yield "snis", "cannot be written for Envoy yet: remove it from this route"
    yield from (("headers", message) for message in header_problems(route))
    yield from (("paths", message) for message in map(path_problem, route.paths) if message)
    yield from (("hosts", message) for message in map(host_problem, route.hosts) if message)
    if set(route.protocols).isdisjoint(HTTP_AND_GRPC):
        yield (
            "protocols",
            "the listener speaks http and grpc: name one of them, with or without TLS",
        )
    if route.path_handling != "v0":
        yield "path_handling", f"{route.path_handling} cannot be written for Envoy: use v0"


def verbatim(path: str) -> str:
    """Return the beginning of a path that stands in Kong's file and on the wire alike."""
    found = _VERBATIM_PATH.match(path)
    return found[0] if found else ""


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


def host_problem(host: str) -> str | None:
    """Say what in a host is no domain of Envoy's; ``None``: nothing."""
    if not _HOST.fullmatch(split_host(host)[0]):
        return f"{host} must have one * at most, at the start or at the end"
    return None
