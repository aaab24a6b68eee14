"""`authz manifests --for envoy-gateway`: what each of Kong's fields becomes, and what is refused.

That Envoy Gateway takes it and Envoy runs it is for `make kube`.
"""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING, Any

import pytest
from support.configuration import FORMAT, PLUGIN, load

from authz.errors import ConfigurationError
from authz.kubernetes.envoy_gateway import Options, write
from authz.kubernetes.objects import AuthzService, Names, documents, object_name

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.kubernetes.envoy_gateway import Written

GUARDED = """
    plugins:
    - name: openid-connect
      config:
        issuer: https://idp.example/realms/kong
        auth_methods: [client_credentials]
        client_credentials_param_type: [header]
"""


def written(text: str, **options: Any) -> Written:
    return write(load(FORMAT + dedent(text)), Options(**options))


def of_kind(result: Written, kind: str) -> dict[str, Any]:
    """The objects of one kind, by name."""
    return {each["metadata"]["name"]: each for each in result.objects if each["kind"] == kind}


def routes(result: Written) -> dict[str, Any]:
    return {**of_kind(result, "HTTPRoute"), **of_kind(result, "GRPCRoute")}


def values(result: Written, name: str) -> list[str]:
    """The paths that a route takes, in the order of its rules."""
    return [
        match["path"]["value"]
        for rule in routes(result)[name]["spec"]["rules"]
        for match in rule["matches"]
    ]


SHOP = """
    services:
    - name: shop
      host: shop.shop.svc
      port: 8080
      routes:
      - name: orders
        paths: [/orders]
      - name: everything
        paths: [/]
"""


# --- authz --------------------------------------------------------------------------------


def test_every_route_has_a_policy_that_fails_closed_and_stands_before_it() -> None:
    result = written(SHOP + GUARDED)
    kinds = [each["kind"] for each in result.objects]

    policies = of_kind(result, "SecurityPolicy")
    assert policies.keys() == routes(result).keys() == {"orders", "everything"}
    assert kinds.index("HTTPRoute") > len(kinds) - 1 - kinds[::-1].index("SecurityPolicy")
    for name, policy in policies.items():
        [target] = policy["spec"]["targetRefs"]
        assert (target["kind"], target["name"]) == ("HTTPRoute", name)
        asked = policy["spec"]["extAuth"]
        assert asked["failOpen"] is False
        assert asked["statusOnError"] == 503
        assert asked["timeout"] == "5s"
        assert asked["includeRouteMetadata"] is True
        # authz must see every header, to remove those that look like an identity.
        assert "headersToExtAuth" not in asked
        [backend] = asked["grpc"]["backendRefs"]
        assert backend == {"name": "authz", "namespace": "authz", "port": 9191}


def test_authz_is_trusted_by_its_ca_unless_it_speaks_no_tls() -> None:
    service = AuthzService("auth", "security", 9000)
    result = written(SHOP, authz=service)

    [policy] = of_kind(result, "BackendTLSPolicy").values()
    assert policy["metadata"] == {"name": "auth", "namespace": "security"}
    assert policy["spec"]["validation"]["hostname"] == "auth.security.svc"
    plain = written(SHOP, authz=AuthzService(tls=False))
    assert not of_kind(plain, "BackendTLSPolicy")


def test_references_to_other_namespaces_are_granted_and_no_others() -> None:
    result = written(SHOP, namespace="edge")
    at_home = written(SHOP, namespace="shop", authz=AuthzService(namespace="shop"))

    grants = of_kind(result, "ReferenceGrant")
    assert {(g["metadata"]["namespace"], name) for name, g in grants.items()} == {
        ("authz", "authz-from-edge"),
        ("shop", "shop-from-edge"),
    }
    [granted] = grants["shop-from-edge"]["spec"]["from"]
    assert (granted["kind"], granted["namespace"]) == ("HTTPRoute", "edge")
    assert not of_kind(at_home, "ReferenceGrant")


