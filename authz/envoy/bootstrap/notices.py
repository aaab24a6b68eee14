"""What a file says and the bootstrap does not, though it is written: named, each with its place."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.envoy.bootstrap import cors, upstream_tls
from authz.envoy.bootstrap.gaps import explained, gaps
from authz.kong.cors import NAME
from authz.model import Diagnostic, OtherPlugin

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.envoy.bootstrap.options import BootstrapOptions
    from authz.model import Gateway

_LIMITS = frozenset(
    {
        "ai-rate-limiting-advanced",
        "graphql-rate-limiting-advanced",
        "rate-limiting",
        "rate-limiting-advanced",
        "response-ratelimiting",
    }
)

_UNLIMITED = (
    "is not written: Envoy counts otherwise than Kong, so nothing is limited; put a rate limit of "
    "Envoy's into what is printed, or limit in the application"
)
_UNDONE = (
    "is not written: requests pass as if it were not there; put a filter of Envoy's that does its "
    "work into what is printed, or do it in the application"
)


def notices(gateway: Gateway, options: BootstrapOptions) -> Iterator[Diagnostic]:
    """Yield what the operator should know of a file that is written."""
    for service in gateway.services:
        if service.enabled:
            yield from upstream_tls.notices(service, gateway, options.ca_file)
    for gap in gaps(gateway).values():
        yield from explained(gap)
    for plugin in gateway.others:
        if plugin.name != NAME:
            yield Diagnostic(plugin.position, "plugins", _plugin(plugin))
            continue
        for reason in cors.unsaid(plugin):
            message = f"{NAME} is not written, browsers get no answer for other origins: {reason}"
            yield Diagnostic(plugin.position, "plugins", message)


def _plugin(plugin: OtherPlugin) -> str:
    scope = f" (for {plugin.owner})" if plugin.owner else ""
    said = _UNLIMITED if plugin.name in _LIMITS else _UNDONE
    return f"{plugin.name}{scope} {said}"
