"""Which route and which plugin a request meets, as Kong's router decides it.

Kong's ``traditional_compatible`` order: a route is first split into *rules*,
one for its regexes and one for each length among its plain paths; the rules
are ranked by what they ask for; the first one that the request satisfies wins.

What cannot be known decides nothing.  A server name that Envoy did not tell is no
other name; a path or host in which Envoy may see another route than Kong's router
does, and a header that would take too long to look through, are refused.  The
weaker route never answers in their place.

The rules stand in an index over host, path, header values, server names and methods,
so that ten thousand of them cost a request about what one does.  Rules that share
these and differ only in regular expressions or wildcards are compared one after the
other.
"""

from __future__ import annotations

import re
import string
from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from functools import partial
from itertools import product
from typing import TYPE_CHECKING, Generic, TypeVar

from authz.errors import (
    ConfigurationError,
    MalformedRequest,
    Reason,
    RouteNotFound,
    Unavailable,
)
from authz.kong.checks import HEADER_VALUE_BYTES_MAX
from authz.kong.paths import ODD_PATH_CHARS_MAX, is_odd, normalise, readings
from authz.kong.regexes import Pattern
from authz.model import Diagnostic, Match

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from authz.model import Gateway, Plugin, Request, Route, Service

    Condition = Callable[["_Facts"], bool]
    Entries = Mapping[str, Mapping[str, list["_Entry"]]]

PATH_CHARS_MAX = 8 * 1024
"""A longer path (without its query) is refused, as Kong refuses a longer request line."""

HEADER_LINES_MAX = 64
"""Of a header that a route asks for: Envoy joins them by commas."""

SEARCH_STEPS_MAX = 256 * 1024
"""Of all regular expressions over one request: a step is one instruction over one character.

About a millisecond where RE2 can do no better.  What the file's own expressions take
for texts of an ordinary length (``ORDINARY_TEXT_CHARS``) comes on top of it.
"""
ORDINARY_TEXT_CHARS = 256
_CALL_STEPS = 512  # what it costs to start one

_STREAMS = frozenset({"tcp", "tls", "tls_passthrough", "udp"})
_HEADER_WEIGHT_MAX = 255  # Kong's field for the number of headers has eight bits

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


def display_name(entity: Route | Service) -> str:
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


def _priority(rule: Rule) -> tuple[int, bool, int, bool, int, int, bool]:
    """Return what a rule is sorted by; the greater tuple goes first.

    The last part is Kong's ``traditional`` router's and breaks what are ties to its
    successor: a host with a port is not shadowed by the same one without.
    """
    route = rule.route
    kinds = (route.methods, route.hosts, route.headers, route.snis, route.paths)
    return (
        sum(map(bool, kinds)),
        bool(route.hosts) and not any("*" in host for host in route.hosts),
        min(len(route.headers), _HEADER_WEIGHT_MAX),
        rule.is_regex,
        route.regex_priority if rule.is_regex else 0,
        0 if rule.is_regex or not rule.paths else _octets(rule.paths[0]),
        any(split_host(host)[1] is not None for host in route.hosts),
    )


# --- What is compared ---------------------------------------------------------


# What an entry can be found by besides its headers: no names of these.
_SERVER_NAME, _METHOD = ":server-name", ":method"


@dataclass(frozen=True, slots=True)
class _Facts:
    """A request, in the form in which conditions look at it: one reading of it."""

    request: Request
    host: str
    ports: tuple[int | None, ...]
    """What a route's host may have behind its colon; ``None``: there is no colon."""
    path: str
    server_name: str
    search: _Search
    to_the_letter: bool
    """Whether a header's value is one line, and its case counts, as in Envoy's routes."""
    is_usual: bool
    """Whether callers that mean no harm send what can be read so: a port, say."""

    def lines(self, name: str) -> tuple[str, ...] | None:
        """Return what may be a line of a header, in small letters; ``None``: it is not there.

        The whole value is the first.
        """
        return self.search.lines(self.request.headers, name)

    def texts(self, of: str) -> tuple[str, ...]:
        """Return what the request has of that by which entries are found."""
        if of == _SERVER_NAME:
            return (self.server_name,)
        if of == _METHOD:
            return (self.request.method,)
        return self.lines(of) or ()


