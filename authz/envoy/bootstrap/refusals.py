"""What keeps a file from being written at all: refused, each with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.envoy.bootstrap import upstream_tls
from authz.envoy.bootstrap.gaps import explained, gaps
from authz.kong.protocols import HTTP_AND_GRPC
from authz.kong.router import Router
from authz.kong.rules import routing_table
from authz.model import Diagnostic, Service

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.envoy.bootstrap.options import BootstrapOptions
    from authz.model import Gateway


def problems(gateway: Gateway, options: BootstrapOptions) -> Iterator[Diagnostic]:
    """Yield everything for which nothing is written."""
    for service in gateway.services:
        if service.enabled:
            yield from _service_problems(service)
            yield from upstream_tls.problems(service, gateway)
    yield from _route_problems(gateway)
    for route in {rule.route.id: rule.route for rule in routing_table(gateway.routes)}.values():
        if route.service is None and options.upstream is None:
            position = route.positions.get("service", route.position)
            yield Diagnostic(
                position, "service", "none is named: name one, or give --upstream HOST:PORT"
            )
    catch_all = Router(gateway).catch_all
    if catch_all is not None and options.upstream is None:
        yield Diagnostic(
            catch_all.guards[0].position,
            "routes",
            "the file has no routes, so it names no upstream: give one (--upstream HOST:PORT)",
        )


def _service_problems(service: Service) -> Iterator[Diagnostic]:
    if service.protocol not in HTTP_AND_GRPC:
        yield Diagnostic(
            service.position,
            "protocol",
            f"{service.protocol} cannot be written for Envoy yet: use http, https, grpc or grpcs",
        )


def _route_problems(gateway: Gateway) -> Iterator[Diagnostic]:
    """Yield the routes that cannot be written, and cannot be missing either."""
    found = gaps(gateway)
    if found and found.keys() == {rule.route.id for rule in routing_table(gateway.routes)}:
        for gap in found.values():  # an Envoy without a single route is no answer
            yield from gap.problems
        return
    for gap in found.values():
        if gap.hidden is not None:
            yield from explained(gap)
