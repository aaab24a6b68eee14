"""The top level of the files, merged as decK merges it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from authz.kong import entities, schema
from authz.kong.document import ListNode, MappingNode, Node, Scalar
from authz.parameters.kinds import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.kong.problems import Problems
    from authz.model import SourcePosition

_VERSION = re.compile(r"3\.[0-9]+")
_OLD_VERSION = re.compile(r"[12]\.[0-9]+")
# Before 3.0 a path could be a regular expression without the "~" that marks one now.
_CONVERT = (
    'is of Kong before 3.0, must be "3.0": convert the file by deck file convert --from '
    "kong-gateway-2.x --to kong-gateway-3.x --input-file OLD --output-file NEW"
)

# What authz reads, then what a dump may hold that has no effect on who gets in.
_READ = ("services", "routes", "plugins", "consumers", "consumer_groups")
_HEAD = ("_format_version", "_info", "_plugin_configs", "cloned_plugins", "vaults")
_LABELS = ("_konnect", "_workspace")
_SILENT = ("_transform", "_comment", "_ignore", "parameters")  # the last: an export's cluster id
_READ_PAST = (
    "acls", "basicauth_credentials", "ca_certificates", "certificates", "consumer_group_consumers",
    "custom_entities", "custom_plugins", "hmacauth_credentials", "jwt_secrets", "key_sets",
    "keyauth_credentials", "keys", "licenses", "mtls_auth_credentials", "oauth2_credentials",
    "partials", "rbac_roles", "service_packages", "snis", "targets", "upstreams",
)  # fmt: skip
_REFUSED = {
    "consumer_group_plugins": "write plugins inside of consumer_groups, as decK does: "
    "deck file format deck FILE",
    "filter_chains": entities.FILTER_CHAINS,
    "plugins_partials": "plugins that take configuration from elsewhere are not done here: write "
    "it out in the plugin's config",
}
KNOWN = (*_READ, *_HEAD, *_LABELS, *_SILENT, *_READ_PAST, *_REFUSED)
_DEFAULTED = ("service", "route", "upstream", "target")


# --- The merged content -------------------------------------------------------------


class Files:
    """The top level of all files: lists are appended, everything else may stand once."""

    def __init__(self, roots: list[MappingNode], problems: Problems) -> None:
        self._roots = roots
        self._problems = problems
        self._check_keys()
        self._check_version()
        for name in _LABELS:
            self._check_agreement(name)

    def entries(self, section: str) -> Iterator[MappingNode]:
        """Yield the entities of a section, file by file."""
        for root in self._roots:
            yield from mappings(root, section, self._problems)

    def defaults(self, kind: str) -> MappingNode | None:
        """Return ``_info.defaults`` of one kind of entity."""
        found = None
        for root in self._roots:
            info = root.get("_info")
            below = info.get("defaults") if isinstance(info, MappingNode) else None
            node = below.get(kind) if isinstance(below, MappingNode) else None
            if node is None:
                continue
            if found is not None:
                message = f"stands in two files, first at {found.position}"
                self._problems.error(node.position, f"_info.defaults.{kind}", message)
            found = schema.as_mapping(node, f"_info.defaults.{kind}", self._problems)
        return found

    def plugin_configs(self) -> dict[str, MappingNode]:
        """Return the configurations that plugins share by ``_config``."""
        found: dict[str, MappingNode] = {}
        for root in self._roots:
            node = root.get("_plugin_configs")
            shared = schema.as_mapping(node, "_plugin_configs", self._problems) if node else None
            for name, entry in shared.entries.items() if shared else ():
                if name in found:
                    message = f"stands here a second time; first at {found[name].position}"
                    self._problems.error(entry.key.position, f"_plugin_configs.{name}", message)
                config = schema.as_mapping(entry.value, f"_plugin_configs.{name}", self._problems)
                if config is not None:
                    found[name] = config
        return found

    def _check_keys(self) -> None:
        read_past: dict[str, SourcePosition] = {}
        for root in self._roots:
            for name in root.entries:
                if name not in KNOWN:
                    schema.unknown_key(root, name, KNOWN, self._problems)
                elif name in _REFUSED and not schema.is_empty(root.get(name)):
                    self._problems.error(root.key_position(name), name, _REFUSED[name])
                elif name in _READ_PAST and not schema.is_empty(root.get(name)):
                    read_past.setdefault(name, root.key_position(name))
            self._check_defaults(root)
        if read_past:
            first, position = next(iter(read_past.items()))
            message = f"has no effect here and is read past: {', '.join(read_past)}"
            self._problems.notice(position, first, message)

    def _check_defaults(self, root: MappingNode) -> None:
        info = self._written(root, "_info")
        defaults = self._written(info, "defaults", "_info.") if info else None
        if defaults is None:
            return
        for name, entry in defaults.entries.items():
            if name not in _DEFAULTED:
                schema.unknown_key(defaults, name, _DEFAULTED, self._problems, "_info.defaults.")
            elif entry.value.is_null:
                message = schema.absent("null", f"every {name} would have Kong's own defaults")
                self._problems.error(entry.value.position, f"_info.defaults.{name}", message)

    def _written(self, owner: MappingNode, name: str, prefix: str = "") -> MappingNode | None:
        """Return a mapping that may be absent, and may not be null."""
        entry = owner.entries.get(name)
        if entry is None:
            return None
        if entry.value.is_null:
            message = schema.absent("null", "nothing would have the defaults of this file")
            self._problems.error(entry.value.position, prefix + name, message)
            return None
        return schema.as_mapping(entry.value, prefix + name, self._problems)

    def _check_version(self) -> None:
        versions = [root.get("_format_version") for root in self._roots]
        if not any(versions):
            position = self._roots[0].position
            self._problems.error(position, "_format_version", 'is required: write "3.0"')
        for node in filter(None, versions):
            text = (node.text or "") if isinstance(node, Scalar) else ""
            if not _VERSION.fullmatch(text):
                message = _CONVERT if _OLD_VERSION.fullmatch(text) else 'must be "3.0"'
                self._problems.error(node.position, "_format_version", message)

    def _check_agreement(self, name: str) -> None:
        """Refuse files of several workspaces or control planes: they are several gateways."""
        first: Node | None = None
        for root in self._roots:
            node = root.get(name)
            if node is None:
                continue
            if first is not None and plain_value(node) != plain_value(first):
                message = f"differs from the one at {first.position}: one gateway at a time"
                self._problems.error(node.position, name, message)
            first = first or node


def mappings(owner: MappingNode, name: str, problems: Problems) -> Iterator[MappingNode]:
    """Yield the entries of ``owner``'s list of entities; report what is no entity.

    Null is refused and is no empty list: a list of plugins that lost its lines is null.
    """
    entry = owner.entries.get(name)
    if entry is not None and entry.value.is_null:
        problems.error(entry.value.position, name, "is null: write [] to say that there is none")
    for item in schema.as_list(owner.get(name), name, problems):
        if (mapping := schema.as_mapping(item, name, problems)) is not None:
            yield mapping


def text_of(mapping: MappingNode, name: str, problems: Problems) -> str | None:
    """Return the text of a field; None if it is absent, or no text, which is reported."""
    node = mapping.get(name)
    return schema.read(Text(), node, name, problems) if node is not None else None


def plain_value(node: Node) -> object:
    """Return the value of ``node`` without its place in the file."""
    if isinstance(node, MappingNode):
        return {name: plain_value(entry.value) for name, entry in node.entries.items()}
    if isinstance(node, ListNode):
        return [plain_value(item) for item in node.items]
    return node.text if isinstance(node, Scalar) else None