class _Search:
    """What looking through one request has found and may still cost, over all its readings.

    MalformedRequest: it would cost more, so that what fits it is not known.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._met: dict[tuple[Pattern, str], bool] = {}
        self._lines: dict[str, tuple[str, ...] | None] = {}

    def begins(self, pattern: Pattern, text: str) -> bool:
        """Tell whether ``text`` begins with a match."""
        return self._ask(pattern, text, Pattern.begins)

    def is_in(self, pattern: Pattern, text: str) -> bool:
        """Tell whether there is a match anywhere in ``text``."""
        return self._ask(pattern, text, Pattern.is_in)

    def _ask(self, pattern: Pattern, text: str, ask: Callable[[Pattern, str], bool]) -> bool:
        key = pattern, text
        if key not in self._met:
            self._steps -= _steps(pattern, len(text))
            if self._steps < 0:
                raise MalformedRequest(
                    Reason.REQUEST_MALFORMED,
                    "the path or a header is too long for the regular expressions of the routes",
                )
            self._met[key] = ask(pattern, text)
        return self._met[key]

    def lines(self, headers: Mapping[str, str], name: str) -> tuple[str, ...] | None:
        """Return the whole value and its parts: Envoy joins the lines of a header by commas."""
        if name not in self._lines:
            value = headers.get(name)
            self._lines[name] = None if value is None else _lines(value, name)
        return self._lines[name]


def _steps(pattern: Pattern, characters: int) -> int:
    return pattern.size * characters + _CALL_STEPS


def _lines(value: str, name: str) -> tuple[str, ...]:
    if len(value) > HEADER_VALUE_BYTES_MAX or value.count(",") >= HEADER_LINES_MAX:
        raise MalformedRequest(
            Reason.REQUEST_MALFORMED,
            f"routes ask for the header {name}, of which at most {HEADER_VALUE_BYTES_MAX} bytes "
            f"and {HEADER_LINES_MAX} lines are read",
        )
    # In their order: what the search comes to must not depend on a set's.
    return tuple(dict.fromkeys(map(ascii_lower, (value, *value.split(",")))))


# Unicode's lower case would make the Kelvin sign a k, and with it one host another.
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def ascii_lower(text: str) -> str:
    """Return ``text`` in small letters, as far as it is ASCII."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)


def split_host(host: str) -> tuple[str, int | None]:
    """Split ``host[:port]`` into the lower-case host and the port, if there is one.

    ValueError: something stands behind a colon that is no port of 1 to 5 digits,
    or an IPv6 address stands without its brackets.
    """
    name, bracket, rest = ascii_lower(host).rpartition("]")
    end, colon, port = rest.partition(":")
    if not colon:
        return ascii_lower(host), None
    if (bracket and end) or not _PORT.fullmatch(port):
        raise ValueError("what stands behind the host's colon is no port of 1 to 5 digits")
    return f"{name}{bracket}{end}", int(port)


_PORT = re.compile("[0-9]{1,5}")


def _facts(request: Request, asked: _Asked, search: _Search) -> Iterator[_Facts]:
    """Yield the readings of a request: Kong's, and those that Envoy may have.

    MalformedRequest: it has none that is worth a look.
    """
    path = request.path.partition("?")[0]
    if len(path) > PATH_CHARS_MAX:
        raise MalformedRequest(
            Reason.REQUEST_MALFORMED, f"the path is longer than {PATH_CHARS_MAX} characters"
        )
    if "#" in path:  # RFC 9112 section 3.2: a fragment is never sent
        raise MalformedRequest(Reason.REQUEST_MALFORMED, "the path has a fragment (#)")
    try:
        host, port = split_host(request.host)
    except ValueError as error:
        raise MalformedRequest(Reason.REQUEST_MALFORMED, str(error)) from None
    server_name = _server_name(request.server_name)
    # Envoy takes the dot away only if it is told to (strip_trailing_host_dot).
    hosts = (host, host.removesuffix(".")) if host.endswith(".") else (host,)
    kongs, *others = _ports(request, port, asked)
    letters = (False, True) if asked.headers & request.headers.keys() else (False,)
    for letter, ports, name, read in product(letters, (kongs, *others), hosts, _paths(path)):
        is_usual = letter or ports is not kongs
        yield _Facts(request, name, ports, read, server_name, search, letter, is_usual)


