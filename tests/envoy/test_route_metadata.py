"""`--route-metadata envoy-gateway`: the route that Envoy Gateway tells, and nobody else's word."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.running import KONG_CONSUMER, POSITION, RunningAuthz, check_request, plugin

from authz.envoy.check import parse, peek
from authz.envoy.route_metadata import envoy_gateway
from authz.errors import Reason
from authz.kong.router import Router
from authz.model import Gateway, Route, Service

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.idp import RunningIdp

SERVICE = Service("s1", "shop", POSITION, host="shop.internal")
ORDERS = Route("r1", "orders", POSITION, SERVICE, paths=("/orders",))
OPEN = Route("r2", "Open_Route", POSITION, SERVICE, paths=("/open",))


def resource(**fields: Any) -> dict[str, Any]:
    return {"kind": "HTTPRoute", "namespace": "shop", "name": "orders", **fields}


def metadata(*resources: Mapping[str, Any]) -> dict[str, Any]:
    return {"envoy-gateway": {"resources": [dict(each) for each in resources]}}


NAMED = {
    "an HTTPRoute": (resource(), "orders"),
    "a GRPCRoute": (resource(kind="GRPCRoute"), "orders"),
    "a rule of an HTTPRoute": (resource(sectionName="rule-1"), "orders"),
    "an object that says how Kong calls it": (
        resource(annotations={"kong-route": "Open_Route"}),
        "Open_Route",
    ),
    "an object with another annotation": (resource(annotations={"foo": "bar"}), "orders"),
}
UNNAMED = {
    "nothing": {},
    "another namespace": {"shop": {"resources": [resource()]}},
    "no resources": {"envoy-gateway": {}},
    "an empty list": metadata(),
    "two objects": metadata(resource(), resource(name="open")),
    "another kind": metadata(resource(kind="Gateway")),
    "no kind": metadata({"name": "orders"}),
    "no name": metadata({"kind": "HTTPRoute"}),
    "a name that is no text": metadata(resource(name=1)),
    "text instead of a list": {"envoy-gateway": {"resources": "orders"}},
    "texts instead of objects": {"envoy-gateway": {"resources": ["orders"]}},
}


@pytest.mark.parametrize("case", NAMED)
def test_the_route_is_the_one_that_envoy_gateway_tells(case: str) -> None:
    told, name = NAMED[case]
    wire = check_request(route_metadata=metadata(told), context={"route": "another"})
    peeked = peek(wire, envoy_gateway)

    assert parse(wire, envoy_gateway).context_extensions == {"route": name}
    assert peeked
    assert peeked[0] == {"route": name}


@pytest.mark.parametrize("case", UNNAMED)
def test_what_names_no_single_route_names_none(case: str) -> None:
    wire = check_request(route_metadata=UNNAMED[case], context={"route": "orders"})

    assert parse(wire, envoy_gateway).context_extensions == {}


def test_what_was_read_once_is_not_taken_for_another_routes() -> None:
    wires = [check_request(route_metadata=metadata(resource(name=n))) for n in ("a", "b", "a")]

    names = [parse(wire, envoy_gateway).context_extensions["route"] for wire in wires]
    assert names == ["a", "b", "a"]


def test_without_the_flag_the_metadata_are_not_read() -> None:
    wire = check_request(route_metadata=metadata(resource()))

    assert parse(wire).context_extensions == {}


def gateway(idp: RunningIdp) -> Gateway:
    guarded = plugin(idp.issuer)
    return Gateway(
        services=(SERVICE,),
        routes=(ORDERS, OPEN),
        plugins=(type(guarded)(POSITION, guarded.config, route=ORDERS),),
        consumers=(KONG_CONSUMER,),
    )


async def test_a_route_is_decided_by_what_envoy_gateway_chose_and_not_by_its_path(
    idp: RunningIdp,
) -> None:
    async with RunningAuthz(gateway(idp), route_metadata="envoy-gateway") as authz:
        orders = metadata(resource())
        stranger = await authz.ask(path="/open", route_metadata=orders)
        consumer = await authz.basic(path="/open", route_metadata=orders)
        spelt = metadata(resource(annotations={"kong-route": "Open_Route"}))
        through = await authz.ask(path="/orders", route_metadata=spelt)
        unknown = await authz.basic(route_metadata=metadata(resource(name="unknown")))

    assert (stranger.status, stranger.reason) == (401, Reason.CREDENTIAL_MISSING)
    assert consumer.allowed
    assert through.allowed
    assert (unknown.status, unknown.reason) == (404, Reason.ROUTE_UNKNOWN)


@pytest.mark.parametrize("case", UNNAMED)
async def test_a_request_without_its_metadata_is_503_whatever_else_would_name_its_route(
    idp: RunningIdp, case: str
) -> None:
    async with RunningAuthz(gateway(idp), route_metadata="envoy-gateway") as authz:
        for path in ("/orders", "/open"):
            answer = await authz.basic(
                path=path, route_metadata=UNNAMED[case], context={"route": "Open_Route"}
            )

            assert (answer.status, answer.reason) == (503, Reason.ROUTE_METADATA_MISSING)


async def test_a_file_with_one_plugin_for_everything_is_no_exception(idp: RunningIdp) -> None:
    everything = Gateway(plugins=(plugin(idp.issuer),), consumers=(KONG_CONSUMER,))
    async with RunningAuthz(everything, route_metadata="envoy-gateway") as authz:
        answer = await authz.basic()

    assert (answer.status, answer.reason) == (503, Reason.ROUTE_METADATA_MISSING)


def test_no_answer_is_certain_before_a_route_is_named(idp: RunningIdp) -> None:
    everything = Gateway(plugins=(plugin(idp.issuer),))

    assert Router(everything).certain_match() is not None
    assert Router(everything, must_be_named=True).certain_match() is None
