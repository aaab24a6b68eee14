"""What a new configuration would let in that the one in force keeps out.

A file may be valid and yet have lost the plugins at its end, or a directory the file that
holds them; then a route stands open, or its requests fall to a wider one that does.  So each
guarded route is represented by requests (``witness``), and both configurations are asked.
A route may be opened only by what the file says, never by what it no longer says.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING

from authz.errors import Refusal, RouteOpened
from authz.kong.problems import Problems
from authz.kong.router import Router
from authz.kong.rules import display_name
from authz.kong.scopes import PluginScopes, id_of
from authz.kong.witness import anyone, witnesses
from authz.model import Diagnostic, Plugin, Request, Route, SourcePosition

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator

    from authz.model import Gateway, Match, Service, Termination

OPEN_TAG = "authz-open"
"""On a route: it is meant to be open to callers without a credential."""

COMBINATIONS_MAX = 200_000
"""Of one comparison, which then takes seconds, in a thread."""
COMBINATIONS_PER_ROUTE_MAX = 1_024
OPENINGS_TOLD = 20
"""Each has a line; the others are counted."""


@dataclass(frozen=True, slots=True)
class Opening:
    """A route that would answer without authentication what was guarded.

    ``guarded``: what answered before; ``None``: no route did, but a plugin for everything.
    ``witness``: the request; ``None``: no example could be made, so an opening cannot be
    ruled out.
    """

    answering: Route | Service
    guarded: Route | Service | None
    guard: Plugin | Termination
    witness: Request | None

    def told(self) -> Diagnostic:
        """Return the line for the operator."""
        name = display_name(self.answering)
        is_route = isinstance(self.answering, Route)
        tagged = f"the route {name}" if is_route else f"each route of the service {name}"
        guarded = "" if self.guarded is None else f" on {display_name(self.guarded)}"
        what = (
            f"{_request_line(self.witness)} would pass without authentication"
            if self.witness
            else "it may take requests whose path or header no example could be made for"
        )
        return Diagnostic(
            self.answering.position,
            "routes",
            f"{name} would be opened: {what}, and was guarded{guarded} by the plugin at "
            f"{self.guard.position}; if that is meant, give {tagged} the tag {OPEN_TAG}, or say "
            f"authz reload --may-open {name}",
        )


def unguarded(routes: Iterable[Route], plugins: PluginScopes) -> list[Route]:
    """Return the routes that take requests and to which no plugin applies, in the file's order."""
    return [
        route
        for route in routes
        if (route.service is None or route.service.enabled)
        and not plugins.match(route, route.service).guards
    ]


def require_plugins(gateway: Gateway) -> None:
    """Refuse routes without authentication that the file does not state to be open.

    A route is stated to be open by its tag, or by an openid-connect entry of its own or of its
    service that is there with ``enabled: false``; one for everything states nothing of a route.
    Raises ``ConfigurationError`` with each of them.
    """
    problems = Problems()
    off = _disabled(gateway)
    for route in unguarded(gateway.routes, PluginScopes(gateway.plugins, gateway.terminations)):
        service = id_of(route.service)
        scopes = {(route.id, service), (route.id, None), (None, service)} - {(None, None)}
        stated = {(Plugin.name, *scope) for scope in scopes}
        if OPEN_TAG not in route.tags and not off & stated:
            problems.error(
                route.position,
                "routes",
                f"{display_name(route)} has no openid-connect plugin, and --require-plugin wants "
                f"one; if it is meant to be open, give it the tag {OPEN_TAG}",
            )
    problems.raise_errors()


def refuse_openings(before: Gateway, after: Gateway, may_open: Collection[str] = ()) -> None:
    """Raise ``RouteOpened`` if ``after`` opens what ``before`` guards and does not say so.

    ``may_open``: names of routes or services that the operator lets be open.
    ``ConfigurationError``: one of them is not in the file.
    """
    _check_names(after, may_open)
    told = [opening.told() for opening in openings(before, after, may_open)]
    if told:
        others = len(told) - OPENINGS_TOLD
        more = f"and {others} more would be opened"
        rest = [Diagnostic(told[OPENINGS_TOLD].position, "routes", more)] if others > 0 else []
        raise RouteOpened((*told[:OPENINGS_TOLD], *rest))


