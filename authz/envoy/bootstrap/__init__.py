"""A complete Envoy bootstrap from Kong's configuration.

Envoy takes the place of Kong's proxy: one plaintext listener, a cluster for
each service, the routes in Kong's order, and authz asked about every request.
What Envoy cannot do as Kong does it is an error with its place, or a notice where
the rest is written without it.  Left to Envoy: it streams bodies, whatever
``request_buffering`` and ``response_buffering`` say.

From the bottom up: ``options`` (what the file does not say), ``regexes`` and ``domains``
(Kong's conditions and hosts as Envoy's), ``unsayable`` (what Envoy cannot compare),
``gaps`` (the routes that have it), ``refusals`` (for which nothing is written),
``notices`` (what is left out), ``parts``, ``clusters``, ``cors``, ``resource_metadata``,
``routes``, ``listener``.

Importing this package takes a second: the messages are envoy-data-plane's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from betterproto2 import Casing
from envoy_data_plane.envoy.config.bootstrap import v3 as bootstrap
from envoy_data_plane.google.protobuf import Struct

from authz import yaml_writer
from authz.envoy.bootstrap.clusters import authz_cluster, service_cluster
from authz.envoy.bootstrap.listener import ingress, overload_manager
from authz.envoy.bootstrap.notices import notices
from authz.envoy.bootstrap.options import BootstrapOptions
from authz.envoy.bootstrap.parts import EXT_AUTHZ, address
from authz.envoy.bootstrap.refusals import problems
from authz.envoy.bootstrap.routes import virtual_hosts
from authz.errors import ConfigurationError
from authz.kong.router import Router

if TYPE_CHECKING:
    from authz.model import Gateway

__all__ = ["EXT_AUTHZ", "BootstrapOptions", "build", "notices", "problems", "render"]


def render(gateway: Gateway, options: BootstrapOptions) -> str:
    """Return the bootstrap as YAML.

    ConfigurationError: see ``build``.
    """
    return yaml_writer.write(build(gateway, options))


def build(gateway: Gateway, options: BootstrapOptions) -> dict[str, Any]:
    """Return the bootstrap as Envoy's JSON, names in snake_case.

    ConfigurationError: there are ``problems``.
    """
    found = sorted(problems(gateway, options))
    if found:
        raise ConfigurationError(found)
    services = [service for service in gateway.services if service.enabled]
    if options.upstream_service is not None:
        services.append(options.upstream_service)
    message = bootstrap.Bootstrap(
        admin=bootstrap.Admin(address=address(options.admin), ignore_global_conn_limit=True),
        static_resources=bootstrap.BootstrapStaticResources(
            listeners=[ingress(options, virtual_hosts(gateway, Router(gateway), options))],
            clusters=[
                authz_cluster(options.authz),
                *(service_cluster(service, gateway, options) for service in services),
            ],
        ),
        overload_manager=overload_manager(),
        layered_runtime=_runtime(),
    )
    return message.to_dict(casing=Casing.SNAKE)


# Envoy refuses a regex of more than 100 instructions, unless it is told otherwise.  The
# file's are the operator's own, and RE2 takes time in proportion to them.
_REGEX_INSTRUCTIONS_MAX = 100_000


def _runtime() -> bootstrap.LayeredRuntime:
    """Return Envoy's switches; the admin page may still change them, as without this."""
    static = Struct.from_dict({"re2.max_program_size.error_level": _REGEX_INSTRUCTIONS_MAX})
    return bootstrap.LayeredRuntime(
        layers=[
            bootstrap.RuntimeLayer(name="regexes", static_layer=static),
            bootstrap.RuntimeLayer(name="admin", admin_layer=bootstrap.RuntimeLayerAdminLayer()),
        ]
    )
