"""The hosts of routes as the domains of Envoy's virtual hosts.

Pure: hosts in, domains out.  Envoy chooses the virtual host before the route, Kong ranks
routes over all hosts.  So each virtual host holds every route that its hosts can meet,
those without hosts included, in Kong's order.
"""

from __future__ import annotations

import re
from collections import defaultdict
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


def domains(hosts_by_rank: Sequence[tuple[str, ...]]) -> dict[str, list[tuple[int, str]]]:
    """Return each domain with the ranks of the rules that its hosts can meet, best rank first.

    ``hosts_by_rank``: the hosts that each rule asks for, best rank first; none: any host.
    A rank comes with the regex that the whole host must match besides; ``""``: no regex is
    needed.  A host of the domain ``*.x`` may or may not begin as the host ``a.*`` of a rule
    asks: only there a regex is needed.
    """
    named: defaultdict[str, list[int]] = defaultdict(list)
    others: list[int] = []  # ranks of the rules that may meet hosts they do not name
    for rank, hosts in enumerate(hosts_by_rank):
        for host in hosts:
            named[host.lower()].append(rank)
        if not hosts or any("*" in host for host in hosts):
            others.append(rank)
    named["*"] += []
    return {
        domain: [
            (rank, authority)
            for rank in sorted({*ranks, *others})
            if (authority := _authority(hosts_by_rank[rank], domain)) is not None
        ]
        for domain, ranks in named.items()
    }


def _authority(hosts: tuple[str, ...], domain: str) -> str | None:
    """Return the regex that a host of ``domain`` must match besides; ``None``: no host can.

    Envoy tries equal domains, longer ``*.x`` and, for ``x.*``, every ``*.x`` before this
    domain.
    """
    if not hosts or any(_covers(host.lower(), domain) for host in hosts):
        return ""
    beginnings = [re.escape(host[:-1].lower()) for host in hosts if host[1:].endswith("*")]
    if beginnings and domain.startswith("*") and domain != "*":
        return f"(?i)(?:{'|'.join(beginnings)}).*"
    return None


def _covers(host: str, domain: str) -> bool:
    """Tell whether a host of a route takes every host of a domain."""
    if host.startswith("*"):
        return domain.endswith(host[1:]) and (host == "*" or not domain.endswith("*"))
    if host.endswith("*"):
        return domain.startswith(host[:-1])
    return host == domain
