"""Which header names are ours, and how upstreams read them.

An upstream in the manner of CGI (RFC 3875 section 4.1.18: PHP, WSGI, Perl) knows a
header by a folded name: ``X.Consumer_Id`` is ``HTTP_X_CONSUMER_ID`` to it, like
``X-Consumer-Id``.  So a name is ours in every spelling that folds onto it.
"""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

IDENTITY: Final = (
    "x-anonymous-consumer",
    "x-authenticated-groups",
    "x-authenticated-scope",
    "x-authenticated-userid",
    "x-consumer-custom-id",
    "x-consumer-groups",
    "x-consumer-id",
    "x-consumer-username",
    "x-credential-identifier",
    # Envoy sets it when it lets a request pass unchecked; a caller's own copy passes through.
    "x-envoy-auth-failure-mode-allowed",
)
"""Who the caller is: only we may say so, on every route."""

AUTHORIZATION: Final = "authorization"

TOKENS: Final = ("access-token", "x-access-token")
"""Where Kong reads a bearer token besides Authorization.  Ours only where a method reads them."""

FORWARDED: Final = (
    "x-envoy-external-address",
    "x-forwarded-client-cert",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-path",
    "x-forwarded-port",
    "x-forwarded-prefix",
    "x-forwarded-proto",
    "x-real-ip",
)
"""What Envoy says about the caller.  Not ours to set or remove; nor the caller's to take away."""

CONNECTION: Final = "connection"
CONNECTION_CHARS_MAX: Final = 1_024
"""Of a Connection header: real ones have a few options."""

TOKEN: Final = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
"""RFC 9110 section 5.6.2: the grammar of a field name and of a connection option."""

_OPTION: Final = re.compile(TOKEN)
_SEPARATOR: Final = re.compile(r"[^0-9A-Za-z]")
# A name with - and _ alone is in the enumeration if it folds onto one of ours.
_ODD: Final = re.compile(r"[^0-9A-Za-z_-]")


def folded(name: str) -> str:
    """Return what is left of a name's spelling: ``-`` for all but letters and digits."""
    return _SEPARATOR.sub("-", name)


def spellings(names: Iterable[str]) -> frozenset[str]:
    """Return every name in every mixture of ``-`` and ``_``."""
    return frozenset(
        "".join(letters)
        for name in names
        for letters in product(*("-_" if letter in "-_" else letter for letter in name))
    )


class Managed:
    """A closed set of header names that are set or removed on every request that passes.

    ``spellings`` can be named in advance; ``twins`` are the rest, which have to be
    looked for: 13 more characters may stand in a name (RFC 9110 section 5.6.2).
    All names are in lower case.
    """

    def __init__(self, names: Iterable[str]) -> None:
        names = frozenset(names)
        self._folded = frozenset(map(folded, names))
        self._chars_max = max(map(len, names))
        # A configured name may have an odd character of its own.
        self._spellings = names | spellings(self._folded)
        self._kept_on = self._folded | frozenset(FORWARDED)
        self.spellings: Final = tuple(sorted(self._spellings))

    def __contains__(self, name: str) -> bool:
        """Tell whether a name is one of these, in any spelling."""
        return folded(name) in self._folded

    def twins(self, names: Iterable[str]) -> tuple[str, ...]:
        """Return those that an upstream may take for ours, besides the ``spellings``."""
        names = tuple(names)
        # Nearly every request has none, which one look at all its names shows.
        if _ODD.search("".join([name.removeprefix(":") for name in names])) is None:
            return ()
        return tuple(
            name
            for name in names
            # A pseudo-header (RFC 9113 section 8.3) is no header to any upstream.
            # Folding keeps a name's length, so a longer one costs nothing.
            if len(name) <= self._chars_max
            if _ODD.search(name) and name in self and name not in self._spellings
            if not name.startswith(":")
        )

    def taken_away_by(self, connection: str) -> str | None:
        """Return what a Connection header names of ours or of Envoy's, if it does.

        Whatever stands between two options: a next hop may be lenient too.
        """
        options = map(folded, _OPTION.findall(connection.lower()))
        return next((option for option in options if option in self._kept_on), None)
