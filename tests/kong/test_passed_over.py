"""Which routes go before the one that answers, and the field by which each of them does not."""

from __future__ import annotations

from typing import Any

import pytest

from authz.kong.passed_over import ROUTES_MAX, passed_over
from authz.model import Gateway, Request, Route, SourcePosition

POSITION = SourcePosition("kong.yaml", 1, 1)


def route(name: str, **fields: Any) -> Route:
    return Route(id=f"id-of-{name}", name=name, position=POSITION, service=None, **fields)


def told(*routes: Route, **fields: Any) -> list[tuple[str | None, str]]:
    """The routes that are passed over, with the field that differs."""
    given = {"method": "GET", "scheme": "https", "host": "a.test", "path": "/a/b", **fields}
    found, _ = passed_over(Gateway(routes=routes), Request(**given))
    return [(each.route.name, each.differs) for each in found]


@pytest.mark.parametrize(
    ("fields", "differs"),
    [
        pytest.param({"hosts": ("b.test",)}, "hosts", id="another host"),
        pytest.param({"hosts": ("*.a.test",)}, "hosts", id="a host that is not under it"),
        pytest.param({"hosts": ("a.test:8443",)}, "hosts", id="another port"),
        pytest.param({"paths": ("/a/b/c",)}, "paths", id="another path"),
        pytest.param({"paths": ("~/a/[0-9]+$",)}, "paths", id="an expression"),
        pytest.param({"methods": ("POST", "PUT")}, "methods", id="another method"),
        pytest.param({"headers": {"x-version": ("2",)}}, "headers", id="a header"),
        pytest.param({"headers": {"x-version": ("~*^[2-9]$",)}}, "headers", id="its expression"),
        pytest.param({"snis": ("b.test",)}, "snis", id="another server name"),
    ],
)
def test_a_route_that_goes_before_is_told_with_the_field_that_differs(
    fields: dict[str, Any], differs: str
) -> None:
    # Of all other fields it asks for what the request has.
    fits: dict[str, Any] = {
        "hosts": ("a.test",),
        "paths": ("/a/b",),
        "methods": ("GET",),
        "headers": {"x-version": ("1",)},
        "snis": ("a.test",),
    }
    request: dict[str, Any] = {"server_name": "a.test", "headers": {"x-version": "1"}}
    answers = route("answers", paths=("/a",))

    assert told(answers, route("before", **{**fits, **fields}), **request) == [("before", differs)]
    assert told(answers, route("fits", **fits), **request) == []


def test_the_nearest_misses_fewest_fields_and_is_the_last_in_kong_s_order() -> None:
    first = route("first", hosts=("b.test",), paths=("/a/b/c/d",))
    longer = route("longer", paths=("/a/b/c/d",))
    long = route("long", paths=("/a/b/c",))
    after = route("after", paths=("/",))

    assert told(first, long, longer, after, route("answers", paths=("/a",))) == [
        ("long", "paths"),
        ("longer", "paths"),
        ("first", "hosts"),
    ]


def test_one_that_misses_less_is_told_before_one_that_is_nearer_in_kong_s_order() -> None:
    by_path = route("by path", hosts=("a.test",), paths=("/a/b/c/d",))
    by_both = route("by both", hosts=("b.test",), paths=("/a/b/c",))

    assert told(by_both, by_path, route("answers", paths=("/a",))) == [
        ("by path", "paths"),
        ("by both", "hosts"),
    ]


def test_a_route_of_several_paths_is_told_once_and_never_beside_its_own_answer() -> None:
    answers = route("answers", paths=("/a", "/a/b/c"))
    before = route("before", paths=("/a/b/d", "/a/x"))

    assert told(answers, before) == [("before", "paths")]


def test_no_more_are_told_than_the_bound_and_all_are_counted() -> None:
    routes = tuple(route(f"{n}", paths=(f"/other/{n:04}",)) for n in range(500))
    request = Request(method="GET", scheme="http", host="a.test", path="/a")
    found, count = passed_over(Gateway(routes=routes), request)

    assert (len(found), count) == (ROUTES_MAX, 500)


@pytest.mark.parametrize("fields", [{"path": "/a#b"}, {"host": "a.test:x"}])
def test_a_request_that_has_no_route_at_all_passes_over_none(fields: dict[str, Any]) -> None:
    assert told(route("one", paths=("/b",)), **fields) == []


def test_a_server_name_that_was_not_told_may_be_any() -> None:
    asks = route("asks", snis=("b.test",), paths=("/a",))

    assert told(asks, route("after", paths=("/",))) == []
