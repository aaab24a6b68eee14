"""Which plugins apply to a route and its service: of each kind the most specific one, alone."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from authz.model import Match, Plugin, Termination

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from authz.model import Route, Service

_T = TypeVar("_T")


class PluginScopes:
    """The plugins of each kind by scope: route and service, route, service, everything.

    ``policy_of`` builds what a plugin asks for; it stands on every match of that plugin.
    """

    def __init__(
        self,
        plugins: Iterable[Plugin],
        terminations: Iterable[Termination],
        policy_of: Callable[[Plugin], object] | None = None,
    ) -> None:
        self._plugins = _ByScope((p, (p, policy_of and policy_of(p))) for p in plugins)
        self._terminations = _ByScope((t, t) for t in terminations)

    def match(self, route: Route | None, service: Service | None) -> Match:
        """Return route and service with the plugins that apply to them."""
        plugin, policy = self._plugins.most_specific(route, service) or (None, None)
        termination = self._terminations.most_specific(route, service)
        return Match(route, service, plugin, termination, policy)


class _ByScope(Generic[_T]):
    """A value for each plugin of one kind.  Of two with one scope the first counts."""

    def __init__(self, entries: Iterable[tuple[Plugin | Termination, _T]]) -> None:
        self._values: dict[tuple[str | None, str | None], _T] = {}
        for plugin, value in entries:
            self._values.setdefault((id_of(plugin.route), id_of(plugin.service)), value)

    def most_specific(self, route: Route | None, service: Service | None) -> _T | None:
        scopes = (
            (id_of(route), id_of(service)),
            (id_of(route), None),
            (None, id_of(service)),
            (None, None),
        )
        return next((self._values[scope] for scope in scopes if scope in self._values), None)


def id_of(entity: Route | Service | None) -> str | None:
    """Return an entity's id; ``None`` for none."""
    return None if entity is None else entity.id
