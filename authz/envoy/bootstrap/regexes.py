r"""Kong's conditions on a text as regular expressions for Envoy, which compares whole texts.

Pure: what a file says in, RE2's dialect out.  ``\C`` stands for any byte: ``.`` would
not be one that is no UTF-8.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.kong.conditions import is_header_regex
from authz.kong.regexes import Pattern, pieces

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# --- Headers --------------------------------------------------------------------------

# What Envoy sets, joins or takes away before it looks for a route.
_REWRITTEN = re.compile(
    r"connection|keep-alive|proxy-connection|te|transfer-encoding|upgrade|content-length|expect"
    r"|x-forwarded-(?:for|proto|client-cert|scheme)|x-request-id|x-client-trace-id|x-envoy-.*"
    r"|cookie",
    re.IGNORECASE,
)


def is_rewritten(name: str) -> bool:
    """Tell whether Envoy's routes may see another value of a header than the caller sent."""
    return _REWRITTEN.fullmatch(name) is not None


def header_regex(values: Iterable[str]) -> str:
    r"""Return the regex of the header's lines, joined by commas, for any of Kong's values.

    The router compares the joined lines and each part between commas: an equal one, or one
    in which a value written ``~*…`` is found; case means nothing.
    ValueError: the message says what in a value cannot be written.
    """
    return f"(?i)(?:{'|'.join(branch for value in values for branch in _branches(value))})"


def _branches(value: str) -> Iterator[str]:
    if is_header_regex(value):
        for branch in _alternatives(pieces(value[2:])):
            yield from _found(branch)
        return
    if not value.isascii():
        raise ValueError(f"{value!r} is not ASCII: Envoy would compare another case of it")
    # To RE2, a long s and a Kelvin sign are s and k in another case; to Kong they are not.
    text = re.sub(
        "[skSK]",
        lambda letter: rf"(?-i:[{letter[0].lower()}{letter[0].upper()}])",
        re.escape(value),
    )
    yield text if "," in value else _between_commas(text)


def _between_commas(regex: str) -> str:
    return rf"(?:\C*,)?{regex}(?:,\C*)?"


def _found(branch: list[str]) -> Iterator[str]:
    """Yield what stands for one alternative that is looked for in the lines' parts."""
    starts = branch[:1] in (["^"], [r"\A"])
    ends = branch[-1:] in (["$"], [r"\z"])
    core = branch[starts : len(branch) - ends]
    if _ANCHORS.intersection(core):
        raise ValueError(
            f"{''.join(branch)!r} has an anchor in its midst: write ^ at its start and $ at its end"
        )
    if any(_OWN_CASE.match(piece) for piece in core):
        raise ValueError(
            f"{''.join(branch)!r} asks for a case, and case means nothing: remove (?-i"
        )
    text = "".join(core)
    before, behind = "" if starts else r"\C*", "" if ends else r"\C*"
    yield f"{before}(?:{text}){behind}"
    if starts or ends:
        part = "".join(map(_without_comma, core))
        yield _between_commas(f"{'' if starts else '[^,]*'}(?:{part}){'' if ends else '[^,]*'}")


_ANCHORS = frozenset({"^", "$", r"\A", r"\z"})
_OWN_CASE = re.compile(r"\(\?[a-zA-Z]*-[a-zA-Z]*i")
_NARROWED = {".": "[^,]", r"\S": r"[^,\s]", r"\D": r"[^,\d]", r"\W": r"[^,\w]"}


def _without_comma(piece: str) -> str:
    """Return the piece for texts between two commas."""
    if piece in _NARROWED:
        return _NARROWED[piece]
    if piece.startswith("[^"):
        return f"[^,{piece[2:]}" if not piece.startswith("[^]") else rf"[^,\]{piece[3:]}"
    is_text = piece[0] not in "()|*+?{"
    if is_text and ("," in piece or Pattern(piece).is_in(",")):
        raise ValueError(f"{piece!r} beside ^ or $ may be a comma, at which Envoy joins lines")
    return piece


