"""Kong's file as an Envoy bootstrap: what is written, and what is refused with its place."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
import yaml

from authz.envoy.bootstrap import EXT_AUTHZ, BootstrapOptions, build, notices, render
from authz.errors import ConfigurationError, RouteNotFound
from authz.kong.paths import normalise
from authz.kong.regexes import Pattern
from authz.kong.router import Router
from authz.model import (
    Certificate,
    Gateway,
    OpenIDConnect,
    Plugin,
    Request,
    Route,
    Secret,
    Service,
    SourcePosition,
)

POSITION = SourcePosition("kong.yaml", 1, 1)
FIELD = SourcePosition("kong.yaml", 9, 7)


def service(name: str = "orders", **fields: Any) -> Service:
    return Service(
        id=f"id-of-{name}", name=name, position=POSITION, **{"host": "orders.test", **fields}
    )


def route(name: str = "r", **fields: Any) -> Route:
    return Route(
        id=f"id-of-{name}", name=name, position=POSITION, **{"service": service(), **fields}
    )


def plugin(route: Route | None = None, **config: Any) -> Plugin:
    return Plugin(POSITION, OpenIDConnect.of(issuer="https://idp.test", **config), route=route)


def gateway(*routes: Route, plugins: tuple[Plugin, ...] = ()) -> Gateway:
    services = {r.service.id: r.service for r in routes if r.service}
    return Gateway(services=tuple(services.values()), routes=routes, plugins=plugins)


def built(*routes: Route, plugins: tuple[Plugin, ...] = (), **options: Any) -> dict[str, Any]:
    return build(gateway(*routes, plugins=plugins), BootstrapOptions(**options))


def manager(bootstrap: dict[str, Any]) -> dict[str, Any]:
    chain = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]
    config: dict[str, Any] = chain["filters"][0]["typed_config"]
    return config


def virtual_hosts(bootstrap: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    hosts = manager(bootstrap)["route_config"]["virtual_hosts"]
    assert all(host["domains"] == [host["name"]] for host in hosts)
    return {host["name"]: host["routes"] for host in hosts}


def clusters(bootstrap: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {each["name"]: each for each in bootstrap["static_resources"]["clusters"]}


def names(routes: list[dict[str, Any]]) -> list[str | None]:
    return [each.get("name") for each in routes]


# --- The filter -------------------------------------------------------------------


def test_authz_is_asked_and_the_filter_fails_closed() -> None:
    config = manager(built(route(paths=("/a",))))["http_filters"][0]["typed_config"]
    assert config["grpc_service"]["timeout"] == "5s"
    assert config["status_on_error"] == {"code": "ServiceUnavailable"}
    assert config["transport_api_version"] == "V3"
    assert config["validate_mutations"] is True
    assert not {"failure_mode_allow", "clear_route_cache", "with_request_body"} & set(config)


def test_each_route_is_named_to_authz_by_name_or_else_by_id() -> None:
    unnamed = Route(id="77", name=None, position=POSITION, service=service(), paths=("/b",))
    routes = virtual_hosts(built(route(paths=("/a",)), unnamed))["*"]
    settings = [r["typed_per_filter_config"][EXT_AUTHZ].get("check_settings") for r in routes]
    assert settings == [
        {"context_extensions": {"route": "r"}},
        {"context_extensions": {"route": "77"}},
        None,
    ]


@pytest.mark.parametrize(
    ("config", "sent"),
    [
        ({}, False),
        ({"client_credentials_param_type": ("header", "body")}, True),
        ({"bearer_token_param_type": ("body",)}, True),
        ({"auth_methods": ("bearer",), "client_credentials_param_type": ("body",)}, False),
    ],
)
def test_CP_26_only_a_route_whose_plugin_reads_the_body_has_it_sent(
    config: dict[str, Any], sent: bool
) -> None:
    reading, other = route(paths=("/a",)), route("other", paths=("/b",))
    found = built(reading, other, plugins=(plugin(reading, **config),))
    settings = [
        each["typed_per_filter_config"][EXT_AUTHZ]["check_settings"].get("with_request_body")
        for each in virtual_hosts(found)["*"][:2]
    ]
    body = {"max_request_bytes": 8192, "allow_partial_message": True}
    assert settings == [body if sent else None, None]


def test_what_no_route_takes_is_answered_by_envoy_in_kongs_words_without_authz() -> None:
    for routes in virtual_hosts(built(route(hosts=("a.test",)))).values():
        last = routes[-1]
        assert last["match"] == {"prefix": "/"}
        assert last["direct_response"]["status"] == 404
        body = last["direct_response"]["body"]["inline_string"]
        assert body == '{"message":"no Route matched with those values"}'
        assert last["typed_per_filter_config"][EXT_AUTHZ]["disabled"] is True


# --- Routes -----------------------------------------------------------------------


def test_routes_stand_in_kongs_order() -> None:
    found = virtual_hosts(
        built(
            route("short", paths=("/a",)),
            route("method", paths=("/a",), methods=("GET", "PUT")),
            route("long", paths=("/a/b", "/")),
        )
    )["*"]
    assert names(found) == ["method", "long", "short", "long", None]
    assert found[0]["match"]["headers"] == [
        {"name": ":method", "string_match": {"safe_regex": {"regex": "GET|PUT"}}}
    ]


def test_a_route_without_hosts_stands_in_every_virtual_host() -> None:
    found = virtual_hosts(
        built(
            route("exact", hosts=("A.test", "c.test"), paths=("/",)),
            route("wild", hosts=("*.test",), paths=("/",)),
            route("open", paths=("/a",)),
        )
    )
    assert {host: names(routes) for host, routes in found.items()} == {
        "a.test": ["exact", "wild", "open", None],
        "c.test": ["exact", "wild", "open", None],
        "*.test": ["wild", "open", None],
        "*": ["open", None],
    }


def test_a_beginning_is_asked_of_the_hosts_of_an_ending() -> None:
    found = virtual_hosts(
        built(
            route("ending", hosts=("*.test", "*.x.test"), paths=("/",)),
            route("beginning", hosts=("a.*",), paths=("/b",)),
        )
    )
    assert names(found["a.*"]) == ["beginning", None]
    for host in ("*.test", "*.x.test"):
        assert names(found[host]) == ["beginning", "ending", None]
        (asked,) = found[host][0]["match"]["headers"]
        assert asked["name"] == ":authority"
        regex = asked["string_match"]["safe_regex"]["regex"]
        assert re.fullmatch(regex, "A.test")
        assert not re.fullmatch(regex, "b.test")


def begins_and_ends(regex: str, text: str) -> bool:
    return Pattern(f"(?:{regex})$").begins(text)


def rewritten(found: list[dict[str, Any]], path: str) -> str | None:
    """Take a path through Envoy's routes: what the upstream would see."""
    for each in found:
        match, action = each["match"], each.get("route")
        fits = match.get("path") == path or path.startswith(match.get("prefix", "\0"))
        if "safe_regex" in match:
            fits = begins_and_ends(match["safe_regex"]["regex"], path)
            for header in match.get("headers", ()):
                assert header["name"] == ":path"
                regex = header["string_match"]["safe_regex"]["regex"]
                fits = fits and begins_and_ends(regex, path)
        if fits and action is None:
            return None
        if fits and action is not None:
            if "regex_rewrite" not in action:
                return path
            rewrite = action["regex_rewrite"]
            return re.sub(rewrite["pattern"]["regex"], rewrite["substitution"], path, count=1)
    return None


