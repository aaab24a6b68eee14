"""Requests that stand for a route: each one is answered by it, and there is one for each part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.configuration import FORMAT, load

from authz.errors import RouteNotFound
from authz.kong.examples import EXAMPLE_CHARS_MAX, examples
from authz.kong.regexes import Pattern
from authz.kong.router import Router
from authz.kong.witness import NOBODYS_HOST, NOBODYS_METHOD, witnesses
from authz.model import Gateway, Request, Route, SourcePosition

HERE = SourcePosition("kong.yaml", 1, 1)


# --- Examples of a regular expression -----------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "first"),
    [
        ("/v1/orders", "/v1/orders"),
        (r"/v1/(?<id>[^/]+)$", "/v1/authz-witness"),
        (r"/v1/(?P<id>\d{3,5})$", "/v1/90417"),
        (r"/[a-f0-9]{8}-[a-f0-9]{4}$", "/90417269-9041"),
        (r"/(x$|y)z", "/yz"),
        (r"/(?i)foo(?-i:bar)", "/foobar"),
        (r"/\Qa.b*\E/[\w.-]+", "/a.b*/authz-witness"),
        (r"/[[:upper:]]{2}[[:^alpha:]]", "/AU0"),
        (r"/[^\x21-\x7e]", "/ "),
        (r"/\pL+/\p{Greek}$", "/authzwitness/\u0370"),
        (r"/\x{e9}\x41\101", "/éAA"),
        (r"/[]a]{2}", "/aa"),
        (r"/[\]\-x]", "/-"),
        (r"/a{,3}", "/a{,3}"),
        (r"/(?:a|b)??c+?$", "/ac"),
        (r"/.*\.json$", "/authz-witness.json"),
        (r"/a\b-", "/a-"),
        (r"/(a|b$|c$)(d|)$", "/ad"),
    ],
)
def test_an_expression_has_an_example(pattern: str, first: str) -> None:
    found = examples(pattern, Pattern(pattern).begins)

    assert found
    assert all(Pattern(pattern).begins(text) for text in found)
    assert found[0][: len(first)] == first


@pytest.mark.parametrize(
    "pattern", [r"/a$b", r"/[^\x00-\x{10FFFF}]", r"/a\bb", "/a{999}b{999}c{999}d{999}e{999}"]
)
def test_what_nothing_matches_or_only_a_giant_has_none(pattern: str) -> None:
    assert examples(pattern, Pattern(pattern).begins) == ()


@given(st.text(alphabet="ab/[]()|*+?{}0123,^$.\\-:dwspLPxQE<>=!", max_size=20))
def test_whatever_the_expression_an_example_fits_it(text: str) -> None:
    try:
        pattern = Pattern(text)
    except ValueError:
        return
    found = examples(text, pattern.begins)
    assert all(pattern.begins(each) and len(each) <= EXAMPLE_CHARS_MAX for each in found)


LEAF = st.sampled_from(
    [
        "a",
        "orders",
        r"\d",
        r"\w",
        "[^/]",
        "[a-z0-9_-]",
        ".",
        r"\.",
        "[[:alpha:]]",
        r"\S",
        "%20",
        "~",
    ]
)


def _grown(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    marks = st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "+?", "{2,}"])
    return st.one_of(
        st.lists(inner, min_size=1, max_size=3).map("".join),
        st.lists(inner, min_size=1, max_size=3).map(lambda parts: f"(?:{'|'.join(parts)})"),
        st.tuples(inner, marks).map(lambda parts: f"({parts[0]}){parts[1]}"),
    )


@given(st.recursive(LEAF, _grown, max_leaves=8))
def test_every_expression_of_the_usual_parts_has_an_example(text: str) -> None:
    pattern = f"/{text}$"
    assert examples(pattern, Pattern(pattern).begins)


# --- Witnesses of a route ---------------------------------------------------------------


def route_of(yaml: str) -> tuple[Route, Router]:
    gateway = load(f"{FORMAT}routes: [{{name: r, {yaml}}}]\n")
    return gateway.routes[0], Router(gateway)


def key(request: Request) -> object:
    """Return a request as a value that tells it from others; its ``repr`` hides the path."""
    headers = tuple(sorted(request.headers.items()))
    where = (request.scheme, request.host, request.path, request.server_name)
    return (*where, request.method, headers)


def one(yaml: str) -> list[Request]:
    """Return the first request of each combination; the route answers each."""
    route, router = route_of(yaml)
    found = [requests[0] for requests in witnesses(route, 1000)]
    assert all(router.match(request).route == route for request in found)
    return found


def test_there_is_one_for_each_combination_of_all_that_a_route_asks_for() -> None:
    found = one(
        'protocols: [https, http], hosts: [a.example, "*.b.example:8443"], paths: [/x, "~/y/.+"],'
        " methods: [GET, POST], snis: [s.example, t.*],"
        " headers: {x-a: [one, two], x-b: [~*^v.$]}"
    )

    assert len(found) == len(set(map(key, found))) == 2 * 2 * 2 * 2 * 2 * 2
    assert {request.scheme for request in found} == {"http", "https"}
    assert {request.host for request in found} == {"a.example", "authz-witness.b.example:8443"}
    assert {request.path for request in found} == {
        "/x/authz-witness/0",
        "/y/authz-witness/authz-witness/0",
    }
    assert {request.method for request in found} == {"GET", "POST"}
    assert {request.server_name for request in found} == {"s.example", "t.authz-witness"}
    assert {(r.headers["x-a"], r.headers["x-b"]) for r in found} == {("one", "va"), ("two", "va")}


def test_what_a_route_does_not_ask_for_is_what_nobody_else_does() -> None:
    [request, _] = one("paths: [/]")
    assert (request.host, request.method, request.path) == (
        NOBODYS_HOST,
        NOBODYS_METHOD,
        "/authz-witness/0",
    )


def test_a_call_of_grpc_has_its_content_type_and_method() -> None:
    for request in one("protocols: [grpc, grpcs], paths: [/helloworld.Greeter/]"):
        assert (request.method, request.is_grpc) == ("POST", True)


def test_a_websocket_asks_for_its_upgrade() -> None:
    route, router = route_of("protocols: [ws, wss], paths: [/x]")
    found = [request for requests in witnesses(route, 1000) for request in requests]

    assert {request.scheme for request in found} == {"http", "https"}
    assert all(router.match(request).route == route for request in found)
    plain = Request(method="GET", scheme="http", host="h", path="/x")
    with pytest.raises(RouteNotFound):
        router.match(plain)


@pytest.mark.parametrize("path", ["/café", "~/a b$", r"~/a\(b\)$", "~/é+$", "/a:b@c"])
def test_a_path_is_spelled_as_a_request_line_can_hold_it(path: str) -> None:
    route, router = route_of(f'paths: ["{path}"]'.replace("\\", "\\\\"))
    for requests in witnesses(route, 1000):
        for request in requests:
            assert request.path.isascii()
            assert " " not in request.path
            assert router.match(request).route == route


def test_the_path_itself_is_what_remains_if_other_routes_take_what_is_below() -> None:
    route, _ = route_of("paths: [/v1/]")
    [requests, _] = witnesses(route, 1000)
    assert [request.path for request in requests] == ["/v1/authz-witness/0", "/v1/"]


def test_a_condition_that_nothing_fulfils_leaves_no_request() -> None:
    route, _ = route_of("paths: [/x], headers: {x-a: ['~*a$b', c]}")
    assert [len(requests) for requests in witnesses(route, 1000)] == [0, 2, 0, 2]
    route, _ = route_of(r"paths: ['~/a\bb']")
    assert list(witnesses(route, 1000)) == [(), ()]


@given(
    st.lists(st.integers(1, 9), min_size=4, max_size=4),
    st.integers(1, 300),
)
def test_of_too_many_combinations_every_value_stays_and_none_twice(
    sizes: list[int], most: int
) -> None:
    hosts, paths, methods, snis = (
        tuple(f"{kind}{number}" for number in range(size))
        for kind, size in zip(("h", "/p", "M", "s"), sizes, strict=True)
    )
    route = Route("r", "r", HERE, None, ("https",), methods, hosts, paths, {}, snis)
    found = [requests[-1] for requests in witnesses(route, most)]

    assert {request.host for request in found} == set(hosts)
    assert {request.path for request in found} == set(paths)
    assert {request.method for request in found} == set(methods)
    assert {request.server_name for request in found} == set(snis)
    whole = len(hosts) * len(paths) * len(methods) * len(snis)
    assert len(found) <= max(most, *sizes)
    if whole <= most:
        assert len(set(map(key, found))) == len(found) == whole
    assert isinstance(Router(Gateway(routes=(route,))).match(found[0]).route, Route)
