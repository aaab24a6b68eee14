"""The plugin entries of the file: whether each may stand where it stands.

What openid-connect's own ``config`` may say is ``openid_connect``'s business.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from authz.kong import checks, cors, openid_connect, plugins, schema, termination
from authz.kong.content import mappings, plain_value, text_of
from authz.kong.plugins import PluginRole
from authz.kong.problems import Problems
from authz.kong.protocols import HTTP_AND_GRPC, PROTOCOLS
from authz.model import DisabledPlugin, OtherPlugin, Plugin, Termination
from authz.parameters.checks import filled
from authz.parameters.kinds import Anything, Array, Boolean, Field, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.kong.content import Files
    from authz.kong.document import MappingNode
    from authz.kong.environment import Vaults
    from authz.kong.index import EntityIndex
    from authz.model import Diagnostic, Route, Service, SourcePosition

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
"""Fields that are refused on a plugin that is done, each with the reason."""


_DONE = frozenset({plugins.OPENID_CONNECT, plugins.REQUEST_TERMINATION})

_WITHOUT_A_PLUGIN = (
    "without it whatever it guards stands open, except where openid-connect applies; write "
    "openid-connect in its place, or request-termination to keep it shut, and remove or disable it "
    "only if it may stand open"
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
        *,
        methods: tuple[str, ...],
    ) -> None:
        self._content = content
        self._services = services
        self._routes = routes
        self._vaults = vaults
        self._problems = problems
        self._methods = methods
        self._entries: list[_PluginEntry] = []
        self._configs = content.plugin_configs()
        self._clones: dict[str, str] = {}
        self.plugins: list[Plugin] = []
        """The openid-connect plugins that are enabled."""
        self.terminations: list[Termination] = []
        """The request-termination plugins that are enabled."""
        self.disabled: list[DisabledPlugin] = []
        """The entries of both with ``enabled: false``."""
        self.others: list[OtherPlugin] = []
        """The enabled ones that do not decide who gets in, under the names that Kong knows."""
        self._read_past: dict[str, None] = {}  # names as the files have them

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

    def read(self) -> None:
        """Read every entry; report what may not stand where it stands."""
        self._entries.extend(map(_PluginEntry, self._content.entries("plugins")))
        self._read_clones()
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
            self._read_entry(entry.mapping, values, scope)
        self._notice_read_past()

    def _read_entry(self, mapping: MappingNode, values: dict[str, Any], scope: _Scope) -> None:
        enabled = values.get("enabled", True)
        match plugins.role(values["name"]):
            case PluginRole.OPENID_CONNECT:
                self._openid_connect(mapping, values, scope)
            case PluginRole.REQUEST_TERMINATION:
                self._request_termination(mapping, values, scope)
            case _ if enabled:
                self._other(mapping, values, scope)
            case _:
                return
        if not enabled and not scope.owner and values["name"] in _DONE:
            off = DisabledPlugin(mapping.position, values["name"], scope.service, scope.route)
            self.disabled.append(off)

    def _read_clones(self) -> None:
        for mapping in self._content.entries("cloned_plugins"):
            name, origin = (text_of(mapping, field, self._problems) for field in ("name", "ref"))
            if origin in _DONE:
                message = f"clones of {origin} are not done here; use the plugin by its name"
                self._problems.error(mapping.position, "cloned_plugins", message)
            if name and (name in self._clones or name in plugins.kong_plugin_names()):
                message = f"'{name}' names a plugin already; choose another name"
                self._problems.error(mapping.position_of("name"), "name", message)
            if name and origin:
                self._clones[name] = origin

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

    def _openid_connect(self, mapping: MappingNode, values: dict[str, Any], scope: _Scope) -> None:
        enabled = values.get("enabled", True)
        parameters = self._config(mapping, values)
        config = openid_connect.read(
            parameters,
            mapping.position,
            self._vaults,
            self._problems,
            methods=self._methods,
            enabled=enabled,
        )
        if not enabled:
            return
        self._check_plugin(mapping, values)
        if scope.owner:
            message = (
                "openid-connect finds the consumer and cannot depend on one: put it on a service, "
                "on a route, or on everything"
            )
            self._problems.error(mapping.position, "consumer", message)
        if config is not None:
            label = values.get("instance_name")
            positions = {name: parameters.key_position(name) for name in parameters.entries}
            plugin = Plugin(mapping.position, config, scope.service, scope.route, label, positions)
            self.plugins.append(plugin)

    def _request_termination(
        self, mapping: MappingNode, values: dict[str, Any], scope: _Scope
    ) -> None:
        terms = termination.read(self._config(mapping, values), self._problems)
        if not values.get("enabled", True):
            return
        self._check_plugin(mapping, values)
        if scope.owner:
            message = (
                "request-termination for a consumer or a group is not done here: put it on a "
                "service, on a route, or on everything"
            )
            self._problems.error(mapping.position, "consumer", message)
        self.terminations.append(
            Termination(
                mapping.position, **terms._asdict(), service=scope.service, route=scope.route
            )
        )

    def _config(self, mapping: MappingNode, values: dict[str, Any]) -> MappingNode:
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

    def _check_plugin(self, mapping: MappingNode, values: dict[str, Any]) -> None:
        """Report the fields that would change when a plugin applies, and are not done."""
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

    def _other(self, mapping: MappingNode, values: dict[str, Any], scope: _Scope) -> None:
        """Note a plugin that may be ignored; report one that may not."""
        name = values["name"]
        kind = self._clones.get(name, name)
        role = plugins.role(kind)
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
        elif role is PluginRole.READ_PAST:
            settings, faults = self._settings(mapping, values) if kind == cors.NAME else ({}, ())
            self.others.append(
                OtherPlugin(
                    mapping.position,
                    kind,
                    scope.service,
                    scope.route,
                    scope.owner,
                    settings,
                    faults,
                )
            )
            self._read_past.setdefault(name)

    def _settings(
        self, mapping: MappingNode, values: dict[str, Any]
    ) -> tuple[dict[str, Any], tuple[Diagnostic, ...]]:
        """Return what ``cors`` sets, and what is wrong with it: that keeps nobody from starting."""
        problems = Problems()
        own = mapping.emptied()
        if (node := mapping.get("config")) is not None:
            own = schema.as_mapping(node, "config", problems) or own
        if (shared := self._configs.get(str(values.get("_config")))) is not None:
            own = own.merged_over(shared)
        return schema.read_fields(own, cors.FIELDS, problems), problems.errors

    def _notice_read_past(self) -> None:
        if self._read_past:
            self._problems.notice(
                self.others[0].position,
                "plugins",
                "these do not decide who gets in and are left to Envoy: "
                f"{', '.join(self._read_past)}",
            )


_Key = TypeVar("_Key")


def _key(part: Service | Route | None) -> str | None:
    return None if part is None else part.id