@pytest.mark.parametrize(
    ("base", "strip", "prefix", "sent", "upstream"),
    [
        (None, True, "/foo", "/foo", "/"),
        (None, True, "/foo", "/foo/get", "/get"),
        (None, True, "/foo", "/foobar", "/bar"),
        (None, True, "/foo/", "/foo/get", "/get"),
        (None, True, "/", "/get", "/get"),
        (None, False, "/foo", "/foo/get", "/foo/get"),
        ("/s", True, "/tv0", "/tv0/req", "/s/req"),
        ("/s", True, "/tv0", "/tv0", "/s"),
        ("/s", True, "/tv0", "/tv0/", "/s/"),
        ("/s", True, "/tv0", "/tv0req", "/s/req"),
        ("/s/", True, "/tv0", "/tv0", "/s"),
        ("/s/", True, "/tv0", "/tv0/req", "/s/req"),
        ("/s", False, "/fv0", "/fv0/req", "/s/fv0/req"),
        ("/s", False, "/", "/", "/s"),
        ("/s", False, "/", "/req", "/s/req"),
        ("/s/", False, "/", "/", "/s/"),
        ("/s", True, "/", "/", "/s"),
        (r"/s\1", True, "/a", "/a/b", r"/s\1/b"),
        ("/s", True, "/foo", "/foo../admin", "/s/admin"),
        ("/s", True, "/foo", "/foo..;x=1/admin", "/s/admin"),
        ("/s", True, "/foo", "/foo.;", "/s/"),
        ("/s", True, "/foo", "/foo;x/admin", "/s/;x/admin"),
        (None, True, "/foo", "/foo..", "/"),
        (None, True, "/foo", "/foo.hidden", "/.hidden"),
        (None, True, "/a.b+(c)", "/a.b+(c)/d", "/d"),
    ],
)
def test_the_upstream_sees_the_path_that_kong_would_send(
    base: str | None, strip: bool, prefix: str, sent: str, upstream: str
) -> None:
    r = route(paths=(prefix,), strip_path=strip, service=service(path=base))
    assert rewritten(virtual_hosts(built(r))["*"], sent) == upstream