# --- Names --------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["orders", "a.b-c", "9", "a" * 200])
def test_a_name_that_kubernetes_takes_stays(name: str) -> None:
    assert object_name(name) == name


def test_other_names_are_told_apart_by_a_digest() -> None:
    names = ["Orders", "orders_", "orders~", "é", "ö", "-", "a" * 300, "a" * 299 + "b"]
    made = {object_name(name) for name in names}

    assert len(made) == len(names)
    assert all(object_name(name) == name for name in made)
    assert "orders-" in object_name("Orders")


def test_the_route_says_how_kong_calls_it() -> None:
    result = written("""
        services:
        - name: shop
          host: shop
          routes:
          - {name: Orders_V1, paths: [/orders]}
    """)

    [route] = routes(result).values()
    assert route["metadata"]["name"].startswith("orders-v1-")
    assert route["metadata"]["annotations"] == {"gateway.envoyproxy.io/kong-route": "Orders_V1"}


def test_a_name_is_given_once() -> None:
    names = Names(["orders"])

    assert [names.take("orders"), names.take("orders"), names.take("x")] == [
        "orders-2",
        "orders-3",
        "x",
    ]


# --- What a route asks for ----------------------------------------------------------------


def test_a_path_is_the_beginning_of_a_text_and_not_of_a_segment() -> None:
    result = written(SHOP)

    assert values(result, "orders") == ["/orders.*"]
    assert values(result, "everything") == ["/"]


def test_what_kong_tries_first_is_made_longer_than_what_it_would_lose_to() -> None:
    result = written("""
        services:
        - name: shop
          host: shop
          routes:
          - {name: reads, methods: [GET], paths: [/a]}
          - {name: deep, paths: [/a/b/c]}
    """)

    assert values(result, "reads") == ["/a.*(?:)(?:)"]
    assert values(result, "deep") == ["/a/b/c.*"]


def test_a_route_without_hosts_is_in_the_virtual_host_of_each_host() -> None:
    result = written("""
        services:
        - name: shop
          host: shop
          routes:
          - {name: one, hosts: [a.test], paths: [/a]}
          - {name: any, paths: [/b]}
    """)

    hosts = [each["spec"].get("hostnames") for each in routes(result).values()]
    assert hosts == [["a.test"], None, ["a.test"]]
    assert routes(result).keys() == {"one", "any", "any-2"}
    assert of_kind(result, "SecurityPolicy").keys() == {"one", "any", "any-2"}


def test_more_hosts_and_paths_than_one_object_takes_become_several() -> None:
    hosts = ", ".join(f"h{number}.test" for number in range(20))
    paths = ", ".join(f"/p{number:02}" for number in range(20))
    result = written(f"""
        services:
        - name: shop
          host: shop
          routes:
          - {{name: wide, hosts: [{hosts}], paths: [{paths}]}}
    """)

    sizes = [
        (len(each["spec"]["hostnames"]), len(each["spec"]["rules"]))
        for each in routes(result).values()
    ]
    assert sizes == [(16, 16), (16, 4), (4, 16), (4, 4)]
    [traffic] = of_kind(result, "BackendTrafficPolicy").values()
    assert len(traffic["spec"]["targetRefs"]) == 4


def test_methods_and_headers_are_asked_for() -> None:
    result = written("""
        services:
        - name: shop
          host: shop
          routes:
          - {name: a, paths: [/a], methods: [GET, POST], headers: {x-version: [v1]}}
    """)

    [rule] = routes(result)["a"]["spec"]["rules"]
    assert [match["method"] for match in rule["matches"]] == ["GET", "POST"]
    [header] = rule["matches"][0]["headers"]
    assert header == {
        "type": "RegularExpression",
        "name": "x-version",
        "value": "(?i)(?:(?:(?s:.)*,)?v1(?:,(?s:.)*)?)",
    }


