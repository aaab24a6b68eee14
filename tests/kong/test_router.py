"""Kong's router: what each field asks for, who goes first, and the index against a plain scan."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from support.work import calls_of

from authz.errors import ConfigurationError, Reason, Refusal, RouteNotFound
from authz.kong import checks
from authz.kong.paths import ODD_PATH_CHARS_MAX, is_odd, normalise, readings
from authz.kong.readings import HEADER_LINES_MAX, PATH_CHARS_MAX
from authz.kong.regexes import Pattern
from authz.kong.router import Router
from authz.kong.rules import routing_table, split_host
from authz.model import (
    Gateway,
    Match,
    OpenIDConnect,
    Plugin,
    Request,
    Route,
    Service,
    SourcePosition,
)

if TYPE_CHECKING:
    from collections.abc import Callable

POSITION = SourcePosition("kong.yaml", 1, 1)
SERVICE = Service(id="s1", name="orders", position=POSITION, host="orders.internal")


def route(name: str, **fields: Any) -> Route:
    fields = {"service": SERVICE, **fields}
    return Route(id=f"id-of-{name}", name=name, position=POSITION, **fields)


def plugin(name: str = "", **scope: Any) -> Plugin:
    return Plugin(
        POSITION, OpenIDConnect.of(issuer="https://idp.test"), instance_name=name, **scope
    )


def router(*routes: Route, plugins: tuple[Plugin, ...] = ()) -> Router:
    services = {r.service.id: r.service for r in routes if r.service}
    services.setdefault(SERVICE.id, SERVICE)
    return Router(Gateway(services=tuple(services.values()), routes=routes, plugins=plugins))


def request(path: str = "/", **fields: Any) -> Request:
    return Request(**{"method": "GET", "scheme": "http", "host": "a.test", "path": path, **fields})


def met(table: Router, asked: Request) -> str | None:
    """The name of the route that a request meets; None: unmatched."""
    try:
        matched = table.match(asked).route
    except RouteNotFound as error:
        if error.reason is not Reason.ROUTE_UNMATCHED:
            raise
        return None
    assert matched is not None
    return matched.name


def refusal(table: Router, asked: Request) -> Reason:
    with pytest.raises(Refusal) as caught:
        table.match(asked)
    return caught.value.reason


# --- Paths --------------------------------------------------------------------


def test_a_plain_path_is_a_prefix_without_a_segment_boundary() -> None:
    table = router(route("r", paths=("/foo",)))
    assert met(table, request("/foo")) == "r"
    assert met(table, request("/foobar?x=1")) == "r"
    assert met(table, request("/fo")) is None
    assert met(table, request("/x/foo")) is None


def test_the_longer_prefix_goes_first() -> None:
    table = router(route("short", paths=("/a",)), route("long", paths=("/a/b",)))
    assert met(table, request("/a/b/c")) == "long"
    assert met(table, request("/a/c")) == "short"


def test_a_regex_is_anchored_at_the_start_only() -> None:
    table = router(route("r", paths=(r"~/users/(?<id>\d+)",)))
    assert met(table, request("/users/7/orders")) == "r"
    assert met(table, request("/x/users/7")) is None
    assert met(table, request("/users/x")) is None


def test_a_regex_goes_before_any_prefix_and_the_greater_regex_priority_first() -> None:
    table = router(
        route("prefix", paths=("/users/7/orders",)),
        route("low", paths=("~/users/",)),
        route("high", paths=("~/users/[0-9]+$",), regex_priority=1),
    )
    assert met(table, request("/users/7/orders")) == "low"
    assert met(table, request("/users/7")) == "high"


def test_a_dollar_does_not_match_before_an_encoded_newline() -> None:
    table = router(route("r", paths=("~/a$",)))
    assert met(table, request("/a")) == "r"
    assert met(table, request("/a%0A")) is None


@pytest.mark.parametrize("pattern", ["~/a|/b", "~/(?:a|b)", "~/[]|(]?a|/b", "~/x*a|/b", "~^/a|/b"])
def test_every_alternative_of_a_regex_is_found(pattern: str) -> None:
    table = router(route("r", paths=(pattern,)))
    assert met(table, request("/a")) == "r"
    assert met(table, request("/b")) == "r"


def test_a_quantifier_makes_the_last_literal_optional() -> None:
    assert met(router(route("r", paths=("~/colou?r",))), request("/color")) == "r"


def test_a_route_with_paths_of_several_lengths_ranks_once_for_each() -> None:
    table = router(
        route("mixed", paths=("/a", "/a/b/c", "~/z")),
        route("middle", paths=("/a/b",)),
        route("z", paths=("/z/long/prefix",)),
    )
    assert met(table, request("/a/b/c")) == "mixed"
    assert met(table, request("/a/b/x")) == "middle"
    assert met(table, request("/a/x")) == "mixed"
    assert met(table, request("/z/long/prefix")) == "mixed"


@pytest.mark.parametrize(
    ("sent", "normal"),
    [
        ("", ""),
        ("*", "*"),
        ("/", "/"),
        ("//a///b", "/a/b"),
        ("/a//", "/a/"),
        ("/a/./b/.", "/a/b/"),
        ("/a/b/..", "/a/"),
        ("/a/..", "/"),
        ("/../../a", "/a"),
        ("/a//../b", "/b"),
        ("/x/%2e%2E/y", "/y"),
        ("/a%2fb", "/a%2Fb"),
        ("/a%252fb", "/a%252fb"),
        ("/%7Euser%41", "/~userA"),
        ("/caf%C3%A9", "/café"),
        ("/%20%5C", "/ \\"),
        ("/a%2", "/a%2"),
        ("/a..b/.c", "/a..b/.c"),
        ("/a;x=1/b", "/a;x=1/b"),
    ],
)
def test_HS_19_a_path_is_compared_in_kongs_normal_form(sent: str, normal: str) -> None:
    assert normalise(sent) == normal


@given(st.text())
def test_HS_19_no_path_raises_and_none_starts_with_a_dot_segment(path: str) -> None:
    assert not normalise("/" + path).startswith(("/../", "/./", "//"))


@pytest.mark.parametrize("path", ["/a?x=1", "/a%2e%2e/b", "/a//b", "/a;x=1/b"])
def test_HS_19_odd_paths_are_matched_without_exception(path: str) -> None:
    assert met(router(route("a", paths=("/a",))), request(path)) == "a"


def test_HS_19_a_fragment_is_refused_for_nobody_sends_one() -> None:
    assert refusal(router(route("a", paths=("/a",))), request("/a#f")) is Reason.REQUEST_MALFORMED


@pytest.mark.parametrize("path", ["/b/../a/..", "*", "", "/x?/a", "http://a.test/a"])
def test_HS_19_no_rule_matches_on_the_query_or_on_a_path_that_is_not_normal(path: str) -> None:
    assert met(router(route("a", paths=("/a",))), request(path)) is None


def test_HS_19_a_path_beyond_the_bound_is_refused() -> None:
    table = router(route("r", paths=("/",)))
    assert met(table, request("/" + "a" * (PATH_CHARS_MAX - 1) + "?" + "q" * 99)) == "r"
    long = request("/" + "a" * PATH_CHARS_MAX)
    assert refusal(table, long) is Reason.REQUEST_MALFORMED


# --- Hosts --------------------------------------------------------------------


def test_a_host_is_compared_without_case_and_without_the_port() -> None:
    table = router(route("r", hosts=("Api.Test",)))
    assert met(table, request(host="api.test")) == "r"
    assert met(table, request(host="API.test:8080")) == "r"
    assert met(table, request(host="other.test")) is None


def test_a_wildcard_stands_left_or_right() -> None:
    table = router(route("left", hosts=("*.x.test",)), route("right", hosts=("api.*",)))
    assert met(table, request(host="a.b.x.test")) == "left"
    assert met(table, request(host="x.test")) is None
    assert met(table, request(host="api.example")) == "right"
    assert met(table, request(host="xapi.example")) is None
    assert met(table, request(host="api.x.test")) == "left"


@pytest.mark.parametrize("host", [".x.test", "api.", "", "."])
def test_where_a_star_stands_is_one_character_at_least(host: str) -> None:
    routes = (route("left", hosts=("*.x.test",)), route("right", hosts=("api.*",)))
    assert met(router(*routes), request(host=host)) is None
    assert met(router(*routes, route("any", paths=("/",))), request(host=host)) == "any"


def test_a_plain_host_goes_before_a_wildcard_and_more_kinds_before_both() -> None:
    table = router(
        route("wildcard", hosts=("*.test",), paths=("/long/prefix",)),
        route("plain", hosts=("a.test",), paths=("/",)),
        route("kinds", hosts=("*.test",), paths=("/",), methods=("PUT",)),
    )
    assert met(table, request("/long/prefix")) == "plain"
    assert met(table, request("/", method="PUT")) == "kinds"
    assert met(table, request("/long/prefix", host="b.test")) == "wildcard"


def test_a_host_with_a_port_asks_for_the_port_of_the_host_header() -> None:
    table = router(route("r", hosts=("a.test:8443", "*.x.test:80", "[::1]:443")))
    assert met(table, request(host="a.test:8443")) == "r"
    assert met(table, request(host="a.test")) is None
    assert met(table, request(host="b.x.test")) == "r"
    assert met(table, request(host="b.x.test", scheme="https")) is None
    assert met(table, request(host="[::1]", scheme="https")) == "r"


@pytest.mark.parametrize(
    ("sent", "split"),
    [
        ("", ("", None)),
        ("A.test", ("a.test", None)),
        ("a.test:80", ("a.test", 80)),
        ("[::1]:80", ("[::1]", 80)),
        ("[::1]", ("[::1]", None)),
        ("a.test:00080", ("a.test", 80)),
        ("\u212a.test", ("\u212a.test", None)),  # the Kelvin sign is no k
    ],
)
def test_a_host_is_split_at_its_port(sent: str, split: tuple[str, int | None]) -> None:
    assert split_host(sent) == split


@pytest.mark.parametrize("host", ["evil.com,for=127.0.0.1", "", "b.test.", "xa.test"])
def test_HS_18_an_odd_host_meets_no_route_that_names_a_host(host: str) -> None:
    assert met(router(route("r", hosts=("a.test",))), request(host=host)) is None


@pytest.mark.parametrize(
    "host",
    [
        "a.test:", "a.test:x", "a.test:80x", "a.test:²", "a.test:123456", "a.test:80:80",
        "::1", "[::1", "[::1]:", "[::1]x:80", "a.test:-1", "a.test: 80", "[::1]x", "a.[::1]:80",
        "a.[::1]", "a]", "[a", "[]:80", "[a.test]", "[[::1]]", "a.test[", "[::1]]:80",
    ],
)  # fmt: skip
def test_G_07_a_host_with_anything_but_a_port_behind_its_colon_is_refused(host: str) -> None:
    with pytest.raises(ValueError, match="the host's"):
        split_host(host)
    table = router(route("r", hosts=("a.test",)), route("any", paths=("/",)))
    assert refusal(table, request(host=host)) is Reason.REQUEST_MALFORMED


def test_G_07_a_final_dot_of_the_host_that_makes_another_route_is_refused() -> None:
    table = router(route("r", hosts=("a.test",)), route("any", paths=("/",)))
    assert refusal(table, request(host="a.test.")) is Reason.ROUTE_AMBIGUOUS
    assert met(table, request(host="b.test.")) == "any"


@pytest.mark.parametrize("host", ["a.test:1234", "A.TEST:80", "a.test:443", "a.test:080"])
def test_G_07_a_port_that_makes_another_host_to_envoy_opens_nothing(host: str) -> None:
    free = route("free", hosts=("a.test",), paths=("/",))
    guarded = route("guarded", paths=("/",))
    table = router(free, guarded, plugins=(plugin(route=guarded),))
    assert refusal(table, request(host=host)) is Reason.ROUTE_AMBIGUOUS
    assert met(table, request(host="a.test")) == "free"
    assert met(table, request(host="b.test:1234")) == "guarded"


def test_G_07_a_port_is_no_harm_where_nothing_else_is_decided() -> None:
    one, other = route("one", hosts=("a.test", "b.*"), paths=("/",)), route("other", paths=("/",))
    everywhere = router(one, other, plugins=(plugin(),))
    assert met(everywhere, request(host="a.test:1234")) == "one"
    apart = router(one, other, plugins=(plugin(route=other),))
    assert met(apart, request(host="b.test:1234")) == "one"  # Envoy's b.* takes the port too
    assert met(router(one), request(host="a.test:1234")) == "one"


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_G_07_a_port_that_only_the_scheme_tells_opens_nothing(scheme: str) -> None:
    """The caller may write the scheme, and Envoy has no port where none is sent."""
    guarded = route("guarded", hosts=("a.test:443",), paths=("/",))
    free = route("free", paths=("/",))
    table = router(guarded, free, plugins=(plugin(route=guarded),))
    assert refusal(table, request(host="a.test", scheme=scheme)) is Reason.ROUTE_AMBIGUOUS
    assert met(table, request(host="a.test:443", scheme="http")) == "guarded"
    assert met(table, request(host="b.test", scheme=scheme)) == "free"


def test_G_07_a_port_that_only_the_scheme_tells_does_not_make_up_a_host() -> None:
    free, guarded = route("free", hosts=("a.test:80",)), route("guarded", hosts=("a.test",))
    table = router(free, guarded, plugins=(plugin(route=guarded),))
    assert refusal(table, request(host="a.test")) is Reason.ROUTE_AMBIGUOUS


def test_G_07_a_port_with_a_zero_before_it_is_no_port_of_envoys_domains() -> None:
    free = route("free", hosts=("a.test:80",), paths=("/",))
    guarded = route("guarded", paths=("/",))
    table = router(free, guarded, plugins=(plugin(route=guarded),))
    assert met(table, request(host="a.test:80")) == "free"
    assert refusal(table, request(host="a.test:080")) is Reason.ROUTE_AMBIGUOUS


@pytest.mark.parametrize("host", ["a.test:080", "A.test:00080"])
def test_G_07_a_port_with_a_zero_before_it_is_any_port_to_envoys_routes(host: str) -> None:
    free, guarded = route("free", hosts=("a.test:80",)), route("guarded", hosts=("a.test",))
    table = router(free, guarded, plugins=(plugin(route=guarded),))
    assert met(table, request(host="a.test:80")) == "free"
    assert refusal(table, request(host=host)) is Reason.ROUTE_AMBIGUOUS


def test_G_07_a_line_feed_is_no_dot_to_kong_and_three_characters_to_envoy() -> None:
    free, guarded = route("free", paths=("/",)), route("guarded", paths=("~/a(/.*)?$",))
    table = router(free, guarded, plugins=(plugin(route=guarded),))
    assert met(table, request("/a/x")) == "guarded"
    assert refusal(table, request("/a/x%0A")) is Reason.ROUTE_AMBIGUOUS


def test_G_07_an_envoy_may_compare_the_lines_of_a_header_one_by_one() -> None:
    free = route("free", headers={"x-a": ("v2",), "x-b": ("v1",)}, paths=("/",))
    guarded = route("guarded", headers={"x-b": ("v1",)}, paths=("/",))
    table = router(free, guarded, plugins=(plugin(route=guarded),))
    assert met(table, request(headers={"x-a": "v2", "x-b": "v1"})) == "free"
    assert met(table, request(headers={"x-a": "v2", "x-b": "w,v1"})) == "free"
    asked = request(headers={"x-a": "V2", "x-b": "w,v1"})
    assert refusal(table, asked) is Reason.ROUTE_AMBIGUOUS


# --- Methods, headers, SNIs, protocols --------------------------------


def test_a_method_is_compared_exactly() -> None:
    table = router(route("r", methods=("GET", "PURGE")))
    assert met(table, request(method="PURGE")) == "r"
    assert met(table, request(method="get")) is None


def test_every_header_name_and_one_of_its_values_must_be_there() -> None:
    table = router(route("r", headers={"X-Env": ("dev", "Test"), "x-tenant": ("~*^t[0-9]+$",)}))
    assert met(table, request(headers={"x-env": "TEST", "x-tenant": "T7"})) == "r"
    assert met(table, request(headers={"x-env": "prod", "x-tenant": "t7"})) is None
    assert met(table, request(headers={"x-env": "test"})) is None
    assert met(table, request(headers={"x-env": "test", "x-tenant": "xt7"})) is None


def test_each_line_of_a_repeated_header_counts() -> None:
    table = router(route("r", headers={"x-env": ("test", "a,b")}))
    assert met(table, request(headers={"x-env": "prod,test"})) == "r"
    assert met(table, request(headers={"x-env": "a,b"})) == "r"
    assert met(table, request(headers={"x-env": "a"})) is None


@pytest.mark.parametrize("value", ["V2", "v1,v2", "v2,", "v1,xv2"])
def test_G_07_a_header_that_is_another_to_envoy_opens_nothing(value: str) -> None:
    """Envoy's routes compare a header with its case, and one line as a whole."""
    free = route("free", headers={"x-a": ("v2", "~*^xv2$")}, paths=("/",))
    guarded = route("guarded", paths=("/",))
    table = router(free, guarded, plugins=(plugin(route=guarded),))
    assert refusal(table, request(headers={"x-a": value})) is Reason.ROUTE_AMBIGUOUS
    assert met(table, request(headers={"x-a": "v2"})) == "free"
    assert met(table, request(headers={"x-a": "XV2"})) == "free"  # as a regex would say it
    assert met(table, request(headers={"x-a": "v1"})) == "guarded"
    for each in (free,), (free, guarded):
        assert met(router(*each, plugins=(plugin(),)), request(headers={"x-a": value})) == "free"