@pytest.mark.parametrize(
    ("fields", "preserve", "sent"),
    [
        ({}, False, "orders.test"),
        ({"port": 8000}, False, "orders.test:8000"),
        ({"port": 443}, False, "orders.test:443"),
        ({"port": 443, "protocol": "https"}, False, "orders.test"),
        ({"port": 8000}, True, None),
    ],
)
def test_host_is_the_services_unless_preserved(
    fields: dict[str, Any], preserve: bool, sent: str | None
) -> None:
    r = route(paths=("/",), preserve_host=preserve, service=service(**fields))
    assert virtual_hosts(built(r))["*"][0]["route"].get("host_rewrite_literal") == sent


def test_timeouts_and_retries_are_the_services() -> None:
    fast = service(connect_timeout=500, read_timeout=2000, write_timeout=1500, retries=0)
    found = built(route(paths=("/",), service=fast))
    action = virtual_hosts(found)["*"][0]["route"]
    assert (action["timeout"], action["idle_timeout"]) == ("0s", "2s")
    assert "retry_policy" not in action
    assert clusters(found)["orders"]["connect_timeout"] == "0.500s"
    kept = virtual_hosts(built(route(paths=("/",))))["*"][0]["route"]["retry_policy"]
    assert kept["num_retries"] == 5


def test_E2_a_service_is_bounded_by_what_the_listener_lets_in_alone() -> None:
    cluster = clusters(built(route(paths=("/",))))["orders"]
    (bounds,) = cluster["circuit_breakers"]["thresholds"]
    assert set(bounds.values()) == {1_000_000}
    assert set(bounds) == {"max_connections", "max_pending_requests", "max_requests", "max_retries"}


def test_E3_kept_connections_are_closed_before_the_usual_servers_close_them() -> None:
    (options,) = clusters(built(route(paths=("/",))))["orders"][
        "typed_extension_protocol_options"
    ].values()
    assert options["common_http_protocol_options"]["idle_timeout"] == "4s"


def test_E3_a_service_without_retries_is_not_asked_twice() -> None:
    for retries in (0, 5):
        asked_once = route(paths=("/",), service=service(retries=retries))
        found = virtual_hosts(built(asked_once))["*"][0]
        assert "x-envoy-retry-on" in found["request_headers_to_remove"]
        assert ("x-envoy-retry-on" in str(found.get("request_headers_to_add"))) is bool(retries)


def test_a_grpc_route_takes_grpc_over_http2_and_answers_the_rest() -> None:
    r = route(
        paths=("/p.S/",),
        protocols=("grpc", "grpcs"),
        strip_path=False,
        service=service(protocol="grpc"),
    )
    found = built(r)
    taken, refused, _ = virtual_hosts(found)["*"]
    assert taken["match"] == {"prefix": "/p.S/", "grpc": {}}
    assert refused["match"] == {"prefix": "/p.S/"}
    assert refused["direct_response"]["status"] == 415
    assert "http2_protocol_options" in str(clusters(found)["orders"])


def test_a_disabled_service_has_neither_cluster_nor_routes() -> None:
    off = service("off", enabled=False, protocol="tcp")
    found = built(route(paths=("/",)), route("off", service=off, paths=("~/x",)))
    assert set(clusters(found)) == {"authz", "orders"}
    assert names(virtual_hosts(found)["*"]) == ["r", None]


