"""Which route and which plugin a request meets, as Kong's router decides it.

Kong's ``traditional_compatible`` order: a route is first split into *rules*,
one for its regexes and one for each length among its plain paths; the rules
are ranked by what they ask for; the first one that the request satisfies wins.

The request path is compared in Kong's normal form: triplets of characters
that have no meaning in a URI are decoded, the others get upper-case digits,
dot segments are resolved and ``//`` becomes ``/``.  So ``/a%2fb`` is compared
as ``/a%2Fb``, never as ``/a/b``, and ``/x/%2e%2e/y`` as ``/y``.

The rules stand in an index over host and path, so that ten thousand of them
cost a request about what one does.  Rules that share both and differ only in
methods, headers or SNIs are compared one after the other.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Generic, TypeVar

from authz.errors import ConfigurationError, Reason, RouteNotFound
from authz.kong.checks import Pattern
from authz.model import Diagnostic, Match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from authz.model import Gateway, Plugin, Request, Route, Service

    Condition = Callable[["_Facts"], bool]
    Entries = Mapping[str, Mapping[str, list["_Entry"]]]

MAX_PATH_CHARACTERS = 16 * 1024
"""A longer path (without its query) matches nothing: regexes run over it."""

_STREAMS = frozenset({"tcp", "tls", "tls_passthrough", "udp"})
_MAX_HEADER_WEIGHT = 255  # Kong's field for the number of headers has eight bits

# --- Kong's order -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Rule:
    """A line of the routing table: a route with those of its paths that rank alike.

    ``paths`` are all regexes (written ``~…``), or all plain and equally long.
    """

    route: Route
    paths: tuple[str, ...]

    @property
    def is_regex(self) -> bool:
        """Whether the paths are regular expressions."""
        return is_regex(self.paths[0]) if self.paths else False


def is_regex(path: str) -> bool:
    """Tell whether Kong reads this entry of ``paths`` as a regular expression."""
    return path.startswith("~")


def label(entity: Route | Service) -> str:
    """Return the name that a person gave, else the id: what messages and Envoy use."""
    return entity.name or entity.id


def routing_table(routes: Iterable[Route]) -> tuple[Rule, ...]:
    """Return the rules of all routes, first in Kong's order first.

    Among equals the one that comes first in the file wins (Kong: undefined).
    The routes of a disabled service and those for TCP, TLS and UDP streams are
    left out, as in Kong.
    """
    rules = [
        Rule(route, paths)
        for route in routes
        if (route.service is None or route.service.enabled)
        and not _STREAMS.issuperset(route.protocols)
        for paths in _split(route.paths)
    ]
    return tuple(sorted(rules, key=_priority, reverse=True))


def _split(paths: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """Split paths into groups of one rank: all regexes, and plain ones by length."""
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for path in paths:
        groups[0 if is_regex(path) else _octets(path)].append(path)
    return map(tuple, groups.values()) if groups else [()]


def _octets(path: str) -> int:
    return len(path.encode())  # Kong's strings, and so its lengths, are bytes


def _priority(rule: Rule) -> tuple[int, bool, int, bool, int, int]:
    """Return what a rule is sorted by; the greater tuple goes first."""
    route = rule.route
    kinds = (route.methods, route.hosts, route.headers, route.snis, route.paths)
    return (
        sum(map(bool, kinds)),
        bool(route.hosts) and not any("*" in host for host in route.hosts),
        min(len(route.headers), _MAX_HEADER_WEIGHT),
        rule.is_regex,
        route.regex_priority if rule.is_regex else 0,
        0 if rule.is_regex or not rule.paths else _octets(rule.paths[0]),
    )


# --- What is compared ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Facts:
    """A request, in the form in which conditions look at it."""

    request: Request
    host: str
    port: int
    path: str


def normalise(path: str) -> str:
    """Return a path without its query in Kong's normal form.

    A path that does not start with ``/`` (``*``, the empty one) stays as it is.
    Decoded bytes that are no UTF-8 become lone surrogates, which no rule names.
    """
    if "%" in path:
        octets = path.encode("utf-8", "surrogatepass")
        path = _TRIPLET.sub(_decoded, octets).decode("utf-8", "surrogateescape")
    if path.startswith("/") and ("//" in path or "/." in path):
        return _without_dot_segments(path)
    return path


_TRIPLET = re.compile(rb"%([0-9A-Fa-f]{2})")
# RFC 3986 section 2.2: decoding one of these would change what the URI means
# ("%" itself likewise, or decoding twice would differ from decoding once).
_RESERVED = frozenset(b"!*'();:@&=+$,/?%#[]")


def _decoded(triplet: re.Match[bytes]) -> bytes:
    octet = int(triplet[1], 16)
    return triplet[0].upper() if octet in _RESERVED else bytes((octet,))


def _without_dot_segments(path: str) -> str:
    """Apply RFC 3986 section 5.2.4, with empty segments merged as Kong does."""
    segments = path.split("/")
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment not in {"", "."}:
            kept.append(segment)
    if kept and segments[-1] in {"", ".", ".."}:
        kept.append("")
    return "/" + "/".join(kept)


def split_host(host: str) -> tuple[str, int | None]:
    """Split ``host[:port]`` into the lower-case host and the port, if there is one.

    What follows the colon and is no port stays part of the host: such a name
    equals nothing in a configuration.
    """
    name, colon, port = host.lower().rpartition(":")
    # One colon, or brackets around the others: else it is an IPv6 address.
    if colon and port.isascii() and port.isdigit() and (":" not in name or name.endswith("]")):
        return name, int(port[:6])  # no port has six digits; huge ones are not converted
    return host.lower(), None


def _facts(request: Request) -> _Facts:
    path = request.path.partition("?")[0]
    if len(path) > MAX_PATH_CHARACTERS:
        raise RouteNotFound(
            Reason.ROUTE_UNMATCHED, f"the path is longer than {MAX_PATH_CHARACTERS} characters"
        )
    host, port = split_host(request.host)
    if port is None:
        port = 443 if request.scheme == "https" else 80
    return _Facts(request, host, port, normalise(path))


# --- The conditions of a route --------------------------------------------------


def _conditions(route: Route) -> Iterator[Condition]:
    """Yield a predicate for each field of a route but its hosts and paths."""
    if route.methods:
        yield partial(_has_method, frozenset(route.methods))
    for name, values in route.headers.items():
        texts = frozenset(value.lower() for value in values if not value.startswith("~*"))
        patterns = tuple(
            _pattern(route, "headers", value[2:], ignore_case=True)
            for value in values
            if value.startswith("~*")
        )
        yield partial(_has_header, name.lower(), texts, patterns)
    if route.snis:
        names = frozenset(sni.lower().removesuffix(".") for sni in route.snis)
        yield partial(_has_sni, names)


def _has_method(methods: frozenset[str], facts: _Facts) -> bool:
    return facts.request.method in methods


def _has_header(
    name: str, texts: frozenset[str], patterns: tuple[Pattern, ...], facts: _Facts
) -> bool:
    """Tell whether a line of the header has one of the values.

    Kong looks at each line; Envoy has joined them by commas, so the parts
    count, and the whole.
    """
    value = facts.request.headers.get(name)
    if value is None:
        return False
    lines = (value, *value.split(",")) if "," in value else (value,)
    return any(
        line.lower() in texts or any(pattern.is_in(line) for pattern in patterns) for line in lines
    )


def _has_sni(names: frozenset[str], facts: _Facts) -> bool:
    # Without TLS there is no server name, and Kong does not ask for one.
    request = facts.request
    return request.scheme != "https" or request.server_name.lower() in names


def _has_port(port: int, facts: _Facts) -> bool:
    return facts.port == port


def _has_path(pattern: Pattern, facts: _Facts) -> bool:
    return pattern.begins(facts.path)


def _speaks(route: Route, request: Request) -> bool:
    """Tell whether a route takes the request's protocol.

    Kong asks this of the winner only, and never looks for a second best.
    """
    protocol = "grpc" if request.is_grpc else "http"
    return (f"{protocol}s" if request.scheme == "https" else protocol) in route.protocols


def _pattern(route: Route, field: str, text: str, *, ignore_case: bool = False) -> Pattern:
    try:
        return Pattern(text, ignore_case=ignore_case)
    except ValueError as error:
        raise _unreadable(route, field, f"{text!r} cannot be read: {error}") from error


def _unreadable(route: Route, field: str, message: str) -> ConfigurationError:
    place = route.places.get(field, route.place)
    return ConfigurationError([Diagnostic(place, field, message)])


# --- The index ----------------------------------------------------------------

_T = TypeVar("_T")


class _Prefixes(Generic[_T]):
    """Finds every key that a text starts with, by one binary search.

    The keys between a prefix of a text and the text itself, in sorted order,
    all start with that prefix.  So the keys sought are the last key not
    greater than the text, or among those that this one starts with; each key
    knows the longest of these.
    """

    def __init__(self, values: Mapping[str, _T]) -> None:
        self._keys = sorted(values)
        self._values = [values[key] for key in self._keys]
        self._parents: list[int] = []
        for index, key in enumerate(self._keys):
            parent = index - 1
            while parent >= 0 and not key.startswith(self._keys[parent]):
                parent = self._parents[parent]
            self._parents.append(parent)

    def of(self, text: str) -> Iterator[_T]:
        """Yield the values of the keys that ``text`` starts with, longest key first."""
        index = bisect_right(self._keys, text) - 1
        while index >= 0:
            if text.startswith(self._keys[index]):
                yield self._values[index]
            index = self._parents[index]


@dataclass(frozen=True, slots=True)
class _Entry:
    """A rule under one of its hosts and one of its paths."""

    rank: int
    match: Match
    conditions: tuple[Condition, ...]

    def fits(self, facts: _Facts) -> bool:
        return all(condition(facts) for condition in self.conditions)


class _Index:
    """The entries by host (equal, ``*.x``, ``x.*``, any), and then by path."""

    def __init__(self, entries: Entries) -> None:
        paths = {host: _Prefixes(by_path) for host, by_path in entries.items()}
        self._equal = {host: found for host, found in paths.items() if "*" not in host}
        # Endings are prefixes of what is spelled backwards; of "*" alone: "".
        self._endings = _Prefixes(
            {host[:0:-1]: found for host, found in paths.items() if host.startswith("*")}
        )
        self._beginnings = _Prefixes(
            {host[:-1]: found for host, found in paths.items() if host[1:].endswith("*")}
        )

    def first(self, facts: _Facts) -> _Entry | None:
        """Return the entry of best rank that the request fits."""
        best: _Entry | None = None
        for paths in self._paths(facts.host):
            for entries in paths.of(facts.path):
                for entry in entries:
                    if best is not None and best.rank < entry.rank:
                        break
                    if entry.fits(facts):
                        best = entry
                        break
        return best

    def _paths(self, host: str) -> Iterator[_Prefixes[list[_Entry]]]:
        if host in self._equal:
            yield self._equal[host]
        # One character at least has to stand where the star does, so that one is left out.
        yield from self._endings.of(host[:0:-1])
        yield from self._beginnings.of(host[:-1])


# --- The router ---------------------------------------------------------------


class Router:
    """Finds the route and the plugin of a request.

    ConfigurationError: a route holds a regex that cannot be read.
    """

    def __init__(self, gateway: Gateway) -> None:
        plugins = PluginScopes(gateway.plugins)
        services = [service for service in gateway.services if service.enabled]
        rules = routing_table(gateway.routes)
        matches = {rule.route.id: plugins.match(rule.route, rule.route.service) for rule in rules}
        self._routes = _by_name((rule.route for rule in rules), matches)
        self._services = _by_name(
            services, {service.id: plugins.match(None, service) for service in services}
        )
        # Services whose name alone does not tell the plugin: a route has one of its own.
        self._divided = {
            _id(match.service)
            for match in matches.values()
            if match.plugin is not plugins.match(None, match.service).plugin
        }
        # A file whose routes are all disabled still has routes: it opens nothing.
        anything = plugins.match(None, None)
        self._everything = anything if anything.plugin and not gateway.routes else None
        self._index = _index(rules, matches)

    def match(self, request: Request) -> Match:
        """Return what a request meets.

        Envoy's own word (``route`` and ``service`` in the context extensions,
        which no caller can set) goes before everything that the caller sent:
        a route's name is all, and so is a service's, unless a route of it has a
        plugin of its own.  Then the request must fit a route of that service.

        RouteNotFound: ``route_unknown``, Envoy named what the file lacks;
        ``route_unmatched``, no route fits the request, or the one that does is
        for another protocol or of another service than the one that was named.
        """
        names = request.context_extensions
        if "route" not in names and "service" not in names:
            return self._everything or self._matched(request)
        match = self._named(names.get("route"), names.get("service"))
        return match if self._is_certain(match) else self._matched(request, match.service)

    def certain(self, route: str | None = None, service: str | None = None) -> Match | None:
        """Return what every request meets for which Envoy gives these names, if that is certain.

        Without names it is for a file that has no routes and a global plugin;
        with the name of a service alone, unless one of its routes has a plugin
        of its own.  ``None`` too if the file lacks the names.
        """
        if route is None and service is None:
            return self._everything
        try:
            match = self._named(route, service)
        except RouteNotFound:
            return None
        return match if self._is_certain(match) else None

    def _named(self, route: str | None, service: str | None) -> Match:
        """Return the match of a name or an id; of both, the route's, if it is of the service."""
        match = self._services.get(service or "") if route is None else self._routes.get(route)
        if match is None:
            raise RouteNotFound(
                Reason.ROUTE_UNKNOWN,
                f"Envoy names route {route!r}, service {service!r}: not in the file",
            )
        if route is not None and service is not None:
            owner = self._services.get(service)
            if owner is None or owner.service != match.service:
                raise RouteNotFound(
                    Reason.ROUTE_UNKNOWN, f"route {route!r} is not one of service {service!r}"
                )
        return match

    def _is_certain(self, match: Match) -> bool:
        return match.route is not None or _id(match.service) not in self._divided

    def _matched(self, request: Request, service: Service | None = None) -> Match:
        """Return what the request itself meets, which must be one of ``service`` if given."""
        entry = self._index.first(_facts(request))
        if entry is None:
            raise RouteNotFound(Reason.ROUTE_UNMATCHED, "no route fits the request")
        match = entry.match
        if match.route is not None and not _speaks(match.route, request):
            raise RouteNotFound(
                Reason.ROUTE_UNMATCHED,
                f"route {label(match.route)} is for {', '.join(match.route.protocols)} only",
            )
        if service is not None and match.service != service:
            raise RouteNotFound(
                Reason.ROUTE_UNMATCHED, f"the request fits no route of service {label(service)}"
            )
        return match