def test_more_header_names_go_first() -> None:
    table = router(
        route("one", headers={"x-a": ("1",)}, paths=("/long",)),
        route("two", headers={"x-a": ("1",), "x-b": ("2",)}, paths=("/",)),
    )
    assert met(table, request("/long", headers={"x-a": "1", "x-b": "2"})) == "two"
    assert met(table, request("/long", headers={"x-a": "1"})) == "one"


def test_a_server_name_is_compared_without_case_and_final_dot() -> None:
    table = router(route("r", snis=("A.test.",)))
    assert met(table, request(scheme="https", server_name="a.TEST")) == "r"
    assert met(table, request(scheme="https", server_name="b.test")) is None


def test_G_04_a_server_name_is_matched_as_a_host_is() -> None:
    table = router(route("left", snis=("*.Example.com",)), route("right", snis=("a.*",)))
    for name, expected in (
        ("x.example.com", "left"),
        ("X.Y.EXAMPLE.COM.", "left"),
        ("a.test", "right"),
        ("example.com", None),
        (".example.com", None),
        ("a.", None),
        ("x.example.com.evil", None),
    ):
        assert met(table, request(scheme="https", server_name=name)) == expected


def test_G_05_a_server_name_that_was_not_told_is_not_another_name() -> None:
    table = router(
        route("guarded", snis=("a.test",), paths=("/",)),
        route("open", paths=("/",)),
        route("higher", paths=("/x",), methods=("PUT",), hosts=("a.test",)),
    )
    # Whether there is TLS is not known either: the caller writes the scheme.
    for scheme in ("https", "http"):
        assert refusal(table, request(scheme=scheme)) is Reason.SERVER_NAME_UNTOLD
    assert met(table, request(scheme="https", server_name="b.test")) == "open"
    # Where the name decides nothing, nobody asks for it.
    assert met(table, request("/x", scheme="https", method="PUT")) == "higher"
    assert met(table, request("/x", scheme="https", method="PUT", server_name="a.test")) == "higher"


