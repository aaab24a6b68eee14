"""A YAML or JSON text as nodes that know where they stand.

The tree is built from the parser's events, because PyYAML's own composer has no
bounds: on depth, on what aliases multiply, and on cycles.  A scalar has no type until
a field asks for one, because decK's reader takes ``no`` for false and ``0200`` for 128
wherever they stand.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar, cast

import yaml

from authz.kong import environment
from authz.model import SourcePosition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.kong.problems import Problems

FILE_BYTES_MAX = 32 * 1024 * 1024
DEPTH_MAX = 64
"""Levels of nesting; decK's own grammar needs about ten."""
NODES_MAX = 2_000_000
"""Nodes of one file, an aliased tree counted at every use (billion laughs)."""

_NULL = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset({"true", "True", "TRUE"})
_FALSE = frozenset({"false", "False", "FALSE"})
# YAML 1.1's further words, each in the spellings that decK's reader knows.
_YES = frozenset({"y", "Y", "yes", "Yes", "YES", "on", "On", "ON"})
_NO = frozenset({"n", "N", "no", "No", "NO", "off", "Off", "OFF"})
_NUMBER = re.compile(
    r"0o[0-7]+|0x[0-9a-fA-F]+|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
    r"|[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
)
# The whole numbers of decK's reader that YAML 1.2 reads otherwise, or not at all.
_DECK_INTEGER = re.compile(
    r"(?P<sign>[-+]?)(?:0[xX](?P<x>[0-9a-fA-F_]+)|0[bB](?P<b>[01_]+)|0[oO](?P<o>[0-7_]+)"
    r"|0(?P<z>[0-7_]+)|(?P<d>[1-9][0-9_]*))"
)
_BASES = {"x": 16, "b": 2, "o": 8, "z": 8, "d": 10}
_STANDARD_TAG = re.compile(r"tag:yaml\.org,2002:(?:null|bool|int|float|str|seq|map)")
# The messages repeat neither tag nor alias: it may be a secret that lacks its quotes.
_TAG = "a YAML tag is refused here; a text that begins with ! needs quotes"
_ALIAS = "an alias of no anchor above; a text that begins with * needs quotes"
_STRING_TAG = "tag:yaml.org,2002:str"
_DIGITS_MAX = 4_000
"""Of a number; Python refuses to read more than 4,300."""
_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Node:
    """A value of the document; ``size`` counts what is in it, aliases at each use."""

    __slots__ = ("_column", "_file", "_line", "size")

    def __init__(self, file: str, line: int, column: int) -> None:
        self._file, self._line, self._column = file, line, column
        self.size = 1

    @property
    def position(self) -> SourcePosition:
        """Where the value begins.  Made when it is asked for: most are never needed."""
        return SourcePosition(self._file, self._line, self._column)

    @property
    def kind(self) -> str:
        """What the value is, for messages."""
        return "a value"

    @property
    def is_null(self) -> bool:
        """Whether null, or nothing, stands where a value could stand."""
        return False


class Pasted(Enum):
    """What decK reads where a variable's value stands: it pastes before it parses."""

    SAME = "the same text"
    OTHER_TEXT = "another text, or no YAML"
    STRUCTURE = "several values, or a mapping"