class PluginScopes:
    """The plugins by scope: route and service, route, service, everything."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._by_scope: dict[tuple[str | None, str | None], Plugin] = {}
        for plugin in plugins:
            self._by_scope.setdefault((_id(plugin.route), _id(plugin.service)), plugin)

    def match(self, route: Route | None, service: Service | None) -> Match:
        """Return route and service with the most specific plugin, which applies alone."""
        scopes = (
            (_id(route), _id(service)),
            (_id(route), None),
            (None, _id(service)),
            (None, None),
        )
        plugins = (self._by_scope[scope] for scope in scopes if scope in self._by_scope)
        return Match(route, service, next(plugins, None))


def _id(entity: Route | Service | None) -> str | None:
    return None if entity is None else entity.id


def _by_name(entities: Iterable[Route | Service], matches: Mapping[str, Match]) -> dict[str, Match]:
    """Return matches by id and, which goes first, by name."""
    return {**matches, **{entity.name: matches[entity.id] for entity in entities if entity.name}}


def _index(rules: Iterable[Rule], matches: Mapping[str, Match]) -> _Index:
    entries: defaultdict[str, defaultdict[str, list[_Entry]]]
    entries = defaultdict(lambda: defaultdict(list))
    problems: list[Diagnostic] = []
    for rank, rule in enumerate(rules):
        try:
            _file(entries, rank, rule, matches[rule.route.id])
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(sorted(set(problems)))  # a split route says it twice
    return _Index(entries)


def _file(entries: Entries, rank: int, rule: Rule, match: Match) -> None:
    """File a rule under each pair of one of its hosts and one of its paths."""
    route = rule.route
    conditions = tuple(_conditions(route))
    paths = [_path_key(route, path) for path in rule.paths] or [("", ())]
    hosts = [_host_key(host) for host in route.hosts] or [("*", ())]
    for (host, port), (path, regex) in product(hosts, paths):
        entries[host][path].append(_Entry(rank, match, (*port, *conditions, *regex)))


def _host_key(text: str) -> tuple[str, tuple[Condition, ...]]:
    host, port = split_host(text)
    return host, () if port is None else (partial(_has_port, port),)


def _path_key(route: Route, path: str) -> tuple[str, tuple[Condition, ...]]:
    if not is_regex(path):
        return path, ()
    pattern = _pattern(route, "paths", path[1:])
    return pattern.prefix(), (partial(_has_path, pattern),)
