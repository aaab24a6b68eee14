"""The whole configuration: from the files' entities to one ``model.Gateway``."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

from authz.kong import (
    document,
    entities,
    environment,
    schema,
)
from authz.kong.certificates import read_certificates
from authz.kong.content import Files, mappings, text_of
from authz.kong.index import EntityIndex
from authz.kong.openings import unguarded
from authz.kong.plugin_entries import PluginEntries
from authz.kong.problems import Problems
from authz.kong.protocols import STREAMS
from authz.kong.rules import display_name
from authz.kong.scopes import PluginScopes
from authz.model import Consumer, Gateway, Plugin, Route, Service, SourcePosition
from authz.parameters.checks import carried_by_header

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.kong.document import MappingNode
    from authz.kong.files import Sources

# Of the environment's vault: where the variables are, and how long Kong keeps them.
_VAULT_SETTINGS = frozenset({"prefix", "ttl", "neg_ttl", "resurrect_ttl"})

_ROUTES_NAMED = 5
"""Of the routes to which no plugin applies; the others are counted."""


def parse(sources: Sources, environ: Mapping[str, str], methods: tuple[str, ...]) -> Gateway:
    """Make a gateway of what was read: an equal one, in any process, for equal arguments.

    ``methods``: those of Kong's ``auth_methods`` that are done, in Kong's order.

    ConfigurationError: there are problems; it holds all of them.
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
    gateway = _Assembly(Files(roots, problems), environ, problems, methods).gateway()
    problems.raise_errors()
    return gateway


# --- The assembly ------------------------------------------------------------------------


class _Assembly:
    """Builds the gateway: services and routes first, then what refers to them."""

    def __init__(
        self,
        content: Files,
        environ: Mapping[str, str],
        problems: Problems,
        methods: tuple[str, ...],
    ) -> None:
        self._content = content
        self._problems = problems
        self._services: EntityIndex[Service] = EntityIndex(
            "services", ("name", "id"), problems, one_namespace=True
        )
        self._routes: EntityIndex[Route] = EntityIndex(
            "routes", ("name", "id"), problems, one_namespace=True
        )
        self._consumers: EntityIndex[Consumer] = EntityIndex(
            "consumers", ("username", "custom_id", "id"), problems, one_namespace=False
        )
        self._plugins = PluginEntries(
            content,
            self._services,
            self._routes,
            self._vaults(environ),
            problems,
            methods=methods,
        )
        self._names = entities.GeneratedNames()

    def gateway(self) -> Gateway:
        """Read everything and put it together."""
        self._read_services()
        self._notice_upstreams()
        self._read_consumers()
        self._read_consumer_groups()
        self._plugins.read()
        self._check_consumer_names(self._plugins.plugins)
        routes = tuple(self._http_routes())
        self._notice_unprotected(routes)
        return Gateway(
            services=tuple(self._services.all),
            routes=routes,
            plugins=tuple(self._plugins.plugins),
            terminations=tuple(self._plugins.terminations),
            disabled=tuple(self._plugins.disabled),
            others=tuple(self._plugins.others),
            certificates=tuple(read_certificates(self._content.entries("certificates"))),
            ca_certificates=tuple(read_certificates(self._content.entries("ca_certificates"))),
            consumers=tuple(self._consumers.all),
            notices=self._problems.notices,
        )

    def _vaults(self, environ: Mapping[str, str]) -> environment.Vaults:
        """Return the vaults.  An unreadable one is an error only where a reference names it."""
        found: dict[str, environment.Vault] = {}
        for mapping in self._content.entries("vaults"):
            prefix, kind = (text_of(mapping, field, self._problems) for field in ("prefix", "name"))
            node = mapping.get("config")
            settings = schema.as_mapping(node, "config", self._problems) if node else None
            if prefix is None or kind is None:
                continue
            if prefix in found or prefix == environment.ENVIRONMENT_VAULT:
                message = f"'{prefix}' names a vault already; choose another prefix"
                self._problems.error(mapping.position_of("prefix"), "prefix", message)
            start = text_of(settings, "prefix", self._problems) if settings else None
            set_ = schema.names_set(settings) if settings else ()
            not_done = tuple(name for name in set_ if name not in _VAULT_SETTINGS)
            found[prefix] = environment.Vault(kind, start or "", not_done)
        return environment.Vaults(environ, found)

    # --- Services and routes ---

    def _read_services(self) -> None:
        service_defaults = self._content.defaults("service")
        route_defaults = self._content.defaults("route")
        nested: list[tuple[MappingNode, Service]] = []
        for written in self._content.entries("services"):
            mapping = written.with_defaults(service_defaults)
            service = entities.read_service(mapping, self._names, self._problems)
            if service is None:
                self._services.pass_over(mapping)
                continue
            self._services.add(service, mapping)
            routes = mappings(written, "routes", self._problems)
            nested.extend((route, service) for route in routes)
            self._plugins.collect(written, service=service)
        for route, service in nested:
            self._read_route(route.with_defaults(route_defaults), service)
        for route in self._content.entries("routes"):
            self._read_route(route.with_defaults(route_defaults), None)

    def _notice_upstreams(self) -> None:
        """Say which services lead to a load balancer of Kong."""
        names = {
            text_of(mapping, "name", self._problems)
            for mapping in self._content.entries("upstreams")
        }
        for service in self._services.all:
            if service.host in names:
                message = "names an upstream, whose targets are not read; Envoy will ask DNS for it"
                self._problems.notice(service.position, "host", message)

    def _read_route(self, mapping: MappingNode, parent: Service | None) -> None:
        service = self._services.reference(mapping, "service", parent)
        route = entities.read_route(mapping, service, self._names, self._problems)
        self._routes.add(route, mapping)
        self._plugins.collect(mapping, route=route)

    def _http_routes(self) -> Iterator[Route]:
        streams = [r for r in self._routes.all if STREAMS.issuperset(r.protocols)]
        if streams:
            message = f"{len(streams)} of them are of streams and take no HTTP request: left out"
            self._problems.notice(streams[0].position, "routes", message)
        return (r for r in self._routes.all if not STREAMS.issuperset(r.protocols))

    def _notice_unprotected(self, routes: tuple[Route, ...]) -> None:
        """Say which routes let everybody in, as they do in Kong."""
        scopes = PluginScopes(self._plugins.plugins, self._plugins.terminations)
        unprotected = unguarded(routes, scopes)
        if unprotected:
            names = ", ".join(map(display_name, unprotected[:_ROUTES_NAMED]))
            others = len(unprotected) - _ROUTES_NAMED
            more = f" and {others} more" if others > 0 else ""
            message = f"without authentication, no openid-connect plugin applies: {names}{more}"
            self._problems.notice(unprotected[0].position, "routes", message)

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
            self._plugins.collect(mapping, owner="consumer")
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
            self._plugins.collect(mapping, owner="consumer_group")
        if first is not None:
            message = "groups of consumers have no effect here"
            self._problems.notice(first.position, "consumer_groups", message)

    def _check_consumer_names(self, found: list[Plugin]) -> None:
        """Refuse a name that stands for two consumers to one plugin."""
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
