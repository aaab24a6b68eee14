"""`authz manifests --for istio`: authz is asked about at least what the file's routes take."""

from __future__ import annotations

from random import Random
from textwrap import dedent
from typing import Any

import pytest
from support.configuration import FORMAT, PLUGIN, load
from support.drawn import draw_file, draw_requests

from authz.errors import AuthzError, ConfigurationError
from authz.kong.router import Router
from authz.kubernetes.istio import Options, mesh_config, write
from authz.kubernetes.objects import AuthzService
from authz.model import Request

ISSUER = "https://idp.example/realms/kong"
SEEDS = 40
REQUESTS = 200


def rules(text: str, **options: Any) -> Any:
    policy = write(load(FORMAT + dedent(text)), Options(**options))[0]
    assert policy["kind"] == "AuthorizationPolicy"
    assert policy["spec"]["action"] == "CUSTOM"
    return policy["spec"]["rules"]


def routes(*each: str) -> str:
    lines = "".join(f"  - {one}\n" for one in each)
    return f"services:\n- name: shop\n  host: shop\n  routes:\n{lines}"


RULES = {
    "a path": (["{paths: [/a]}"], [{"paths": ["/a*"]}]),
    "paths of which one holds the other": (["{paths: [/a, /ab, /b]}"], [{"paths": ["/a*", "/b*"]}]),
    "a path that Istio compares otherwise": (["{paths: ['/a b']}"], [{"paths": ["/a*"]}]),
    "a regular expression": (["{paths: ['~/v[0-9]/x']}"], [{"paths": ["/v*"]}]),
    "one that may begin with anything": (["{paths: ['~/(a|b)']}"], [{}]),
    "a host": (
        ["{paths: [/a], hosts: [a.test]}"],
        [{"hosts": ["a.test", "a.test:*"], "paths": ["/a*"]}],
    ),
    "a star behind": (["{hosts: [a.*], paths: [/]}"], [{"hosts": ["a.*"]}]),
    "a star before, which would take no port": (
        ["{hosts: ['*.test'], paths: [/a]}"],
        [{"paths": ["/a*"]}],
    ),
    "a host with a port": (
        ["{hosts: ['a.test:81'], paths: [/]}"],
        [{"hosts": ["a.test", "a.test:*"]}],
    ),
    "a method and a header, which are left out": (
        ["{methods: [GET], headers: {x-a: [b]}, paths: [/a]}"],
        [{"paths": ["/a*"]}],
    ),
    "no path and no host": (["{methods: [GET]}"], [{}]),
}


@pytest.mark.parametrize("case", RULES)
def test_a_rule_is_as_wide_as_it_must_be(case: str) -> None:
    each, operations = RULES[case]

    found = rules(routes(*each))

    assert [rule["to"][0]["operation"] if rule else {} for rule in found] == operations


def test_a_file_without_routes_asks_about_everything() -> None:
    [policy, _] = write(load(PLUGIN), Options())

    assert policy["spec"]["rules"] == [{}]


def test_the_policy_is_for_the_ingress_gateway_or_for_the_gateway_that_is_named() -> None:
    gateway = load(FORMAT + routes("{paths: [/a]}"))
    [own, _] = write(gateway, Options())
    [named, _] = write(gateway, Options(gateway=("edge", "public")))

    assert own["metadata"]["namespace"] == "istio-system"
    assert own["spec"]["selector"] == {"matchLabels": {"istio": "ingressgateway"}}
    assert named["metadata"]["namespace"] == "edge"
    assert named["spec"]["targetRefs"][0]["name"] == "public"


def test_the_provider_fails_closed_and_waits_as_long_as_an_exchange_may_take() -> None:
    mesh = mesh_config(Options(authz=AuthzService("auth", "security", 9000)))

    [provider] = mesh["extensionProviders"]
    asked = provider["envoyExtAuthzGrpc"]
    assert (asked["service"], asked["port"]) == ("auth.security.svc.cluster.local", 9000)
    assert (asked["failOpen"], asked["statusOnError"], asked["timeout"]) == (False, "503", "5s")
    assert asked["includeRequestBodyInCheck"]["allowPartialMessage"] is True
    assert mesh["pathNormalization"]["normalization"] == "DECODE_AND_MERGE_SLASHES"


def test_authz_is_spoken_to_over_tls_unless_it_speaks_none() -> None:
    gateway = load(FORMAT + routes("{paths: [/a]}"))
    [_, rule] = write(gateway, Options())

    tls = rule["spec"]["trafficPolicy"]["tls"]
    assert (tls["mode"], tls["sni"]) == ("SIMPLE", "authz.authz.svc")
    assert len(write(gateway, Options(authz=AuthzService(tls=False)))) == 1


def selects(operation: dict[str, Any], request: Request) -> bool:
    """Tell whether Istio asks: its texts have a star at one end at most."""
    path = request.path.partition("?")[0]
    return _any(operation.get("hosts"), request.host.lower()) and _any(operation.get("paths"), path)


def _any(texts: list[str] | None, value: str) -> bool:
    if texts is None:
        return True
    return any(
        value.startswith(text[:-1]) and len(value) >= len(text) - 1
        if text.endswith("*")
        else value == text
        for text in texts
    )


@pytest.mark.parametrize("seed", range(SEEDS))
def test_authz_is_asked_about_every_request_that_meets_a_route(seed: int) -> None:
    random = Random(seed)
    while True:
        try:
            gateway = load(draw_file(random, ISSUER))
            router = Router(gateway)
            break
        except ConfigurationError:
            continue
    [policy, _] = write(gateway, Options())
    operations = [r["to"][0]["operation"] if r else {} for r in policy["spec"]["rules"]]

    for one in draw_requests(random, gateway, REQUESTS):
        if not one.plain:  # Istio has normalised what it compares
            continue
        request = Request(one.method, "http", one.host, one.target)
        try:
            router.match(request)
        except AuthzError:
            continue
        assert any(selects(each, request) for each in operations), request
