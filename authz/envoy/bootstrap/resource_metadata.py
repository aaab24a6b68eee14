"""The routes to the metadata of a resource (RFC 9728), where none of Kong's leads there.

authz answers them, for Envoy names a route whose plugin has the metadata.
"""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as envoy_route
from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any as Packed

from authz.envoy.bootstrap.parts import EXT_AUTHZ, NO_ROUTE
from authz.kong.rules import display_name
from authz.policy.resource_metadata import ResourceMetadata

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from authz.kong.router import Router
    from authz.model import Route


def metadata_routes(
    domain: str, routes: Iterable[Route], router: Router
) -> Iterator[envoy_route.Route]:
    """Yield the routes to put behind all others of a virtual host.  ``routes``: Kong's."""
    seen: set[tuple[str, str]] = set()
    for route in routes:
        match = router.certain_match(route.name or route.id)
        plugin = None if match is None else match.plugin
        metadata = None if plugin is None else ResourceMetadata.of(plugin.config)
        if metadata is None or not fnmatchcase(metadata.host, domain):
            continue
        for path in sorted(metadata.paths):
            if (metadata.host, path) not in seen:
                seen.add((metadata.host, path))
                yield _route(metadata.host, path, display_name(route))


def _route(host: str, path: str, name: str) -> envoy_route.Route:
    authority = matcher.RegexMatcher(regex=rf"(?i){re.escape(host)}(?::[0-9]+)?")
    named = ext_authz.CheckSettings(context_extensions={"route": name})
    return envoy_route.Route(
        match=envoy_route.RouteMatch(
            path=path,
            headers=[
                envoy_route.HeaderMatcher(
                    name=":authority", string_match=matcher.StringMatcher(safe_regex=authority)
                )
            ],
        ),
        # Never sent: authz answers before.
        direct_response=envoy_route.DirectResponseAction(
            status=404,
            body=core.DataSource(inline_string=f'{{"message":"{NO_ROUTE}"}}'),
        ),
        typed_per_filter_config={
            EXT_AUTHZ: Packed.pack(ext_authz.ExtAuthzPerRoute(check_settings=named))
        },
    )
