"""Kong's ``cors`` as Envoy's, route by route.

Envoy's filter stands before the one that asks authz, as Kong's order has it: it answers
preflights, and adds its headers to refusals too.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from envoy_data_plane.envoy.extensions.filters.http.cors import v3 as cors
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any as Packed

from authz.kong.cors import METHODS, NAME
from authz.kong.regexes import Pattern

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from authz.model import Gateway, OtherPlugin, Route

CORS = "envoy.filters.http.cors"

_FLAT = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://[a-z0-9.-]+(?P<port>:[0-9]+)?", re.IGNORECASE)
_IMPLIED = {("http", ":80"), ("https", ":443")}


def unsaid(plugin: OtherPlugin) -> Iterator[str]:
    """Yield why a ``cors`` cannot be written."""
    settings = plugin.settings
    yield from (f"{fault.parameter} {fault.message}" for fault in plugin.faults)
    if plugin.owner:
        yield f"it is for {plugin.owner}, and a preflight names nobody"
    if settings.get("preflight_continue"):
        yield "preflight_continue lets the upstream answer preflights, Envoy answers them itself"
    if settings.get("credentials") and not settings.get("headers"):
        yield "without headers Kong repeats those that are asked for, Envoy cannot: name them"
    for origin in settings.get("origins", ()):
        if origin != "*" and not _FLAT.fullmatch(origin):
            try:
                Pattern(origin)
            except ValueError as error:
                yield f"{origin}: {error}"


def applying(gateway: Gateway, route: Route) -> OtherPlugin | None:
    """Return the ``cors`` of a route: the most specific one applies alone."""
    every = [plugin for plugin in gateway.others if plugin.name == NAME and not plugin.owner]
    service = route.service
    for of_route, of_service in ((route, service), (route, None), (None, service), (None, None)):
        for plugin in every:
            if _id(plugin.route) == _id(of_route) and _id(plugin.service) == _id(of_service):
                return plugin
    return None


def settings_of(gateway: Gateway, route: Route) -> dict[str, Packed]:
    """Return what a route of Envoy's says to the filter, if it says anything."""
    plugin = applying(gateway, route)
    if plugin is None or any(unsaid(plugin)):
        return {}
    return {CORS: Packed.pack(_policy(plugin))}


def _policy(plugin: OtherPlugin) -> cors.CorsPolicy:
    settings = plugin.settings
    # Kong repeats the names that are asked for.  The star means all but this one (Fetch
    # standard, section 3.2.3), where no cookies are sent.
    headers = settings.get("headers") or ("*", "authorization")
    age = settings.get("max_age")
    return cors.CorsPolicy(
        allow_origin_string_match=list(_origins(settings.get("origins") or ("*",))),
        allow_methods=",".join(settings.get("methods") or METHODS),
        allow_headers=",".join(headers),
        expose_headers=",".join(settings.get("exposed_headers", ())),
        max_age="" if age is None else str(age),
        allow_credentials=bool(settings.get("credentials")),
        allow_private_network_access=bool(settings.get("private_network")),
        # Kong hands no preflight on.
        forward_not_matching_preflights=False,
    )


def _origins(origins: Iterable[str]) -> Iterator[matcher.StringMatcher]:
    for origin in origins:
        flat = _FLAT.fullmatch(origin)
        if origin == "*":
            yield matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=".*"))
        elif flat is None:
            yield matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=origin))
        else:  # as browsers write it
            written, port = origin.lower(), flat["port"]
            implied = port is not None and (flat["scheme"].lower(), port) in _IMPLIED
            yield matcher.StringMatcher(exact=written.removesuffix(port) if implied else written)


def _id(entity: object) -> object:
    return getattr(entity, "id", None)
