"""The virtual hosts and their routes, in Kong's order."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, cast

from envoy_data_plane.envoy.config.core import v3 as core
from envoy_data_plane.envoy.config.route import v3 as envoy_route
from envoy_data_plane.envoy.extensions.filters.http.ext_authz import v3 as ext_authz
from envoy_data_plane.envoy.type.matcher import v3 as matcher
from envoy_data_plane.google.protobuf import Any as Packed

from authz.envoy.bootstrap.clusters import cluster_name, host_header
from authz.envoy.bootstrap.cors import settings_of
from authz.envoy.bootstrap.domains import domains
from authz.envoy.bootstrap.gaps import REASON, gaps, written
from authz.envoy.bootstrap.options import NOWHERE
from authz.envoy.bootstrap.parts import EXT_AUTHZ, NO_ROUTE, overwrite
from authz.envoy.bootstrap.regexes import PathRegex, header_regex, path_regex
from authz.envoy.bootstrap.resource_metadata import metadata_routes
from authz.kong import slots
from authz.kong.protocols import GRPC, TLS
from authz.kong.rules import Rule, ascii_lower, display_name, is_regex, routing_table
from authz.model import CredentialLocation, Route, Service

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.envoy.bootstrap.gaps import Gap
    from authz.envoy.bootstrap.options import BootstrapOptions
    from authz.kong.router import Router
    from authz.model import Gateway, Plugin

BODY_BYTES_MAX = 8 * 1024  # of a form with a credential in it


def virtual_hosts(
    gateway: Gateway, router: Router, options: BootstrapOptions
) -> list[envoy_route.VirtualHost]:
    """Return a virtual host for each domain, and in it the routes that its hosts can meet."""
    missing = gaps(gateway)
    rules = _rules(gateway, router, options, missing)
    found = domains([rule.route.hosts for rule in rules])
    return [
        envoy_route.VirtualHost(
            name=domain,
            domains=[domain],
            routes=[
                *(
                    route
                    for rank, authority in by_rank
                    for route in _routes(
                        rules[rank],
                        authority,
                        router,
                        settings_of(gateway, rules[rank].route),
                        is_stand_in=rules[rank].route.id in missing,
                    )
                ),
                *metadata_routes(domain, gateway.routes, router),
                _no_route(),
            ],
        )
        for domain, by_rank in found.items()
    ]


def _rules(
    gateway: Gateway, router: Router, options: BootstrapOptions, found: Mapping[str, Gap]
) -> tuple[Rule, ...]:
    upstream = options.upstream_service
    if router.catch_all is not None:
        everything = Route("", None, NOWHERE, upstream, strip_path=False, preserve_host=True)
        return (Rule(everything, ("/",)),)
    return tuple(
        rule if rule.route.service else Rule(replace(rule.route, service=upstream), rule.paths)
        for rule in written(routing_table(gateway.routes), found)
    )


def _routes(
    rule: Rule,
    authority: str,
    router: Router,
    settings: Mapping[str, Packed],
    *,
    is_stand_in: bool,
) -> Iterator[envoy_route.Route]:
    """Yield Envoy's routes for one rule of Kong's, or for what is refused in its place."""
    headers = _conditions(rule.route, authority)
    for path in rule.paths or ("/",):
        if is_stand_in:
            yield from _refused(rule.route, path, headers)
        else:
            for served in _served(rule.route, path, headers, router):
                if served.route is not None:  # what Envoy answers itself, Kong's plugins never see
                    served.typed_per_filter_config |= settings
                yield served


def _conditions(route: Route, authority: str) -> list[envoy_route.HeaderMatcher]:
    headers = []
    if route.methods:
        headers.append(_header(":method", "|".join(map(re.escape, route.methods))))
    if authority:
        headers.append(_header(":authority", authority))
    headers += [
        _header(ascii_lower(name), header_regex(values)) for name, values in route.headers.items()
    ]
    return headers


def _refused(
    route: Route, path: str, headers: list[envoy_route.HeaderMatcher]
) -> Iterator[envoy_route.Route]:
    """Yield what stands in the place of a path of a route that is not written."""
    for match, _ in rewrites(route, path):
        match.headers = [*match.headers, *headers]
        refusal = _answer(match, 503, REASON)
        refusal.name = f"{REASON}: {display_name(route)}"
        yield refusal


def _served(
    route: Route, path: str, headers: list[envoy_route.HeaderMatcher], router: Router
) -> Iterator[envoy_route.Route]:
    """Yield the routes for one path."""
    if is_regex(path) and (regex := path_regex(path[1:])).has_dot:
        # A dot takes no line feed, but Envoy has not decoded it.  No honest path has one.
        feed = matcher.RegexMatcher(regex=rf"{re.escape(regex.prefix)}\C*%0[Aa]\C*")
        yield _answer(envoy_route.RouteMatch(safe_regex=feed, headers=headers), 400, "Bad request")
    for match, rewrite in rewrites(route, path):
        match.headers = [*match.headers, *headers]
        schemes = _schemes(route)
        spoken = match
        if len(schemes) == 1:
            spoken = replace(match, headers=[*match.headers, _header(_SCHEME, *schemes)])
        if GRPC.isdisjoint(route.protocols):
            yield _forward(route, path, spoken, rewrite, router)
        else:
            grpc = replace(spoken, grpc=envoy_route.RouteMatchGrpcRouteMatchOptions())
            yield _forward(route, path, grpc, rewrite, router)
            yield _answer(spoken, 415, "Non-gRPC request matched gRPC route")
        # Kong looks for no other route when the protocol is wrong.
        if schemes == {"https"}:
            yield _https_wanted(route, match)
        elif schemes == {"http"}:
            yield _answer(match, 404, NO_ROUTE)


# Envoy sets it on every request, by the connection or by what a trusted proxy says.
_SCHEME = "x-forwarded-proto"


def _schemes(route: Route) -> set[str]:
    return {"https" if protocol in TLS else "http" for protocol in route.protocols}


def _https_wanted(route: Route, match: envoy_route.RouteMatch) -> envoy_route.Route:
    """Return Kong's answer to a request without TLS for a route that wants it."""
    status = route.https_redirect_status_code
    if status == _UPGRADE_REQUIRED:
        # Kong adds an Upgrade header, which Envoy lets nobody send.
        return _answer(match, status, "Please use HTTPS protocol")
    code = _REDIRECTS[status]
    return envoy_route.Route(
        match=match,
        redirect=envoy_route.RedirectAction(https_redirect=True, response_code=code),
        typed_per_filter_config={EXT_AUTHZ: Packed.pack(ext_authz.ExtAuthzPerRoute(disabled=True))},
    )