class Scalar(Node):
    """Text, and whether it stood there without quotes (``plain``).

    Only plain text can be null, a boolean or a number.  ``variables``: the names of
    those that filled it; such a text takes the type that is asked for, and no message
    quotes it.  ``text`` is None when a variable was missing, which has been reported.
    """

    __slots__ = ("pasted", "plain", "text", "variables")

    def __init__(
        self,
        at: tuple[str, int, int],
        text: str | None,
        *,
        plain: bool,
        variables: tuple[str, ...] = (),
        pasted: Pasted = Pasted.SAME,
    ) -> None:
        super().__init__(*at)
        self.text, self.plain, self.variables, self.pasted = text, plain, variables, pasted

    @property
    def kind(self) -> str:
        """What YAML 1.2's core schema takes the text for."""
        if not self.plain or self.variables or self.text is None:
            return "a string"
        if self.text in _NULL:
            return "null"
        if self.text in _TRUE or self.text in _FALSE:
            return "a boolean"
        return "a number" if _NUMBER.fullmatch(self.text) else "a string"

    @property
    def is_null(self) -> bool:
        """Whether the text is plain, and one of YAML's words for nothing."""
        return self.plain and not self.variables and self.text in _NULL

    @property
    def boolean(self) -> bool | None:
        """The text as a boolean, also in YAML 1.1's words; None if it is none."""
        if not self.plain:
            return None
        if self.text in _TRUE or self.text in _YES:
            return True
        return False if self.text in _FALSE or self.text in _NO else None

    @property
    def number(self) -> int | float | None:
        """The text as a number, which may be NaN or infinite; None if it is none."""
        text = self.text
        if not self.plain or text is None or not _NUMBER.fullmatch(text):
            return None
        if text.startswith(("0o", "0x")):
            return int(text, 0)
        try:
            return int(text)
        except ValueError:  # a float, or more digits than Python reads
            return float(re.sub(r"\.(inf|nan)", r"\1", text.lower()))

    @property
    def deck_integer(self) -> int | None:
        """The whole number that decK's reader (YAML 1.1) takes the text for, if any."""
        match = _DECK_INTEGER.fullmatch(self.text or "") if self.plain else None
        if match is None:
            return None
        [(kind, digits)] = [(kind, text) for kind in _BASES if (text := match[kind]) is not None]
        digits = digits.replace("_", "")
        if not digits or len(digits) > _DIGITS_MAX:
            return None
        number = int(digits, _BASES[kind])
        return -number if match["sign"] == "-" else number

    def filled(self, text: str | None, variable: str) -> Scalar:
        """Return the same scalar with another text, which ``variable`` gave."""
        at = (self._file, self._line, self._column)
        return Scalar(at, text, plain=False, variables=(*self.variables, variable))

    def unresolved(self) -> Unresolved:
        """Return the same scalar as a reference that is not resolved."""
        return Unresolved((self._file, self._line, self._column), self.text, plain=False)


class Unresolved(Scalar):
    """A ``{vault://…}`` reference in a field that takes no effect: set, to an unknown value."""

    __slots__ = ()


class ListNode(Node):
    """A list of nodes; ``variables``: the one whose value ``[a, b]`` it is, if it is one's."""

    __slots__ = ("items", "variables")

    def __init__(
        self, at: tuple[str, int, int], items: list[Node], variables: tuple[str, ...] = ()
    ) -> None:
        super().__init__(*at)
        self.items, self.variables = items, variables

    @property
    def kind(self) -> str:
        """What the value is, for messages."""
        return "a list"

    def replace(self, items: list[Node]) -> ListNode:
        """Return a list with other items at the same place."""
        return ListNode((self._file, self._line, self._column), items, self.variables)


class Entry(NamedTuple):
    """One key of a mapping, with its value."""

    key: Scalar
    value: Node


class MappingNode(Node):
    """Keys, each of them once, with their values."""

    __slots__ = ("entries",)

    def __init__(self, at: tuple[str, int, int], entries: dict[str, Entry]) -> None:
        super().__init__(*at)
        self.entries = entries

    @property
    def kind(self) -> str:
        """What the value is, for messages."""
        return "a mapping"

    def get(self, name: str) -> Node | None:
        """Return the value of ``name``; None if it is absent or null."""
        entry = self.entries.get(name)
        return None if entry is None or entry.value.is_null else entry.value

    def position_of(self, name: str) -> SourcePosition:
        """Return the place of the value of ``name``; of the mapping if it has none."""
        entry = self.entries.get(name)
        return self.position if entry is None else entry.value.position

    def key_position(self, name: str) -> SourcePosition:
        """Return the place of the key ``name``; of the mapping if it has none."""
        entry = self.entries.get(name)
        return self.position if entry is None else entry.key.position

    def replace(self, values: dict[str, Node]) -> MappingNode:
        """Return a mapping with other values for some of its keys."""
        entries = {
            name: Entry(entry.key, values.get(name, entry.value))
            for name, entry in self.entries.items()
        }
        return MappingNode((self._file, self._line, self._column), entries)

    def emptied(self) -> MappingNode:
        """Return a mapping without keys at the same place."""
        return MappingNode((self._file, self._line, self._column), {})

    def with_defaults(self, defaults: MappingNode | None) -> MappingNode:
        """Return the mapping with ``defaults`` for keys that are absent or null."""
        if defaults is None:
            return self
        own = {name: entry for name, entry in self.entries.items() if not entry.value.is_null}
        at = (self._file, self._line, self._column)
        return MappingNode(at, {**self.entries, **defaults.entries, **own})

    def merged_over(self, base: MappingNode) -> MappingNode:
        """Return ``base`` with this mapping's keys over it, mappings merged in depth.

        An explicit null of ours stays: it takes the base's value back.
        """
        entries = dict(base.entries)
        for name, entry in self.entries.items():
            below = entries.get(name)
            if (
                below
                and isinstance(below.value, MappingNode)
                and isinstance(entry.value, MappingNode)
            ):
                entries[name] = Entry(entry.key, entry.value.merged_over(below.value))
            else:
                entries[name] = entry
        return MappingNode((self._file, self._line, self._column), entries)


