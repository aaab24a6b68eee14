"""The plugin entries of the file: whether each may stand where it stands.

What openid-connect's own ``config`` may say is ``openid_connect``'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from authz.kong import checks, openid_connect, plugins, schema
from authz.kong.content import mappings, plain_value, text_of
from authz.kong.plugins import PluginRole
from authz.kong.protocols import HTTP_AND_GRPC, PROTOCOLS
from authz.model import DisabledPlugin, Plugin
from authz.parameters.checks import filled
from authz.parameters.kinds import Anything, Array, Boolean, Field, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.kong.content import Files
    from authz.kong.document import MappingNode
    from authz.kong.environment import Vaults
    from authz.kong.index import EntityIndex
    from authz.kong.problems import Problems
    from authz.model import Route, Service, SourcePosition

FIELDS: Mapping[str, Field] = {
    "name": Field(Text(check=filled)),
    "instance_name": Field(Text(check=filled)),
    "enabled": Field(Boolean(), default=True, absence="the plugin would be enabled"),
    "protocols": Field(
        Array(Text(allowed=PROTOCOLS), at_least=1),
        HTTP_AND_GRPC,
        absence="the plugin would have Kong's default protocols",
    ),
    "id": Field(Text(check=checks.uuid), absence="the plugin would get another id"),
    "_config": Field(
        Text(check=filled), absence="nothing of _plugin_configs would apply to the plugin"
    ),
    **dict.fromkeys(
        (
            "config", "condition", "expressions", "ordering", "partials", "run_on",
            "service", "route", "consumer", "consumer_group",
            "tags", "created_at", "updated_at", "_comment", "_ignore",
        ),
        Field(Anything()),
    ),
}  # fmt: skip

ABSENCES: Mapping[str, str] = {
    "service": "the plugin would not belong to one service",
    "route": "the plugin would not belong to one route",
    "consumer": "the plugin would not belong to one consumer",
}

UNRESOLVED: Mapping[str, str] = {
    "condition": "decides when the plugin applies, and is not done here: without it the plugin "
    "applies to every request of its scope; remove it if that is right",
    "expressions": "computes the plugin's config for each request, and is not done here: write "
    "fixed values in config",
    "ordering": "changes when the plugin runs, and is not done here: Envoy's filters stand in "
    "the order of its own configuration; remove it if that is right",
    "partials": "takes configuration from elsewhere, and is not done here: write it out in config",
}
"""Fields that are refused on an openid-connect plugin, each with the reason."""


_WITHOUT_A_PLUGIN = (
    "without it whatever it guards is open, except where an openid-connect plugin applies; write "
    "openid-connect in its place, and remove or disable it only if that is right"
)


@dataclass(frozen=True, slots=True)
class _PluginEntry:
    """A plugin as it stands in the file, inside of what it applies to."""

    mapping: MappingNode
    service: Service | None = None
    route: Route | None = None
    owner: str = ""  # "consumer" or "consumer_group", if it stands inside of one


class _Scope(NamedTuple):
    service: Service | None
    route: Route | None
    owner: str  # what else narrows it: a consumer or a group
    known: bool  # whether everything that it names was found


class PluginEntries:
    """The plugin entries of all files, at the top level and inside of other entities."""

    def __init__(
        self,
        content: Files,
        services: EntityIndex[Service],
        routes: EntityIndex[Route],
        vaults: Vaults,
        problems: Problems,
    ) -> None:
        self._content = content
        self._services = services
        self._routes = routes
        self._vaults = vaults
        self._problems = problems
        self._entries: list[_PluginEntry] = []
        self._configs = content.plugin_configs()
        self._clones: dict[str, str] = {}
        self.disabled: list[DisabledPlugin] = []
        """The openid-connect entries with ``enabled: false``."""

    def collect(
        self,
        mapping: MappingNode,
        service: Service | None = None,
        route: Route | None = None,
        owner: str = "",
    ) -> None:
        """Note the plugins that stand inside of an entity.

        ``owner``: "consumer" or "consumer_group", if they stand inside of one.
        """
        for plugin in mappings(mapping, "plugins", self._problems):
            self._entries.append(_PluginEntry(plugin, service, route, owner))

    def read(self) -> list[Plugin]:
        """Return the openid-connect plugins that are enabled; report what may not stand there."""
        self._entries.extend(map(_PluginEntry, self._content.entries("plugins")))
        self._read_clones()
        return self._read_plugins()

    def _read_clones(self) -> None:
        for mapping in self._content.entries("cloned_plugins"):
            name, origin = (text_of(mapping, field, self._problems) for field in ("name", "ref"))
            if origin == plugins.OPENID_CONNECT:
                message = "clones of openid-connect are not done here; use the plugin by its name"
                self._problems.error(mapping.position, "cloned_plugins", message)
            if name and (name in self._clones or name in plugins.kong_plugin_names()):
                message = f"'{name}' names a plugin already; choose another name"
                self._problems.error(mapping.position_of("name"), "name", message)
            if name and origin:
                self._clones[name] = origin

    def _read_plugins(self) -> list[Plugin]:
        found: list[Plugin] = []
        read_past: dict[str, SourcePosition] = {}
        seen: dict[tuple[object, ...], SourcePosition] = {}
        labels: dict[str, SourcePosition] = {}
        for entry in self._entries:
            values = schema.read_fields(entry.mapping, FIELDS, self._problems)
            name = values.get("name")
            if name is None:
                if entry.mapping.get("name") is None:
                    self._problems.error(entry.mapping.position, "name", "is required")
                continue
            schema.refuse_absence(entry.mapping, ABSENCES, self._problems)
            scope = self._scope(entry)
            instance_name = values.get("instance_name")
            if scope.known:
                key = (name, _key(scope.service), _key(scope.route), scope.owner)
                self._check_unique(entry.mapping, key, seen, "name")
            if instance_name is not None:
                self._check_unique(entry.mapping, instance_name, labels, "instance_name")
            if name == plugins.OPENID_CONNECT:
                if plugin := self._openid_connect(entry.mapping, values, scope):
                    found.append(plugin)
            elif values.get("enabled", True) and self._is_read_past(entry.mapping, name):
                read_past.setdefault(name, entry.mapping.position)
        self._notice_read_past(read_past)
        return found

    def _scope(self, entry: _PluginEntry) -> _Scope:
        owner = entry.owner
        for field in ("consumer", "consumer_group"):
            node = entry.mapping.get(field)
            if node is not None:
                owner = f"{field} {plain_value(node)}"
            elif owner == field:  # every consumer may have its own
                owner = f"{field} at {entry.mapping.position}"
        service = self._services.reference(entry.mapping, "service", entry.service)
        route = self._routes.reference(entry.mapping, "route", entry.route)
        known = not (
            (service is None and entry.mapping.get("service") is not None)
            or (route is None and entry.mapping.get("route") is not None)
        )
        return _Scope(service, route, owner, known)

    def _check_unique(
        self, mapping: MappingNode, key: _Key, seen: dict[_Key, SourcePosition], field: str
    ) -> None:
        position = mapping.position_of(field)
        first = seen.setdefault(key, position)
        if first is not position:
            where = " with the same scope" if field == "name" else ""
            self._problems.error(position, field, f"another plugin{where} has the same, at {first}")

    def _openid_connect(
        self, mapping: MappingNode, values: dict[str, object], scope: _Scope
    ) -> Plugin | None:
        enabled = bool(values.get("enabled", True))
        parameters = self._config(mapping, values)
        config = openid_connect.read(
            parameters,
            mapping.position,
            self._vaults,
            self._problems,
            enabled=enabled,
        )
        if not enabled:
            if not scope.owner:
                self.disabled.append(DisabledPlugin(mapping.position, scope.service, scope.route))
            return None
        self._check_plugin(mapping, values, scope)
        if config is None:
            return None
        instance_name = values.get("instance_name")
        return Plugin(
            mapping.position,
            config,
            scope.service,
            scope.route,
            None if instance_name is None else str(instance_name),
            {name: parameters.key_position(name) for name in parameters.entries},
        )

    def _config(self, mapping: MappingNode, values: dict[str, object]) -> MappingNode:
        """Return the plugin's ``config``, laid over the shared one that ``_config`` names."""
        node = mapping.get("config")
        own = schema.as_mapping(node, "config", self._problems) if node is not None else None
        own = own or mapping.emptied()
        source = values.get("_config")
        if source is None:
            return own
        if node is None and "config" in mapping.entries:
            message = schema.absent(
                "null", f"only what '{source}' of _plugin_configs says would hold"
            )
            self._problems.error(mapping.position_of("config"), "config", message)
        shared = self._configs.get(str(source))
        if shared is None:
            hint = self._problems.did_you_mean(str(source), self._configs)
            message = f"is none of _plugin_configs{hint}"
            self._problems.error(mapping.position_of("_config"), "_config", message)
            return own
        return own.merged_over(shared)

    def _check_plugin(self, mapping: MappingNode, values: dict[str, object], scope: _Scope) -> None:
        if scope.owner:
            message = (
                "openid-connect finds the consumer and cannot depend on one: put it on a service, "
                "on a route, or on everything"
            )
            self._problems.error(mapping.position, "consumer", message)
        for field, message in UNRESOLVED.items():
            if not schema.is_empty(mapping.get(field)):
                self._problems.error(mapping.key_position(field), field, message)
        protocols = values.get("protocols")
        if isinstance(protocols, tuple) and not set(HTTP_AND_GRPC) <= set(protocols):
            self._problems.notice(
                mapping.position_of("protocols"),
                "protocols",
                "the plugin applies to requests of every protocol, as in Kong",
            )

    def _is_read_past(self, mapping: MappingNode, name: str) -> bool:
        """Tell whether a plugin may be ignored; report it if not."""
        role = plugins.role(self._clones.get(name, name))
        position = mapping.position_of("name")
        if role is PluginRole.DECIDES:
            message = f"{name} decides who gets in and is not done here: {_WITHOUT_A_PLUGIN}"
            self._problems.error(position, "name", message)
        elif role is PluginRole.UNKNOWN:
            nearest = self._problems.did_you_mean(name, plugins.kong_plugin_names())
            message = (
                f"'{name}' is no plugin of Kong's that is known here, and may decide who gets in"
                f"{nearest or f': {_WITHOUT_A_PLUGIN}'}"
            )
            self._problems.error(position, "name", message)
        return role is PluginRole.READ_PAST

    def _notice_read_past(self, read_past: dict[str, SourcePosition]) -> None:
        if read_past:
            self._problems.notice(
                next(iter(read_past.values())),
                "plugins",
                f"these do not decide who gets in and are left to Envoy: {', '.join(read_past)}",
            )


_Key = TypeVar("_Key")


def _key(part: Service | Route | None) -> str | None:
    return None if part is None else part.id