def _alternatives(every: list[str]) -> Iterator[list[str]]:
    """Yield the alternatives of an expression that stand in no group."""
    depth, branch = 0, list[str]()
    for piece in every:
        depth += opens(piece)
        if piece == "|" and not depth:
            yield branch
            branch = []
        else:
            branch.append(piece)
    yield branch


def opens(piece: str) -> int:
    """Return by how much a piece changes the depth of groups; flags alone, (?i), by nothing."""
    if piece[0] == "(":
        return 0 if piece[-1] == ")" else 1
    return -1 if piece == ")" else 0


# --- Paths ----------------------------------------------------------------------------

# Kong compares a path whose triplets are decoded, but for those of reserved characters;
# Envoy has decoded those of unreserved ones alone.  The others, and "%" itself, are
# characters to Kong and up to twelve characters to Envoy.
_ENCODED_ASCII = [*map(chr, (*range(33), 127)), *'"<>\\^`{|}']
_ENCODED = [*_ENCODED_ASCII, "%", "\u00e9", "\u20ac", "\U0001f4a9"]
_DIGITS = [*"0123456789abcdefABCDEF"]  # of triplets
# What s and k are besides, where case means nothing, as Envoy has them.
_FOLDED = {"\u017f": "%[Cc]5%[Bb][Ff]", "\u212a": "%[Ee]2%84%[Aa]{2}"}
_UNREADABLE = re.compile(r"\\[xpPCQbB0-9]|[^\x00-\x7f]|%")
_FLAGS = re.compile(r"\(\?([a-zA-Z]*-?[a-zA-Z]*)[:)]")
_CAPTURES = re.compile(r"\((?:\?P?<.*)?")
_ENDS = frozenset({"$", r"\z"})
_STARTS = frozenset({"^", r"\A"})
_QUANTIFIERS = ("?", "*", "+", "{")
_REPEATED = frozenset({"*", "+", "{0,}", "{1,}"})
_CAPTURES_MAX = 8  # of Envoy's nine, the last one is what is left of the path


@dataclass(frozen=True, slots=True)
class PathRegex:
    """A path's regex, without its ``~``, in Envoy's spelling of paths."""

    text: str
    captures: int
    prefix: str
    """The characters that every match starts with, or the first of them."""
    has_dot: bool
    """Whether it holds a dot, which takes no line feed: to Envoy that is ``%0A``."""


def path_regex(text: str) -> PathRegex:
    """Return what takes of Envoy's paths those that Kong's ``text`` takes of Kong's.

    A piece must take either no character that Envoy keeps encoded, or each of them, in
    any number, up to a character that no triplet has in it.  All others are refused:
    to Envoy ``%7B`` is three characters of ``.{3}``, to Kong one.
    ValueError: the message says what cannot be written.
    """
    prefix = Pattern(text).prefix()
    found = _Pieces(pieces(text))
    written = [found.written(at) for at in range(len(found.pieces))]
    captures = sum(_CAPTURES.fullmatch(piece) is not None for piece in found.pieces)
    if captures > _CAPTURES_MAX:
        raise ValueError(f"~{text} has more than {_CAPTURES_MAX} groups: write (?:…) for (…)")
    return PathRegex(
        text="".join(written),
        captures=captures,
        prefix=prefix,
        has_dot="." in found.pieces,
    )