_UPGRADE_REQUIRED = 426
_CODES = envoy_route.RedirectActionRedirectResponseCode
# Kong's values of https_redirect_status_code, but for 426.
_REDIRECTS = {
    301: _CODES.MOVED_PERMANENTLY,
    302: _CODES.FOUND,
    307: _CODES.TEMPORARY_REDIRECT,
    308: _CODES.PERMANENT_REDIRECT,
}


def _header(name: str, regex: str) -> envoy_route.HeaderMatcher:
    whole = matcher.StringMatcher(safe_regex=matcher.RegexMatcher(regex=regex))
    return envoy_route.HeaderMatcher(name=name, string_match=whole)


def rewrites(
    route: Route, path: str
) -> Iterator[tuple[envoy_route.RouteMatch, matcher.RegexMatchAndSubstitute | None]]:
    """Yield the matches for the paths under one of a route's, each with what the upstream sees.

    Kong's ``path_handling: v0``: the service's path, then the request's path
    without the matched part if ``strip_path``, with one slash between them.
    Envoy's prefix_rewrite would send ``//get`` for ``/get``.
    """
    service_path = (route.service.path if route.service else None) or "/"
    base = service_path.removesuffix("/")
    if is_regex(path):
        yield from _regex_rewrites(path_regex(path[1:]), base, strip=route.strip_path)
        return
    prefix = envoy_route.RouteMatch(prefix=path)
    if route.strip_path and path != "/":
        if base and not path.endswith("/"):  # nothing is left: no slash is added
            yield envoy_route.RouteMatch(path=path), _rewrite("^.*$", base)
        yield prefix, _rewrite(rf"^{re.escape(path)}{_REST}", base, r"/\1")
        return
    if base and path == "/" and not service_path.endswith("/"):
        yield envoy_route.RouteMatch(path="/"), _rewrite("^.*$", base)
    yield prefix, _rewrite("^/", base, "/") if base else None


# Of /foo../bar the rest is ../bar, which must not climb out of the base: Kong drops one
# such segment, and a normal path has no second one.  Some upstreams, and Envoy, take ..;x
# for .. (RFC 3986 section 3.3: parameters).
_REST = r"(?:\.\.?(?:;[^/]*)?(?:/|$))?/?(.*)$"


