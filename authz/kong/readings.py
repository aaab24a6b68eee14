"""The readings of a request: Kong's, and those that an Envoy may have.

Conditions are compared with a reading, and not with the request as it came.  Where
an Envoy that routes by itself may see another path, host or header line than Kong's
router does, there is a reading for each.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations, product
from typing import TYPE_CHECKING

from authz.errors import MalformedRequest, Reason
from authz.kong import paths
from authz.kong.checks import HEADER_VALUE_BYTES_MAX
from authz.kong.paths import ODD_PATH_CHARS_MAX, is_odd, normalise
from authz.kong.regexes import Pattern
from authz.kong.rules import ascii_lower, split_host

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from authz.kong.rules import Rule
    from authz.model import Request

PATH_CHARS_MAX = 8 * 1024
"""A longer path (without its query) is refused, as Kong refuses a longer request line."""

HEADER_LINES_MAX = 64
"""Of a header that a route asks for: Envoy joins them by commas."""

SEARCH_STEPS_MAX = 256 * 1024
"""Of all regular expressions over one request: a step is one instruction over one character.

About a millisecond where RE2 can do no better.  What the file's own expressions take
for texts of an ordinary length (``ORDINARY_TEXT_CHARS``) comes on top of it.
"""
ORDINARY_TEXT_CHARS = 256
_CALL_STEPS = 512  # what it costs to start one

_HEADERS_APART_MAX = 4  # of more, not every choice is looked at

# Keys of the index besides the names of headers, and none of these.
SERVER_NAME, METHOD = ":server-name", ":method"


@dataclass(frozen=True, slots=True)
class Reading:
    """One reading of a request, in the form in which conditions are compared with it."""

    request: Request
    host: str
    ports: tuple[int | None, ...]
    """The ports that a route's host may have; ``None`` stands for a host without a port."""
    path: str
    server_name: str
    search: Search
    to_the_letter: bool
    """Whether a header's value is compared as Envoy's routes do: with its case."""
    apart: frozenset[str]
    """Headers of which, to the letter, each part between commas is a line; of others the whole is.

    Envoy 1.36 compares the lines joined by commas, Envoy 1.40 each line.
    """
    is_usual: bool
    """Whether honest callers send what can be read so, such as a port in the host."""

    def lines(self, name: str) -> tuple[str, ...] | None:
        """Return the texts that may be lines of a header, in small letters, the whole value first.

        ``None``: the request has no such header.
        """
        return self.search.lines(self.request.headers, name)

    def texts(self, of: str) -> tuple[str, ...]:
        """Return the request's texts for a header, ``SERVER_NAME`` or ``METHOD``."""
        if of == SERVER_NAME:
            return (self.server_name,)
        if of == METHOD:
            return (self.request.method,)
        return self.lines(of) or ()


class Search:
    """The regular expressions that one request was searched with, and the steps that are left.

    One for all readings of a request.  MalformedRequest: the steps are used up, so
    that the request's route is not known.
    """

    def __init__(self, steps: int) -> None:
        self._steps = steps
        self._met: dict[tuple[Pattern, str], bool] = {}
        self._lines: dict[str, tuple[str, ...] | None] = {}

    def begins(self, pattern: Pattern, text: str) -> bool:
        """Tell whether ``text`` begins with a match."""
        return self._ask(pattern, text, Pattern.begins)

    def is_in(self, pattern: Pattern, text: str) -> bool:
        """Tell whether there is a match anywhere in ``text``."""
        return self._ask(pattern, text, Pattern.is_in)

    def _ask(self, pattern: Pattern, text: str, ask: Callable[[Pattern, str], bool]) -> bool:
        key = pattern, text
        if key not in self._met:
            self._steps -= steps_of(pattern, len(text))
            if self._steps < 0:
                raise MalformedRequest(
                    Reason.REQUEST_MALFORMED,
                    "the path or a header is too long for the regular expressions of the routes",
                )
            self._met[key] = ask(pattern, text)
        return self._met[key]

    def lines(self, headers: Mapping[str, str], name: str) -> tuple[str, ...] | None:
        """Return the whole value and its parts: Envoy joins the lines of a header by commas."""
        if name not in self._lines:
            value = headers.get(name)
            self._lines[name] = None if value is None else _lines(value, name)
        return self._lines[name]


def steps_of(pattern: Pattern, characters: int) -> int:
    """Return how many steps a search through so many characters costs at most."""
    return pattern.size * characters + _CALL_STEPS