class _Pieces:
    """The pieces of a path's regex, and what may follow on each."""

    def __init__(self, found: list[str]) -> None:
        self.pieces = found
        self._ignores_case = False
        for at, piece in enumerate(found):
            flags = _FLAGS.fullmatch(piece)
            if flags is None or flags[1] in {"", "s"}:
                continue
            if at or piece not in {"(?i)", "(?is)", "(?si)"}:
                raise ValueError(f"{piece} cannot be written: only (?i) at the start and (?s) can")
            self._ignores_case = True
        self._ends = self._groups()

    def written(self, at: int) -> str:
        """Return the piece in Envoy's spelling of paths."""
        piece = self.pieces[at]
        if not self._is_text(at):
            return piece
        if _UNREADABLE.search(piece):
            raise ValueError(
                f"{piece!r} may stand for a character that Envoy does not decode: use plain ones"
            )
        if not self._takes(at, _ENCODED):
            others = [spelt for folded, spelt in _FOLDED.items() if self._takes(at, [folded])]
            return f"(?:{'|'.join([piece, *others])})" if others else piece
        quantifier = self._quantifier(at)
        if not self._takes_every(at):
            reason = "takes some of the characters that Envoy does not decode: write [^/]+ or .*"
        elif quantifier not in _REPEATED:
            reason = "counts characters, and Envoy has some of them encoded: write + or * behind it"
        elif not self._is_firm(at + 2, set()):
            reason = "must be followed by the end or by a character such as / that is no hex digit"
        else:
            return piece
        raise ValueError(f"{piece + quantifier!r} {reason}")

    def _groups(self) -> dict[int, int]:
        """Return where each group ends, by where it starts."""
        ends: dict[int, int] = {}
        started: list[int] = []
        for at, piece in enumerate(self.pieces):
            depth = opens(piece)
            if depth > 0:
                started.append(at)
            elif depth < 0:
                ends[started.pop()] = at
        return ends

    def _is_text(self, at: int) -> bool:
        piece = self.pieces[at]
        return piece not in _STARTS | _ENDS and (
            piece[0] not in "()|*+?{" or (piece[0] == "{" and not self._is_quantifier(at))
        )

    def _is_quantifier(self, at: int) -> bool:
        piece = self.pieces[at]
        return piece.startswith(_QUANTIFIERS) and piece != "{"

    def _quantifier(self, at: int) -> str:
        """Return the quantifier behind a piece, if there is one."""
        behind = at + 1
        is_one = behind < len(self.pieces) and self._is_quantifier(behind)
        return self.pieces[behind] if is_one else ""

    def _takes(self, at: int, texts: list[str]) -> bool:
        """Tell whether a piece takes any of these characters, in either case."""
        pattern = Pattern(self.pieces[at], ignore_case=self._ignores_case)
        return any(map(pattern.begins, texts))

    def _takes_every(self, at: int) -> bool:
        """Tell whether a piece takes whatever a triplet is, read in either way."""
        cases = {False, self._ignores_case}
        patterns = [Pattern(self.pieces[at], ignore_case=case) for case in cases]
        wanted = [each for each in _ENCODED + _DIGITS + [*_FOLDED] if each != "\n"]
        return all(pattern.begins(each) for pattern in patterns for each in wanted)

    def _is_firm(self, at: int, seen: set[int]) -> bool:
        """Tell whether from here on every way begins with the end, or with no digit."""
        if at >= len(self.pieces) or self.pieces[at] in _ENDS or at in seen:
            return True
        seen.add(at)
        piece = self.pieces[at]
        if piece == "|":
            return self._is_firm(self._end_around(at), seen)
        if piece == ")":
            [start] = [start for start, end in self._ends.items() if end == at]
            repeats = self._quantifier(at).startswith(("*", "+", "{"))
            behind = self._behind(at)
            return self._is_firm(behind, seen) and (not repeats or self._is_group_firm(start, seen))
        if opens(piece) > 0:
            end = self._ends[at]
            is_optional = self._quantifier(end).startswith(("?", "*", "{0"))
            return self._is_group_firm(at, seen) and (
                not is_optional or self._is_firm(self._behind(end), seen)
            )
        if not self._is_text(at) or self._takes(at, [*_DIGITS, *_ENCODED]):
            return False
        is_optional = self._quantifier(at).startswith(("?", "*", "{0"))
        return not is_optional or self._is_firm(self._behind(at), seen)

    def _behind(self, at: int) -> int:
        return at + (2 if self._quantifier(at) else 1)

    def _is_group_firm(self, start: int, seen: set[int]) -> bool:
        starts = [start + 1]
        depth = 0
        for at in range(start + 1, self._ends[start]):
            depth += opens(self.pieces[at])
            if self.pieces[at] == "|" and not depth:
                starts.append(at + 1)
        return all(self._is_firm(each, seen) for each in starts)

    def _end_around(self, at: int) -> int:
        """Return the end of the group that a piece stands in."""
        around = [end for start, end in self._ends.items() if start < at < end]
        return min(around, default=len(self.pieces))
