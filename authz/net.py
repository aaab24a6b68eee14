"""Addresses and grammars that more than one room needs: one answer for all of them."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import Final

# RFC 6750 section 2.1, and RFC 9110 section 11.2 as token68.  Possessive, so that no text
# is looked at twice.
B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]++=*+", re.ASCII)


def is_loopback(host: str) -> bool:
    """Whether a host, an IP address without brackets or a name, is this machine itself.

    ``localhost`` and the names below it always are (RFC 6761 section 6.3); any other name
    is not, whatever it stands for.
    """
    name = host.lower().removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped.is_loopback
    return address.is_loopback
