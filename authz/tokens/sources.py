"""Where a request comes from, as far as turns between strangers are concerned."""

from __future__ import annotations

from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from authz.model import Request

# One subscriber has at least so much of IPv6 (RFC 6177).
_HOST_BITS: Final = 64
# The longest address (RFC 4291 section 2.2) with a zone, which is an interface's name.
ADDRESS_CHARS_MAX: Final = 64
ADDRESSES_MAX: Final = 1_024


class Sources:
    """Tells requests apart by where they come from.

    ``header``: the lower-case name of a header in which the edge Envoy writes the client's
    address, such as ``x-envoy-external-address``; ``None``: the peer's address counts.
    """

    def __init__(self, header: str | None = None) -> None:
        self._header = header

    def of(self, request: Request) -> str:
        """Return the source of a request: an address, of IPv6 the /64; ``""``: untold."""
        named = request.headers.get(self._header, "") if self._header else ""
        return source(named) or source(request.source_address)


def source(address: str) -> str:
    """Return an address without what one host may choose of it; no address: ``""``."""
    # The text may be a caller's own: a long one is not kept.
    return _named(address) if 0 < len(address) <= ADDRESS_CHARS_MAX else ""


@lru_cache(maxsize=ADDRESSES_MAX)  # a peer, an edge's as a rule, asks many times
def _named(address: str) -> str:
    try:
        parsed = ip_address(address)
    except ValueError:
        return ""
    if isinstance(parsed, IPv6Address):
        if parsed.ipv4_mapped is not None:
            return str(parsed.ipv4_mapped)
        return str(IPv6Address(int(parsed) >> _HOST_BITS << _HOST_BITS))
    return str(parsed)