class _UnusableError(Exception):
    """The document breaks a bound or YAML's syntax, so there is no tree."""

    def __init__(self, position: SourcePosition, message: str) -> None:
        super().__init__(message)
        self.position = position


def parse(data: bytes, file: str, environ: Mapping[str, str], problems: Problems) -> Node | None:
    """Read one document; None if there is none, or if it cannot be read: that is reported."""
    try:
        text = _decode(data, file)
        templates = environment.extract(text, file, environ, problems)
        return _Composer(templates, file, problems).compose()
    except _UnusableError as error:
        problems.error(error.position, "file", str(error))
        return None


# --- Values of variables --------------------------------------------------------------


# What to put around a value without quotes: by whether it stands in a list, and in brackets.
_FRAMES = {
    (True, True): "[{}]",
    (True, False): "- {}",
    (False, True): "{{k: {}}}",
    (False, False): "k: {}",
}


def _as_pasted(
    event: yaml.ScalarEvent, filled: environment.Filled, *, in_list: bool, in_flow: bool
) -> Pasted:
    """Tell what decK reads in the place of ``filled``: it pastes values before it parses.

    A literal block (``|``) takes every value as it is (``indent`` sees to the lines
    after the first); a folded block (``>``) joins the lines.
    """
    if event.style == "|" or filled.text is None:
        return Pasted.SAME
    if event.style == ">":
        joined = any("\n" in value.strip("\n") for value in filled.values)
        return Pasted.OTHER_TEXT if joined else Pasted.SAME
    if event.style in {"'", '"'}:
        quote = event.style
        same = all(_values_in(f"- {quote}{v}{quote}") == [v] for v in filled.values)
        return Pasted.SAME if same else Pasted.OTHER_TEXT
    read = _values_in(_FRAMES[in_list, in_flow].format(filled.text))
    if read == [filled.text]:
        return Pasted.SAME
    is_text = not read or (len(read) == 1 and isinstance(read[0], str))
    return Pasted.OTHER_TEXT if is_text else Pasted.STRUCTURE


def _pasted_items(
    event: yaml.ScalarEvent, filled: environment.Filled, *, in_flow: bool
) -> list[str] | None:
    """Return the texts of a value ``[a, "b"]`` that stands alone and without quotes.

    None if it is anything else, or stands in brackets: there decK reads a list in a list.
    """
    if event.style or in_flow or not filled.whole or filled.text is None:
        return None
    read = _values_in(f"- {filled.text}")
    if read is None or len(read) != 1 or not isinstance(read[0], list):
        return None
    items = read[0]
    return items if all(isinstance(item, str) and item not in _NULL for item in items) else None


def _values_in(text: str) -> list[Any] | None:
    """Return the values of the list or the mapping ``text``.

    They are texts, lists of values, and of mappings tuples of their values.
    None if it is no YAML, is nested deeper than a file may be, or holds an anchor, an
    alias or a tag (``&a``, ``*a``, ``!a``).
    """
    lists: list[list[Any]] = [[]]
    try:
        for event in yaml.parse(text, Loader=yaml.CSafeLoader):
            if isinstance(event, yaml.AliasEvent) or _is_marked(event) or len(lists) > DEPTH_MAX:
                return None
            if isinstance(event, yaml.ScalarEvent):
                lists[-1].append(event.value)
            elif isinstance(event, yaml.CollectionStartEvent):
                lists.append([])
            elif isinstance(event, yaml.SequenceEndEvent):
                lists[-2].append(lists.pop())
            elif isinstance(event, yaml.MappingEndEvent):
                lists[-2].append(tuple(lists.pop()[1::2]))
    except yaml.YAMLError:
        return None
    [documents] = lists
    return None if len(documents) != 1 or isinstance(documents[0], str) else list(documents[0])