def test_G_05_a_route_with_other_conditions_that_fail_hides_nothing() -> None:
    table = router(route("guarded", snis=("a.test",), paths=("/a",)), route("open", paths=("/",)))
    assert met(table, request("/b", scheme="https")) == "open"
    assert refusal(table, request("/a", scheme="https")) is Reason.SERVER_NAME_UNTOLD
    alone = router(route("guarded", snis=("a.test",)))
    assert refusal(alone, request(scheme="https")) is Reason.SERVER_NAME_UNTOLD


def test_G_05_a_name_that_was_told_counts_whatever_scheme_the_caller_writes() -> None:
    table = router(route("r", snis=("a.test",)))
    assert met(table, request(scheme="http", server_name="b.test")) is None


GRPC = {"content-type": "application/grpc+proto"}


@pytest.mark.parametrize(
    ("protocols", "scheme", "headers", "expected"),
    [
        (("http", "https"), "http", {}, "r"),
        (("https",), "http", {}, None),
        (("http",), "https", {}, None),
        (("grpc",), "http", GRPC, "r"),
        (("grpcs",), "http", GRPC, None),
        (("grpcs",), "https", GRPC, "r"),
        (("grpc", "grpcs"), "http", {}, None),
        (("http", "https"), "https", GRPC, None),
        (("tcp", "tls"), "http", {}, None),
    ],
)
def test_the_winner_must_be_for_the_protocol(
    protocols: tuple[str, ...], scheme: str, headers: dict[str, str], expected: str | None
) -> None:
    table = router(route("r", paths=("/",), protocols=protocols))
    assert met(table, request(scheme=scheme, headers=headers)) == expected


