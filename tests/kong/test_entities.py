"""Kong's rules for services and routes."""

from __future__ import annotations

import pytest
from support.configuration import FORMAT, complaints, load, notices

from authz.kong.checks import compile_pattern
from authz.model import Place, Route, Service


def service(fields: str) -> Service:
    return load(f"{FORMAT}services: [{{{fields}}}]\n").services[0]


def route(fields: str) -> Route:
    return load(f"{FORMAT}routes: [{{{fields}}}]\n").routes[0]


def refused(section: str, fields: str) -> str:
    """Return the only complaint, without its place."""
    [complaint] = complaints(f"{FORMAT}{section}: [{{{fields}}}]\n")
    return complaint.split(": ", 1)[1]


# --- Services -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://h", ("http", "h", 80, None)),
        ("https://h/v1", ("https", "h", 443, "/v1")),
        ("https://h:8443/", ("https", "h", 8443, "/")),
        ("grpcs://h", ("grpcs", "h", 443, None)),
    ],
)
def test_a_url_is_a_shorthand(url: str, expected: tuple[str, str, int, str | None]) -> None:
    read = service(f"url: '{url}'")
    assert (read.protocol, read.host, read.port, read.path) == expected


def test_what_is_written_out_wins_over_the_shorthand() -> None:
    read = service("url: 'https://h/v1', port: 9443, path: /v2")
    assert (read.port, read.path) == (9443, "/v2")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("name: a", "host: is required, or url as a shorthand"),
        ("host: 'http://h'", "host: must be a host name"),
        ("host: 'h:80'", "host: must be a host name"),
        ("url: 'http://u:p@h'", "url: must not hold a user name or a password"),
        ("url: 'http://h/?x'", "url: must not hold a query"),
        ("host: h, port: 70000", "port: must be 65535 or less"),
        ("host: h, protocol: htp", "not 'htp'; did you mean 'http'?"),
        ("host: h, path: v1", "path: must start with /"),
        ("host: h, protocol: tcp, path: /v1", "path: cannot be set for the protocol tcp"),
        ("host: h, name: 'a b'", "name: must consist of letters, digits"),
        ("host: h, id: 7f", "id: must be a UUID"),
        ("host: h, prot: 80", "prot: is not known here; did you mean 'port'?"),
    ],
)
def test_a_service_that_kong_would_refuse_is_refused(fields: str, message: str) -> None:
    assert message in refused("services", fields)


def test_two_services_cannot_share_a_name() -> None:
    assert "name: another of the services has the same" in refused(
        "services", "name: a, host: h}, {name: a, host: i"
    )


# --- Routes -----------------------------------------------------------------------


def test_a_route_keeps_the_place_of_each_field() -> None:
    read = load(f"{FORMAT}routes:\n- name: r\n  paths: [/]\n  methods: [GET]\n").routes[0]
    assert read.places == {
        "name": Place("<stdin>", 3, 9),
        "paths": Place("<stdin>", 4, 10),
        "methods": Place("<stdin>", 5, 12),
    }


def test_a_route_needs_no_service() -> None:
    assert route("paths: [/]").service is None


def test_a_route_finds_its_service_by_name() -> None:
    gateway = load(
        f"{FORMAT}services: [{{name: s, host: h}}]\nroutes: [{{service: s, paths: [/]}}]"
    )
    assert gateway.routes[0].service is gateway.services[0]


def test_routes_without_names_have_different_ids() -> None:
    gateway = load(f"{FORMAT}routes: [{{paths: [/a]}}, {{paths: [/b]}}]")
    assert len({read.id for read in gateway.routes}) == 2


def test_a_grpc_route_does_not_strip_its_path() -> None:
    assert route("protocols: [grpc], paths: [/]").strip_path is False
    assert route("paths: [/]").strip_path is True