# --- Clusters ----------------------------------------------------------------------


def address(cluster: dict[str, Any]) -> dict[str, Any]:
    endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    found: dict[str, Any] = endpoint["address"]
    return found


def test_https_is_verified_by_the_systems_store_and_the_services_name() -> None:
    r = route(paths=("/",), service=service(protocol="https", port=443))
    context = clusters(built(r))["orders"]["transport_socket"]["typed_config"]
    validation = context["common_tls_context"]["validation_context"]
    assert context["sni"] == "orders.test"
    assert validation["trusted_ca"] == {"filename": "/etc/ssl/certs/ca-certificates.crt"}
    assert validation["match_typed_subject_alt_names"] == [
        {"san_type": "DNS", "matcher": {"exact": "orders.test"}}
    ]


def test_https_to_an_address_has_no_sni_and_verifies_the_address() -> None:
    r = route(paths=("/",), service=service(host="10.0.0.1", protocol="https", port=443))
    context = clusters(built(r))["orders"]["transport_socket"]["typed_config"]
    assert "sni" not in context
    assert "IP_ADDRESS" in str(context)


def test_only_the_files_own_false_turns_verification_off() -> None:
    for verify, verified in ((None, True), (True, True), (False, False)):
        r = route(paths=("/",), service=service(protocol="https", port=443, tls_verify=verify))
        context = clusters(built(r))["orders"]["transport_socket"]["typed_config"]
        assert ("validation_context" in context["common_tls_context"]) is verified


CA = Certificate("ca", POSITION, "-----BEGIN CA", None)
OWN = Certificate("own", POSITION, "-----BEGIN OWN", Secret("-----BEGIN KEY"))


def secured(**fields: Any) -> Gateway:
    secure = service(protocol="https", port=443, **fields)
    return replace(
        gateway(route(paths=("/",), service=secure)), certificates=(OWN,), ca_certificates=(CA,)
    )


def test_https_is_verified_by_what_the_file_says_and_envoy_shows_its_certificate() -> None:
    file = secured(ca_certificates=("ca",), client_certificate="own", tls_verify_depth=2)
    found = clusters(build(file, BootstrapOptions()))["orders"]["transport_socket"]
    context = found["typed_config"]["common_tls_context"]
    assert context["validation_context"]["trusted_ca"] == {"inline_string": "-----BEGIN CA"}
    assert context["validation_context"]["max_verify_depth"] == 2
    assert context["tls_certificates"] == [
        {
            "certificate_chain": {"inline_string": "-----BEGIN OWN"},
            "private_key": {"inline_string": "-----BEGIN KEY"},
        }
    ]
    assert "BEGIN KEY" not in repr(file)


@pytest.mark.parametrize(
    ("field", "value"), [("ca_certificates", ("ca", "other")), ("client_certificate", "other")]
)
def test_a_certificate_that_the_file_does_not_hold_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError, match="other is not among the file's") as caught:
        build(secured(**{field: value}), BootstrapOptions())
    assert [problem.parameter for problem in caught.value.problems] == [field]


@pytest.mark.parametrize("without", [{"chain": None}, {"key": None}])
def test_a_certificate_that_cannot_be_read_is_refused(without: dict[str, Any]) -> None:
    file = replace(secured(client_certificate="own"), certificates=(replace(OWN, **without),))
    with pytest.raises(ConfigurationError, match="with cert and key as PEM"):
        build(file, BootstrapOptions())


def test_E7_who_is_verified_unasked_and_whose_key_is_printed_is_said() -> None:
    options = BootstrapOptions(ca_file="/etc/ca.pem")
    told = {str(notice) for notice in notices(secured(client_certificate="own"), options)}
    assert len(told) == 2
    assert any("verifies orders.test by /etc/ca.pem, which Kong does not" in each for each in told)
    assert any("the private key of own stands in what is printed" in each for each in told)
    asked = secured(tls_verify=False)
    assert not list(notices(asked, options))


def test_connect_to_changes_where_the_connection_goes_and_nothing_else() -> None:
    r = route(paths=("/",), service=service(protocol="https", port=443))
    moved = built(r, connect_to={("orders.test", 443): ("127.0.0.1", 8443)})
    cluster = clusters(moved)["orders"]
    assert address(cluster) == {"socket_address": {"address": "127.0.0.1", "port_value": 8443}}
    assert cluster["type"] == "STATIC"
    assert cluster["transport_socket"]["typed_config"]["sni"] == "orders.test"
    assert virtual_hosts(moved)["*"][0]["route"]["host_rewrite_literal"] == "orders.test"
    assert clusters(built(r))["orders"]["type"] == "STRICT_DNS"