def test_a_winner_for_another_protocol_is_no_reason_to_look_for_a_second_best() -> None:
    table = router(route("best", paths=("/a",), protocols=("https",)), route("next", paths=("/",)))
    assert met(table, request("/a")) is None


# --- Order among equals, disabled services, unreadable fields ----------------------


def test_among_equals_the_first_in_the_file_wins() -> None:
    table = router(route("first", paths=("/a",)), route("second", paths=("/a",)))
    assert met(table, request("/a")) == "first"


def test_a_disabled_service_has_no_routes() -> None:
    off = Service(id="s2", name="off", position=POSITION, host="x", enabled=False)
    table = router(route("off", service=off, paths=("/a",)), plugins=(plugin(),))
    assert met(table, request("/a")) is None
    assert table.catch_all is None
    for names in ({"route": "off"}, {"service": "off"}):
        assert refusal(table, request(context_extensions=names)) is Reason.ROUTE_UNKNOWN


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("paths", ("~/(",)),
        ("headers", {"x": ("~*[",)}),
    ],
)
def test_what_cannot_be_read_is_said_with_its_place(field: str, value: Any) -> None:
    there = SourcePosition("kong.yaml", 7, 5)
    with pytest.raises(ConfigurationError) as caught:
        router(route("r", positions={field: there}, **{field: value}), route("ok", paths=("~/x(",)))
    problems = {(problem.position, problem.parameter) for problem in caught.value.problems}
    assert problems == {(there, field), (POSITION, "paths")}