@pytest.mark.parametrize(
    "fields",
    [
        "hosts: ['*.example.com', 'example.*', 'h:8080', '*.example.com:80', '[::1]']",
        "paths: [/, /a.b/, /%2F, '~/a/(?<id>[0-9]+)$', /ü]",
        "headers: {x-version: [v1, '~*v[0-9]$']}",
        "snis: [example.com], protocols: [https]",
        "methods: [GET, PURGE]",
    ],
)
def test_what_kong_takes_is_taken(fields: str) -> None:
    assert route(fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ("name: a", "paths: at least one is required of hosts, headers, paths, methods"),
        ("paths: []", "paths: at least one is required of"),
        ("protocols: [grpc], methods: [GET], hosts: [h]", "methods: cannot be set for gRPC"),
        ("protocols: [grpc], strip_path: true, hosts: [h]", "strip_path: must be false for gRPC"),
        ("protocols: [http, grpc], hosts: [h]", "protocols: mixes"),
        ("protocols: [htp], hosts: [h]", "did you mean 'http'?"),
        ("methods: [get]", "methods: must be a method in upper case"),
        ("hosts: ['*.*.a']", "hosts: may hold one *"),
        ("hosts: ['a.*.b']", "hosts: may hold one *"),
        ("hosts: ['h:0']", "hosts: must have a port between 1 and 65535"),
        ("paths: [a]", "paths: must start with /"),
        ("paths: [//]", "paths: must not hold empty segments"),
        ("paths: [/a/../b]", "paths: must be in normal form"),
        ("paths: ['/%7e']", "paths: must be in normal form"),
        ("paths: ['/%2f']", "paths: must be in normal form"),
        ("paths: ['/%zz']", "paths: holds a %"),
        ("paths: ['/a?b']", "paths: must not hold ?"),
        ("headers: {Host: [h]}", "headers: cannot hold host"),
        ("headers: {'a b': [h]}", "headers.a b: must be a header name"),
        ("headers: {x: }", "headers.x: must have a value"),
        ("headers: {x: ['~*(']}", "headers: x is a regular expression"),
        ("snis: [h], protocols: [http], paths: [/]", "snis: needs https"),
        ("sources: [{ip: 10.0.0.1}], paths: [/]", "sources: cannot be set for http, https"),
        ("paths: [/], https_redirect_status_code: 200", "https_redirect_status_code: must be"),
        ("paths: [/], path_handling: v2", "path_handling: must be v0 or v1"),
        ("expression: 'http.path == \"/\"'", "expression: routes by expression are not done"),
        ("priority: 1, paths: [/]", "priority: routes by expression are not done here"),
        ("paths: [/], service: nowhere", "service: 'nowhere' is none of the services"),
        ("paths: [/], service: []", "service: must be a name or an id"),
    ],
)
def test_a_route_that_kong_would_refuse_is_refused(fields: str, message: str) -> None:
    assert message in refused("routes", fields)


@pytest.mark.parametrize("pattern", ["(", "[[:alpha:]]", r"\Qa\E", "(?<a", "a{2,1}", "a**"])
def test_CF_13_a_pattern_that_python_cannot_read_as_kong_does_is_refused(pattern: str) -> None:
    assert "regular expression that cannot be used" in refused("routes", f"paths: ['~/{pattern}']")


def test_patterns_mean_what_they_mean_in_pcre() -> None:
    assert compile_pattern(r"/(?<id>\d+)$").fullmatch("/7")
    assert not compile_pattern(r"/\d+$").match("/7\n")
    assert not compile_pattern(r"/\d").match("/\u0663")
    assert compile_pattern(r"(?<=a)[$]").search("a$")


def test_a_nested_route_cannot_name_another_service() -> None:
    text = (
        f"{FORMAT}services: [{{name: a, host: h, routes: [{{service: b, paths: [/]}}]}}, "
        "{name: b, host: h}]"
    )
    [found] = complaints(text)
    assert "service: differs from the service that this stands in" in found


def test_routes_of_streams_are_left_out_with_a_notice() -> None:
    text = f"{FORMAT}routes: [{{name: t, protocols: [tcp], sources: [{{port: 1}}]}}]"
    assert load(text).routes == ()
    assert notices(text) == [
        "2:10: routes: 1 of them are of streams and take no HTTP request: left out"
    ]
