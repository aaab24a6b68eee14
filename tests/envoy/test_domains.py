"""Laws of the host algebra: in the virtual host that Envoy chooses stand Kong's routes."""

from __future__ import annotations

import re

from hypothesis import example, given
from hypothesis import strategies as st

from authz.envoy.bootstrap.domains import domains

LABELS = st.sampled_from(["a", "b", "A", "ab", "x-a"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
HOSTS = NAMES | NAMES.map("*.{}".format) | NAMES.map("{}.*".format)
RULES = st.lists(st.lists(HOSTS, max_size=3).map(tuple), max_size=6)


def takes(host: str, name: str) -> bool:
    """Whether a route's host takes a name, as Kong compares them: a star is not empty."""
    host = host.lower()
    if host.startswith("*"):
        return name.endswith(host[1:]) and len(name) >= len(host)
    if host.endswith("*"):
        return name.startswith(host[:-1]) and len(name) >= len(host)
    return host == name


def chosen(found: dict[str, list[tuple[int, str]]], name: str) -> str:
    """Envoy's choice: equal, then the longest ``*.x``, then the longest ``x.*``, then ``*``."""
    if name in found:
        return name
    wild = [domain for domain in found if "*" in domain and takes(domain, name)]
    endings = [domain for domain in wild if domain.startswith("*") and domain != "*"]
    return max(endings or [d for d in wild if d != "*"] or ["*"], key=len)


@given(RULES, NAMES.map(str.lower))
@example([("a.*",), ("*.b",)], "a.b")
@example([("*.a.b",), ("a.*",), ("*.b",), ()], "a.a.b")
def test_a_name_meets_the_rules_that_take_it_in_their_order(
    rules: list[tuple[str, ...]], name: str
) -> None:
    found = domains(rules)
    met = [
        rank
        for rank, authority in found[chosen(found, name)]
        if not authority or re.fullmatch(authority, name)
    ]

    assert met == [
        rank for rank, hosts in enumerate(rules) if not hosts or any(takes(h, name) for h in hosts)
    ]


@given(RULES)
def test_a_domain_is_a_host_of_a_rule_in_small_letters_or_the_star(
    rules: list[tuple[str, ...]],
) -> None:
    assert set(domains(rules)) == {"*", *(host.lower() for hosts in rules for host in hosts)}


@given(RULES)
def test_only_the_start_of_a_host_under_a_wildcard_needs_a_regex(
    rules: list[tuple[str, ...]],
) -> None:
    for domain, ranks in domains(rules).items():
        assert domain.startswith("*.") or not any(authority for _, authority in ranks)