# --- Envoy's word ---------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        {"route": "r"},
        {"route": "id-of-r"},
        {"route": "r", "service": "orders"},
        {"route": "r", "service": "s1", "other": "x"},
    ],
)
def test_a_named_route_is_taken_whatever_the_request_looks_like(names: dict[str, str]) -> None:
    table = router(route("r", paths=("/a",)), route("b", paths=("/b",)))
    assert met(table, request("/b", context_extensions=names)) == "r"


@pytest.mark.parametrize(
    "names",
    [
        {"route": "nowhere"},
        {"route": ""},
        {"service": "nowhere"},
        {"service": ""},
        {"route": "r", "service": "nowhere"},
        {"route": "r", "service": "other"},
        {"route": "orders"},
    ],
)
def test_a_name_that_the_file_lacks_is_never_matched_otherwise(names: dict[str, str]) -> None:
    other = Service(id="s2", name="other", position=POSITION, host="x")
    table = router(route("r", paths=("/",)), route("o", service=other), plugins=(plugin(),))
    assert refusal(table, request("/", context_extensions=names)) is Reason.ROUTE_UNKNOWN


def test_HS_21_only_context_extensions_name_a_route() -> None:
    table = router(route("r", paths=("/a",)), route("b", paths=("/b",)))
    asked = request("/b", headers={"route": "r", "x-route": "r", "x-envoy-route": "r"})
    assert met(table, asked) == "b"


OTHER = Service(id="s2", name="other", position=POSITION, host="x")
NAMED = {"service": "orders"}


def test_a_named_service_has_its_plugins_without_a_route() -> None:
    everywhere = plugin("service", service=SERVICE)
    elsewhere = route("o", service=OTHER, paths=("/o",))
    table = router(
        route("r", paths=("/",)),
        elsewhere,
        plugins=(plugin("global"), everywhere, plugin("route", route=elsewhere)),
    )
    expected = Match(None, SERVICE, everywhere)
    assert table.match(request("/o", context_extensions=NAMED)) == expected
    assert table.certain_match(service="orders") == table.certain_match(service="s1") == expected


@pytest.mark.parametrize("scope", [{}, {"service": SERVICE}])
def test_a_named_service_whose_route_has_a_plugin_of_its_own_must_be_met(
    scope: dict[str, Service],
) -> None:
    guarded, free = route("guarded", paths=("/a",)), route("free", paths=("/b",))
    own = plugin("own", route=guarded, **scope)
    table = router(
        guarded,
        free,
        route("o", service=OTHER, paths=("/o",)),
        route("s", paths=("/s",), protocols=("https",)),
        plugins=(own, plugin("service", service=SERVICE)),
    )
    assert table.match(request("/a", context_extensions=NAMED)) == Match(guarded, SERVICE, own)
    assert met(table, request("/b", context_extensions=NAMED)) == "free"
    for path in ("/o", "/s", "/nowhere"):
        assert refusal(table, request(path, context_extensions=NAMED)) is Reason.ROUTE_UNMATCHED
    assert table.certain_match(service="orders") is None
    assert table.certain_match("free", "orders") == table.match(request("/b"))


def test_a_request_is_of_another_protocol_than_its_best_route() -> None:
    table = router(
        route("secure", paths=("/a",), protocols=("https",)), route("plain", paths=("/",))
    )
    of_other = table.is_of_other_protocol

    assert of_other(request("/a"))
    assert not of_other(request("/a", scheme="https"))
    assert not of_other(request("/b"))
    assert not router(route("r", paths=("/a",))).is_of_other_protocol(request("/b"))


def test_what_the_file_lacks_is_never_certain() -> None:
    table = router(route("r", paths=("/",)), route("o", service=OTHER), plugins=(plugin(),))
    for names in (("nowhere", None), (None, "nowhere"), ("", None), (None, ""), ("r", "other")):
        assert table.certain_match(*names) is None


# --- Plugins --------------------------------------------------------------------


def test_the_most_specific_plugin_applies_alone() -> None:
    r = route("r", paths=("/",))
    plugins = (
        plugin("global"),
        plugin("service", service=SERVICE),
        plugin("route", route=r),
        plugin("both", route=r, service=SERVICE),
    )
    for count in range(1, 5):
        found = router(r, plugins=plugins[:count]).match(request()).plugin
        assert found is not None
        assert found.instance_name == plugins[count - 1].instance_name


def test_a_route_without_a_plugin_is_a_match_without_a_plugin() -> None:
    r, other = route("r", paths=("/",)), route("other", paths=("/x",))
    assert router(r, other, plugins=(plugin(route=other),)).match(request()) == Match(
        r, SERVICE, None
    )


def test_without_routes_the_global_plugin_applies_to_everything() -> None:
    everything = plugin()
    table = router(plugins=(everything,))
    assert table.catch_all == Match(None, None, everything)
    assert table.match(Request()) == Match(None, None, everything)
    assert refusal(table, request(context_extensions={"route": "r"})) is Reason.ROUTE_UNKNOWN


