r"""Examples of texts that a regular expression matches.

A small parser of RE2's syntax (https://github.com/google/re2/wiki/Syntax) makes them, and
the expression itself proves each.  So a construct that the parser does not understand costs
an example, and never makes a wrong one.  Assertions (``^``, ``$``, ``\b``) are only proven.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXAMPLES_MAX = 4
_TRIES_MAX = 64
EXAMPLE_CHARS_MAX = 4096
"""Servers take no longer path or header."""
_DEPTH_MAX = 200

# What a repetition is filled with: unlikely words, which no narrower route takes by chance.
_WORDS = ("authz-witness", "authzwitness", "9041726", "AUTHZWITNESS")
_ASCII = "".join(map(chr, range(0x21, 0x7F)))
_BEYOND_ASCII = "".join(map(chr, (*range(0xA1, 0x590), *range(0x3041, 0x3100), 0x4E00, 0xAC00)))
_POOL = f"aA0-_.~{_ASCII} \t{_BEYOND_ASCII}"
_DIGITS_FIRST = f"90{_POOL}"


def examples(pattern: str, fits: Callable[[str], bool]) -> tuple[str, ...]:
    """Return up to ``EXAMPLES_MAX`` texts of ``pattern`` that ``fits`` proves.

    Those in which every repetition is filled come first, then the shortest.
    """
    try:
        tree = _Parser(pattern).parse()
    except _NotUnderstoodError:
        return ()
    tried = dict.fromkeys(islice(_texts(tree), _TRIES_MAX))
    short = (text for text in tried if len(text) <= EXAMPLE_CHARS_MAX)
    return tuple(islice(filter(fits, short), EXAMPLES_MAX))


def _texts(tree: _Node) -> Iterator[str]:
    """Yield a text for each choice: of an alternative, and of what fills a repetition."""
    for branch in range(8):
        for bare in (False, True):
            for pool in (_POOL, _DIGITS_FIRST):
                text = tree.text(_Choice(branch, pool, bare=bare))
                if text is not None:
                    yield text


# --- What an expression consists of -----------------------------------------------


@dataclass(frozen=True, slots=True)
class _Choice:
    """How to choose where an expression leaves it open."""

    branch: int
    pool: str
    bare: bool


class _Node(ABC):
    @abstractmethod
    def text(self, choice: _Choice) -> str | None:
        """Return a text; ``None``: this choice leads to none."""


@dataclass(frozen=True, slots=True)
class _Literal(_Node):
    value: str

    def text(self, choice: _Choice) -> str:  # noqa: ARG002 - there is none
        return self.value


@dataclass(frozen=True, slots=True)
class _Class(_Node):
    """One character of a set; ``own``: some that the expression names."""

    holds: Callable[[str], bool]
    own: str = ""

    def text(self, choice: _Choice) -> str | None:
        return next(filter(self.holds, choice.pool + self.own), None)

    def word(self, least: int, most: int | None) -> str | None:
        """Return one of the words, cut or repeated to a length within the bounds."""
        for word in _WORDS:
            length = max(least, len(word) if most is None else min(most, len(word)))
            if all(map(self.holds, word)):
                return (word * (length // len(word) + 1))[:length]
        return None


@dataclass(frozen=True, slots=True)
class _Sequence(_Node):
    parts: tuple[_Node, ...]

    def text(self, choice: _Choice) -> str | None:
        texts = [part.text(choice) for part in self.parts]
        return None if None in texts else "".join(filter(None, texts))


@dataclass(frozen=True, slots=True)
class _Alternatives(_Node):
    branches: tuple[_Node, ...]

    def text(self, choice: _Choice) -> str | None:
        return self.branches[choice.branch % len(self.branches)].text(choice)


@dataclass(frozen=True, slots=True)
class _Repeated(_Node):
    part: _Node
    least: int
    most: int | None

    def text(self, choice: _Choice) -> str | None:
        if choice.bare or self.most == 0:
            times = self.least
        else:
            if isinstance(self.part, _Class) and (word := self.part.word(self.least, self.most)):
                return word
            times = max(self.least, 1)
        if not times:
            return ""
        once = self.part.text(choice)
        if once is None:
            return "" if not self.least else None
        # Nested repetitions multiply, so a text that is too long is not made.
        return once * times if len(once) * times <= EXAMPLE_CHARS_MAX else None


# --- Reading it -------------------------------------------------------------------


class _NotUnderstoodError(Exception):
    """The expression holds something that the parser does not know."""


_ESCAPED = {"a": "\a", "f": "\f", "t": "\t", "n": "\n", "r": "\r", "v": "\v"}
_ASSERTIONS = frozenset("AzbB")
_OCTAL_DIGITS_MAX = 3


def _among(characters: str) -> Callable[[str], bool]:
    return frozenset(characters).__contains__


def _word(char: str) -> bool:
    return char.isascii() and (char.isalnum() or char == "_")


_PERL: dict[str, Callable[[str], bool]] = {
    "d": _among("0123456789"),
    "s": _among("\t\n\f\r "),
    "w": _word,
}
_POSIX: dict[str, Callable[[str], bool]] = {
    "alnum": lambda char: char.isascii() and char.isalnum(),
    "alpha": lambda char: char.isascii() and char.isalpha(),
    "ascii": str.isascii,
    "blank": _among("\t "),
    "cntrl": lambda char: char < " " or char == "\x7f",
    "digit": _PERL["d"],
    "graph": lambda char: "!" <= char <= "~",
    "lower": lambda char: "a" <= char <= "z",
    "print": lambda char: " " <= char <= "~",
    "punct": lambda char: "!" <= char <= "~" and not char.isalnum(),
    "space": _among("\t\n\v\f\r "),
    "upper": lambda char: "A" <= char <= "Z",
    "word": _word,
    "xdigit": _among("0123456789abcdefABCDEF"),
}


def _not(holds: Callable[[str], bool]) -> Callable[[str], bool]:
    return lambda char: not holds(char)


def _unicode_class(name: str) -> Callable[[str], bool]:
    """Return a class by its general category, or by its script as character names tell it."""
    if len(name) <= len("Lu"):
        return lambda char: unicodedata.category(char).startswith(name)
    start = name.upper()
    return lambda char: unicodedata.name(char, "").startswith(start)


class _Parser:
    """Recursive descent over RE2's syntax; flags change nothing that an example needs."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0

    def parse(self) -> _Node:
        node = self._alternatives()
        if self._at < len(self._text):
            raise _NotUnderstoodError
        return node

    # --- Characters ---

    def _peek(self, length: int = 1) -> str:
        return self._text[self._at : self._at + length]

    def _take(self, length: int = 1) -> str:
        taken = self._peek(length)
        if len(taken) < length:
            raise _NotUnderstoodError
        self._at += length
        return taken

    def _take_if(self, text: str) -> bool:
        if not self._text.startswith(text, self._at):
            return False
        self._at += len(text)
        return True

    def _take_until(self, end: str) -> str:
        found = self._text.find(end, self._at)
        if found < 0:
            raise _NotUnderstoodError
        taken = self._text[self._at : found]
        self._at = found + len(end)
        return taken

    # --- Structure ---

    def _alternatives(self) -> _Node:
        self._depth += 1
        if self._depth > _DEPTH_MAX:
            raise _NotUnderstoodError
        branches = [self._sequence()]
        while self._take_if("|"):
            branches.append(self._sequence())
        self._depth -= 1
        return branches[0] if len(branches) == 1 else _Alternatives(tuple(branches))

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._peek() not in {"", "|", ")"}:
            if self._take_if(r"\Q"):
                parts.append(_Literal(self._quoted()))
            else:
                parts.append(self._repeated(self._atom()))
        return _Sequence(tuple(parts))

    def _quoted(self) -> str:
        if r"\E" in self._text[self._at :]:
            return self._take_until(r"\E")
        return self._take(len(self._text) - self._at)

    def _repeated(self, node: _Node) -> _Node:
        while (bounds := self._bounds()) is not None:
            self._take_if("?")  # a lazy repetition matches the same texts
            node = _Repeated(node, *bounds)
        return node

    def _bounds(self) -> tuple[int, int | None] | None:
        for mark, bounds in (("*", (0, None)), ("+", (1, None)), ("?", (0, 1))):
            if self._take_if(mark):
                return bounds
        if self._peek() != "{":
            return None
        least, comma, most = self._text[self._at + 1 :].partition("}")[0].partition(",")
        if not least.isdecimal() or (most and not most.isdecimal()):
            return None  # a brace that stands for itself
        self._take_until("}")
        if not comma:
            return int(least), int(least)
        return int(least), int(most) if most else None

    def _atom(self) -> _Node:
        char = self._take()
        if char == "(":
            return self._group()
        if char == "[":
            return self._bracket()
        if char == ".":
            return _Class(lambda char: char != "\n")
        if char in "^$":
            return _Literal("")
        if char == "\\":
            return self._escape()
        return _Literal(char)

    def _group(self) -> _Node:
        if self._take_if("?"):
            if self._take_if("P<") or self._take_if("<"):
                self._take_until(">")
            else:
                while (char := self._take()) not in ":)":
                    if char not in "imsU-":
                        raise _NotUnderstoodError
                if char == ")":  # flags for what follows
                    return _Literal("")
        node = self._alternatives()
        if not self._take_if(")"):
            raise _NotUnderstoodError
        return node

    def _escape(self) -> _Node:
        char = self._take()
        if char in _ASSERTIONS:
            return _Literal("")
        if char == "C":
            return _Class(str.isascii)
        if (holds := self._class_of(char)) is not None:
            return _Class(holds)
        return _Literal(self._escaped(char))

    def _class_of(self, char: str) -> Callable[[str], bool] | None:
        """Return the class that follows a backslash, if one does."""
        if char.lower() in _PERL:
            holds = _PERL[char.lower()]
            return holds if char.islower() else _not(holds)
        if char not in "pP":
            return None
        name = self._take_until("}") if self._take_if("{") else self._take()
        holds = _unicode_class(name.removeprefix("^"))
        return holds if (char == "p") != name.startswith("^") else _not(holds)

    def _escaped(self, char: str) -> str:
        """Return the one character that a backslash and ``char`` stand for."""
        if char == "x":
            digits = self._take_until("}") if self._take_if("{") else self._take(2)
            return _character(digits, 16)
        if char.isascii() and char.isdigit():
            while len(char) < _OCTAL_DIGITS_MAX and self._peek() in tuple("01234567"):
                char += self._take()
            return _character(char, 8)
        if char in _ESCAPED:
            return _ESCAPED[char]
        if char.isascii() and char.isalpha():
            raise _NotUnderstoodError
        return char

    # --- A class in brackets ---

    def _bracket(self) -> _Node:
        negated = self._take_if("^")
        members: list[Callable[[str], bool]] = []
        own = ""
        first = True
        while first or not self._take_if("]"):
            first = False
            holds, named = self._member()
            members.append(holds)
            own += named

        def holds_any(char: str) -> bool:
            return any(member(char) for member in members)

        return _Class(_not(holds_any) if negated else holds_any, own)

    def _member(self) -> tuple[Callable[[str], bool], str]:
        if self._take_if("[:"):
            name = self._take_until(":]")
            holds = _POSIX.get(name.removeprefix("^"))
            if holds is None:
                raise _NotUnderstoodError
            return (_not(holds) if name.startswith("^") else holds), ""
        low = self._take()
        if low == "\\":
            escaped = self._take()
            if (found := self._class_of(escaped)) is not None:
                return found, ""
            low = self._escaped(escaped)
        if self._peek() != "-" or self._peek(2) in {"-", "-]"}:
            return _among(low), low
        self._take()
        high = self._take()
        if high == "\\":
            high = self._escaped(self._take())
        return (lambda char: low <= char <= high), low + high


def _character(digits: str, base: int) -> str:
    try:
        return chr(int(digits, base))
    except (ValueError, OverflowError):
        raise _NotUnderstoodError from None
