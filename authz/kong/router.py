"""Which route and which plugin a request meets, as Kong's router decides it.

The rules (``rules``) stand in an index over host, path, header values, server names
and methods, so that ten thousand of them cost a request about what one does.  Rules
that share these and differ only in regular expressions or wildcards are compared one
after the other.

A request whose route cannot be known is refused, and never answered by the next
weaker route: a server name that Envoy did not tell may be any name; in a path or host
Envoy may see another route than Kong's router does; a header may take too long to
look through.
"""

from __future__ import annotations

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
from authz.kong.conditions import Patterns, conditions, has_path, has_port, is_header_regex, speaks
from authz.kong.readings import (
    METHOD,
    SEARCH_STEPS_MAX,
    SERVER_NAME,
    Asked,
    Search,
    fold_server_name,
    readings,
)
from authz.kong.rules import ascii_lower, display_name, is_regex, routing_table, split_host
from authz.kong.scopes import PluginScopes, id_of
from authz.model import Match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from authz.kong.conditions import Condition
    from authz.kong.readings import Reading
    from authz.kong.rules import Rule
    from authz.model import Diagnostic, Gateway, Plugin, Request, Route, Service

    Entries = Mapping[str, Mapping[str, list["_Entry"]]]

# --- The index ----------------------------------------------------------------

_T = TypeVar("_T")