def test_without_routes_and_without_a_global_plugin_nothing_matches() -> None:
    table = router(plugins=(plugin(service=SERVICE),))
    assert table.catch_all is None
    assert refusal(table, request()) is Reason.ROUTE_UNMATCHED


def test_with_routes_no_match_is_certain() -> None:
    assert router(route("r", paths=("/",)), plugins=(plugin(),)).catch_all is None


# --- The index against a plain scan ------------------------------------------------


def wanted(r: Route, asked: Request) -> bool:
    """Kong's conditions, one by one, as plainly as they can be written."""
    host, _, port = asked.host.partition(":")
    port = port or ("443" if asked.scheme == "https" else "80")

    def host_fits(text: str) -> bool:
        name, _, wanted_port = text.partition(":")
        pattern = re.escape(name).replace(r"\*", ".+")
        return re.fullmatch(pattern, host) is not None and wanted_port in {"", port}

    def header_fits(name: str, values: tuple[str, ...]) -> bool:
        sent = asked.headers.get(name, "").lower()
        return name in asked.headers and any(
            re.search(v[2:], sent) if v.startswith("~*") else v == sent for v in values
        )

    return (
        (not r.methods or asked.method in r.methods)
        and (not r.hosts or any(map(host_fits, r.hosts)))
        and all(header_fits(*item) for item in r.headers.items())
        and (not r.snis or not asked.server_name or asked.server_name in r.snis)
    )


def rank(r: Route, path: str | None) -> int:
    """Kong's priority as the one number that its documentation draws, and a bit for a port."""
    kinds = (r.methods, r.hosts, r.headers, r.snis, r.paths)
    regex = path is not None and path.startswith("~")
    return (
        sum(map(bool, kinds)) << 62
        | (bool(r.hosts) and not any("*" in host for host in r.hosts)) << 61
        | len(r.headers) << 53
        | regex << 52
        | (r.regex_priority << 20 if regex else 0)
        | (0 if regex or path is None else len(path)) << 1
        | any(":" in host for host in r.hosts)
    )


def scan(routes: tuple[Route, ...], asked: Request) -> str | None:
    """Return the best route by looking at every path of every route."""
    best: tuple[int, Route] | None = None
    for r in routes:
        for path in r.paths or (None,):
            fits = path is None or (
                re.match(path[1:], asked.path)
                if path.startswith("~")
                else asked.path.startswith(path)
            )
            if fits and wanted(r, asked) and (best is None or rank(r, path) > best[0]):
                best = rank(r, path), r
    if best is not None and best[1].snis and not asked.server_name:
        return "untold"
    if best is None or asked.scheme not in best[1].protocols:
        return None
    return best[1].name


HOSTS = ["a.test", "b.test", "*.test", "*.b.test", "a.*", "a.b.*", "a.b.test:8080", "*.test:443"]
PATHS = ["/", "/a", "/a/", "/a/b", "/ab", "/a/b/c", "/b"]
REGEXES = ["~/a", "~/a/.*", "~/[ab]+/b$", "~/a|/b", "~/ab?", "~/a/(b|c)", r"~/\w+/b", "~/b{0,1}a"]
REGEXES += ["~(?i)/A", "~/(?:a|ab)/b", "~.*b", "~/a?"]


def some(values: list[str]) -> st.SearchStrategy[tuple[str, ...]]:
    return st.lists(st.sampled_from(values), max_size=3, unique=True).map(tuple)


FIELDS = st.fixed_dictionaries(
    {
        "protocols": st.sampled_from([("http", "https"), ("https",)]),
        "methods": some(["GET", "POST"]),
        "hosts": some(HOSTS),
        "paths": some(PATHS + REGEXES),
        "headers": st.dictionaries(
            st.sampled_from(["x-a", "x-b"]), some(["1", "2", "~*^[12]$"]).filter(bool)
        ),
        "snis": some(["a.test", "b.test"]),
        "regex_priority": st.integers(0, 2),
    }
)
REQUESTS = st.builds(
    Request,
    method=st.sampled_from(["GET", "POST", "PUT"]),
    scheme=st.sampled_from(["http", "https"]),
    host=st.sampled_from(
        ["a.test", "b.test", "a.b.test", "a.b.test:8080", "a.org", "x", ".test", "a."]
    ),
    path=st.sampled_from([*PATHS, "/a/c", "/b/b", "/abb/b", "/x", "/ba"]),
    headers=st.dictionaries(st.sampled_from(["x-a", "x-b"]), st.sampled_from(["1", "2", "12"])),
    server_name=st.sampled_from(["", "a.test", "b.test"]),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(FIELDS, max_size=12), st.lists(REQUESTS, min_size=1, max_size=8))
def test_the_index_answers_as_a_scan_over_all_routes_does(
    fields: list[dict[str, Any]], asked: list[Request]
) -> None:
    routes = tuple(route(f"r{number}", **each) for number, each in enumerate(fields))
    table = router(*routes)
    hosts = [each.host for each in asked] + [host for r in routes for host in r.hosts]
    if any(":" in host for host in hosts):
        # Envoy may see no such host, but a route behind that one, which waits for a name.
        asked = [replace(each, server_name=each.server_name or "b.test") for each in asked]
    for each in asked:
        if (expected := scan(routes, each)) == "untold":
            assert refusal(table, each) is Reason.SERVER_NAME_UNTOLD
        else:
            assert met(table, each) == expected