def test_a_grpc_route_has_a_service_and_a_method() -> None:
    result = written("""
        services:
        - name: shop
          host: shop
          protocol: grpc
          routes:
          - {name: a, paths: [/pkg.Shop/Buy], protocols: [grpc], strip_path: false}
          - {name: b, paths: [/pkg.Shop/], protocols: [grpc], strip_path: false}
    """)

    told = [
        each["spec"]["rules"][0]["matches"][0]["method"]
        for each in of_kind(result, "GRPCRoute").values()
    ]
    assert told == [
        {"type": "RegularExpression", "service": r"pkg\.Shop", "method": "Buy.*"},
        {"type": "RegularExpression", "service": r"pkg\.Shop", "method": ".*"},
    ]


# --- What the upstream gets ---------------------------------------------------------------


def filters(result: Written, name: str) -> dict[str, Any]:
    [rule] = routes(result)[name]["spec"]["rules"]
    return {each["type"]: each for each in rule["filters"]}


def test_the_upstream_gets_the_path_and_the_host_that_kong_sends() -> None:
    result = written("""
        services:
        - name: shop
          host: shop
          path: /base
          routes:
          - {name: stripped, paths: ['~/a'], preserve_host: true}
          - {name: whole, paths: [/b], strip_path: false}
    """)

    assert "URLRewrite" not in filters(result, "stripped")
    assert filters(result, "whole")["URLRewrite"]["urlRewrite"] == {"hostname": "shop"}
    rewrites = {
        name: each["spec"]["urlRewrite"]["path"]["replaceRegexMatch"]["substitution"]
        for name, each in of_kind(result, "HTTPRouteFilter").items()
    }
    assert rewrites == {"stripped-1": r"/base/\1", "whole-1": "/base/"}


def test_an_address_is_written_as_no_host_and_that_is_said() -> None:
    result = written("""
        services:
        - name: shop
          host: 192.0.2.1
          routes:
          - {name: a, paths: [/]}
    """)

    assert "URLRewrite" not in filters(result, "a")
    assert any("no address as Host" in notice.message for notice in result.notices)


@pytest.mark.parametrize(
    ("path", "prefix"), [("/a", "/a"), ("/", None), ("~/a", None)], ids=["plain", "root", "regex"]
)
def test_no_header_of_the_proxys_comes_from_a_caller(path: str, prefix: str | None) -> None:
    result = written(f"""
        services:
        - name: shop
          host: shop
          routes:
          - {{name: a, paths: ['{path}']}}
    """)

    changes = filters(result, "a")["RequestHeaderModifier"]["requestHeaderModifier"]
    for name in ("X-Forwarded-Host", "X-Forwarded-Path", "X-Forwarded-Port", "X-Real-IP"):
        assert name in changes["remove"]
    if prefix is None:
        assert "X-Forwarded-Prefix" in changes["remove"]
        assert "set" not in changes
    else:
        assert changes["set"] == [{"name": "X-Forwarded-Prefix", "value": prefix}]


def test_timeouts_and_retries_are_kongs() -> None:
    result = written("""
        services:
        - name: shop
          host: shop
          connect_timeout: 1500
          read_timeout: 400000000
          retries: 0
          routes:
          - {name: a, paths: [/]}
    """)

    [policy] = of_kind(result, "BackendTrafficPolicy").values()
    assert policy["spec"]["timeout"] == {
        "tcp": {"connectTimeout": "0h1s500ms"},
        "http": {"streamIdleTimeout": "111h400s0ms"},
    }
    assert "retry" not in policy["spec"]


BACKENDS: Mapping[str, tuple[str, dict[str, Any]]] = {
    "a name beyond the cluster": (
        "{host: api.example}",
        {"endpoints": [{"fqdn": {"hostname": "api.example", "port": 80}}]},
    ),
    "an address": (
        "{host: 192.0.2.1, port: 81}",
        {"endpoints": [{"ip": {"address": "192.0.2.1", "port": 81}}]},
    ),
    "TLS to a Service": (
        "{host: shop.shop.svc, protocol: https, port: 443}",
        {
            "endpoints": [{"fqdn": {"hostname": "shop.shop.svc", "port": 443}}],
            "tls": {"wellKnownCACertificates": "System", "sni": "shop.shop.svc"},
        },
    ),
    "TLS that is not to be verified": (
        "{host: api.example, protocol: https, port: 443, tls_verify: false}",
        {
            "endpoints": [{"fqdn": {"hostname": "api.example", "port": 443}}],
            "tls": {"insecureSkipVerify": True, "sni": "api.example"},
        },
    ),
}


