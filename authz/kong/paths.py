"""A request's path: Kong's normal form, and what an Envoy may take it for instead.

Routes are compared with the normal form: triplets of characters that have no
meaning in a URI are decoded, the others get upper-case digits, dot segments are
resolved and ``//`` becomes ``/``.  So ``/a%2fb`` is compared as ``/a%2Fb``, never
as ``/a/b``, and ``/x/%2e%2e/y`` as ``/y``.

An Envoy that routes by itself does some of this, or none, before it looks for a
route.  ``readings`` returns the paths that it may have looked for.
"""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ODD_PATH_CHARS_MAX: Final = 1024
"""Of a path that can be read in several ways, each of which is looked for."""

# RFC 3986 section 2.2: decoding one of these would change what the URI means.  So would
# decoding "%": decoding twice would then differ from decoding once.
_RESERVED: Final = frozenset(b"!*'();:@&=+$,/?%#[]")
# RFC 3986 section 2.3.
_UNRESERVED: Final = frozenset(
    b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~"
)


# --- The normal form ------------------------------------------------------------


def normalise(path: str) -> str:
    """Return a path without its query in Kong's normal form.

    Of a path that does not start with ``/`` (``*``, the empty one) only the triplets are
    decoded.  Decoded bytes that are no UTF-8 become lone surrogates, which no route has.
    """
    path = _decoded(path, _NORMAL)
    if path.startswith("/") and ("//" in path or "/." in path):
        return _without_dot_segments(path, merge=True)
    return path


def _decoded(path: str, table: Mapping[bytes, bytes]) -> str:
    """Return the path with each of its triplets as ``table`` has it."""
    if "%" not in path:
        return path
    first, *rest = path.encode("utf-8", "surrogatepass").split(b"%")
    octets = [first]
    for part in rest:
        decoded = table.get(part[:2])
        octets.append(b"%" + part if decoded is None else decoded + part[2:])
    return b"".join(octets).decode("utf-8", "surrogateescape")


def _triplets() -> Iterator[tuple[bytes, int]]:
    """Yield every spelling of the two digits of a triplet, and its octet."""
    digits = "0123456789ABCDEFabcdef"
    for pair in product(digits, digits):
        text = "".join(pair)
        yield text.encode(), int(text, 16)


_NORMAL: Final = {
    digits: b"%" + digits.upper() if octet in _RESERVED else bytes((octet,))
    for digits, octet in _triplets()
}


def _without_dot_segments(path: str, *, merge: bool) -> str:
    """Apply RFC 3986 section 5.2.4; with ``merge``, empty segments vanish as in Kong."""
    segments = path.split("/")[1:]
    kept: list[str] = []
    for segment in segments:
        if segment == "..":
            del kept[-1:]
        elif segment != "." and (segment or not merge):
            kept.append(segment)
    if kept and (segments[-1] in {".", ".."} or (merge and not segments[-1])):
        kept.append("")
    return "/" + "/".join(kept)


# --- What a file may say ----------------------------------------------------------


def normal_prefix(text: str) -> str:
    """Return the spelling of a route's plain path that requests are compared with.

    A ``?`` or ``#`` in it is meant as a character: requests have it encoded.
    """
    return normalise(text.replace("?", "%3F").replace("#", "%23"))


def normal_triplets(text: str) -> str:
    """Return the spelling in a normal path of triplets such as ``%2f`` or ``%C3%A9``."""
    return _decoded(text, _NORMAL)


def abnormal(normal: str) -> str:
    """Say that a path of a file is not in normal form, which is ``normal``."""
    if _SURROGATE.search(normal):
        return "holds percent-encoded bytes that are no UTF-8"
    return f"is met by no request, for they are compared in normal form: write {normal}"


_SURROGATE: Final = re.compile("[\ud800-\udfff]")


# --- The readings of an Envoy -----------------------------------------------------

_ODD: Final = re.compile(r"//|/\.|\\")
# The digits of triplets that an Envoy may decode (of unreserved characters and slashes),
# those with small letters, which it compares as they stand, and the line feed's: to Kong
# the dot of a regex does not take it, to Envoy it is three characters that it takes.
_ODD_TRIPLETS: Final = frozenset(
    digits.decode()
    for digits, octet in _triplets()
    if octet in _UNRESERVED or octet in b"/\\\n" or digits != digits.upper()
)


def is_odd(path: str) -> bool:
    """Tell whether an Envoy may have read a path otherwise than Kong would."""
    if _ODD.search(path) is not None:
        return True
    return "%" in path and not _ODD_TRIPLETS.isdisjoint([s[:2] for s in path.split("%")[1:]])


def readings(path: str) -> tuple[str, ...]:
    """Return the different readings of a path without its query, Kong's first.

    Envoy may have decoded escaped slashes, normalised (resolved dot segments,
    decoded unreserved characters, turned backslashes), and merged slashes: each
    of them or not, in this order.
    """
    unescaped = {path, _with_slashes(path)}
    canonical = unescaped.union(map(_canonical, unescaped | set(map(_without_marks, unescaped))))
    merged = canonical.union(re.sub("//+", "/", each) for each in canonical)
    return tuple(dict.fromkeys((normalise(path), *map(_as_routes_spell, sorted(merged)))))


def _with_slashes(path: str) -> str:
    """Decode as Envoy's ``path_with_escaped_slashes_action: UNESCAPE_AND_FORWARD``."""
    return re.sub("%5[Cc]", r"\\", re.sub("%2[Ff]", "/", path))


def _canonical(path: str) -> str:
    """Normalise as Envoy's ``normalize_path`` does; empty segments stay."""
    path = _decoded(path, _UNRESERVED_DECODED).replace("\\", "/")
    return _without_dot_segments(path, merge=False) if path.startswith("/") else path


def _without_marks(path: str) -> str:
    """Strip the parameters of dot segments (``/..;x/``), as newer Envoys do before they resolve."""
    return re.sub(r"(?<=/)(\.\.?);[^/]*", r"\1", path) if ".;" in path else path


_UNRESERVED_DECODED: Final = {
    digits: bytes((octet,)) for digits, octet in _triplets() if octet in _UNRESERVED
}


def _as_routes_spell(path: str) -> str:
    """Return the path in the spelling of a file's routes, without reading more into it.

    What no URI can hold in plain, such as ``é``, stands encoded in a route of Envoy's
    and plain in a file.  Any other triplet is to such an Envoy what it looks like.
    """
    return _decoded(path, _UNSPEAKABLE_DECODED)


_UNSPEAKABLE_DECODED: Final = {
    digits: bytes((octet,))
    for digits, octet in _triplets()
    if octet not in {*_RESERVED, *_UNRESERVED, *b"\n"} and digits == digits.upper()
}
