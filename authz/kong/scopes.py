"""Which plugin applies to a route and its service: the most specific one, alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.model import Match

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.model import Plugin, Route, Service


class PluginScopes:
    """The plugins by scope: route and service, route, service, everything."""

    def __init__(self, plugins: Iterable[Plugin]) -> None:
        self._by_scope: dict[tuple[str | None, str | None], Plugin] = {}
        for plugin in plugins:
            self._by_scope.setdefault((id_of(plugin.route), id_of(plugin.service)), plugin)

    def match(self, route: Route | None, service: Service | None) -> Match:
        """Return route and service with the most specific plugin, which applies alone."""
        scopes = (
            (id_of(route), id_of(service)),
            (id_of(route), None),
            (None, id_of(service)),
            (None, None),
        )
        plugins = (self._by_scope[scope] for scope in scopes if scope in self._by_scope)
        return Match(route, service, next(plugins, None))


def id_of(entity: Route | Service | None) -> str | None:
    """Return an entity's id; ``None`` for none."""
    return None if entity is None else entity.id