def openings(before: Gateway, after: Gateway, may_open: Collection[str] = ()) -> list[Opening]:
    """Return what would be opened, one for each answering route or service, by their places."""
    comparison = _Comparison(before, after, frozenset(may_open))
    found: dict[str, Opening] = {}
    for opening in comparison.openings():
        found.setdefault(opening.answering.id, opening)
    # A service that Envoy names is open by its routes, and these are reported.
    by_routes = {
        id_of(o.answering.service) for o in found.values() if isinstance(o.answering, Route)
    }
    told = (opening for opening in found.values() if opening.answering.id not in by_routes)
    return sorted(told, key=lambda opening: opening.answering.position)


def _check_names(gateway: Gateway, may_open: Collection[str]) -> None:
    problems = Problems()
    entities: tuple[Route | Service, ...] = (*gateway.routes, *gateway.services)
    known = {name for entity in entities for name in (entity.name, entity.id) if name}
    for name in sorted(set(may_open) - known):
        hint = problems.did_you_mean(name, known)
        message = f"'{name}' is no route or service of the file{hint}"
        problems.error(SourcePosition("reload", 1, 1), "--may-open", message)
    problems.raise_errors()


def _disabled(gateway: Gateway) -> set[tuple[str, str | None, str | None]]:
    """Return what the file says to be off: a plugin's name, the ids of its route and service."""
    return {(off.name, id_of(off.route), id_of(off.service)) for off in gateway.disabled}


class _Comparison:
    """Two configurations, and what the second one may leave open."""

    def __init__(self, before: Gateway, after: Gateway, may_open: frozenset[str]) -> None:
        self._before = before
        self._after = after
        self._may_open = may_open
        self._off = _disabled(after)
        self._router_after = Router(after)
        plugins = PluginScopes(after.plugins, after.terminations)
        self._open = unguarded(after.routes, plugins)
        self._suspects = [route for route in self._open if not self._is_stated(route)]
        self._open_services = [
            service
            for service in after.services
            if service.enabled and not plugins.match(None, service).guards
        ]

    def openings(self) -> Iterator[Opening]:
        """Yield an opening for every request that shows one."""
        if not self._suspects and not self._open_services:
            return  # nothing can have been opened
        router = Router(self._before)
        if router.catch_all is not None:  # one plugin, for everything
            yield from self._shown(router, anyone())
        plugins = PluginScopes(self._before.plugins, self._before.terminations)
        most = COMBINATIONS_MAX // max(1, len(self._before.routes))
        most = max(1, min(COMBINATIONS_PER_ROUTE_MAX, most))
        for route in self._before.routes:
            guards = plugins.match(route, route.service).guards
            if guards and (route.service is None or route.service.enabled):
                yield from self._of_route(router, route, guards[0], most)
        for service in self._before.services:
            yield from self._shown(router, _of_service(Request(), service))

    def _of_route(
        self, router: Router, route: Route, guard: Plugin | Termination, most: int
    ) -> Iterator[Opening]:
        unknown, named = False, route.service is None
        for requests in witnesses(route, most):
            try:
                request = _standing_for(route, requests, router)
            except LookupError:
                unknown = True
                continue
            if request is None:
                continue
            yield from self._shown(router, request)
            yield from self._fallen(router, requests)
            if route.service is not None and not named:
                named = True
                yield from self._shown(router, _of_service(request, route.service))
        if unknown and self._suspects and not self._is_as_before(route):
            yield Opening(self._suspects[0], route, guard, None)
        yield from self._shown(router, Request(context_extensions={"route": display_name(route)}))

    def _fallen(self, router: Router, requests: Iterable[Request]) -> Iterator[Opening]:
        """Yield openings by the other requests of a combination: its bare path, an alternative.

        A new narrower route may take these.  An open route that was there before must not get
        them because a guarded one has changed.
        """
        for request in requests if self._may_fall_to else ():
            for opening in self._shown(router, request):
                if opening.answering.id in self._may_fall_to:
                    yield opening

    @cached_property
    def _may_fall_to(self) -> frozenset[str]:
        before = {route.id for route in self._before.routes}
        return frozenset(route.id for route in self._suspects if route.id in before)

    def _shown(self, router: Router, request: Request) -> Iterator[Opening]:
        """Yield an opening if the request was refused without a credential and would not be."""
        after = _match(self._router_after, request)
        if after is None or after.guards:
            return
        before = _match(router, request)
        answering = after.route or after.service
        if before is None or answering is None:
            return
        for guard in before.guards:
            if not self._is_meant(after, guard):
                yield Opening(answering, before.route or before.service, guard, request)

    def _is_meant(self, match: Match, guard: Plugin | Termination) -> bool:
        """Tell whether the file or the operator says that what matched may be open.

        An entry that is off says so if it is of the same plugin and has the scope of the one
        that guarded before: another one was off all the while, or is for something else.
        """
        scope = (id_of(guard.route and match.route), id_of(guard.service and match.service))
        if (guard.name, *scope) in self._off:
            return True
        if match.route is not None:
            return self._is_stated(match.route)
        if match.service is None:
            return False
        # Envoy names the service: as open as its routes are.
        own = [route for route in self._open if route.service == match.service]
        return self._is_named(match.service) or bool(own and all(map(self._is_stated, own)))

    def _is_stated(self, route: Route) -> bool:
        return OPEN_TAG in route.tags or self._is_named(route)

    def _is_named(self, entity: Route | Service) -> bool:
        return entity.id in self._may_open or entity.name in self._may_open

    def _is_as_before(self, route: Route) -> bool:
        """Tell whether a route without a witness surely keeps its requests.

        It does if it asks for the same, is still guarded, and no route is open that was not.
        """
        return self._all_were_open and self._guarded.get(route.id) == _conditions(route)

    @cached_property
    def _guarded(self) -> dict[str, object]:
        open_ids = {route.id for route in self._open}
        return {r.id: _conditions(r) for r in self._after.routes if r.id not in open_ids}

    @cached_property
    def _all_were_open(self) -> bool:
        plugins = PluginScopes(self._before.plugins, self._before.terminations)
        were = {r.id: _conditions(r) for r in unguarded(self._before.routes, plugins)}
        return all(were.get(r.id) == _conditions(r) for r in self._suspects)


