"""The routes that go before the one that answers a request, and what each of them misses.

For people who ask why another route answers.  It compares rule by rule, with the
router's own index over a part of a route at a time, so that there is no second opinion
on what fits.  It costs what the whole file is long: nothing for a server.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from authz.errors import MalformedRequest
from authz.kong import router
from authz.kong.readings import Asked, Search, readings
from authz.kong.rules import Rule, routing_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from authz.kong.readings import Reading
    from authz.model import Gateway, Request, Route

ROUTES_MAX: Final = 10


@dataclass(frozen=True, slots=True)
class PassedOver:
    """A route of higher rank, and the field of it that the request does not fit.

    ``differs``: ``hosts``, ``paths``, ``methods``, ``headers`` or ``snis``; of several, the
    first in this order.
    """

    route: Route
    differs: str


def passed_over(gateway: Gateway, request: Request) -> tuple[Sequence[PassedOver], int]:
    """Return routes that go before the one that answers, and how many there are in all.

    At most ``ROUTES_MAX``, the nearest first: those that miss fewest fields, of these the
    last in Kong's order.  If no route answers, all of them have been passed over.
    """
    rules = routing_table(gateway.routes)
    try:
        # Kong's reading is the first.  The router has bounded what a search may take.
        reading = next(readings(request, Asked.by(rules), Search(sys.maxsize)))
        found = _before(rules, reading)
    except MalformedRequest:
        return (), 0  # there is no route for it, whatever they ask for
    nearest: dict[str, PassedOver] = {}
    for route, missed in sorted(found, key=lambda pair: len(pair[1])):
        nearest.setdefault(route.id, PassedOver(route, missed[0]))
    return tuple(nearest.values())[:ROUTES_MAX], len(nearest)


def _before(rules: Sequence[Rule], reading: Reading) -> Sequence[tuple[Route, Sequence[str]]]:
    """Return the route of each rule before the first that fits, with what it misses; last first."""
    found: list[tuple[Route, Sequence[str]]] = []
    answers: Route | None = None
    for rule in rules:
        missed = [name for name, part in _parts(rule).items() if not router.fits(part, reading)]
        if not missed:
            answers = rule.route
            break
        found.append((rule.route, missed))
    # One that has several paths may miss by one of them and answer by the next.
    return [(route, missed) for route, missed in reversed(found) if route is not answers]


def _parts(rule: Rule) -> Mapping[str, Rule]:
    """Return rules that each ask for one field of a rule."""
    route = rule.route
    bare = replace(route, hosts=(), methods=(), headers={}, snis=())
    return {
        "hosts": Rule(replace(bare, hosts=route.hosts), ()),
        "paths": Rule(bare, rule.paths),
        "methods": Rule(replace(bare, methods=route.methods), ()),
        "headers": Rule(replace(bare, headers=route.headers), ()),
        "snis": Rule(replace(bare, snis=route.snis), ()),
    }