def test_the_table_of_routes_is_in_kongs_order() -> None:
    table = routing_table(
        (
            route("short", paths=("/a",)),
            route("two", paths=("/a",), methods=("GET",)),
            route("split", paths=("/abc", "~/x", "/ab")),
        )
    )
    assert [(rule.route.name, rule.paths) for rule in table] == [
        ("two", ("/a",)),
        ("split", ("~/x",)),
        ("split", ("/abc",)),
        ("split", ("/ab",)),
        ("short", ("/a",)),
    ]


def test_D_10_a_host_with_a_port_goes_before_the_one_without() -> None:
    for wide, narrow in (("a.*", "a.*:8443"), ("*.test", "*.test:8443"), ("a.test", "a.test:8443")):
        table = router(route("wide", hosts=(wide,)), route("narrow", hosts=(narrow,)))
        assert met(table, request(host="a.test:8443")) == "narrow"
        assert met(table, request(host="a.test")) == "wide"


def test_D_10_a_port_breaks_ties_only() -> None:
    table = router(
        route("port", hosts=("*.test:8443",), paths=("/",)),
        route("plain", hosts=("a.test",), paths=("/",)),
        route("path", hosts=("*.test",), paths=("/a",)),
    )
    assert met(table, request(host="a.test:8443")) == "plain"
    assert met(table, request("/a", host="b.test:8443")) == "path"


# --- What an Envoy that names no route may see ---------------------------------------


TWO = (
    route("open", paths=("/open",)),
    route("admin", paths=("/admin",)),
    route("all", paths=("/",)),
)


@pytest.mark.parametrize(
    "path",
    [
        "/open/../admin", "/open/%2e%2e/admin", "//admin", "/open//../admin", "/open%2F..%2Fadmin",
        "/open/..%2fadmin", "/open\\..\\admin", "/open%5c..%5Cadmin", "/%61dmin",
        "/open/..;x/admin", "/./admin", "/x/..//admin", "/admin/../open", "/open/.%2e/admin",
    ],
)  # fmt: skip
def test_G_07_a_path_that_envoy_may_read_as_another_route_is_refused(path: str) -> None:
    assert refusal(router(*TWO), request(path)) is Reason.ROUTE_AMBIGUOUS


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/open//x", "open"),
        ("/open/a%2Fb", "open"),
        ("/open/./x", "open"),
        ("/open/x/../y", "open"),
        ("/open/%7Euser", "open"),
        ("/open/.well-known", "open"),
        ("/open/caf%c3%a9", "open"),
        ("/open?next=//admin", "open"),
        ("/x%20y", "all"),
    ],
)
def test_G_07_a_path_that_is_one_route_in_every_reading_goes_on(path: str, expected: str) -> None:
    assert met(router(*TWO), request(path)) == expected


def test_G_07_a_named_route_is_taken_whatever_the_path_and_host_may_mean() -> None:
    asked = request(
        "/open/../admin#x", host="a.test:x", context_extensions={"route": "open"}, scheme="https"
    )
    assert met(router(*TWO, route("sni", snis=("b.test",))), asked) == "open"


def test_G_07_a_named_service_whose_routes_decide_is_read_in_every_way() -> None:
    free, guarded = route("free", paths=("/free",)), route("guarded", paths=("/a",))
    table = router(free, guarded, plugins=(plugin(route=guarded),))
    for path in ("/free/../a", "/free%2F..%2Fa"):
        asked = request(path, context_extensions={"service": "orders"})
        assert refusal(table, asked) is Reason.ROUTE_AMBIGUOUS


def test_G_07_what_no_url_can_hold_in_plain_is_one_path_encoded_and_decoded() -> None:
    table = router(route("r", paths=("/café au",)), route("all", paths=("/",)))
    assert met(table, request("/caf%C3%A9%20au/lait")) == "r"
    assert refusal(table, request("/caf%c3%a9%20au")) is Reason.ROUTE_AMBIGUOUS


def test_G_07_a_long_path_of_many_readings_is_refused() -> None:
    table = router(route("r", paths=("/",)))
    assert met(table, request("/" * ODD_PATH_CHARS_MAX)) == "r"
    long = request("/" * (ODD_PATH_CHARS_MAX + 1))
    assert refusal(table, long) is Reason.REQUEST_MALFORMED


PARTS = st.sampled_from(
    ["/", "//", "/.", "/..", "/..;p", ".", "a", "b", "é", "%2e", "%2E", "%2f", "%2F", "%5C", "\\",
     "%61", "%C3%A9", "%c3%a9", "%20", "%25", "%", "%2", "%zz", ";", "~", "%7e", "%3a", "%3A"]
)  # fmt: skip


@given(st.lists(PARTS, max_size=10).map("".join))
def test_G_07_a_path_that_is_not_odd_has_one_reading(path: str) -> None:
    path = f"/{path}"
    assert readings(path)[0] == normalise(path)
    if not is_odd(path):
        assert readings(path) == (normalise(path),)


# --- What looking may cost ------------------------------------------------------------


def test_G_11_a_header_of_more_lines_than_are_looked_at_is_refused() -> None:
    table = router(
        route("texts", headers={"x-a": ("1",)}, paths=("/texts",)),
        route("regex", headers={"x-a": ("~*^1$",)}, paths=("/regex",)),
        route("open", paths=("/",)),
    )
    most, more = ",".join(["0"] * (HEADER_LINES_MAX - 1) + ["1"]), "," * HEADER_LINES_MAX
    for name in ("texts", "regex"):
        assert met(table, request(f"/{name}", headers={"x-a": most})) == name
        asked = request(f"/{name}", headers={"x-a": more})
        assert refusal(table, asked) is Reason.REQUEST_MALFORMED
    assert met(table, request("/", headers={"x-a": more})) == "open"


