"""Kong's rules as matches of Envoy Gateway's routes, in an order that it keeps.

Envoy Gateway (1.9) tries, of the routes of one host, regular expressions before prefixes,
longer texts before shorter ones, and then those with more headers, the method among them.
Kong's order is another one, so a match that must be tried before one that it may meet a
request with is made longer than that one, by empty groups ``(?:)``.

A path of Kong's is the beginning of a text, and ``PathPrefix`` is whole segments: ``/a`` takes
``/ab`` in Kong alone.  So each path but ``/`` becomes a regular expression.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol

from authz.envoy.bootstrap.domains import domains
from authz.envoy.bootstrap.regexes import header_regex, path_regex
from authz.envoy.bootstrap.routes import rewrites
from authz.kong.protocols import GRPC
from authz.kong.rules import ascii_lower, is_regex

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from authz.kong.rules import Rule
    from authz.model import Match as Met
    from authz.model import Route

VALUE_CHARS_MAX = 1024
"""Of a path in Gateway API."""
PADDING = "(?:)"


class RegexMatcher(Protocol):
    """Envoy's regular expression."""

    regex: str


class RouteMatch(Protocol):
    """As much of Envoy's match of a path as is said in Gateway API."""

    @property
    def prefix(self) -> str | None:
        """What the path begins with."""

    @property
    def path(self) -> str | None:
        """The path."""

    @property
    def safe_regex(self) -> RegexMatcher | None:
        """What the path fits as a whole."""


class UnsayableError(ValueError):
    """A route says what Gateway API cannot: the field, and why."""

    def __init__(self, field: str, message: str, route: Route) -> None:
        super().__init__(message)
        self.field = field
        self.route = route


@dataclass(frozen=True, slots=True)
class Match:
    """One path of a rule.

    ``value``: the regular expression that a whole path fits; ``""``: every path.
    ``beginning``: what every path that fits begins with.  ``rewrite``: the expression that
    is looked for in the path, and what is put in its place.  ``has_dot``: a line feed fits,
    which Kong's does not.
    """

    rank: int
    route: Route
    path: str
    value: str
    beginning: str
    headers: tuple[tuple[str, str], ...] = ()
    rewrite: tuple[str, str] | None = None
    has_dot: bool = False

    @property
    def is_grpc(self) -> bool:
        """Whether it belongs into a GRPCRoute."""
        return not GRPC.isdisjoint(self.route.protocols)

    @property
    def precedence(self) -> tuple[int, int]:
        """What Envoy Gateway compares; the greater is tried first."""
        conditions = len(self.headers) + bool(self.route.methods)
        return len(self.value), conditions

    def meets(self, other: Match) -> bool:
        """Tell whether a request may fit both, as far as paths and methods say."""
        one, two = self.beginning, other.beginning
        methods = self.route.methods, other.route.methods
        return (one.startswith(two) or two.startswith(one)) and (
            not all(methods) or not set(methods[0]).isdisjoint(methods[1])
        )


def matches_of(rank: int, rule: Rule) -> Iterator[Match]:
    """Yield the matches of one rule.

    UnsayableError: it cannot be said.
    """
    route = rule.route
    headers = tuple((ascii_lower(n), _for_go(header_regex(v))) for n, v in route.headers.items())
    for path in rule.paths or ("/",):
        if not GRPC.isdisjoint(route.protocols):
            value = _grpc_value(path, route)
            yield Match(rank, route, path, value, path, headers)
            continue
        has_dot = is_regex(path) and path_regex(path[1:]).has_dot
        beginning = path_regex(path[1:]).prefix if is_regex(path) else path
        for match, rewrite in rewrites(route, path):
            if match.headers:
                # Of a path that is rewritten whole: Gateway API's headers have no :path, so
                # the next match takes it, and a slash is added.
                continue
            into = None
            if rewrite is not None and rewrite.pattern is not None:
                into = _for_go(rewrite.pattern.regex), rewrite.substitution
            value = _value(match, route)
            yield Match(rank, route, path, value, beginning, headers, into, has_dot)


