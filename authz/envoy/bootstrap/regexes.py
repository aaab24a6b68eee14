r"""Kong's conditions on a text as regular expressions for Envoy, which compares whole texts.

Pure: what a file says in, RE2's dialect out.  ``\C`` stands for any byte: ``.`` would
not be one that is no UTF-8.
"""

from __future__ import annotations

import re
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
