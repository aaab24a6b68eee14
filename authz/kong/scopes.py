"""Which plugin applies to a route and its service: the most specific one, alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.model import Match

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from authz.model import Plugin, Route, Service


class PluginScopes:
    """The plugins by scope: route and service, route, service, everything."""

    def __init__(
        self, plugins: Iterable[Plugin], policy_of: Callable[[Plugin], object] | None = None
    ) -> None:
        self._by_scope: dict[tuple[str | None, str | None], tuple[Plugin, object]] = {}
        for plugin in plugins:
            scope = (id_of(plugin.route), id_of(plugin.service))
            self._by_scope.setdefault(scope, (plugin, policy_of and policy_of(plugin)))

    def match(self, route: Route | None, service: Service | None) -> Match:
        """Return route and service with the most specific plugin, which applies alone."""
        scopes = (
            (id_of(route), id_of(service)),
            (id_of(route), None),
            (None, id_of(service)),
            (None, None),
        )
        found = (self._by_scope[scope] for scope in scopes if scope in self._by_scope)
        return Match(route, service, *next(found, (None, None)))


def id_of(entity: Route | Service | None) -> str | None:
    """Return an entity's id; ``None`` for none."""
    return None if entity is None else entity.id
