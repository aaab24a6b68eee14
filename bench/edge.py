"""One Envoy with a listener for each contender: the same route, answered by Envoy itself.

So no upstream takes part, and the listeners differ in nothing but who is asked.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authz.demo.parts import LOOPBACK, Envoy, free_port
from bench.fixture import ROUTE
from bench.servers import get

if TYPE_CHECKING:
    from collections.abc import Iterable

Json = dict[str, Any]

_CHECK_TIMEOUT = "5s"
_TOKENS_REMEMBERED = 1000
_V3 = "type.googleapis.com/envoy.extensions"


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A listener, the filters before its router, and the cluster that they ask."""

    name: str
    port: int
    filters: tuple[Json, ...]
    cluster: Json | None = None


def unguarded(name: str) -> Listener:
    """Return a listener that asks nobody."""
    return Listener(name, free_port(), ())


def asking(name: str, authorizer: int) -> Listener:
    """Return a listener that asks the authorizer on this loopback port, as ours would."""
    config = {
        "@type": f"{_V3}.filters.http.ext_authz.v3.ExtAuthz",
        "transport_api_version": "V3",
        "grpc_service": {"envoy_grpc": {"cluster_name": name}, "timeout": _CHECK_TIMEOUT},
        "status_on_error": {"code": "ServiceUnavailable"},
        "validate_mutations": True,
        "include_peer_certificate": True,
    }
    ext_authz = {"name": "envoy.filters.http.ext_authz", "typed_config": config}
    return Listener(name, free_port(), (ext_authz,), _cluster(name, authorizer))


def verifying(name: str, issuer: str, keys: Json, *, remembers: bool = False) -> Listener:
    """Return a listener whose own jwt_authn filter verifies tokens by these keys."""
    provider: Json = {"issuer": issuer, "local_jwks": {"inline_string": json.dumps(keys)}}
    provider |= {"forward": True}
    if remembers:
        provider["jwt_cache_config"] = {"jwt_cache_size": _TOKENS_REMEMBERED}
    config = {
        "@type": f"{_V3}.filters.http.jwt_authn.v3.JwtAuthentication",
        "providers": {"idp": provider},
        "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "idp"}}],
    }
    jwt_authn = {"name": "envoy.filters.http.jwt_authn", "typed_config": config}
    return Listener(name, free_port(), (jwt_authn,))


class ListenersEnvoy(Envoy):
    """The Envoy of these listeners, with one worker."""

    def __init__(self, listeners: Iterable[Listener]) -> None:
        listeners = tuple(listeners)
        admin = free_port()
        bootstrap = {
            "admin": {"address": _address(admin)},
            "static_resources": {
                "listeners": [_listener(one) for one in listeners],
                "clusters": [one.cluster for one in listeners if one.cluster],
            },
        }
        super().__init__(json.dumps(bootstrap), admin, workers=1)

    def checks(self, listener: Listener) -> int:
        """Return how often the authorizer behind a listener has said yes."""
        name = f"http.{listener.name}.ext_authz.ok"
        stats = get(f"http://{LOOPBACK}:{self.admin}/stats?filter=^{name}$")
        return int(stats.rpartition(" ")[2] or 0)


def _listener(listener: Listener) -> Json:
    route = {
        "name": ROUTE,
        "match": {"prefix": "/"},
        "direct_response": {"status": 200, "body": {"inline_string": "ok"}},
    }
    if listener.cluster:
        check = {"check_settings": {"context_extensions": {"route": ROUTE}}}
        kind = f"{_V3}.filters.http.ext_authz.v3.ExtAuthzPerRoute"
        route["typed_per_filter_config"] = {
            "envoy.filters.http.ext_authz": {"@type": kind, **check}
        }
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{_V3}.filters.http.router.v3.Router"},
    }
    hosts = [{"name": "all", "domains": ["*"], "routes": [route]}]
    manager = {
        "@type": f"{_V3}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": listener.name,
        "route_config": {"name": "all", "virtual_hosts": hosts},
        "http_filters": [*listener.filters, router],
        "use_remote_address": True,
    }
    chain = {"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}
    return {
        "name": listener.name,
        "address": _address(listener.port),
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [chain]}],
    }


def _cluster(name: str, port: int) -> Json:
    http = {
        "@type": f"{_V3}.upstreams.http.v3.HttpProtocolOptions",
        "explicit_http_config": {"http2_protocol_options": {}},
    }
    endpoint = {"endpoint": {"address": _address(port)}}
    return {
        "name": name,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": http
        },
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    }


def _address(port: int) -> Json:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