def _ports(request: Request, port: int | None, asked: _Asked) -> Iterator[tuple[int | None, ...]]:
    """Yield what a route's host may have behind its colon, to Kong and to Envoy.

    To Kong a port that is not sent is the scheme's, and the caller may have written
    that; to Envoy ``a.test:80`` is another host than ``a.test``, unless it is told to
    strip the port (``strip_any_host_port``): then none arrives here.
    """
    if port is not None:
        yield None, port
        if asked.hosts:
            yield (port,) if request.host.endswith(f":{port}") else ()
        return
    defaults = (443, 80) if request.scheme == "https" else (80, 443)
    yield None, defaults[0]
    if asked.ports:
        yield None, defaults[1]
        yield (None,)


def _paths(path: str) -> tuple[str, ...]:
    if not is_odd(path):
        return (normalise(path),)
    if len(path) > ODD_PATH_CHARS_MAX:
        raise MalformedRequest(
            Reason.REQUEST_MALFORMED,
            "the path can be read in several ways (//, /., escaped slashes or letters …) and is "
            f"longer than {ODD_PATH_CHARS_MAX} characters",
        )
    return readings(path)


@dataclass(frozen=True, slots=True)
class _Asked:
    """Of what can be read in several ways: what any route asks for."""

    hosts: bool
    ports: bool
    headers: frozenset[str]

    @classmethod
    def by(cls, rules: Collection[Rule]) -> _Asked:
        """Return what the routes of these rules ask for."""
        hosts = {host for rule in rules for host in rule.route.hosts}
        return cls(
            hosts=bool(hosts),
            ports=any(split_host(host)[1] is not None for host in hosts),
            headers=frozenset(ascii_lower(name) for rule in rules for name in rule.route.headers),
        )


# --- The conditions of a route --------------------------------------------------


class _Patterns:
    """The regular expressions of all routes; equal ones are one, and asked once a request."""

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
        return sum(_steps(pattern, ORDINARY_TEXT_CHARS) for pattern in self._known.values())


def _conditions(route: Route, patterns: _Patterns) -> Iterator[Condition]:
    """Yield a predicate for each field of a route but its hosts and paths."""
    if route.methods:
        yield partial(_has_method, frozenset(route.methods))
    for name, values in route.headers.items():
        found = [patterns.header(route, v[2:]) for v in values if _is_header_regex(v)]
        texts = _texts(values)
        lower = frozenset(map(ascii_lower, texts))
        yield partial(_has_header, ascii_lower(name), texts, lower, tuple(found))
    if route.snis:
        snis = [_server_name(sni) for sni in route.snis]
        wildcards = tuple(sni for sni in snis if "*" in sni)
        yield partial(_has_server_name, frozenset(snis), wildcards)


def _texts(values: Iterable[str]) -> frozenset[str]:
    return frozenset(value for value in values if not _is_header_regex(value))


def _is_header_regex(value: str) -> bool:
    return value.startswith("~*")


def _has_method(methods: frozenset[str], facts: _Facts) -> bool:
    return facts.request.method in methods


def _has_header(
    name: str,
    texts: frozenset[str],
    lower_texts: frozenset[str],
    patterns: tuple[Pattern, ...],
    facts: _Facts,
) -> bool:
    """Tell whether a line of the header has one of the values.

    Kong looks at each line, in which case means nothing; Envoy has joined them by
    commas, so the parts count, and the whole.  To the letter only the whole does.
    """
    lines = facts.lines(name)
    if lines is None:
        return False
    if facts.to_the_letter:
        lines = lines[:1]
        has_text = facts.request.headers[name] in texts
    else:
        has_text = not lower_texts.isdisjoint(lines)
    return has_text or any(facts.search.is_in(p, line) for p in patterns for line in lines)


def _server_name(text: str) -> str:
    return ascii_lower(text).removesuffix(".")


def _has_server_name(names: frozenset[str], wildcards: tuple[str, ...], facts: _Facts) -> bool:
    """Tell whether the server name may be one of these; the router asks whether it is known."""
    name = facts.server_name
    if not name:
        return True
    return name in names or any(_is_under(wildcard, name) for wildcard in wildcards)


def _is_under(wildcard: str, name: str) -> bool:
    """Tell whether a name fits ``*.x`` or ``x.*``: as in hosts, the star is not empty."""
    fixed = wildcard.replace("*", "")
    begins = name.endswith if wildcard.startswith("*") else name.startswith
    return len(name) > len(fixed) and begins(fixed)


def _has_port(port: int | None, facts: _Facts) -> bool:
    return port in facts.ports


def _has_path(pattern: Pattern, facts: _Facts) -> bool:
    return facts.search.begins(pattern, facts.path)


