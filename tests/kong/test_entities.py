"""Kong's rules for services and routes."""

from __future__ import annotations

import pytest
from support.configuration import FORMAT, complaints, load, notices

from authz.kong.regexes import PATTERN_BYTES_MAX, Pattern
from authz.model import Route, Service, SourcePosition


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
    assert read.positions == {
        "name": SourcePosition("<stdin>", 3, 9),
        "paths": SourcePosition("<stdin>", 4, 10),
        "methods": SourcePosition("<stdin>", 5, 12),
    }


def test_a_route_needs_no_service() -> None:
    assert route("paths: [/]").service is None


def test_a_route_finds_its_service_by_name() -> None:
    gateway = load(
        f"{FORMAT}services: [{{name: s, host: h}}]\nroutes: [{{service: s, paths: [/]}}]"
    )
    assert gateway.routes[0].service is gateway.services[0]


SAME = "{paths: [/a], hosts: [h, i]}"


def ids(*routes: str) -> list[str]:
    return [read.id for read in load(f"{FORMAT}routes: [{', '.join(routes)}]").routes]


def test_a_route_without_a_name_keeps_its_id_wherever_it_stands() -> None:
    other = "{paths: [/b]}"
    [before] = ids(SAME)
    assert ids(other, SAME)[1] == before
    assert ids("{protocols: [https, http], hosts: [i, h], paths: [/a]}") == [before]


@pytest.mark.parametrize(
    "field",
    [
        "protocols: [https]",
        "hosts: [h]",
        "paths: [/b]",
        "methods: [GET]",
        "headers: {x: [y]}",
        "snis: [h]",
        "regex_priority: 1",
    ],
)
def test_routes_without_names_that_match_otherwise_have_other_ids(field: str) -> None:
    fields = {"paths": "[/a]", "hosts": "[h, i]", **dict([field.split(": ", 1)])}
    other = ", ".join(f"{name}: {value}" for name, value in fields.items())
    assert len(set(ids(SAME, f"{{{other}}}"))) == 2


def test_of_routes_that_match_the_same_the_first_keeps_the_id() -> None:
    [before] = ids(SAME)
    assert ids(SAME, SAME)[0] == before
    assert len(set(ids(SAME, SAME, SAME))) == 3


def test_a_service_without_a_name_keeps_its_id_wherever_it_stands() -> None:
    other, same = "{host: i, routes: [{paths: [/]}]}", "{host: h, routes: [{paths: [/]}]}"
    [alone] = load(f"{FORMAT}services: [{same}]").routes
    [there, behind] = load(f"{FORMAT}services: [{other}, {same}]").routes
    assert there.id != behind.id == alone.id
    assert (behind.service, alone.service) != (None, None)
    [spelled] = load(f"{FORMAT}services: [{{url: 'http://h:80', routes: [{{paths: [/]}}]}}]").routes
    assert spelled.id == alone.id


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
        ("paths: []", "paths: is empty: the route would take every path; write a value, or"),
        ("protocols: [grpc], methods: [GET], hosts: [h]", "methods: cannot be set for gRPC"),
        ("protocols: [grpc], strip_path: true, hosts: [h]", "strip_path: must be false for gRPC"),
        ("protocols: [http, grpc], hosts: [h]", "protocols: mixes"),
        ("protocols: [htp], hosts: [h]", "did you mean 'http'?"),
        ("methods: [get]", "methods: must be a method in upper case"),
        ("hosts: ['*.*.a']", "hosts: may hold one *"),
        ("hosts: ['a.*.b']", "hosts: may hold one *"),
        ("hosts: ['h:0']", "hosts: must have a port between 1 and 65535"),
        ("paths: [a]", "paths: must start with /"),
        ("paths: ['/%zz']", "paths: holds a % that begins no percent-encoding: write %25"),
        ("headers: {Host: [h]}", "headers: cannot hold host"),
        ("headers: {'a b': [h]}", "headers.a b: must be a header name"),
        ("headers: {x: }", "headers.x: must have a value"),
        ("headers: {x: ['~*(']}", "headers.x: is a regular expression"),
        ("snis: [h], protocols: [http], paths: [/]", "snis: needs https"),
        ("sources: [{ip: 10.0.0.1}], paths: [/]", "sources: cannot be set for http, https"),
        ("paths: [/], https_redirect_status_code: 200", "https_redirect_status_code: must be"),
        ("paths: [/], path_handling: v2", "path_handling: must be v0 or v1"),
        ("expression: 'http.path == \"/\"'", "expression: routes by expression are not done"),
        ("priority: 1, paths: [/]", "priority: routes by expression are not done here"),
        ("paths: [/], service: nowhere", "service: 'nowhere' is none of the services"),
        ("paths: [/], service: [s]", "service: must be a name or an id"),
    ],
)
def test_a_route_that_kong_would_refuse_is_refused(fields: str, message: str) -> None:
    assert message in refused("routes", fields)


