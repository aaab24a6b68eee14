"""Routes that cannot be written: left out, refused in their place, or in the way of all others."""

from __future__ import annotations

from typing import Any

import pytest

from authz.envoy.bootstrap import BootstrapOptions, build, notices
from authz.errors import ConfigurationError
from authz.model import Gateway, Route, Service, SourcePosition

UNWRITABLE = "~/shop/\\S+"


def place(line: int) -> SourcePosition:
    return SourcePosition("kong.yaml", line, 1)


SERVICE = Service("1", "s", place(1), "s.test")


def route(name: str, line: int = 2, **fields: Any) -> Route:
    return Route(name, name, place(line), SERVICE, **fields)


def written(*routes: Route) -> tuple[dict[str, list[dict[str, Any]]], list[str]]:
    """Return Envoy's routes by virtual host, and the notices."""
    gateway = Gateway(services=(SERVICE,), routes=routes)
    bootstrap = build(gateway, BootstrapOptions())
    chain = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]
    hosts = chain["filters"][0]["typed_config"]["route_config"]["virtual_hosts"]
    return {host["name"]: host["routes"] for host in hosts}, [
        str(each) for each in notices(gateway, BootstrapOptions())
    ]


def names(routes: list[dict[str, Any]]) -> list[str | None]:
    return [each.get("name") for each in routes]


@pytest.mark.parametrize(
    ("hosts", "others"),
    [
        (("a.test",), ("b.test",)),
        (("a.test", "*.b.test"), ("c.test", "*.c.test", "b.test")),
        (("a.*",), ("b.*", "b.a.test")),
    ],
)
def test_E6_a_route_that_shares_no_host_with_one_below_is_left_out(
    hosts: tuple[str, ...], others: tuple[str, ...]
) -> None:
    found, said = written(
        route("missing", 7, hosts=hosts, paths=(UNWRITABLE,)), route("open", hosts=others)
    )
    assert {name for each in found.values() for name in names(each)} == {"open", None}
    [notice] = said
    assert notice.startswith("kong.yaml:7:1: paths: ~/shop/")
    assert notice.endswith("the route is left out, and no other takes its requests: they are 404")


@pytest.mark.parametrize(
    ("hosts", "others"),
    [
        (("a.test",), ()),
        (("a.test",), ("*.test",)),
        (("A.test",), ("a.*",)),
        (("*.a.test",), ("*.test",)),
        (("a.*",), ("*.test",)),
        (("a.b.*",), ("a.*",)),
        (("a.test:80",), ("a.test:81",)),
    ],
)
def test_E6_where_a_route_below_shares_a_host_envoy_refuses_in_the_place_of_the_missing_one(
    hosts: tuple[str, ...], others: tuple[str, ...]
) -> None:
    found, said = written(
        route("missing", 7, hosts=hosts, paths=(UNWRITABLE,)),
        route("open", hosts=others, paths=("/else",)),
    )
    refusals = [
        each for routes in found.values() for each in routes if "missing" in each.get("name", "")
    ]
    assert refusals
    for each in refusals:
        assert each["name"] == "route_not_written: missing"
        assert each["match"]["prefix"] == "/shop/"
        assert each["direct_response"]["status"] == 503
        body = each["direct_response"]["body"]["inline_string"]
        assert body == '{"message":"route_not_written"}'
    [notice] = said
    assert "Envoy answers 503 route_not_written to what begins with /shop/" in notice


@pytest.mark.parametrize(
    ("missing", "open_"),
    [
        ({"paths": (UNWRITABLE,)}, {"paths": ("/",)}),
        ({"paths": (UNWRITABLE,)}, {"paths": ("/shop/open",)}),
        ({"paths": ("~/.{3}",)}, {"paths": ("/else",)}),
        ({"paths": ("/a", "/é")}, {"paths": ("/x",)}),
        ({"paths": ("/a",), "headers": {"x-a": ("ö",)}}, {"paths": ("/a",)}),
        ({"paths": ("~(?i)/a/\\S+",)}, {"paths": ("/x",)}),
        ({"paths": ("~/a/\\S+|/b",)}, {"paths": ("/x",)}),
        ({"paths": (UNWRITABLE,), "methods": ("GET",)}, {"methods": ("GET", "PUT")}),
    ],
)
def test_E6_nothing_is_written_where_a_route_below_would_lose_requests(
    missing: dict[str, Any], open_: dict[str, Any]
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        written(route("missing", 7, **missing), route("open", 9, **open_))
    [problem] = caught.value.problems
    assert problem.position == place(7)
    assert "takes requests of 'open', at kong.yaml:9:1, too" in problem.message
    assert "an Envoy of your own that names its routes to authz" in problem.message


def test_E6_methods_part_what_is_refused_from_what_is_written() -> None:
    found, _ = written(
        route("missing", paths=(UNWRITABLE,), methods=("PUT",)), route("open", methods=("GET",))
    )
    assert names(found["*"]) == ["route_not_written: missing", "open", None]
    assert found["*"][0]["match"]["headers"] == [
        {"name": ":method", "string_match": {"safe_regex": {"regex": "PUT"}}}
    ]


def test_E6_a_route_above_keeps_its_requests() -> None:
    found, _ = written(
        route("above", paths=("/shop/cart",), methods=("GET",), headers={"x-a": ("1",)}),
        route("missing", paths=(UNWRITABLE,), methods=("GET",)),
        route("open", paths=("/x",)),
    )
    assert names(found["*"]) == ["above", "route_not_written: missing", "open", None]


def test_E6_two_missing_routes_are_in_nobodys_way_but_the_written_ones() -> None:
    found, said = written(
        route("one", paths=(UNWRITABLE,)), route("two", paths=("~/.{3}",)), route("o", hosts=("a",))
    )
    # Of equal rank with the first two, and above them: a host that is no wildcard.
    assert names(found["a"]) == ["o", None]
    assert names(found["*"]) == [None]
    assert len(said) == 2


def test_E6_every_path_of_a_missing_route_is_refused_at_its_own_rank() -> None:
    found, _ = written(
        route("missing", paths=("/long/path", UNWRITABLE)),
        route("between", paths=("/longer",)),
        route("open", paths=("/x",)),
    )
    missing = "route_not_written: missing"
    assert names(found["*"]) == [missing, missing, "between", "open", None]


def test_E6_an_envoy_without_a_single_route_is_not_written() -> None:
    with pytest.raises(ConfigurationError):
        written(route("missing", paths=(UNWRITABLE,)))