@pytest.mark.parametrize(
    ("authz", "expected"),
    [
        (("::1", 9191), {"socket_address": {"address": "::1", "port_value": 9191}}),
        ("/run/authz/authz.sock", {"pipe": {"path": "/run/authz/authz.sock"}}),
    ],
)
def test_authz_is_reached_over_tcp_or_a_unix_socket(authz: Any, expected: dict[str, Any]) -> None:
    cluster = clusters(built(route(paths=("/",)), authz=authz))["authz"]
    assert address(cluster) == expected
    assert cluster["type"] == "STATIC"
    assert "grpc_health_check" in cluster["health_checks"][0]
    assert cluster["connect_timeout"] == "0.250s"


def test_a_service_named_like_our_own_clusters_goes_by_its_id() -> None:
    found = built(route(paths=("/",), service=service("authz")))
    assert set(clusters(found)) == {"authz", "id-of-authz"}


# --- Without routes -----------------------------------------------------------------


def test_without_routes_everything_goes_to_the_given_upstream_and_authz_is_certain() -> None:
    found = built(plugins=(plugin(),), upstream=("127.0.0.1", 8080))
    everything, _ = virtual_hosts(found)["*"]
    assert everything["match"] == {"prefix": "/"}
    assert everything["route"]["cluster"] == "upstream"
    assert "host_rewrite_literal" not in everything["route"]
    assert "context_extensions" not in str(everything)


def test_without_routes_an_upstream_must_be_given() -> None:
    with pytest.raises(ConfigurationError, match=r"kong\.yaml:1:1: routes: .*--upstream"):
        built(plugins=(plugin(),))


def test_without_routes_and_without_a_global_plugin_nothing_passes() -> None:
    assert names(virtual_hosts(built())["*"]) == [None]


def test_a_route_without_a_service_goes_to_the_given_upstream() -> None:
    bare = route(paths=("/a",), service=None)
    found = built(bare, upstream=("127.0.0.1", 8080))
    assert virtual_hosts(found)["*"][0]["route"]["cluster"] == "upstream"


