"""The regular expressions of routes: RE2's, and what in one no request can match.

No message repeats the text of an expression, except to say what to write in its place.
"""

from __future__ import annotations

import re
from itertools import takewhile

import re2

from authz.kong.paths import abnormal, normal_triplets

PATTERN_BYTES_MAX = 256 * 1024
"""Of one compiled regular expression, and of RE2's memory while it matches."""
_PREFIX_BYTES_MAX = 64

_SURROGATE = re.compile("[\ud800-\udfff]")
_EDGE = re.compile(r"\\[bB]|\(\?[a-zA-Z]*m")


class Pattern:
    """One of Kong's regular expressions, whose time is linear in the text.

    RE2's dialect, that of Kong's own router (Rust's ``regex``) as far as it
    matters: neither look-around nor back-references, which take a backtracking
    engine that any caller could keep busy for minutes; ASCII classes, ``$`` only
    at the very end.

    ValueError: RE2 cannot read it, or it is too large.  The text is not repeated.
    """

    def __init__(self, text: str, *, ignore_case: bool = False) -> None:
        options = re2.Options()
        options.case_sensitive = not ignore_case
        options.log_errors = False  # RE2's own log is standard error, with the text
        options.max_mem = PATTERN_BYTES_MAX
        options.never_capture = True
        try:
            self._regex = re2.compile(text, options)
        except re2.error as error:
            reason = error.args[0].decode().partition(":")[0]
            raise ValueError(f"RE2 says {reason}") from None

    def begins(self, text: str) -> bool:
        """Tell whether ``text`` begins with a match."""
        return self._regex.match(_encodable(text)) is not None

    def is_in(self, text: str) -> bool:
        """Tell whether there is a match anywhere in ``text``."""
        return self._regex.search(_encodable(text)) is not None

    @property
    def size(self) -> int:
        """How many instructions it compiles to: its worst cost for each byte of a text."""
        size: int = self._regex.programsize
        return size

    def prefix(self) -> str:
        """Return the characters that every match starts with, or the first of them."""
        if _EDGE.search(self._regex.pattern):
            return ""  # at the edge of a word, RE2's range does not hold for the whole match
        try:
            # Every match lies between these two, so it starts as both of them do.
            low, high = self._regex.possiblematchrange(_PREFIX_BYTES_MAX)
        except re2.error:  # a match may be anything
            return ""
        same = takewhile(lambda pair: pair[0] == pair[1], zip(low, high, strict=False))
        return bytes(octet for octet, _ in same).decode(errors="ignore")


def _encodable(text: str) -> str:
    """Return ``text`` with U+FFFD for each byte that was no UTF-8."""
    return _SURROGATE.sub("\ufffd", text)


# --- What no request can match ------------------------------------------------------

# The pieces of a regular expression, as far as they matter here: quoted text, escapes,
# classes, openings of groups, quantifiers, and triplets in a row.
_PIECE = re.compile(
    r"""\\Q.*?(?:\\E|\Z) | \\[pPx]\{[^}]*\} | \\.
      | \[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]])*\] | \(\?[^)]*?[:)>]
      | [*+?]\?? | \{\d+(?:,\d*)?\}\?? | (?:%[0-9A-Fa-f]{2})+ | .""",
    re.DOTALL | re.VERBOSE,
)


def pieces(text: str) -> list[str]:
    """Return the pieces of a regular expression; joined they are the text."""
    found: list[str] = _PIECE.findall(text)
    return found


_OPTIONAL = ("?", "*", "{0")
_QUANTIFIERS = ("?", "*", "{", "+")
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
_MULTILINE = re.compile(r"\(\?[a-zA-Z]*m")
_IGNORES_CASE = re.compile(r"\(\?[a-zA-Z]*i")


def unmet(text: str) -> str | None:
    r"""Say what in a regular expression no normal path can match; ``None``: nothing.

    Found is what shows in the text: a triplet that a normal path does not have, an
    empty segment, and outside of groups a query and anything beyond an anchor
    (``/a(\?.*)?$`` matches without its group).
    """
    pieces = _PIECE.findall(text)
    ignores_case = _IGNORES_CASE.search(text) is not None
    one_line = _MULTILINE.search(text) is None
    normal: list[str] = []
    depth = 0
    for before, piece, after in zip(("", *pieces), pieces, (*pieces[1:], ""), strict=False):
        is_optional = after.startswith(_OPTIONAL)
        depth += piece[0] == "("
        depth -= piece[0] in "()" and piece[-1] == ")"  # flags alone, (?i), are no group
        if not depth and not is_optional and (wrong := _beyond(before, piece, one_line=one_line)):
            return wrong
        if piece.startswith("%"):
            normal.append(_normal_piece(piece, after, ignores_case=ignores_case))
        elif piece != "/" or before != "/" or is_optional:
            normal.append(piece)
    better = "".join(normal)
    return None if better == text else abnormal(f"~{better}")


def _beyond(before: str, piece: str, *, one_line: bool) -> str | None:
    """Say why a piece that must match lies beyond the path; ``None``: it does not."""
    if piece in {r"\?", "[?]"}:
        return "asks for a query, which is not looked at: write %3F for an encoded ?"
    if piece in {"#", r"\#", "[#]"}:
        return "asks for a fragment, which nobody sends: write %23 for an encoded #"
    if before == "$" and one_line and _consumes(piece):
        return "is met by no request: something stands after $, the end of the path"
    if piece == "^" and one_line and before and _consumes(before):
        return "is met by no request: something stands before ^, the start of the path"
    return None


def _normal_piece(piece: str, after: str, *, ignores_case: bool) -> str:
    """Return the spelling of triplets in a normal path; those that it may have stay."""
    is_repeated = after.startswith(_QUANTIFIERS)
    sure = piece[:-3] if is_repeated else piece  # a quantifier takes the last digit
    if ignores_case:
        sure = sure.upper()
    if normal_triplets(sure) == sure:
        return piece
    normal = _META.sub(r"\\\g<0>", normal_triplets(piece))
    return f"(?:{normal})" if is_repeated else normal


def _consumes(piece: str) -> bool:
    """Tell whether a piece stands for characters: no group, alternative, anchor or quantifier."""
    return piece[0] not in "()|^$*+?{" and piece not in {r"\b", r"\B", r"\A", r"\z"}