def _standing_for(route: Route, requests: Iterable[Request], router: Router) -> Request | None:
    """Return the request that the route itself answers, else one that another guarded one does.

    ``None``: others answer them all, open ones, or ones for another protocol by 404.
    ``LookupError``: no route is known to answer any of them.
    """
    of_another: Request | None = None
    answered = False
    for request in requests:
        match = _match(router, request)
        if match is None:
            answered = answered or _is_of_other_protocol(router, request)
            continue
        if match.route is not None and match.route.id == route.id:
            return request
        answered = True
        if match.guards and of_another is None:
            of_another = request
    if not answered:
        raise LookupError
    return of_another


def _match(router: Router, request: Request) -> Match | None:
    try:
        return router.match(request)
    except Refusal:  # no route, or a request that is answered with an error: nothing is open
        return None


def _is_of_other_protocol(router: Router, request: Request) -> bool:
    try:
        return router.is_of_other_protocol(request)
    except Refusal:
        return False


def _of_service(request: Request, service: Service) -> Request:
    return replace(request, context_extensions={"service": display_name(service)})


def _conditions(route: Route) -> tuple[object, ...]:
    """Return what decides which requests a route takes."""
    fields = (route.protocols, route.methods, route.hosts, route.paths, route.snis)
    headers = {name.lower(): frozenset(values) for name, values in route.headers.items()}
    return (*map(frozenset, fields), headers, route.regex_priority)


def _request_line(request: Request) -> str:
    """Return the request as a person can send it."""
    names = request.context_extensions
    if names and not request.path:
        return ", ".join(f"what Envoy names {kind} {name}" for kind, name in names.items())
    # Names only: the value that a route asks for may be a secret of its callers.
    lines = f", with the route's {', '.join(request.headers)}" if request.headers else ""
    named = "".join(f", named {kind} {name} by Envoy" for kind, name in names.items())
    sni = f", server name {request.server_name}" if request.scheme == "https" else ""
    return f"{request.method} {request.scheme}://{request.host}{request.path}{lines}{sni}{named}"
