"""Entities by name and id: what a reference in the file refers to."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

from authz.kong.document import MappingNode, Node, Scalar
from authz.model import Consumer, Route, Service

if TYPE_CHECKING:
    from authz.kong.problems import Problems

Entity = TypeVar("Entity", Service, Route, Consumer)


class EntityIndex(Generic[Entity]):
    """The entities of one kind in the file's order, by each field that must be unique.

    ``one_namespace``: a reference may use any of these fields, so the name of one entity
    cannot be the id of another, whether the id is given or made from a name.
    """

    def __init__(
        self, kind: str, unique: tuple[str, ...], problems: Problems, *, one_namespace: bool
    ) -> None:
        self.all: list[Entity] = []
        self._kind = kind
        self._by: dict[str, dict[str, Entity]] = {field: {} for field in unique}
        self._one_namespace = one_namespace
        self._problems = problems
        self._unread: list[set[str | None]] = []
        """Of each entity that could not be read, its names and ids; None for an unknown one."""

    def add(self, entity: Entity, mapping: MappingNode) -> None:
        """Add an entity, reporting each of its keys that another one has."""
        self.all.append(entity)
        clash: Entity | None = None
        for field, known in self._by.items():
            key = getattr(entity, field)
            if key is None:
                continue
            first = known.setdefault(key, entity)
            if first is entity:
                self._check_namespace(entity, mapping, field)
                continue
            # Two entities with one name get the same id from it; report the name only.
            if field != "id" or mapping.get("id") is not None or first is not clash:
                message = f"another of the {self._kind} has the same, at {first.position}"
                self._problems.error(mapping.position_of(field), field, message)
            clash = first

    def _check_namespace(self, entity: Entity, mapping: MappingNode, field: str) -> None:
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
        """Note an entity that could not be read: references to it are then not reported."""
        nodes = [entry.value for f in self._by if (entry := mapping.entries.get(f)) is not None]
        self._unread.append({n.text if isinstance(n, Scalar) else None for n in nodes})

    def find(self, node: Node, name: str) -> Entity | None:
        """Return what ``node`` refers to: a name or id, or a mapping with one of them.

        None if there is no such entity: that is reported, here or where it could not be read.
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
        if node.text is None:  # a variable was missing, which has been reported
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

    def reference(self, mapping: MappingNode, name: str, parent: Entity | None) -> Entity | None:
        """Return what the field ``name`` refers to, or else ``parent``, inside of which it stands.

        None too if it refers to nothing that is known, which has been reported.
        """
        node = mapping.get(name)
        if node is None:
            return parent
        entity = self.find(node, name)
        if parent is not None and entity is not None and entity is not parent:
            self._problems.error(
                node.position, name, f"differs from the {name} that this stands in"
            )
        return entity

    def _unknown(self, node: Scalar) -> str:
        elsewhere = "; if it stands in another file, give that file too"
        if node.variables or node.text is None:
            return f"names none of the {self._kind}{elsewhere}"
        hint = self._problems.did_you_mean(
            node.text, (key for known in self._by.values() for key in known)
        )
        return f"'{node.text}' is none of the {self._kind}{hint or elsewhere}"