@pytest.mark.parametrize("case", BACKENDS)
def test_what_is_no_plain_service_of_the_cluster_becomes_a_backend(case: str) -> None:
    service, spec = BACKENDS[case]
    result = written(f"""
        services:
        - {service[:-1]}, name: api, routes: [{{name: a, paths: [/]}}]}}
    """)

    assert of_kind(result, "Backend")["api"]["spec"] == spec
    [rule] = routes(result)["a"]["spec"]["rules"]
    assert rule["backendRefs"] == [
        {"group": "gateway.envoyproxy.io", "kind": "Backend", "name": "api"}
    ]
    assert any("enableBackend" in notice.message for notice in result.notices)


def test_a_service_is_reached_where_the_operator_says() -> None:
    result = written(SHOP, connect_to={("shop.shop.svc", 8080): ("other.else.svc", 80)})

    [rule] = routes(result)["orders"]["spec"]["rules"]
    assert rule["backendRefs"] == [{"name": "other", "namespace": "else", "port": 80}]
    assert filters(result, "orders")["URLRewrite"]["urlRewrite"] == {"hostname": "shop.shop.svc"}


# --- The Gateway --------------------------------------------------------------------------


PROTOCOLS = """
    services:
    - name: shop
      host: shop
      routes:
      - {name: both, paths: [/both]}
      - {name: plain, paths: [/plain], protocols: [http]}
      - {name: tls, paths: [/tls], protocols: [https]}
"""


def listeners(result: Written) -> dict[str, list[str]]:
    return {
        name: [parent["sectionName"] for parent in each["spec"]["parentRefs"]]
        for name, each in routes(result).items()
    }


def test_a_route_is_on_the_listeners_of_its_protocols_and_refused_on_the_other() -> None:
    result = written(PROTOCOLS, tls_secret="cert")

    assert listeners(result) == {
        "both": ["http", "https"],
        "plain": ["http"],
        "plain-2": ["https"],
        "tls": ["https"],
        "tls-2": ["http"],
    }
    # No later route takes what a route for another protocol has taken.
    assert values(result, "plain-2") == values(result, "plain")
    assert values(result, "tls-2") == values(result, "tls")
    answers = {
        name: each["spec"]["directResponse"]["statusCode"]
        for name, each in of_kind(result, "HTTPRouteFilter").items()
        if "directResponse" in each["spec"]
    }
    assert answers == {"plain-over-https": 404, "tls-over-http": 426}
    assert of_kind(result, "SecurityPolicy").keys() == {"both", "plain", "tls"}
    [gateway] = of_kind(result, "Gateway").values()
    assert [each["protocol"] for each in gateway["spec"]["listeners"]] == ["HTTP", "HTTPS"]


def test_a_route_for_tls_may_lead_there() -> None:
    text = PROTOCOLS.replace("[https]}", "[https], https_redirect_status_code: 308}")
    result = written(text, tls_secret="cert")

    [rule] = routes(result)["tls-2"]["spec"]["rules"]
    assert rule["filters"] == [
        {"type": "RequestRedirect", "requestRedirect": {"scheme": "https", "statusCode": 308}}
    ]
    assert "backendRefs" not in rule


def test_a_gateway_that_is_there_is_not_written() -> None:
    result = written(SHOP, gateway=("edge", "public"))

    assert not of_kind(result, "Gateway")
    assert routes(result)["orders"]["spec"]["parentRefs"] == [
        {"name": "public", "namespace": "edge"}
    ]


