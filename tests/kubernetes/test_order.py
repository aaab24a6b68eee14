"""What Envoy Gateway makes of our routes meets the route that Kong would.

Envoy Gateway's order is done again in ``support.gateway_routes``; `make kube` asks its own
translator whether that is its order.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from random import Random
from typing import TYPE_CHECKING

import pytest
from support.drawn import draw_requests
from support.gateway_routes import Listener, files

from authz.envoy.route_metadata import ANNOTATION, ANNOTATION_PREFIX
from authz.errors import MalformedRequest, RouteNotFound
from authz.kong.router import Router
from authz.kong.rules import display_name
from authz.model import Request

if TYPE_CHECKING:
    from support.drawn import Asked

SEEDS = 40
REQUESTS = 80


def kongs(router: Router, asked: Asked) -> str | None:
    """Return the name of the route that Kong finds, whatever protocol it is for."""
    headers: dict[str, str] = {}
    for name, value in asked.headers:
        before = headers.get(name.lower())
        headers[name.lower()] = value if before is None else f"{before},{value}"
    for content_type in ({}, {"content-type": "application/grpc"}):
        request = Request(asked.method, "http", asked.host, asked.target, headers | content_type)
        for scheme in ("http", "https"):
            with suppress(RouteNotFound):
                route = router.match(replace(request, scheme=scheme)).route
                return None if route is None else display_name(route)
    return None


@pytest.mark.parametrize("name", ["http", "https"])
@pytest.mark.parametrize("seed", range(SEEDS))
def test_the_route_is_kongs_on_each_listener_whatever_protocol_it_is_for(
    seed: int, name: str
) -> None:
    random = Random(seed)
    gateway, written = next(files(random))
    listener = Listener(written.objects, name)
    names = {
        each["metadata"]["annotations"][ANNOTATION_PREFIX + ANNOTATION]
        for each in written.objects
        if each["kind"] in {"HTTPRoute", "GRPCRoute"}
    }
    asked = [one for one in draw_requests(random, gateway, 4 * REQUESTS) if one.plain][:REQUESTS]

    router = Router(gateway)
    for one in asked:
        met = listener.route(one)
        try:
            kong = kongs(router, one)
        except MalformedRequest:
            continue  # the router itself does not know
        if kong is None or kong in names:
            assert met == kong, (one.method, one.host, one.target, one.headers)
        else:
            assert met is None, "a route that is left out goes to no other one"
