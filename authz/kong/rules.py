"""Kong's order: which of the routes that take a request answers it.

Kong's ``traditional_compatible`` router splits each route into *rules*, one for
its regexes and one for each length among its plain paths.  The rules are ranked by
what they ask for, and the first one that the request satisfies answers it.
"""

from __future__ import annotations

import re
import string
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.kong.protocols import STREAMS

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.model import Route, Service

_HEADER_WEIGHT_MAX = 255  # Kong's field for the number of headers has eight bits


@dataclass(frozen=True, slots=True)
class Rule:
    """A row of the routing table: a route with those of its paths that rank alike.

    ``paths`` are all regexes (written ``~…``), or all plain and equally long.
    """

    route: Route
    paths: tuple[str, ...]

    @property
    def is_regex(self) -> bool:
        """Whether the paths are regular expressions."""
        return is_regex(self.paths[0]) if self.paths else False


def is_regex(path: str) -> bool:
    """Tell whether Kong reads this entry of ``paths`` as a regular expression."""
    return path.startswith("~")


def display_name(entity: Route | Service) -> str:
    """Return the name that a person gave, else the id: what messages and Envoy use."""
    return entity.name or entity.id


def routing_table(routes: Iterable[Route]) -> tuple[Rule, ...]:
    """Return the rules of all routes, first in Kong's order first.

    Of equal rules the first in the file wins (in Kong that is undefined).  The routes
    of a disabled service and those for TCP, TLS and UDP streams are left out, as in Kong.
    """
    rules = [
        Rule(route, paths)
        for route in routes
        if (route.service is None or route.service.enabled)
        and not STREAMS.issuperset(route.protocols)
        for paths in _split(route.paths)
    ]
    return tuple(sorted(rules, key=_priority, reverse=True))


def _split(paths: tuple[str, ...]) -> Iterable[tuple[str, ...]]:
    """Split paths into groups of one rank: all regexes, and plain ones by length."""
    groups: defaultdict[int, list[str]] = defaultdict(list)
    for path in paths:
        groups[0 if is_regex(path) else _octets(path)].append(path)
    return map(tuple, groups.values()) if groups else [()]


def _octets(path: str) -> int:
    return len(path.encode())  # Kong's strings, and so its lengths, are bytes


def _priority(rule: Rule) -> tuple[int, bool, int, bool, int, int, bool]:
    """Return what a rule is sorted by; the greater tuple goes first.

    The last part is from Kong's ``traditional`` router.  It decides where the newer one
    leaves a tie, so that a host with a port is not shadowed by the same host without one.
    """
    route = rule.route
    kinds = (route.methods, route.hosts, route.headers, route.snis, route.paths)
    return (
        sum(map(bool, kinds)),
        bool(route.hosts) and not any("*" in host for host in route.hosts),
        min(len(route.headers), _HEADER_WEIGHT_MAX),
        rule.is_regex,
        route.regex_priority if rule.is_regex else 0,
        0 if rule.is_regex or not rule.paths else _octets(rule.paths[0]),
        any(split_host(host)[1] is not None for host in route.hosts),
    )


PORT_DIGITS_MAX = 5
_IN_BRACKETS = re.compile(r"\[[0-9a-f:.]+")
_PORT = re.compile(f"[0-9]{{1,{PORT_DIGITS_MAX}}}")


def split_host(host: str) -> tuple[str, int | None]:
    """Split ``host[:port]`` into the lower-case host and the port, if there is one.

    ValueError: something stands behind a colon that is no port of 1 to 5 digits, an IPv6
    address stands without its brackets, or brackets stand around or beside something else
    (RFC 3986 section 3.2.2), which Kong's nginx refuses too.
    """
    name, bracket, rest = ascii_lower(host).rpartition("]")
    end, colon, port = rest.partition(":")
    if ("[" in host or bracket) and (end or not _IN_BRACKETS.fullmatch(name)):
        raise ValueError("the host's brackets are not those of an IPv6 address alone")
    if not colon:
        return ascii_lower(host), None
    if not _PORT.fullmatch(port):
        raise ValueError("what stands behind the host's colon is no port of 1 to 5 digits")
    return f"{name}{bracket}{end}", int(port)


# Unicode's lower case would turn the Kelvin sign into a k, and so one host into another.
_ASCII_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def ascii_lower(text: str) -> str:
    """Return ``text`` in small letters, as far as it is ASCII."""
    return text.lower() if text.isascii() else text.translate(_ASCII_LOWER)
