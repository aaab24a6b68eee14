"""Requests that stand for a route, with which two configurations are compared.

Pure: from a route to requests.  A witness has what the route asks for.  Where the route asks
for nothing (no hosts, the rest of a path, any method), it has what no other route is likely
to ask for, so that it stands for the many requests that only this route takes.
"""

from __future__ import annotations

import math
from itertools import product
from typing import TYPE_CHECKING
from urllib.parse import quote

from authz.kong.examples import examples
from authz.kong.paths import normalise
from authz.kong.regexes import Pattern
from authz.kong.rules import is_regex
from authz.model import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.model import Route

NOBODYS_LABEL = "authz-witness"
NOBODYS_HOST = f"{NOBODYS_LABEL}.invalid"  # RFC 6761 section 6.4
NOBODYS_METHOD = "AUTHZ-WITNESS"
_BELOW = f"/{NOBODYS_LABEL}/0"

_SCHEMES = {
    "http": "http", "grpc": "http", "ws": "http",
    "https": "https", "grpcs": "https", "wss": "https",
}  # fmt: skip
# The method, where the route asks for none, and the headers that mark a protocol.
_HTTP: tuple[str, dict[str, str]] = (NOBODYS_METHOD, {})
_GRPC = ("POST", {"content-type": "application/grpc"})
_WEBSOCKET = ("GET", {"upgrade": "websocket"})  # RFC 6455 section 4.1
_MARKS = {"grpc": _GRPC, "grpcs": _GRPC, "ws": _WEBSOCKET, "wss": _WEBSOCKET}
# Characters that stand in a request's path as they are: RFC 3986 section 3.3.
_LITERAL = "/%:@!$&'()*+,;=~-._[]"


def anyone() -> Request:
    """Return the request that stands for every request, where no route asks for anything."""
    return Request(method="GET", scheme="http", host=NOBODYS_HOST, path=_BELOW)


def witnesses(route: Route, combinations_max: int) -> Iterator[tuple[Request, ...]]:
    """Yield the requests for each combination of what a route asks for.

    A combination is one of its protocols, hosts, paths, methods, server names, and values of
    each header.  Any request of a combination may stand for it, the first ones best: the last
    ones are for the case that other routes take the first.  An empty combination: no example
    of a regular expression was found.

    Of more than ``combinations_max`` combinations some are left out.  Each single value is in
    one that stays, and the others that stay are spread evenly.
    """
    protocols = [protocol for protocol in route.protocols if protocol in _SCHEMES]
    hosts = [_named(host) for host in route.hosts] or [NOBODYS_HOST]
    paths = [_paths(path) for path in route.paths or ("/",)]
    methods = route.methods or (None,)
    snis = [_named(sni) for sni in route.snis] or [NOBODYS_HOST]
    headers = [
        [(name.lower(), _header_value(value)) for value in values]
        for name, values in route.headers.items()
    ]
    sizes = [len(choices) for choices in (protocols, hosts, paths, methods, snis, *headers)]
    for protocol, host, path, method, sni, *values in _spread(sizes, combinations_max):
        chosen = [choices[value] for choices, value in zip(headers, values, strict=True)]
        lines = {name: text for name, text in chosen if text is not None}
        if len(lines) < len(chosen):
            yield ()
            continue
        usual_method, marks = _MARKS.get(protocols[protocol], _HTTP)
        yield tuple(
            Request(
                method=methods[method] or usual_method,
                scheme=_SCHEMES[protocols[protocol]],
                host=hosts[host],
                path=each,
                headers={**marks, **lines},
                server_name=snis[sni],
            )
            for each in paths[path]
        )


def _named(host: str) -> str:
    """Return a host that one of Kong's takes, with its port if there is one."""
    return host.replace("*", NOBODYS_LABEL)


def _paths(path: str) -> tuple[str, ...]:
    """Return the paths that stand for one of a route's, those below it first."""
    if not is_regex(path):
        return tuple(map(_spelled, (path.removesuffix("/") + _BELOW, path)))
    pattern = Pattern(path[1:])

    def fits(text: str) -> bool:
        return text.startswith("/") and pattern.begins(normalise(_spelled(text)))

    found = examples(path[1:], fits)
    below = filter(fits, (text.removesuffix("/") + _BELOW for text in found))
    return tuple(map(_spelled, (*below, *found)))


def _spelled(path: str) -> str:
    """Return a path as a request line can hold it."""
    return quote(path, safe=_LITERAL)


def _header_value(value: str) -> str | None:
    """Return a value of a header that fits one of a route's; ``None`` if none is found."""
    if not value.startswith("~*"):
        return value
    pattern = Pattern(value[2:], ignore_case=True)

    def fits(text: str) -> bool:
        # RFC 9110 section 5.5
        return (
            text.isascii() and text.isprintable() and text == text.strip() and pattern.is_in(text)
        )

    return next(iter(examples(value[2:], fits)), None)


def _spread(sizes: list[int], most: int) -> Iterator[tuple[int, ...]]:
    """Yield an index into each dimension, for each combination that ``witnesses`` keeps."""
    total = math.prod(sizes)
    if total <= most:
        yield from product(*map(range, sizes))
        return
    # Each value once: all dimensions in step.
    for number in range(max(sizes)):
        yield tuple(number % size for size in sizes)
    # A step that has no factor in common with the total visits every combination before it
    # repeats one.  A step near the golden section spreads the first ones evenly.
    step = round(total * (math.sqrt(5) - 1) / 2)
    while math.gcd(step, total) > 1:
        step += 1
    for number in range(1, most - max(sizes) + 1):
        yield _indices(number * step % total, sizes)


def _indices(number: int, sizes: list[int]) -> tuple[int, ...]:
    """Return the index into each dimension that a combination's number stands for."""
    indices = []
    for size in sizes:
        number, index = divmod(number, size)
        indices.append(index)
    return tuple(indices)