def _lines(value: str, name: str) -> tuple[str, ...]:
    if len(value) > HEADER_VALUE_BYTES_MAX or value.count(",") >= HEADER_LINES_MAX:
        raise MalformedRequest(
            Reason.REQUEST_MALFORMED,
            f"routes ask for the header {name}, of which at most {HEADER_VALUE_BYTES_MAX} bytes "
            f"and {HEADER_LINES_MAX} lines are read",
        )
    # A dict keeps the order: the steps that a search takes must not depend on a set's.
    return tuple(dict.fromkeys(map(ascii_lower, (value, *value.split(",")))))


def readings(request: Request, asked: Asked, search: Search) -> Iterator[Reading]:
    """Yield the readings of a request: Kong's first, then those that Envoy may have.

    MalformedRequest: the path or the host is none that a route can be compared with.
    """
    path = request.path.partition("?")[0]
    if len(path) > PATH_CHARS_MAX:
        raise MalformedRequest(
            Reason.REQUEST_MALFORMED, f"the path is longer than {PATH_CHARS_MAX} characters"
        )
    if "#" in path:  # RFC 9112 section 3.2: a fragment is never sent
        raise MalformedRequest(Reason.REQUEST_MALFORMED, "the path has a fragment (#)")
    try:
        host, port = split_host(request.host)
    except ValueError as error:
        raise MalformedRequest(Reason.REQUEST_MALFORMED, str(error)) from None
    server_name = fold_server_name(request.server_name)
    # Envoy takes the dot away only if it is told to (strip_trailing_host_dot).
    hosts = (host, host.removesuffix(".")) if host.endswith(".") else (host,)
    kongs, *others = _ports(request, port, asked)
    letters = _letters(request, asked)
    for letter, ports, name, read in product(letters, (kongs, *others), hosts, _paths(path)):
        is_usual = letter[0] or ports is not kongs
        yield Reading(request, name, ports, read, server_name, search, *letter, is_usual)


def _letters(request: Request, asked: Asked) -> Iterator[tuple[bool, frozenset[str]]]:
    """Yield how headers may be compared: whether to the letter, and which line by line."""
    yield False, frozenset()
    compared = asked.headers & request.headers.keys()
    if not compared:
        return
    joined = sorted(name for name in compared if "," in request.headers[name])
    few = len(joined) <= _HEADERS_APART_MAX
    for count in range(len(joined) + 1) if few else (0, 1, len(joined)):
        for names in combinations(joined, count):
            yield True, frozenset(names)


def _ports(request: Request, port: int | None, asked: Asked) -> Iterator[tuple[int | None, ...]]:
    """Yield the ports that a route's host may have: to Kong, then to Envoy.

    To Kong, a request without a port has the scheme's, and the caller may have chosen
    the scheme.  To Envoy, ``a.test:80`` is another host than ``a.test``, unless it is
    told to strip the port (``strip_any_host_port``): then no port arrives here.  Where a
    route of Envoy's takes any port and another names one, ``a.test:080`` is the first's.
    """
    if port is not None:
        yield None, port
        if asked.hosts:
            to_the_letter = request.host.endswith(f":{port}")
            yield (port,) if to_the_letter else ()
            if asked.ports and not to_the_letter:
                yield (None,)
        return
    defaults = (443, 80) if request.scheme == "https" else (80, 443)
    yield None, defaults[0]
    if asked.ports:
        yield None, defaults[1]
        yield (None,)


def _paths(path: str) -> tuple[str, ...]:
    if not is_odd(path):
        return (normalise(path),)
    if len(path) > ODD_PATH_CHARS_MAX:
        raise MalformedRequest(
            Reason.REQUEST_MALFORMED,
            "the path can be read in several ways (//, /., escaped slashes or letters …) and is "
            f"longer than {ODD_PATH_CHARS_MAX} characters",
        )
    return paths.readings(path)


def fold_server_name(text: str) -> str:
    """Return a server name in small letters and without its final dot."""
    return ascii_lower(text).removesuffix(".")


@dataclass(frozen=True, slots=True)
class Asked:
    """Which of the things that can be read in several ways any route asks for."""

    hosts: bool
    ports: bool
    headers: frozenset[str]

    @classmethod
    def by(cls, rules: Collection[Rule]) -> Asked:
        """Return what the routes of these rules ask for."""
        hosts = {host for rule in rules for host in rule.route.hosts}
        return cls(
            hosts=bool(hosts),
            ports=any(split_host(host)[1] is not None for host in hosts),
            headers=frozenset(ascii_lower(name) for rule in rules for name in rule.route.headers),
        )
