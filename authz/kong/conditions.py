"""The conditions of a route, as predicates over a reading of a request."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from authz.errors import ConfigurationError
from authz.kong.readings import ORDINARY_TEXT_CHARS, fold_server_name, steps_of
from authz.kong.regexes import Pattern
from authz.kong.rules import ascii_lower
from authz.model import Diagnostic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from authz.kong.readings import Reading
    from authz.model import Request, Route

    Condition = Callable[[Reading], bool]


class Patterns:
    """The regular expressions of all routes; equal ones are compiled once."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bool], Pattern] = {}

    def path(self, route: Route, text: str) -> Pattern:
        """Return the expression of a path."""
        return self._get(route, "paths", text, ignore_case=False)

    def header(self, route: Route, text: str) -> Pattern:
        """Return the expression of a header's value, in which case means nothing."""
        return self._get(route, "headers", text, ignore_case=True)

    def _get(self, route: Route, field: str, text: str, *, ignore_case: bool) -> Pattern:
        key = text, ignore_case
        if key not in self._known:
            try:
                self._known[key] = Pattern(text, ignore_case=ignore_case)
            except ValueError as error:
                raise _unreadable(route, field, f"{text!r} cannot be read: {error}") from error
        return self._known[key]

    @property
    def steps(self) -> int:
        """How many steps all of them take for texts of an ordinary length."""
        return sum(steps_of(pattern, ORDINARY_TEXT_CHARS) for pattern in self._known.values())


def conditions(route: Route, patterns: Patterns) -> Iterator[Condition]:
    """Yield a predicate for each field of a route except its hosts and paths."""
    if route.methods:
        yield partial(_has_method, frozenset(route.methods))
    for name, values in route.headers.items():
        found = [patterns.header(route, v[2:]) for v in values if is_header_regex(v)]
        texts = _texts(values)
        lower = frozenset(map(ascii_lower, texts))
        yield partial(_has_header, ascii_lower(name), texts, lower, tuple(found))
    if route.snis:
        snis = [fold_server_name(sni) for sni in route.snis]
        wildcards = tuple(sni for sni in snis if "*" in sni)
        yield partial(_has_server_name, frozenset(snis), wildcards)


def _texts(values: Iterable[str]) -> frozenset[str]:
    return frozenset(value for value in values if not is_header_regex(value))


def is_header_regex(value: str) -> bool:
    """Tell whether Kong reads this value of a header as a regular expression."""
    return value.startswith("~*")


def _has_method(methods: frozenset[str], reading: Reading) -> bool:
    return reading.request.method in methods


def _has_header(
    name: str,
    texts: frozenset[str],
    lower_texts: frozenset[str],
    patterns: tuple[Pattern, ...],
    reading: Reading,
) -> bool:
    """Tell whether a line of the header has one of the values.

    Kong compares each line, without case.  Envoy has joined the lines by commas, so
    each part and the whole value may be a line.  To the letter only the whole value is, or
    only the parts are.
    """
    lines = reading.lines(name)
    if lines is None:
        return False
    if reading.to_the_letter:
        value = reading.request.headers[name]
        is_apart = name in reading.apart
        lines = lines[1:] if is_apart else lines[:1]
        has_text = not texts.isdisjoint(value.split(",") if is_apart else [value])
    else:
        has_text = not lower_texts.isdisjoint(lines)
    return has_text or any(reading.search.is_in(p, line) for p in patterns for line in lines)


def _has_server_name(names: frozenset[str], wildcards: tuple[str, ...], reading: Reading) -> bool:
    """Tell whether the server name may be one of these: an untold one may be any."""
    name = reading.server_name
    if not name:
        return True
    return name in names or any(_is_under(wildcard, name) for wildcard in wildcards)


def _is_under(wildcard: str, name: str) -> bool:
    """Tell whether a name fits ``*.x`` or ``x.*``: as in hosts, the star is not empty."""
    fixed = wildcard.replace("*", "")
    begins = name.endswith if wildcard.startswith("*") else name.startswith
    return len(name) > len(fixed) and begins(fixed)


def has_port(port: int | None, reading: Reading) -> bool:
    """Tell whether the request's host may have this port; ``None``: whether it may have none."""
    return port in reading.ports


def has_path(pattern: Pattern, reading: Reading) -> bool:
    """Tell whether the path begins with a match of a regular expression."""
    return reading.search.begins(pattern, reading.path)


def speaks(route: Route, request: Request) -> bool:
    """Tell whether a route takes the request's protocol.

    Kong compares the protocol of the best route only, and never looks for the next one.
    A route for http takes WebSockets too; a route for ws takes nothing else.
    """
    names = ["grpc"] if request.is_grpc else ["http"]
    if request.is_websocket:
        names.append("ws")
    ending = "s" if request.scheme == "https" else ""
    return any(f"{name}{ending}" in route.protocols for name in names)


def _unreadable(route: Route, field: str, message: str) -> ConfigurationError:
    position = route.positions.get(field, route.position)
    return ConfigurationError([Diagnostic(position, field, message)])