def _is_marked(event: yaml.Event) -> bool:
    if not isinstance(event, yaml.ScalarEvent | yaml.CollectionStartEvent):
        return False
    return event.anchor is not None or event.tag is not None


# --- Text and tree ----------------------------------------------------------------------


def _decode(data: bytes, file: str) -> str:
    if len(data) > FILE_BYTES_MAX:
        raise _UnusableError(SourcePosition(file, 1, 1), f"is larger than {FILE_BYTES_MAX} bytes")
    try:
        # Editors on Windows begin a file with a byte order mark, which means nothing.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        position = SourcePosition(file, before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise _UnusableError(position, "is not UTF-8 from here on") from None
    if bad := _UNPRINTABLE.search(text):
        start = bad.start()
        position = SourcePosition(
            file, text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)
        )
        raise _UnusableError(position, f"the character U+{ord(bad[0]):04X} cannot stand in YAML")
    return text


_Collection = TypeVar("_Collection", ListNode, MappingNode)


class _Composer:
    """Builds the tree from the parser's events, within the bounds."""

    def __init__(self, templates: environment.Templates, file: str, problems: Problems) -> None:
        self._templates = templates
        self._file = file
        self._problems = problems
        # get_event returns None only after the stream's end, and nothing here reads past it.
        self._next = cast("Callable[[], yaml.Event]", yaml.CSafeLoader(templates.text).get_event)
        self._anchors: dict[str, Node | None] = {}
        self._open: list[tuple[bool, bool]] = []
        """For each open collection: whether it is a list, and whether it is in brackets."""

    def compose(self) -> Node | None:
        """Return the document; None if there is none, or if it is empty."""
        try:
            return self._document()
        except yaml.MarkedYAMLError as error:
            if self._templates.is_broken:  # as ${{ if … }} on its own line: reported already
                return None
            mark = error.problem_mark or error.context_mark
            position = (
                SourcePosition(self._file, mark.line + 1, mark.column + 1) if mark else self._start
            )
            said = ", ".join(filter(None, (error.context, error.problem)))
            hint = self._templates.foreign_hint(position.line)
            raise _UnusableError(position, f"is no YAML: {said}{hint}") from None

    @property
    def _start(self) -> SourcePosition:
        return SourcePosition(self._file, 1, 1)

    def _document(self) -> Node | None:
        self._next()  # the stream's start
        if isinstance(self._next(), yaml.StreamEndEvent):
            return None
        node = self._node(self._next())
        self._next()  # the document's end
        further = self._next()
        if not isinstance(further, yaml.StreamEndEvent):
            position = SourcePosition(*self._at(further))
            raise _UnusableError(position, "a second document begins here: one file, one document")
        return None if node.is_null else node

    def _at(self, event: yaml.Event) -> tuple[str, int, int]:
        mark = cast("yaml.Mark", event.start_mark)  # the parser always knows
        return self._file, mark.line + 1, mark.column + 1

    def _node(self, event: yaml.Event) -> Node:
        if isinstance(event, yaml.ScalarEvent):
            scalar = self._scalar(event)
            return scalar if event.anchor is None else self._anchored(event.anchor, scalar)
        if isinstance(event, yaml.CollectionStartEvent):
            return self._collection(event)
        return self._alias(cast("yaml.AliasEvent", event))  # nothing else begins a node

    def _collection(self, event: yaml.CollectionStartEvent) -> Node:
        if event.anchor is not None:
            self._anchors[event.anchor] = None  # open: an alias in here would be a cycle
        is_list = isinstance(event, yaml.SequenceStartEvent)
        self._open.append((is_list, bool(event.flow_style)))
        if len(self._open) > DEPTH_MAX:
            raise _UnusableError(
                SourcePosition(*self._at(event)), f"is nested deeper than {DEPTH_MAX} levels"
            )
        self._check_tag(event)
        node: Node = self._sequence(event) if is_list else self._mapping(event)
        self._open.pop()
        return node if event.anchor is None else self._anchored(event.anchor, node)

    def _anchored(self, anchor: str, node: Node) -> Node:
        self._anchors[anchor] = node
        return node

    def _alias(self, event: yaml.AliasEvent) -> Node:
        position = SourcePosition(*self._at(event))
        if event.anchor not in self._anchors:
            raise _UnusableError(position, _ALIAS)
        node = self._anchors[event.anchor]
        if node is None:
            raise _UnusableError(position, f"the anchor '{event.anchor}' stands inside itself")
        return node

    def _scalar(self, event: yaml.ScalarEvent) -> Scalar | ListNode:
        plain = event.implicit[0]
        if event.tag is not None:
            self._check_tag(event)
            plain = event.tag not in {_STRING_TAG, "!"}
        filled = self._templates.fill(event.value)
        if not filled.variables:
            return Scalar(self._at(event), filled.text, plain=plain)
        in_list, in_flow = self._open[-1] if self._open else (True, False)
        if (items := _pasted_items(event, filled, in_flow=in_flow)) is not None:
            texts: list[Node] = [
                Scalar(self._at(event), item, plain=False, variables=filled.variables)
                for item in items
            ]
            return ListNode(self._at(event), texts, filled.variables)
        pasted = _as_pasted(event, filled, in_list=in_list, in_flow=in_flow)
        return Scalar(
            self._at(event), filled.text, plain=plain, variables=filled.variables, pasted=pasted
        )

    def _check_tag(self, event: yaml.ScalarEvent | yaml.CollectionStartEvent) -> None:
        # A tag names a type to build (!!python/object …); decK's files have no use for one.
        if event.tag is not None and event.tag != "!" and not _STANDARD_TAG.fullmatch(event.tag):
            self._problems.error(SourcePosition(*self._at(event)), "file", _TAG)

    def _sequence(self, start: yaml.Event) -> ListNode:
        node = ListNode(self._at(start), [])
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            item = self._node(event)
            node.items.append(item)
            self._count(node, item)
        return node

    def _mapping(self, start: yaml.Event) -> MappingNode:
        node = MappingNode(self._at(start), {})
        merge: Scalar | None = None
        merged: dict[str, Entry] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            key = self._node(event)
            value = self._node(self._next())
            self._count(node, value)
            if not isinstance(key, Scalar):
                hint = self._templates.foreign_hint(key.position.line)
                self._problems.error(key.position, "file", f"a key must be text{hint}")
            elif key.variables:
                self._problems.error(key.position, "env", "a key cannot come from the environment")
            elif key.text == "<<" and key.plain:
                self._check_merge(key, merge)
                merge = key
                for source in reversed(self._merge_sources(value)):  # the first source wins
                    merged.update(source.entries)
                self._check_written_before(node, merged)
            elif key.text is not None:
                self._enter(node, key, key.text, value)
        for name, entry in merged.items():
            node.entries.setdefault(name, entry)
        return node

    def _check_merge(self, key: Scalar, first: Scalar | None) -> None:
        if first is not None:
            message = (
                f"stands here a second time; first on line {first.position.line}: write one, "
                "<<: [*a, *b], of which the first wins"
            )
            self._problems.error(key.position, "<<", message)

    def _check_written_before(self, node: MappingNode, merged: dict[str, Entry]) -> None:
        """Refuse an own key that stands before a ``<<`` that has it too.

        YAML's merge type lets the own key win wherever it stands; decK's reader
        lets ``<<`` win over what stands before it.
        """
        for name in node.entries.keys() & merged.keys():
            message = (
                "stands before a << that has it too: decK lets << win here, YAML lets this line "
                "win; write << first and both read this line"
            )
            self._problems.error(node.key_position(name), name, message)

    def _merge_sources(self, value: Node) -> list[MappingNode]:
        candidates = value.items if isinstance(value, ListNode) else [value]
        sources = [source for source in candidates if isinstance(source, MappingNode)]
        if len(sources) != len(candidates):
            self._problems.error(value.position, "<<", "must name one mapping, or a list of them")
        return sources

    def _enter(self, node: MappingNode, key: Scalar, name: str, value: Node) -> None:
        first = node.entries.get(name)
        if first is None:
            node.entries[name] = Entry(key, value)
            return
        line = first.key.position.line
        self._problems.error(key.position, name, f"stands here a second time; first on line {line}")

    def _count(self, node: _Collection, member: Node) -> None:
        node.size += member.size
        if node.size > NODES_MAX:
            raise _UnusableError(node.position, f"grows beyond {NODES_MAX} values, aliases counted")
