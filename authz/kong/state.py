"""The whole configuration: from the files' entities to one ``model.Gateway``."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

from authz.kong import (
    document,
    entities,
    environment,
    openid_connect,
    plugins,
    schema,
)
from authz.kong.content import Files, mappings, plain_value
from authz.kong.document import MappingNode, Node, Scalar
from authz.kong.openings import unguarded
from authz.kong.plugins import PluginRole
from authz.kong.problems import Problems
from authz.kong.router import PluginScopes, display_name
from authz.model import Consumer, DisabledPlugin, Gateway, Plugin, Route, Service, SourcePosition
from authz.parameters.checks import carried_by_header
from authz.parameters.kinds import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.kong.files import Sources

# Of the environment's vault: where the variables are, and how long Kong keeps them.
_VAULT_SETTINGS = frozenset({"prefix", "ttl", "neg_ttl", "resurrect_ttl"})

_ROUTES_NAMED = 5
"""Of the routes to which no plugin applies; the others are counted."""


_WITHOUT_A_PLUGIN = (
    "without it whatever it guards is open, except where an openid-connect plugin applies; write "
    "openid-connect in its place, and remove or disable it only if that is right"
)


def parse(sources: Sources, environ: Mapping[str, str]) -> Gateway:
    """Check what was read: equal sources and variables make equal gateways, in any process.

    Raise ``ConfigurationError`` with all problems, those of the reading first.
    """
    problems = Problems(sources.errors, sources.notices)
    if not sources.files and not sources.errors:
        problems.error(SourcePosition("configuration", 1, 1), "file", "no configuration is named")
    roots: list[MappingNode] = []
    empty: list[str] = []
    for file, data in sources.files:
        root = document.parse(data, file, environ, problems)
        if root is None:  # nothing in it, or an error that has been reported
            empty.append(file)
        elif mapping := schema.as_mapping(root, "file", problems):
            roots.append(mapping)
    for file in empty:
        problems.notice(SourcePosition(file, 1, 1), "file", "is empty: nothing is read from it")
    if not roots:
        problems.raise_errors()
        problems.error(
            SourcePosition(empty[0], 1, 1), "file", "is empty: write a configuration into it"
        )
        problems.raise_errors()
    gateway = _Assembly(Files(roots, problems), environ, problems).gateway()
    problems.raise_errors()
    return gateway


# --- Entities by name and id ----------------------------------------------------------


_Entity = TypeVar("_Entity", Service, Route, Consumer)


class _Index(Generic[_Entity]):
    """The entities of one kind in the file's order, by each field that must be unique.

    ``one_namespace``: whoever names one may use any of these fields, so what is the name
    of one cannot be the id of another, given or made.
    """

    def __init__(
        self, kind: str, unique: tuple[str, ...], problems: Problems, *, one_namespace: bool
    ) -> None:
        self.all: list[_Entity] = []
        self._kind = kind
        self._by: dict[str, dict[str, _Entity]] = {field: {} for field in unique}
        self._one_namespace = one_namespace
        self._problems = problems
        self._unread: list[set[str | None]] = []
        """Of each entity that could not be read, what it is called; None: not to be known."""

    def add(self, entity: _Entity, mapping: MappingNode) -> None:
        """Add an entity, reporting each of its keys that another one has."""
        self.all.append(entity)
        clash: _Entity | None = None
        for field, known in self._by.items():
            key = getattr(entity, field)
            if key is None:
                continue
            first = known.setdefault(key, entity)
            if first is entity:
                self._check_namespace(entity, mapping, field)
                continue
            # Equal names make equal ids, of which nothing is said besides.
            if field != "id" or mapping.get("id") is not None or first is not clash:
                message = f"another of the {self._kind} has the same, at {first.position}"
                self._problems.error(mapping.position_of(field), field, message)
            clash = first

    def _check_namespace(self, entity: _Entity, mapping: MappingNode, field: str) -> None:
        if not self._one_namespace:
            return
        for other, known in self._by.items():
            first = known.get(getattr(entity, field))
            if first is not None and first is not entity:
                message = (
                    f"is the {other} of another of the {self._kind}, at {first.position}: names "
                    "and ids, given or made from names, are one namespace; choose another"
                )
                self._problems.error(mapping.position_of(field), field, message)

    def pass_over(self, mapping: MappingNode) -> None:
        """Note an entity that could not be read, so that nobody is told that it is missing."""
        nodes = [entry.value for f in self._by if (entry := mapping.entries.get(f)) is not None]
        self._unread.append({n.text if isinstance(n, Scalar) else None for n in nodes})

    def find(self, node: Node, name: str) -> _Entity | None:
        """Return what ``node`` refers to: a name or id, or a mapping with one of them.

        None after a report: one about ``node``, or an earlier one about its entity.
        """
        if isinstance(node, MappingNode):
            keys = {field: key for field in self._by if (key := node.get(field)) is not None}
            node = next(iter(keys.values()), node)
        else:
            keys = dict.fromkeys(self._by, node)
        if not isinstance(node, Scalar):
            self._problems.error(
                node.position, name, f"must be a name or an id of the {self._kind}"
            )
            return None
        if node.text is None:  # of a variable that is missing
            return None
        found = [
            entity
            for field, key in keys.items()
            if isinstance(key, Scalar) and (entity := self._by[field].get(key.text or ""))
        ]
        if any(entity is not found[0] for entity in found):
            message = f"{' and '.join(keys)} are those of two {self._kind}: write one of them"
            self._problems.error(node.position, name, message)
        if found:
            return found[0]
        if not any({node.text, None} & names for names in self._unread):
            self._problems.error(node.position, name, self._unknown(node))
        return None

    def _unknown(self, node: Scalar) -> str:
        elsewhere = "; if it stands in another file, give that file too"
        if node.variables or node.text is None:
            return f"names none of the {self._kind}{elsewhere}"
        hint = self._problems.did_you_mean(
            node.text, (key for known in self._by.values() for key in known)
        )
        return f"'{node.text}' is none of the {self._kind}{hint or elsewhere}"


# --- The assembly ------------------------------------------------------------------------


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


class _Assembly:
    """Builds the gateway: services and routes first, then what refers to them."""

    def __init__(self, content: Files, environ: Mapping[str, str], problems: Problems) -> None:
        self._content = content
        self._problems = problems
        self._vaults = environment.Vaults(environ, self._read_vaults())
        self._services: _Index[Service] = _Index(
            "services", ("name", "id"), problems, one_namespace=True
        )
        self._routes: _Index[Route] = _Index("routes", ("name", "id"), problems, one_namespace=True)
        self._consumers: _Index[Consumer] = _Index(
            "consumers", ("username", "custom_id", "id"), problems, one_namespace=False
        )
        self._entries: list[_PluginEntry] = []
        self._configs = content.plugin_configs()
        self._clones: dict[str, str] = {}
        self._disabled: list[DisabledPlugin] = []
        self._contents = entities.GeneratedNames()

    def gateway(self) -> Gateway:
        """Read everything and put it together."""
        self._read_services()
        self._notice_upstreams()
        self._read_consumers()
        self._read_consumer_groups()
        self._entries.extend(map(_PluginEntry, self._content.entries("plugins")))
        self._read_clones()
        found = self._read_plugins()
        self._check_consumer_names(found)
        routes = tuple(self._http_routes())
        self._notice_unprotected(routes, found)
        return Gateway(
            services=tuple(self._services.all),
            routes=routes,
            plugins=tuple(found),
            disabled=tuple(self._disabled),
            consumers=tuple(self._consumers.all),
            notices=self._problems.notices,
        )

    def _read_vaults(self) -> dict[str, environment.Vault]:
        """Return the vaults by prefix; whether one can be read is asked where it is named."""
        found: dict[str, environment.Vault] = {}
        for mapping in self._content.entries("vaults"):
            prefix, kind = (self._text(mapping, field) for field in ("prefix", "name"))
            node = mapping.get("config")
            settings = schema.as_mapping(node, "config", self._problems) if node else None
            if prefix is None or kind is None:
                continue
            if prefix in found or prefix == environment.ENVIRONMENT_VAULT:
                message = f"'{prefix}' names a vault already; choose another prefix"
                self._problems.error(mapping.position_of("prefix"), "prefix", message)
            start = self._text(settings, "prefix") if settings else None
            set_ = schema.names_set(settings) if settings else ()
            not_done = tuple(name for name in set_ if name not in _VAULT_SETTINGS)
            found[prefix] = environment.Vault(kind, start or "", not_done)
        return found

    # --- Services and routes ---

    def _read_services(self) -> None:
        service_defaults = self._content.defaults("service")
        route_defaults = self._content.defaults("route")
        nested: list[tuple[MappingNode, Service]] = []
        for written in self._content.entries("services"):
            mapping = written.with_defaults(service_defaults)
            service = entities.read_service(mapping, self._contents, self._problems)
            if service is None:
                self._services.pass_over(mapping)
                continue
            self._services.add(service, mapping)
            routes = mappings(written, "routes", self._problems)
            nested.extend((route, service) for route in routes)
            self._collect(written, service=service)
        for route, service in nested:
            self._read_route(route.with_defaults(route_defaults), service)
        for route in self._content.entries("routes"):
            self._read_route(route.with_defaults(route_defaults), None)

    def _notice_upstreams(self) -> None:
        """Say which services lead to a load balancer of Kong's own."""
        names = {self._text(mapping, "name") for mapping in self._content.entries("upstreams")}
        for service in self._services.all:
            if service.host in names:
                message = "names an upstream, whose targets are not read; Envoy will ask DNS for it"
                self._problems.notice(service.position, "host", message)

    def _read_route(self, mapping: MappingNode, parent: Service | None) -> None:
        service = self._reference(mapping, "service", self._services, parent)
        route = entities.read_route(mapping, service, self._contents, self._problems)
        self._routes.add(route, mapping)
        self._collect(mapping, route=route)

    def _reference(
        self, mapping: MappingNode, name: str, index: _Index[_Entity], parent: _Entity | None
    ) -> _Entity | None:
        """Return what the field ``name`` refers to, or what the entity stands inside of."""
        node = mapping.get(name)
        if node is None:
            return parent
        entity = index.find(node, name)
        if parent is not None and entity is not None and entity is not parent:
            self._problems.error(
                node.position, name, f"differs from the {name} that this stands in"
            )
        return entity

    def _http_routes(self) -> Iterator[Route]:
        streams = [r for r in self._routes.all if entities.STREAMS.issuperset(r.protocols)]
        if streams:
            message = f"{len(streams)} of them are of streams and take no HTTP request: left out"
            self._problems.notice(streams[0].position, "routes", message)
        return (r for r in self._routes.all if not entities.STREAMS.issuperset(r.protocols))

    def _notice_unprotected(self, routes: tuple[Route, ...], found: list[Plugin]) -> None:
        """Say which routes let everybody in, as they do in Kong."""
        unprotected = unguarded(routes, PluginScopes(found))
        if unprotected:
            names = ", ".join(map(display_name, unprotected[:_ROUTES_NAMED]))
            others = len(unprotected) - _ROUTES_NAMED
            more = f" and {others} more" if others > 0 else ""
            message = f"without authentication, no openid-connect plugin applies: {names}{more}"
            self._problems.notice(unprotected[0].position, "routes", message)

    def _collect(
        self,
        mapping: MappingNode,
        service: Service | None = None,
        route: Route | None = None,
        owner: str = "",
    ) -> None:
        for plugin in mappings(mapping, "plugins", self._problems):
            self._entries.append(_PluginEntry(plugin, service, route, owner))

    # --- Consumers ---

    def _read_consumers(self) -> None:
        unsendable: list[Consumer] = []
        for mapping in self._content.entries("consumers"):
            consumer = entities.read_consumer(mapping, self._problems)
            if consumer is None:
                continue
            self._consumers.add(consumer, mapping)
            names = filter(None, (consumer.username, consumer.custom_id))
            if not all(map(carried_by_header, names)):
                unsendable.append(consumer)
            self._collect(mapping, owner="consumer")
        if unsendable:
            self._problems.notice(
                unsendable[0].position,
                "consumers",
                f"{len(unsendable)} of them have a username or custom_id that no header can carry: "
                "visible ASCII, spaces only inside",
            )

    def _read_consumer_groups(self) -> None:
        first: MappingNode | None = None
        for mapping in self._content.entries("consumer_groups"):
            first = first or mapping
            values = schema.read_fields(mapping, entities.CONSUMER_GROUP, self._problems)
            if "name" not in values and mapping.get("name") is None:
                self._problems.error(mapping.position, "name", "is required")
            self._collect(mapping, owner="consumer_group")
        if first is not None:
            message = "groups of consumers have no effect here"
            self._problems.notice(first.position, "consumer_groups", message)

    def _check_consumer_names(self, found: list[Plugin]) -> None:
        """Refuse a name that stands for two consumers to a plugin, whichever it asks for first."""
        asking: dict[tuple[tuple[str, ...], bool], Plugin] = {}
        for plugin in found:
            config = plugin.config
            if config.identity.consumer_claims or config.identity.by_username_ignore_case:
                key = config.identity.consumer_by, config.identity.by_username_ignore_case
                asking.setdefault(key, plugin)
        for plugin in asking.values():
            self._check_names_of(plugin)

    def _check_names_of(self, plugin: Plugin) -> None:
        ignores_case = plugin.config.identity.by_username_ignore_case
        known: dict[str, tuple[Consumer, str]] = {}
        for consumer, field in product(self._consumers.all, plugin.config.identity.consumer_by):
            name = getattr(consumer, field)
            if name is None:
                continue
            key = name.casefold() if ignores_case else name
            first, first_field = known.setdefault(key, (consumer, field))
            if first is consumer:
                continue
            if first_field != field:
                message = (
                    f"is the {first_field} of another consumer, at {first.position}, and the "
                    f"plugin at {plugin.position} looks for both (consumer_by): who is meant?"
                )
                self._problems.error(consumer.position, field, message)
            elif ignores_case and field == "username":
                message = (
                    f"differs only in case from the one at {first.position}, and the plugin at "
                    f"{plugin.position} sets by_username_ignore_case"
                )
                self._problems.error(consumer.position, field, message)

    # --- Plugins ---

    def _read_clones(self) -> None:
        for mapping in self._content.entries("cloned_plugins"):
            name, origin = (self._text(mapping, field) for field in ("name", "ref"))
            if origin == plugins.OPENID_CONNECT:
                message = "clones of openid-connect are not done here; use the plugin by its name"
                self._problems.error(mapping.position, "cloned_plugins", message)
            if name and (name in self._clones or name in plugins.kong_plugin_names()):
                message = f"'{name}' names a plugin already; choose another name"
                self._problems.error(mapping.position_of("name"), "name", message)
            if name and origin:
                self._clones[name] = origin

    def _text(self, mapping: MappingNode, name: str) -> str | None:
        node = mapping.get(name)
        return schema.read(Text(), node, name, self._problems) if node is not None else None

    def _read_plugins(self) -> list[Plugin]:
        found: list[Plugin] = []
        read_past: dict[str, SourcePosition] = {}
        seen: dict[tuple[object, ...], SourcePosition] = {}
        labels: dict[str, SourcePosition] = {}
        for entry in self._entries:
            values = schema.read_fields(entry.mapping, plugins.FIELDS, self._problems)
            name = values.get("name")
            if name is None:
                if entry.mapping.get("name") is None:
                    self._problems.error(entry.mapping.position, "name", "is required")
                continue
            schema.refuse_absence(entry.mapping, plugins.ABSENCES, self._problems)
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
        service = self._reference(entry.mapping, "service", self._services, entry.service)
        route = self._reference(entry.mapping, "route", self._routes, entry.route)
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
        config = openid_connect.read(
            self._config(mapping, values),
            mapping.position,
            self._vaults,
            self._problems,
            enabled=enabled,
        )
        if not enabled:
            if not scope.owner:
                self._disabled.append(DisabledPlugin(mapping.position, scope.service, scope.route))
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
        )

    def _config(self, mapping: MappingNode, values: dict[str, object]) -> MappingNode:
        """Return the plugin's ``config`` over the shared one that ``_config`` names."""
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
        for field, message in plugins.UNRESOLVED.items():
            if not schema.is_empty(mapping.get(field)):
                self._problems.error(mapping.key_position(field), field, message)
        protocols = values.get("protocols")
        if isinstance(protocols, tuple) and not set(plugins.HTTP_PROTOCOLS) <= set(protocols):
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