@pytest.mark.parametrize(
    "pattern",
    [
        "(", "(?<a", "a{2,1}", "a**", "[b-a]", "(?=a)", "(?!a)", "(?<=a)", "(?<!a)", "(?>a)",
        "a++", r"(a)\1", r"a\Z", "a{1001}", r"\p{L}{999}",
    ],
)  # fmt: skip
def test_CF_13_a_pattern_that_needs_another_engine_than_kongs_is_refused(pattern: str) -> None:
    assert "regular expression that cannot be used" in refused("routes", f"paths: ['~/{pattern}']")


def test_CF_13_a_pattern_that_is_refused_is_not_repeated() -> None:
    with pytest.raises(ValueError, match=r"^RE2 says invalid perl operator$"):
        Pattern("/canary(?=x)")


def test_patterns_mean_what_they_mean_in_pcre() -> None:
    assert Pattern(r"/(?<id>\d+)/(?P<name>[[:alpha:]]+)\z").begins("/7/a")
    assert Pattern(r"/\Qa.b\E$").begins("/a.b")
    assert not Pattern(r"/\d+$").begins("/7\n")
    assert not Pattern(r"/\d").begins("/\u0663")
    assert not Pattern("/a").begins("x/a")
    assert Pattern("B", ignore_case=True).is_in("abc")
    assert not Pattern("B").is_in("abc")


def test_a_byte_that_is_no_utf_8_is_a_character_to_a_pattern() -> None:
    assert Pattern("/[^/]+/x$").begins("/a\udcff/x")
    assert not Pattern(r"/a\?").begins("/a\udcff")


@pytest.mark.parametrize(
    ("pattern", "prefix"),
    [
        ("/users/[0-9]+", "/users/"),
        ("/a|/b", "/"),
        ("/a|b", ""),
        ("/colou?r", "/colo"),
        ("/x*a|/b", "/"),
        ("/(?:ab|ac)d", "/a"),
        ("/[é-ê]", "/"),
        ("^/a.*", "/a"),
        ("(?i)/a", "/"),
        ("/ab{0}", "/a"),
        (".*", ""),
    ],
)
def test_a_pattern_is_indexed_by_what_each_of_its_matches_starts_with(
    pattern: str, prefix: str
) -> None:
    assert Pattern(pattern).prefix() == prefix


@pytest.mark.parametrize(
    ("pattern", "text"),
    [
        ("/api/.*/.*/.*/x$", "/api" + "/a" * 8_000 + "/y"),
        (r"/v1/(\w+/?)+/end$", "/v1/" + "a" * 16_000 + "!"),
        ("/(a|a)*b", "/" + "a" * 16_000),
        ("/(?<x>.*)(?<y>.*)(?<z>.*)=", "/" + "a" * 16_000),
    ],
)
def test_DS_11_no_path_keeps_a_pattern_busy(pattern: str, text: str) -> None:
    # Milliseconds here; a backtracking engine would not end before the suite's time limit does.
    assert not Pattern(pattern).begins(text)


def test_a_pattern_has_a_bound_in_memory() -> None:
    assert Pattern("|".join(f"/tenant-{n}" for n in range(500))).begins("/tenant-499")
    with pytest.raises(ValueError, match="too large"):
        Pattern("/" + "[a-z]x" * PATTERN_BYTES_MAX)


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