def _speaks(route: Route, request: Request) -> bool:
    """Tell whether a route takes the request's protocol.

    Kong asks this of the winner only, and never looks for a second best.  A route
    for http takes WebSockets too, one for ws takes nothing else.
    """
    names = ["grpc"] if request.is_grpc else ["http"]
    if request.is_websocket:
        names.append("ws")
    ending = "s" if request.scheme == "https" else ""
    return any(f"{name}{ending}" in route.protocols for name in names)


def _unreadable(route: Route, field: str, message: str) -> ConfigurationError:
    position = route.positions.get(field, route.position)
    return ConfigurationError([Diagnostic(position, field, message)])


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
    key: _Key | None
    """What else it can be found by."""

    def fits(self, facts: _Facts) -> bool:
        return all(condition(facts) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class _Key:
    """One thing of which a route asks for nothing but texts: the request has one of them."""

    of: str
    """A header, ``_SERVER_NAME`` or ``_METHOD``."""
    texts: frozenset[str]


class _Bucket:
    """The entries under one host and one path, by their keys."""

    def __init__(self, entries: Iterable[_Entry]) -> None:
        self._others: list[_Entry] = []
        self._by_key: defaultdict[str, defaultdict[str, list[_Entry]]]
        self._by_key = defaultdict(lambda: defaultdict(list))
        self._by_server_name: list[_Entry] = []
        for entry in entries:
            if entry.key is None:
                self._others.append(entry)
                continue
            for text in entry.key.texts:
                self._by_key[entry.key.of][text].append(entry)
            if entry.key.of == _SERVER_NAME:
                self._by_server_name.append(entry)

    def of(self, facts: _Facts) -> Iterator[list[_Entry]]:
        """Yield lists of entries, best rank first, among which are all that a request fits."""
        yield self._others
        for of, by_text in self._by_key.items():
            if of == _SERVER_NAME and not facts.server_name:
                yield self._by_server_name  # any of them may fit a name that was not told
                continue
            for text in facts.texts(of):
                if text in by_text:
                    yield by_text[text]


class _Index:
    """The entries by host (equal, ``*.x``, ``x.*``, any), then by path, then by header."""

    def __init__(self, entries: Entries) -> None:
        paths = {
            host: _Prefixes({path: _Bucket(found) for path, found in by_path.items()})
            for host, by_path in entries.items()
        }
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
            for bucket in paths.of(facts.path):
                for entries in bucket.of(facts):
                    best = _better(best, entries, facts)
        return best

    def _paths(self, host: str) -> Iterator[_Prefixes[_Bucket]]:
        if host in self._equal:
            yield self._equal[host]
        # One character at least has to stand where the star does, so that one is left out.
        yield from self._endings.of(host[:0:-1])
        yield from self._beginnings.of(host[:-1])


def _better(best: _Entry | None, entries: Iterable[_Entry], facts: _Facts) -> _Entry | None:
    """Return the first of the entries that the request fits, unless ``best`` goes before it."""
    for entry in entries:
        if best is not None and best.rank < entry.rank:
            break
        if entry.fits(facts):
            return entry
    return best


# --- The router ---------------------------------------------------------------


class Router:
    """Finds the route and the plugin of a request.

    ConfigurationError: a route holds a regex or an address that cannot be read.
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
        self._asked = _Asked.by(rules)
        self._index, self._steps_max = _index(rules, matches)

    def match(self, request: Request) -> Match:
        """Return what a request meets.

        Envoy's own word (``route`` and ``service`` in the context extensions,
        which no caller can set) goes before everything that the caller sent:
        a route's name is all, and so is a service's, unless a route of it has a
        plugin of its own.  Then the request must fit a route of that service.

        RouteNotFound: ``route_unknown``, Envoy named what the file lacks;
        ``route_unmatched``, no route fits the request, or the one that does is
        for another protocol or of another service than the one that was named.
        Where the request itself decides: MalformedRequest, it cannot be told, or not
        at a bearable cost, which route that is; Unavailable, Envoy has not told the
        server name that a route asks for.
        """
        names = request.context_extensions
        if "route" not in names and "service" not in names:
            return self._everything or self._matched(request)
        match = self._named(names.get("route"), names.get("service"))
        return match if self._is_certain(match) else self._matched(request, match.service)

    def certain(self, route: str | None = None, service: str | None = None) -> Match | None:
        """Return what every request meets for which Envoy gives these names, if that is certain.

        Whatever its path, host and server name are: nothing that only the request
        itself could say, and that might be refused, has a part in it.

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
        match = self._met(request)
        if match is None:
            raise RouteNotFound(Reason.ROUTE_UNMATCHED, "no route fits the request")
        if match.route is not None and not _speaks(match.route, request):
            raise RouteNotFound(
                Reason.ROUTE_UNMATCHED,
                f"route {display_name(match.route)} is for {', '.join(match.route.protocols)} only",
            )
        if service is not None and match.service != service:
            raise RouteNotFound(
                Reason.ROUTE_UNMATCHED,
                f"the request fits no route of service {display_name(service)}",
            )
        return match

    def _met(self, request: Request) -> Match | None:
        """Return what the request meets, if no reading of it makes it another matter.

        One that is usual, as is a port in the host, does so only where another plugin
        decides: an Envoy that has no route for it lets nobody in.
        """
        first, *others = _facts(request, self._asked, _Search(self._steps_max))
        match = self._read(first)
        for facts in others:
            if match is None and facts.is_usual:
                continue
            other = self._read(facts)
            if other == match or (facts.is_usual and _is_harmless(other, match)):
                continue
            raise MalformedRequest(
                Reason.ROUTE_AMBIGUOUS,
                f"Envoy may see {_route_label(other)} in the path, host or headers, and Kong's "
                f"router sees {_route_label(match)}; Envoy has named none",
            )
        return match

    def _read(self, facts: _Facts) -> Match | None:
        entry = self._index.first(facts)
        if entry is None:
            return None
        if entry.match.route and entry.match.route.snis and not facts.server_name:
            # It fits if the name does; no other route may answer in its place, nor it in
            # theirs.  Kong asks for no name without TLS, but whether there is TLS is not
            # told: the caller writes the scheme (:scheme, X-Forwarded-Proto, http://…).
            raise Unavailable(
                Reason.SERVER_NAME_UNTOLD,
                f"{_route_label(entry.match)} asks for a server name (snis), and Envoy tells none",
            )
        return entry.match