def _regex_rewrites(
    regex: PathRegex, base: str, *, strip: bool
) -> Iterator[tuple[envoy_route.RouteMatch, matcher.RegexMatchAndSubstitute | None]]:
    """Yield the same for a regex, which every path must begin with a match of."""
    group = f"(?:{regex.text})"
    begun = matcher.RegexMatcher(regex=rf"{group}\C*")
    match = envoy_route.RouteMatch(safe_regex=begun)
    if not strip:
        yield match, _rewrite("^/", base, "/") if base else None
        return
    if base:  # nothing is left: no slash is added
        whole = envoy_route.RouteMatch(safe_regex=matcher.RegexMatcher(regex=group))
        whole.headers = [_header(":path", r"[^?]*[^/?](?:\?\C*)?")]
        yield whole, _rewrite("^.*$", base)
    yield match, _rewrite(f"^{group}{_REST}", base, rf"/\{regex.captures + 1}")


def _rewrite(regex: str, base: str, rest: str = "") -> matcher.RegexMatchAndSubstitute:
    return matcher.RegexMatchAndSubstitute(
        pattern=matcher.RegexMatcher(regex=regex), substitution=base.replace("\\", r"\\") + rest
    )


def _forward(
    route: Route,
    path: str,
    match: envoy_route.RouteMatch,
    rewrite: matcher.RegexMatchAndSubstitute | None,
    router: Router,
) -> envoy_route.Route:
    service = cast(Service, route.service)  # the checks refused a route without one
    action = envoy_route.RouteAction(
        cluster=cluster_name(service),
        regex_rewrite=rewrite,
        host_rewrite_literal=None if route.preserve_host else host_header(service),
        # Kong bounds each read and each write, never the request as a whole.
        timeout=timedelta(0),
        idle_timeout=timedelta(milliseconds=max(service.read_timeout, service.write_timeout)),
        retry_policy=_retries(service),
    )
    # Kong sends what a regex has matched; Envoy cannot.
    stripped = route.strip_path and path != "/" and not is_regex(path)
    added = [overwrite("x-forwarded-prefix", path)] if stripped else []
    if service.retries:
        added.append(overwrite(_RETRY_ON, _RETRIED_BESIDES))
    return envoy_route.Route(
        name=display_name(route),
        match=match,
        route=action,
        request_headers_to_add=added,
        # Envoy removes before it adds.
        request_headers_to_remove=[_RETRY_ON] + ([] if stripped else ["x-forwarded-prefix"]),
        typed_per_filter_config={EXT_AUTHZ: Packed.pack(_check_settings(route, router))},
    )


# Envoy's routes retry whatever the method.  Its router adds what this header names, and
# takes the header away; one without a value is not sent.
_RETRY_ON = "x-envoy-retry-on"
_RETRIED_BESIDES = (
    "%CEL(request.method in ['GET', 'HEAD', 'OPTIONS', 'TRACE', 'PUT', 'DELETE'] ? 'reset' : '')%"
)


def _retries(service: Service) -> envoy_route.RetryPolicy | None:
    """Return Kong's retries: while the upstream cannot have seen the request.

    What may be repeated all the same (RFC 9110 section 9.2.2) is besides retried when the
    upstream resets, as it does when it closes a kept connection: see ``_RETRIED_BESIDES``.
    """
    if not service.retries:
        return None
    return envoy_route.RetryPolicy(
        retry_on="connect-failure,refused-stream", num_retries=service.retries
    )


def _check_settings(route: Route, router: Router) -> ext_authz.ExtAuthzPerRoute:
    """Name the route to authz, and send the body only where a plugin reads it."""
    match = router.catch_all or router.certain_match(display_name(route))
    plugin = None if match is None else match.plugin
    body = ext_authz.BufferSettings(
        max_request_bytes=BODY_BYTES_MAX,
        allow_partial_message=True,  # else a longer upload would be answered with 413
    )
    return ext_authz.ExtAuthzPerRoute(
        check_settings=ext_authz.CheckSettings(
            context_extensions={} if router.catch_all else {"route": display_name(route)},
            with_request_body=body if _reads_body(plugin) else None,
        )
    )


def _reads_body(plugin: Plugin | None) -> bool:
    if plugin is None:
        return False
    return any(slot.location is CredentialLocation.BODY for slot in slots.every(plugin.config))


def _no_route() -> envoy_route.Route:
    return _answer(envoy_route.RouteMatch(prefix="/"), 404, NO_ROUTE)


def _answer(match: envoy_route.RouteMatch, status: int, message: str) -> envoy_route.Route:
    """Return a route that Envoy answers itself, in Kong's words, without asking authz."""
    return envoy_route.Route(
        match=match,
        direct_response=envoy_route.DirectResponseAction(
            status=status, body=core.DataSource(inline_string=f'{{"message":"{message}"}}')
        ),
        response_headers_to_add=[overwrite("content-type", "application/json; charset=utf-8")],
        typed_per_filter_config={EXT_AUTHZ: Packed.pack(ext_authz.ExtAuthzPerRoute(disabled=True))},
    )