def test_G_11_the_product_of_parts_patterns_and_routes_is_bounded() -> None:
    many = [
        route(f"r{n}", headers={"x-a": tuple(f"~*{n}x{m}[0-9]+$" for m in range(10))})
        for n in range(100)
    ]
    table = router(*many, route("open", paths=("/",)))
    assert met(table, request(headers={"x-a": "7x3123"})) == "r7"
    assert met(table, request(headers={"x-a": "nothing"})) == "open"
    value = ",".join(f"{n}" * 60 for n in range(HEADER_LINES_MAX))
    assert refusal(table, request(headers={"x-a": value})) is Reason.REQUEST_MALFORMED


def test_G_11_a_long_path_over_many_regexes_is_refused_and_never_the_weaker_route() -> None:
    many = [route(f"r{n}", paths=(f"~/.*/x{n}$",)) for n in range(200)]
    table = router(*many, route("open", paths=("/",)))
    assert met(table, request("/a/b/x199")) == "r199"
    assert met(table, request("/" + "a" * 200)) == "open"
    long = request("/" + "a" * (PATH_CHARS_MAX - 1))
    assert refusal(table, long) is Reason.REQUEST_MALFORMED


def test_G_11_one_expression_reads_a_path_of_kilobytes() -> None:
    table = router(route("r", paths=("~/a/[^/]+/z$",)))
    assert met(table, request(f"/a/{'b' * (PATH_CHARS_MAX - 5)}/z")) == "r"


def test_G_11_routes_that_differ_in_a_headers_text_are_found_by_it() -> None:
    many = [route(f"r{n}", headers={"X-T": (f"T{n}", f"u{n}"), "y": ("1",)}) for n in range(50)]
    table = router(*many, route("other", headers={"z": ("1",)}))
    asked = {"x-t": "a,u41", "y": "1"}
    assert met(table, request(headers=asked)) == "r41"
    assert met(table, request(headers={**asked, "y": "2"})) is None
    assert met(table, request(headers={"x-t": "t0,t1", "y": "1"})) == "r0"
    assert met(table, request(headers={"z": "1", "x-t": "none"})) == "other"


@pytest.mark.parametrize(
    ("differing", "asked"),
    [
        (lambda n: {"headers": {"x-t": (f"t{n}",)}}, {"headers": {"x-t": "t7"}}),
        (lambda n: {"snis": (f"S{n}.test.",)}, {"scheme": "https", "server_name": "s7.TEST"}),
        (lambda n: {"methods": (f"M{chr(65 + n)}",)}, {"method": "MH"}),
    ],
    ids=["a header's text", "a server name", "a method"],
)
def test_G_11_many_routes_that_differ_in_one_thing_cost_a_request_what_few_do(
    differing: Callable[[int], dict[str, Any]], asked: dict[str, Any]
) -> None:
    def work(count: int) -> int:
        # The one that is met goes last among equals.
        numbers = [*(n for n in range(count) if n != 7), 7]
        table = router(*(route(f"r{n}", **differing(n)) for n in numbers))
        assert met(table, request("/a//b", **asked)) == "r7"
        return calls_of(lambda: table.match(request("/a//b", **asked)))

    assert work(800) == work(10)


# --- What a regex matches is found ------------------------------------------------------


ATOMS = st.sampled_from(
    ["/", "a", "b", "/a", "é", ".", "[ab]", "[^a]", "[[:alpha:]]", r"\w", r"\d", "(?i:a)", "%2F",
     r"\b", r"\B", "^", "$", r"\A", r"\z", "(?m:^)", "(?m:$)", "(?i)", "(?m)", "(?s)", "(?U)",
     r"\Qa.b\E", r"\x61"]
)  # fmt: skip
REGEX = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{0,1}", "{2}", "*?"])).map(
            lambda each: f"(?:{each[0]}){each[1]}"
        ),
        inner.map("({})".format),
    ),
    max_leaves=6,
)


# RE2's range forgets what comes after the edge of a word: alternatives show it.
EDGES = st.sampled_from(["/", "/a", "a", "b", "é", "-", r"\b", r"\B", "^", "$", "(?m:^)", "(?m:$)"])
ALTERNATIVES = st.lists(st.lists(EDGES, max_size=3).map("".join), min_size=2, max_size=3)
BRANCHES = ALTERNATIVES.map(lambda each: "|".join(f"/{branch}" for branch in each))


def regex_is_read(regex: str) -> bool:
    return checks.pattern(regex) is None


@example(r"/b|/\b", ["a"])
@settings(max_examples=500, deadline=None)
@given(
    REGEX | BRANCHES,
    st.lists(st.sampled_from(["/", "a", "A", "b", "é", "-", "\n", "1"]), max_size=6),
)
def test_G_08_whatever_a_regex_route_matches_the_router_finds(regex: str, path: list[str]) -> None:
    text = "/" + "".join(path)
    assume(regex_is_read(regex) and "//" not in text)
    pattern = Pattern(regex)
    table = router(route("r", paths=(f"~{regex}",)))
    assert met(table, request(quote(text, safe="/"))) == ("r" if pattern.begins(text) else None)
    assert not pattern.begins(text) or text.startswith(pattern.prefix())


@pytest.mark.parametrize("regex", [r"a?\b", r"/|\b", r"\B/?", r"(?m)^/?", r"/?\b/a"])
def test_G_08_no_prefix_comes_of_what_is_next_to_an_edge(regex: str) -> None:
    assert Pattern(regex).prefix() == ""