# --- What cannot be said ------------------------------------------------------------------


UNSAYABLE = {
    "a server name": ("snis: [a.test]", {}, "server names"),
    "a host with a port": ("hosts: ['a.test:81']", {}, "listener has the port"),
    "a star behind": ("hosts: [a.*]", {}, "*. before one"),
    "an address for a host": ("hosts: [192.0.2.1]", {}, "*. before one"),
    "a method of its own": ("methods: [PURGE]", {}, "does not know PURGE"),
    "another way with paths": ("path_handling: v1", {}, "use v0"),
    "TLS alone, and no certificate": ("protocols: [https]", {}, "--tls-secret"),
    "TLS alone, at another's Gateway": (
        "protocols: [https]",
        {"gateway": ("edge", "public")},
        "--tls-secret",
    ),
    "a regular expression for gRPC": (
        "protocols: [grpc], strip_path: false, paths: ['~/a']",
        {},
        "plain path",
    ),
    "a header that Envoy changes": ("headers: {te: [trailers]}", {}, "another header"),
}


@pytest.mark.parametrize("case", UNSAYABLE)
def test_what_cannot_be_said_is_refused_where_another_route_would_take_it(case: str) -> None:
    field, options, words = UNSAYABLE[case]
    paths = "" if "paths" in field else ", paths: [/a]"
    routes_ = f"""
        services:
        - name: shop
          host: shop
          routes:
          - {{name: a, {field}{paths}}}
          - {{name: everything, paths: [/]}}
    """

    with pytest.raises(ConfigurationError) as raised:
        written(routes_, **options)

    assert any(words in one.message for one in raised.value.problems)
    assert all(one.position.line == 7 for one in raised.value.problems)


def test_a_route_that_no_other_shares_a_host_with_is_left_out_and_named() -> None:
    result = written("""
        services:
        - name: shop
          host: shop
          routes:
          - {name: a, hosts: [a.test], methods: [PURGE]}
          - {name: b, hosts: [b.test]}
    """)

    assert routes(result).keys() == {"b"}
    [notice] = [each for each in result.notices if each.parameter == "methods"]
    assert "left out" in notice.message


def test_a_file_without_routes_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="no routes"):
        write(load(PLUGIN), Options())


def test_a_dot_that_may_take_what_another_plugin_guards_is_refused() -> None:
    text = """
        services:
        - name: shop
          host: shop
          routes:
          - name: open
            paths: ['~/a/.*']
          - name: guarded
            paths: [/]
            plugins:
            - name: openid-connect
              config:
                issuer: https://idp.example/realms/kong
                auth_methods: [client_credentials]
                client_credentials_param_type: [header]
    """
    with pytest.raises(ConfigurationError, match="line feed"):
        written(text)


def test_what_a_route_says_and_its_objects_do_not_is_named() -> None:
    result = written("""
        services:
        - name: shop
          host: shop
          port: 8080
          routes:
          - name: a
            paths: [/]
            preserve_host: false
            response_buffering: true
        plugins:
        - name: openid-connect
          config:
            issuer: https://idp.example/realms/kong
            auth_methods: [client_credentials]
            client_credentials_param_type: [header, body]
            protected_resource_metadata:
              resource: https://shop.example/
              authorization_servers: [https://idp.example/realms/kong]
            hide_credentials: false
    """)

    named = {notice.parameter: notice for notice in result.notices}
    assert "writes no port" in named["preserve_host"].message
    assert named["preserve_host"].position.line == 10
    assert "streamed" in named["response_buffering"].message
    assert "413" in named["openid-connect"].message
    assert "shop.example" in named["protected_resource_metadata"].message


def test_the_same_file_gives_the_same_text() -> None:
    texts = {documents(written(SHOP).objects, comment="x") for _ in range(2)}

    [text] = texts
    assert text.startswith("# x\napiVersion: ")
    assert text.count("\n---\n") == len(written(SHOP).objects) - 1
