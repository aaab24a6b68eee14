"""The hosts of routes as the domains of Envoy's virtual hosts.

Pure: hosts in, domains out.  Envoy chooses the virtual host before the route, Kong ranks
routes over all hosts.  So each virtual host holds every route that its hosts can meet,
those without hosts included, in Kong's order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

from authz.kong.rules import PORT_DIGITS_MAX, split_host

if TYPE_CHECKING:
    from collections.abc import Sequence


def domains(hosts_by_rank: Sequence[tuple[str, ...]]) -> dict[str, list[tuple[int, str]]]:
    """Return each domain with the ranks of the rules that its hosts can meet, best rank first.

    ``hosts_by_rank``: the hosts that each rule asks for, best rank first; none: any host.
    A rank comes with the regex that the whole host, port included, must match besides;
    ``""``: no regex is needed.  A host of the domain ``*.x`` may or may not begin as the
    host ``a.*`` of a rule asks, and a host of any domain may or may not have the port of
    ``x:8443``: only there a regex is needed.
    """
    named: defaultdict[str, list[int]] = defaultdict(list)
    others: list[int] = []  # ranks of the rules that may meet hosts they do not name
    split_by_rank = [[split_host(host) for host in hosts] for hosts in hosts_by_rank]
    for rank, hosts in enumerate(split_by_rank):
        for name, _ in hosts:
            named[name].append(rank)
        if not hosts or any("*" in name for name, _ in hosts):
            others.append(rank)
    named["*"] += []
    return {
        domain: [
            (rank, authority)
            for rank in sorted({*ranks, *others})
            if (authority := _authority(split_by_rank[rank], domain)) is not None
        ]
        for domain, ranks in named.items()
    }


def _authority(hosts: Sequence[tuple[str, int | None]], domain: str) -> str | None:
    """Return the regex that a host of ``domain`` must match besides; ``None``: no host can.

    Envoy tries equal domains, longer ``*.x`` and, for ``x.*``, every ``*.x`` before this
    domain.
    """
    if not hosts:
        return ""
    wanted: list[str] = []
    for name, port in hosts:
        if _covers(name, domain):
            if port is None:
                return ""
            wanted.append(_with_port("", port))
        elif name[1:].endswith("*") and domain.startswith("*") and domain != "*":
            beginning = re.escape(name[:-1])
            wanted.append(f"{beginning}.*" if port is None else _with_port(beginning, port))
    return f"(?i)(?:{'|'.join(wanted)})" if wanted else None


# The port of a request that names none: the listener speaks plain http.
_IMPLIED_PORT = 80


def _with_port(beginning: str, port: int) -> str:
    """Return the regex of the hosts with this beginning and port, as Kong reads ports.

    Leading zeros count as nothing, up to five digits.
    """
    digits = f":0{{0,{PORT_DIGITS_MAX - len(str(port))}}}{port}"
    if port != _IMPLIED_PORT:
        return f"{beginning}.*{digits}"
    return rf"{beginning}.*{digits}|{beginning}(?:[^:]*|.*\])"


def _covers(host: str, domain: str) -> bool:
    """Tell whether a host of a route takes every host of a domain."""
    if host.startswith("*"):
        return domain.endswith(host[1:]) and (host == "*" or not domain.endswith("*"))
    if host.endswith("*"):
        return domain.startswith(host[:-1])
    return host == domain