# --- What is refused -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("headers", {"x-a": ("~*a^b",)}),
        ("headers", {"x-a": ("ö",)}),
        ("headers", {"x-a": ("~*^[,;]$",)}),
        ("headers", {"x-a": ("~*(?-i:A)",)}),
        ("headers", {"X-Request-ID": ("1",)}),
        ("snis", ("a.test",)),
        ("paths", ("/ok", "~/.{3}")),
        ("paths", (r"~/\S+",)),
        ("paths", (r"~/[^/]+\d",)),
        ("paths", (r"~/[^/]+(?:/x)?1",)),
        ("paths", (r"~/(?:[^/]+)*",)),
        ("paths", ("~/a.*?",)),
        ("paths", ("~(?U)/a.*",)),
        ("paths", ("~/a(?i)b",)),
        ("paths", ("~/é",)),
        ("paths", (r"~/a\b",)),
        ("paths", ("~" + "(/a)?" * 9,)),
        ("paths", ("/café",)),
        ("paths", ("/a%2Fb",)),
        ("hosts", ("a.*.test",)),
        ("path_handling", "v1"),
        ("service", None),
    ],
)
def test_what_envoy_cannot_do_as_kong_is_refused_at_its_place(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        built(route(**{field: value}, positions={field: FIELD}))
    (problem,) = caught.value.problems
    assert (problem.position, problem.parameter) == (FIELD, field)


@pytest.mark.parametrize(
    ("values", "taken", "not_taken"),
    [
        (("v1",), ["v1", "V1", "v1,x", "x,v1", "x,v1,y"], ["", "v11", "x, v1", "v1;x"]),
        (("a,b",), ["a,b", "A,b"], ["a", "a,b,c"]),
        (("desk",), ["desk", "DESK"], ["de\u017fk", "des\u212a"]),
        (("a.b", "c"), ["a.b", "c"], ["axb"]),
        ((r"~*v\d",), ["v1", "xV2x", "a,v3"], ["", "v"]),
        (("~*^v[12]$",), ["v1", "V2", "x,v1,y", "v1,x"], ["v12", "x v1", "xv1,y"]),
        (("~*^a.c$",), ["abc", "x,abc", "a,c"], ["x,a,c", "a,c,x", "abcd"]),
        (("~*^a|b$",), ["ax", "xb", "x,ax", "xb,x"], ["xa", "bx"]),
        (("~*^(beta|dev)-[^x]+",), ["beta-1", "1,dev-2"], ["x-beta-1", "beta-x"]),
        (("~*",), ["", "x"], []),
    ],
)
def test_E6_a_header_takes_what_the_router_takes_line_by_line(
    values: tuple[str, ...], taken: list[str], not_taken: list[str]
) -> None:
    asking = route(headers={"X-Version": values})
    (asked,) = virtual_hosts(built(asking))["*"][0]["match"]["headers"]
    assert asked["name"] == "x-version"
    envoys = Pattern(f"(?:{asked['string_match']['safe_regex']['regex']})$")
    router = Router(gateway(asking))
    for value in taken + not_taken:
        request = Request("GET", "http", "a.test", "/", headers={"x-version": value})
        assert envoys.begins(value) == (value in taken), value
        assert is_met(router, request) == (value in taken), value


def is_met(router: Router, request: Request) -> bool:
    try:
        return router.match(request).route is not None
    except RouteNotFound:
        return False


REGEXES = (
    *(
        r"/a/\d+$",
        "/a/[^/]+",
        "/a/[^/]+/b$",
        "/a(/.*)?$",
        "(?i)/ask",
        "/a/(?:[^/]+/)*b",
        "^/(a|b)/x",
    ),
    *(r"/.+\.(jpg|png)$", "/[^/]*(?:/|$)", r"/\w+/[0-9a-f]{2}$", "/[^/]+|/a$", "/(?:[^/.]+|a)/b"),
)
PATHS = (
    *(
        "/",
        "/a",
        "/a/",
        "/a/7",
        "/a/7x",
        "/a/x/b",
        "/ask",
        "/ASK",
        "/a%C5%BFk",
        "/as%e2%84%aa",
        "/b/x",
    ),
    *(
        "/x.jpg",
        "/x%20y.png",
        "/a/%7B",
        "/a/%7B/b",
        "/a/%C3%A9/b",
        "/%C3%A9/0b",
        "/a/%7b%0b",
        "/a%2Fb",
    ),
    *(
        "/%2f.jpg",
        "/a/x%2Fb",
        "/%0b",
        "/ab/0b",
        "/a.b/b",
        "/a/%0b/b",
        "/a/%7D7",
        "/%ff/b",
        "/a/%zz/b",
    ),
)


@pytest.mark.parametrize("regex", REGEXES)
def test_E6_a_regex_takes_of_envoys_paths_what_the_router_takes_of_kongs(regex: str) -> None:
    asking = route(paths=(f"~{regex}",))
    *_, last, _ = virtual_hosts(built(asking))["*"]
    envoys = Pattern(f"(?:{last['match']['safe_regex']['regex']})$")
    kongs = Pattern(regex)
    taken = [path for path in PATHS if envoys.begins(path)]
    assert taken == [path for path in PATHS if kongs.begins(normalise(path))]
    assert taken


def test_E6_regexes_stand_before_plain_paths_in_the_order_of_their_priority() -> None:
    found = virtual_hosts(
        built(
            route("plain", paths=("/a/very/long/path",)),
            route("low", paths=(r"~/a/\d+",), regex_priority=1),
            route("high", paths=("~/a/[^/]+",), regex_priority=2),
        )
    )["*"]
    assert names(found) == ["high", "low", "plain", None]


def test_E6_a_line_feed_is_answered_before_a_regex_whose_dot_would_take_it() -> None:
    answered, met, _ = virtual_hosts(built(route(paths=("~/a/.*x$",), hosts=())))["*"]
    assert answered["direct_response"]["status"] == 400
    feed = Pattern(f"(?:{answered['match']['safe_regex']['regex']})$")
    assert feed.begins("/a/%0ax")
    assert not feed.begins("/b/%0ax")
    assert met["name"] == "r"


@pytest.mark.parametrize(
    ("base", "strip", "regex", "sent", "upstream"),
    [
        (None, True, r"/foo/\d+", "/foo/12", "/"),
        (None, True, r"/foo/\d+", "/foo/12/get", "/get"),
        (None, True, r"/foo/\d+", "/foo/12get", "/get"),
        ("/s", True, "/(foo)/(?P<id>[^/]+)", "/foo/%20", "/s"),
        ("/s", True, "/(foo)/(?P<id>[^/]+)", "/foo/a/", "/s/"),
        ("/s", True, "/(foo)/(?P<id>[^/]+)", "/foo/a/b", "/s/b"),
        ("/s", True, "/foo/", "/foo/", "/s/"),
        ("/s", True, r"/foo/\d+", "/foo/1../admin", "/s/admin"),
        ("/s", True, r"/foo/\d+", "/foo/1..;x/admin", "/s/admin"),
        ("/s", False, r"/foo/\d+", "/foo/1/b", "/s/foo/1/b"),
        (None, False, r"/foo/\d+", "/foo/1/b", "/foo/1/b"),
    ],
)
def test_E6_the_upstream_sees_what_is_left_behind_a_regex(
    base: str | None, strip: bool, regex: str, sent: str, upstream: str
) -> None:
    r = route(paths=(f"~{regex}",), strip_path=strip, service=service(path=base))
    assert rewritten(virtual_hosts(built(r))["*"], sent) == upstream


@pytest.mark.parametrize(
    ("host", "taken", "not_taken"),
    [
        ("a.test:8080", ["a.test:8080", "A.test:08080"], ["a.test", "a.test:80", "a.test:18080"]),
        ("a.test:80", ["a.test", "a.test:80", "a.test:00080"], ["a.test:8080", "a.test:000080"]),
    ],
)
def test_E6_a_host_with_a_port_takes_that_port_alone(
    host: str, taken: list[str], not_taken: list[str]
) -> None:
    with_port, any_port = route("port", hosts=(host,)), route(hosts=("a.test",))
    found = virtual_hosts(built(any_port, with_port))
    assert {domain: names(routes) for domain, routes in found.items()} == {
        "a.test": ["port", "r", None],
        "*": [None],
    }
    (asked,) = found["a.test"][0]["match"]["headers"]
    assert asked["name"] == ":authority"
    envoys = Pattern(f"(?:{asked['string_match']['safe_regex']['regex']})$")
    for each in taken + not_taken:
        assert envoys.begins(each) == (each in taken), each


@pytest.mark.parametrize(
    ("field", "value"),
    [("protocol", "tcp"), ("client_certificate", "x"), ("ca_certificates", ("x",))],
)
def test_what_envoy_cannot_do_for_a_service_is_refused(field: str, value: Any) -> None:
    with pytest.raises(ConfigurationError) as caught:
        built(route(paths=("/",), service=service(**{field: value})))
    assert [problem.parameter for problem in caught.value.problems] == [field]


def test_every_problem_is_said_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        built(route(snis=("a",), paths=("/é", "/ö")), route("s", headers={"te": ("1",)}))
    assert len(caught.value.problems) == 4


# --- The edge, and YAML --------------------------------------------------------------


def test_the_listener_is_alone_on_its_port_and_admin_on_loopback() -> None:
    found = built(route(paths=("/",)))
    assert found["static_resources"]["listeners"][0]["enable_reuse_port"] is False
    listen = found["static_resources"]["listeners"][0]["address"]["socket_address"]
    assert listen == {"address": "127.0.0.1", "port_value": 8000}
    assert found["admin"]["address"]["socket_address"]["address"] == "127.0.0.1"
    assert manager(found)["normalize_path"] is True
    assert manager(found)["merge_slashes"] is True
    assert "headers_with_underscores_action" not in str(found)


def test_the_access_log_has_neither_queries_nor_credentials() -> None:
    line = str(manager(built(route(paths=("/",))))["access_log"])
    assert "%PATH(NQ:ORIG_OR_PATH)%" in line
    assert not re.search(r"REQ\((?:authorization|cookie|:path)", line, re.IGNORECASE)


@pytest.mark.parametrize("name", ["r", "yes", "1", "a: b", 'it\'s "x" \\', "- x", "ö", "tab\t", ""])
def test_the_yaml_says_what_the_json_says(name: str) -> None:
    file = gateway(route(name, paths=("/a-b/",), service=service(path="/s")))
    options = BootstrapOptions()
    assert yaml.safe_load(render(file, options)) == build(file, options)
