"""Requests that stand for a route: what to ask two configurations to see whether they differ.

Pure: from a route to requests.  Where the route asks for something, the witness has it; where
it asks for nothing (no hosts, the rest of a path, any method), the witness has what no other
route is likely to ask for, so that it stands for the many requests that only this route takes.
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
# A method, where the route asks for none, and the headers by which a protocol is told.
_HTTP: tuple[str, dict[str, str]] = (NOBODYS_METHOD, {})
_GRPC = ("POST", {"content-type": "application/grpc"})
_WEBSOCKET = ("GET", {"upgrade": "websocket"})  # RFC 6455 section 4.1
_MARKS = {"grpc": _GRPC, "grpcs": _GRPC, "ws": _WEBSOCKET, "wss": _WEBSOCKET}
# What stands literally in a request's path besides letters and digits: RFC 3986 section 3.3.
_LITERAL = "/%:@!$&'()*+,;=~-._[]"


def anyone() -> Request:
    """Return the request that stands for all that are nothing in particular."""
    return Request(method="GET", scheme="http", host=NOBODYS_HOST, path=_BELOW)


def witnesses(route: Route, combinations_max: int) -> Iterator[tuple[Request, ...]]:
    """Yield the requests for each combination of what a route asks for.

    That is one of its protocols, hosts, paths, methods, server names, and values of each
    header.  Any of the requests of one combination may stand for it, the first ones rather:
    the last ones are what remains if other routes take the first.  None at all: a regular
    expression has no example that could be found.

    Of more than ``combinations_max`` combinations some are left out: each single value is in
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
    """Return a host, with a port if there is one, that a pattern of Kong's is for."""
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
    """Return a value that one of a route's is for; ``None`` if none is found."""
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
    """Yield a place in each dimension, for all combinations or those that ``witnesses`` keeps."""
    total = math.prod(sizes)
    if total <= most:
        yield from product(*map(range, sizes))
        return
    # Each value once, all dimensions in step.
    for number in range(max(sizes)):
        yield tuple(number % size for size in sizes)
    # A step without a common factor visits every combination before it comes to one again, and
    # one near the golden section leaves no part of them for last.
    step = round(total * (math.sqrt(5) - 1) / 2)
    while math.gcd(step, total) > 1:
        step += 1
    for number in range(1, most - max(sizes) + 1):
        yield _places(number * step % total, sizes)


def _places(number: int, sizes: list[int]) -> tuple[int, ...]:
    """Read a number as one place in each dimension."""
    places = []
    for size in sizes:
        number, place = divmod(number, size)
        places.append(place)
    return tuple(places)