def _value(match: RouteMatch, route: Route) -> str:
    if match.prefix:
        return "" if match.prefix == "/" else f"{_escaped(match.prefix)}.*"
    if match.path:
        return _escaped(match.path)
    if match.safe_regex is not None:
        return _for_go(match.safe_regex.regex)
    raise UnsayableError("paths", "it is compared in a way that Gateway API has not", route)


def _either(text: str) -> str:
    """Return the expression of a gRPC path of one segment or more.

    A GRPCRoute has a service and a method, and Envoy Gateway puts a slash between them.
    """
    return f"/{text}|/{text}"


def _grpc_value(path: str, route: Route) -> str:
    if is_regex(path):
        message = f"{path}: a GRPCRoute has a service and a method: write a plain path"
        raise UnsayableError("paths", message, route)
    if path == "/":
        return ""
    service, slash, method = path[1:].partition("/")
    if not slash:
        return _either(f"{_escaped(service)}.*")
    return f"/{_escaped(service)}/{_escaped(method)}.*"


def _escaped(text: str) -> str:
    r"""Return the expression of a plain text: what ``re.escape`` does, but for ``-`` and others."""
    return re.sub(r"[\\.+*?()|\[\]{}^$]", r"\\\g<0>", text)


_ESCAPE = re.compile(r"\\(.)", re.DOTALL)


def _for_go(regex: str) -> str:
    r"""Return the expression without ``\C``, which Go's dialect lacks: any character."""
    return _ESCAPE.sub(lambda each: "(?s:.)" if each[1] == "C" else each[0], regex)


def in_order(
    matches: Sequence[Match], hosts: Sequence[tuple[str, ...]], met: Mapping[str, Met]
) -> tuple[list[Match], dict[str, list[str]]]:
    """Return the matches so that Envoy Gateway keeps Kong's order, and each route's domains.

    ``matches``: best rank first.  ``hosts``: those that each rank asks for.  ``met``: what
    guards each route, by its id.  The domains of a route: those whose virtual host must have
    it, ``*`` for any other host.
    UnsayableError: one would be too long, or would take what a stricter route guards.
    """
    places = [set[str]() for _ in hosts]
    for domain, ranks in domains(hosts).items():
        for rank, _ in ranks:
            places[rank].add(domain)
    written: list[Match] = []
    for match in reversed(matches):
        here = places[match.rank]
        below = [
            other
            for other in written
            if match.meets(other) and not here.isdisjoint(places[other.rank])
        ]
        if match.has_dot and any(_differ(met, match.route, other.route) for other in below):
            raise UnsayableError(
                "paths",
                f"{match.path}: its dot would take an encoded line feed (%0A), which Kong leaves "
                "to a route that other plugins guard: write [^/]+",
                match.route,
            )
        written.append(_before(match, below))
    by_route: dict[str, set[str]] = {}
    for match in matches:
        by_route.setdefault(match.route.id, set()).update(places[match.rank])
    return written[::-1], {route: sorted(found) for route, found in by_route.items()}


def _differ(met: Mapping[str, Met], one: Route, other: Route) -> bool:
    return met[one.id].guards != met[other.id].guards


def _before(match: Match, below: Iterable[Match]) -> Match:
    """Return the match so that it is tried before the others."""
    most = max((other.precedence for other in below), default=(-1, 0))
    if match.precedence > most:
        return match
    value = match.value or (_either(".*") if match.is_grpc else "/.*")
    value += PADDING * max(0, 1 + (most[0] - len(value)) // len(PADDING))
    if len(value) > VALUE_CHARS_MAX:
        raise UnsayableError(
            "paths",
            f"{match.path}: Envoy Gateway tries longer paths first, and this one would need over "
            f"{VALUE_CHARS_MAX} characters to be tried before the others, as in Kong",
            match.route,
        )
    return replace(match, value=value)
