"""The routes that cannot be written, and what becomes of their requests.

A route of lower rank must never answer what Kong would have given to a route that is
missing: it may stand open, or ask for less.  So a route is left out only where no route
below it shares a host with it.  Elsewhere Envoy refuses its requests in its place, by the
widest condition that can be written, if that takes no request of a route below it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING

from authz.envoy.bootstrap.unsayable import host_problem, path_problem, unsayable, verbatim
from authz.kong.regexes import Pattern
from authz.kong.rules import Rule, display_name, is_regex, routing_table, split_host

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from authz.model import Diagnostic, Gateway, Route

REASON = "route_not_written"


@dataclass(frozen=True, slots=True)
class Gap:
    """A route that cannot be written.  ``problems``: what of it cannot.

    ``stand_in``: what is refused in its place; ``None``: nothing has to be.  ``hidden``: a
    route that would lose requests to it, so that nothing at all can be written.
    """

    route: Route
    problems: Sequence[Diagnostic]
    stand_in: Route | None = None
    hidden: Route | None = None


def gaps(gateway: Gateway) -> Mapping[str, Gap]:
    """Return the gap of each route that cannot be written, by the route's id."""
    rules = routing_table(gateway.routes)
    found: dict[str, Gap] = {}
    below: list[Rule] = []
    # From the lowest rank up: only what is written has requests to lose.  A route ranks
    # by its best rule, the last one here.
    best = {rule.route.id: rank for rank, rule in reversed([*enumerate(rules)])}
    for rank, rule in reversed([*enumerate(rules)]):
        route = rule.route
        problems = found[route.id].problems if route.id in found else tuple(unsayable(route))
        if not problems:
            below.append(rule)
        elif best[route.id] == rank:
            found[route.id] = _gap(route, problems, below)
        else:
            found.setdefault(route.id, Gap(route, problems))
    return found


def _gap(route: Route, problems: Sequence[Diagnostic], below: Sequence[Rule]) -> Gap:
    if not any(_share_a_host(route.hosts, rule.route.hosts) for rule in below):
        return Gap(route, problems)
    wide = widest(route)
    hidden = next((rule.route for rule in below if _meet(wide, rule)), None)
    return Gap(route, problems, wide, hidden)


def written(rules: Sequence[Rule], found: Mapping[str, Gap]) -> list[Rule]:
    """Return the rules that can be written; some of them are stand-ins.

    ``found``: as ``gaps`` has found it; there is a stand-in where ``is_stand_in`` says so.
    """
    result: list[Rule] = []
    for rule in rules:
        gap = found.get(rule.route.id)
        if gap is None:
            result.append(rule)
        elif gap.stand_in is not None:
            paths = tuple(dict.fromkeys(map(_widest_path, rule.paths)))
            result.append(Rule(gap.stand_in, paths))
    return result


def explained(gap: Gap) -> list[Diagnostic]:
    """Return what to tell of a gap, at the places of what cannot be written."""
    if gap.hidden is not None:
        what = (
            "nothing is written, for what can be said of this route takes requests of "
            f"'{display_name(gap.hidden)}', at {gap.hidden.position}, too: change one of the two, "
            "or write an Envoy of your own that names its routes to authz (README, "
            "context_extensions)"
        )
    elif gap.stand_in is not None:
        paths = ", ".join(dict.fromkeys(gap.stand_in.paths)) or "/"
        what = (
            f"the route is not written, and Envoy answers 503 {REASON} to what begins with {paths} "
            "and meets its other conditions"
        )
    else:
        what = "the route is left out, and no other takes its requests: they are 404"
    return [replace(problem, message=f"{problem.message}; {what}") for problem in gap.problems]


# --- The widest condition ---------------------------------------------------------------


def widest(route: Route) -> Route:
    """Return a route that takes all requests of another, and can be written."""
    hosts = () if any(map(host_problem, route.hosts)) else route.hosts
    unsaid = {problem.parameter for problem in unsayable(route)}
    return replace(
        route,
        hosts=hosts,
        paths=tuple(map(_widest_path, route.paths)),
        headers={} if "headers" in unsaid else route.headers,
        snis=(),
        path_handling="v0",
        protocols=("http",),
    )


def _widest_path(path: str) -> str:
    if path_problem(path) is None:
        return path
    return _beginning(path)


def _beginning(path: str) -> str:
    """Return a plain path with which everything begins that a path of a route takes."""
    return verbatim(Pattern(path[1:]).prefix() if is_regex(path) else path) or "/"


# --- What meets what ----------------------------------------------------------------------


def _meet(wide: Route, rule: Rule) -> bool:
    """Tell whether a request may meet both; headers do not part them."""
    route = rule.route
    if wide.methods and route.methods and not set(wide.methods) & set(route.methods):
        return False
    return _share_a_host(wide.hosts, route.hosts) and any(
        one.startswith(other) or other.startswith(one)
        for one, other in product(
            map(_beginning, wide.paths or ("/",)), map(_beginning, rule.paths or ("/",))
        )
    )


def _share_a_host(one: Sequence[str], other: Sequence[str]) -> bool:
    """Tell whether a host may meet both; ports do not part them."""
    if not one or not other:
        return True
    return any(_overlap(_name(a), _name(b)) for a, b in product(one, other))


def _name(host: str) -> str:
    return split_host(host)[0]


def _overlap(one: str, other: str) -> bool:
    if host_problem(one) or host_problem(other):
        return True
    if "*" not in one:
        one, other = other, one
    if "*" not in one:
        return one == other
    # One is a wildcard now.  Its star is at its start, or at its end.
    if one.startswith("*"):
        rest = one[1:]
        if other.startswith("*"):
            return other.endswith(rest) or rest.endswith(other[1:])
        return other.endswith(("*", rest))
    rest = one[:-1]
    if other.startswith("*"):
        return True
    if other.endswith("*"):
        return other.startswith(rest) or rest.startswith(other[:-1])
    return other.startswith(rest)