def _is_harmless(other: Match | None, match: Match | None) -> bool:
    return other is None or match is None or other.plugin is match.plugin


def _route_label(match: Match | None) -> str:
    return (
        "no route" if match is None or match.route is None else f"route {display_name(match.route)}"
    )


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


def _index(rules: Iterable[Rule], matches: Mapping[str, Match]) -> tuple[_Index, int]:
    """Return the index, and the steps that a look into it may take."""
    entries: defaultdict[str, defaultdict[str, list[_Entry]]]
    entries = defaultdict(lambda: defaultdict(list))
    patterns = _Patterns()
    problems: list[Diagnostic] = []
    for rank, rule in enumerate(rules):
        try:
            _file(entries, patterns, rank, rule, matches[rule.route.id])
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(sorted(set(problems)))  # a split route says it twice
    return _Index(entries), SEARCH_STEPS_MAX + patterns.steps


def _file(entries: Entries, patterns: _Patterns, rank: int, rule: Rule, match: Match) -> None:
    """File a rule under each pair of one of its hosts and one of its paths."""
    route = rule.route
    conditions = tuple(_conditions(route, patterns))
    paths = [_path_key(route, path, patterns) for path in rule.paths] or [("", ())]
    hosts = [_host_key(host) for host in route.hosts] or [("*", ())]
    key = _key(route)
    for (host, port), (path, regex) in product(hosts, paths):
        every = (*port, *conditions, *regex)
        entries[host][path].append(_Entry(rank, match, every, key))


def _host_key(text: str) -> tuple[str, tuple[Condition, ...]]:
    host, port = split_host(text)
    # To Envoy, too, the end of a.* may be a port.
    return host, () if port is None and host.endswith("*") else (partial(_has_port, port),)


def _path_key(route: Route, path: str, patterns: _Patterns) -> tuple[str, tuple[Condition, ...]]:
    if not is_regex(path):
        return path, ()
    pattern = patterns.path(route, path[1:])
    return pattern.prefix(), (partial(_has_path, pattern),)


def _key(route: Route) -> _Key | None:
    for name, values in route.headers.items():
        if not any(map(_is_header_regex, values)):
            return _Key(ascii_lower(name), frozenset(map(ascii_lower, values)))
    if route.snis and not any("*" in sni for sni in route.snis):
        return _Key(_SERVER_NAME, frozenset(map(_server_name, route.snis)))
    return _Key(_METHOD, frozenset(route.methods)) if route.methods else None