class _Prefixes(Generic[_T]):
    """Finds every key that a text starts with, by one binary search.

    In sorted order, all keys between a prefix of a text and the text itself start
    with that prefix.  So the keys sought are the last key that is not greater than
    the text, and the keys that this one starts with.  Each key knows the longest of
    those (its parent).
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
    """What it can be found by besides host and path."""

    def fits(self, reading: Reading) -> bool:
        return all(condition(reading) for condition in self.conditions)


@dataclass(frozen=True, slots=True)
class _Key:
    """A header, the server name or the method, and the texts that a route accepts for it."""

    of: str
    """A header, ``SERVER_NAME`` or ``METHOD``."""
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
            if entry.key.of == SERVER_NAME:
                self._by_server_name.append(entry)

    def of(self, reading: Reading) -> Iterator[list[_Entry]]:
        """Yield lists of entries, each with the best rank first; all that fit are in one."""
        yield self._others
        for of, by_text in self._by_key.items():
            if of == SERVER_NAME and not reading.server_name:
                yield self._by_server_name  # the name was not told: any of them may fit
                continue
            for text in reading.texts(of):
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
        # Spelled backwards, "*.x" is a prefix to look for: "x."; "*" is the empty one.
        self._endings = _Prefixes(
            {host[:0:-1]: found for host, found in paths.items() if host.startswith("*")}
        )
        self._beginnings = _Prefixes(
            {host[:-1]: found for host, found in paths.items() if host[1:].endswith("*")}
        )

    def first(self, reading: Reading) -> _Entry | None:
        """Return the entry of best rank that the request fits."""
        best: _Entry | None = None
        for paths in self._paths(reading.host):
            for bucket in paths.of(reading.path):
                for entries in bucket.of(reading):
                    best = _better(best, entries, reading)
        return best

    def _paths(self, host: str) -> Iterator[_Prefixes[_Bucket]]:
        if host in self._equal:
            yield self._equal[host]
        # A star stands for one character at least: that character is cut off.
        yield from self._endings.of(host[:0:-1])
        yield from self._beginnings.of(host[:-1])


def _better(best: _Entry | None, entries: Iterable[_Entry], reading: Reading) -> _Entry | None:
    """Return the first entry that the request fits, or ``best`` if its rank is better."""
    for entry in entries:
        if best is not None and best.rank < entry.rank:
            break
        if entry.fits(reading):
            return entry
    return best


# --- The router ---------------------------------------------------------------


class Router:
    """Finds the route, the plugin and the policy of a request.

    ``policy_of`` builds what a plugin asks for; it stands on every match of that plugin.
    ``must_be_named``: Envoy has to name each route, for nobody else is trusted to know it.
    ConfigurationError: a route holds a regex or an address that cannot be read.
    """

    def __init__(
        self,
        gateway: Gateway,
        policy_of: Callable[[Plugin], object] | None = None,
        *,
        must_be_named: bool = False,
    ) -> None:
        self._must_be_named = must_be_named
        plugins = PluginScopes(gateway.plugins, gateway.terminations, policy_of)
        services = [service for service in gateway.services if service.enabled]
        rules = routing_table(gateway.routes)
        matches = {rule.route.id: plugins.match(rule.route, rule.route.service) for rule in rules}
        self._routes = _by_name((rule.route for rule in rules), matches)
        self._services = _by_name(
            services, {service.id: plugins.match(None, service) for service in services}
        )
        # Services with at least one route that has its own plugin.  For these the service's
        # name does not determine which plugins apply.
        self._mixed_services = {
            id_of(match.service)
            for match in matches.values()
            if not _has_same_plugins(match, plugins.match(None, match.service))
        }
        anything = plugins.match(None, None)
        # A file whose routes are all disabled still has routes: then nothing else matches.
        self.catch_all = anything if anything.guards and not gateway.routes else None
        """The match of every request, in a file without routes whose plugin is for everything."""
        self._asked = Asked.by(rules)
        self._index, self._steps_max = _index(rules, matches)

    def match(self, request: Request) -> Match:
        """Return the route, the service and the plugin that a request meets.

        Envoy's own word (``route`` and ``service`` in the context extensions, which
        no caller can set) goes before everything that the caller sent.  A route's name
        decides alone, and so does a service's, unless a route of the service has a
        plugin of its own: then the request must fit a route of that service.

        RouteNotFound: ``route_unknown``, Envoy named what the file lacks;
        ``route_unmatched``, no route fits the request, or the one that does is
        for another protocol or of another service than the one that was named.
        Unavailable (``route_metadata_missing``): Envoy must name the route, and does not.
        Where the request itself decides: MalformedRequest, its route cannot be known, or
        only at too high a cost; Unavailable, a route asks for a server name that Envoy
        has not told.
        """
        names = request.context_extensions
        if "route" not in names and "service" not in names:
            if self._must_be_named:
                raise Unavailable(Reason.ROUTE_METADATA_MISSING, _UNNAMED)
            return self.catch_all or self._matched(request)
        match = self._named(names.get("route"), names.get("service"))
        return match if self._policy_is_certain(match) else self._matched(request, match.service)

    def certain_match(self, route: str | None = None, service: str | None = None) -> Match | None:
        """Return the match of every request for which Envoy gives these names.

        ``None``: the path, the host or the server name of the request has a part in it,
        or the file lacks the names.  Without names it is ``catch_all``, unless Envoy has to
        name a route; with the name of a service alone it is certain unless a route of the
        service has a plugin of its own.
        """
        if route is None and service is None:
            return None if self._must_be_named else self.catch_all
        try:
            match = self._named(route, service)
        except RouteNotFound:
            return None
        return match if self._policy_is_certain(match) else None

    def matches(self) -> Iterator[Match]:
        """Yield everything that a request may meet; some of it more than once."""
        yield from self._routes.values()
        yield from self._services.values()
        if self.catch_all is not None:
            yield self.catch_all

    def is_of_other_protocol(self, request: Request) -> bool:
        """Tell whether the best route for a request is for another protocol, so that it is 404.

        MalformedRequest, Unavailable: as in ``match``.
        """
        match = self._met(request)
        return match is not None and match.route is not None and not speaks(match.route, request)

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

    def _policy_is_certain(self, match: Match) -> bool:
        return match.route is not None or id_of(match.service) not in self._mixed_services

    def _matched(self, request: Request, service: Service | None = None) -> Match:
        """Return what the request itself meets: a route, one of ``service`` if that is given."""
        match = self._met(request)
        if match is None:
            raise RouteNotFound(Reason.ROUTE_UNMATCHED, "no route fits the request")
        if match.route is not None and not speaks(match.route, request):
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
        """Return what the request meets; refuse it if another reading meets something else.

        A usual reading (a port in the host) counts only where another plugin decides: an
        Envoy that has no route for it lets nobody in.
        """
        first, *others = readings(request, self._asked, Search(self._steps_max))
        match = self._read(first)
        for reading in others:
            if match is None and reading.is_usual:
                continue
            other = self._read(reading)
            if other == match or (reading.is_usual and _is_harmless(other, match)):
                continue
            raise MalformedRequest(
                Reason.ROUTE_AMBIGUOUS,
                f"Envoy may see {_route_label(other)} in the path, host or headers, and Kong's "
                f"router sees {_route_label(match)}; Envoy has named none",
            )
        return match

    def _read(self, reading: Reading) -> Match | None:
        entry = self._index.first(reading)
        if entry is None:
            return None
        if entry.match.route and entry.match.route.snis and not reading.server_name:
            # Whether this route or the next one answers depends on the name.  Kong asks for
            # no name without TLS, but whether there is TLS cannot be known either: the caller
            # writes the scheme (:scheme, X-Forwarded-Proto, http://…).
            raise Unavailable(
                Reason.SERVER_NAME_UNTOLD,
                f"{_route_label(entry.match)} asks for a server name (snis), and Envoy tells none",
            )
        return entry.match


_UNNAMED = (
    "Envoy tells no metadata of one HTTPRoute or GRPCRoute (--route-metadata envoy-gateway): set "
    "extAuth.includeRouteMetadata in the SecurityPolicy"
)


def _is_harmless(other: Match | None, match: Match | None) -> bool:
    return other is None or match is None or _has_same_plugins(other, match)


def _has_same_plugins(one: Match, other: Match) -> bool:
    return one.plugin is other.plugin and one.termination is other.termination


def _route_label(match: Match | None) -> str:
    return (
        "no route" if match is None or match.route is None else f"route {display_name(match.route)}"
    )


def _by_name(entities: Iterable[Route | Service], matches: Mapping[str, Match]) -> dict[str, Match]:
    """Return matches by id and, which goes first, by name."""
    return {**matches, **{entity.name: matches[entity.id] for entity in entities if entity.name}}


def fits(rule: Rule, reading: Reading) -> bool:
    """Tell whether a reading of a request fits a rule; a server name that was not told does."""
    index, _ = _index([rule], {rule.route.id: Match(rule.route, None, None)})
    return index.first(reading) is not None


def _index(rules: Iterable[Rule], matches: Mapping[str, Match]) -> tuple[_Index, int]:
    """Return the index, and the steps that a look into it may take."""
    entries: defaultdict[str, defaultdict[str, list[_Entry]]]
    entries = defaultdict(lambda: defaultdict(list))
    patterns = Patterns()
    problems: list[Diagnostic] = []
    for rank, rule in enumerate(rules):
        try:
            _file(entries, patterns, rank, rule, matches[rule.route.id])
        except ConfigurationError as error:
            problems += error.problems
    if problems:
        raise ConfigurationError(sorted(set(problems)))  # a split route says it twice
    return _Index(entries), SEARCH_STEPS_MAX + patterns.steps


def _file(entries: Entries, patterns: Patterns, rank: int, rule: Rule, match: Match) -> None:
    """File a rule under each pair of one of its hosts and one of its paths."""
    route = rule.route
    others = tuple(conditions(route, patterns))
    paths = [_path_key(route, path, patterns) for path in rule.paths] or [("", ())]
    hosts = [_host_key(host) for host in route.hosts] or [("*", ())]
    key = _key(route)
    for (host, port), (path, regex) in product(hosts, paths):
        every = (*port, *others, *regex)
        entries[host][path].append(_Entry(rank, match, every, key))


def _host_key(text: str) -> tuple[str, tuple[Condition, ...]]:
    host, port = split_host(text)
    # To Envoy, too, what a.* ends with may be a port.
    return host, () if port is None and host.endswith("*") else (partial(has_port, port),)


def _path_key(route: Route, path: str, patterns: Patterns) -> tuple[str, tuple[Condition, ...]]:
    if not is_regex(path):
        return path, ()
    pattern = patterns.path(route, path[1:])
    return pattern.prefix(), (partial(has_path, pattern),)


def _key(route: Route) -> _Key | None:
    for name, values in route.headers.items():
        if not any(map(is_header_regex, values)):
            return _Key(ascii_lower(name), frozenset(map(ascii_lower, values)))
    if route.snis and not any("*" in sni for sni in route.snis):
        return _Key(SERVER_NAME, frozenset(map(fold_server_name, route.snis)))
    return _Key(METHOD, frozenset(route.methods)) if route.methods else None
