"""The route's name from what Envoy Gateway tells of the route that it has chosen.

With ``extAuth.includeRouteMetadata`` of a SecurityPolicy (Envoy Gateway 1.9) a CheckRequest
has the metadata of the route: the namespace ``envoy-gateway``, in it ``resources``, a list
of one object with ``kind``, ``namespace``, ``name`` and the ``annotations`` of the HTTPRoute
or GRPCRoute whose names begin with ``gateway.envoyproxy.io/``, without that beginning.
Envoy Gateway writes it, from the object itself; no caller reaches it.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from authz.envoy.check import Metadata

if TYPE_CHECKING:
    from collections.abc import Mapping

ROUTES_MAX: Final = 4096
"""Whose metadata are read once: each has some hundred bytes, and Envoy tells the same again."""

NAMESPACE: Final = "envoy-gateway"
KINDS: Final = frozenset({"HTTPRoute", "GRPCRoute"})

ANNOTATION_PREFIX: Final = "gateway.envoyproxy.io/"
ANNOTATION: Final = "kong-route"
"""Names Kong's route where the object is not called as it: Kong's names may have capitals."""


def envoy_gateway(attributes: Any) -> Mapping[str, str]:  # noqa: ANN401 - a message of upb's
    """Return the name of the route, as context extensions would: ``{"route": name}``.

    The annotation ``gateway.envoyproxy.io/kong-route`` says it, else the object's own name.
    Empty: the metadata are absent, or not of one HTTPRoute or GRPCRoute.
    """
    return _named(attributes.route_metadata_context.SerializeToString())


@lru_cache(maxsize=ROUTES_MAX)
def _named(wire: bytes) -> Mapping[str, str]:
    told = Metadata.FromString(wire).filter_metadata
    if NAMESPACE not in told:
        return {}
    resources = _field(told[NAMESPACE], "resources").list_value.values
    if len(resources) != 1:
        return {}
    [resource] = resources
    if _text(resource.struct_value, "kind") not in KINDS:
        return {}
    annotations = _field(resource.struct_value, "annotations").struct_value
    name = _text(annotations, ANNOTATION) or _text(resource.struct_value, "name")
    return {"route": name} if name else {}


def _field(struct: Any, name: str) -> Any:  # noqa: ANN401 - as above
    # A map of upb's makes what it is asked for and has not: empty, so nothing is found in it.
    return struct.fields[name]


def _text(struct: Any, name: str) -> str:  # noqa: ANN401 - as above
    text: str = _field(struct, name).string_value
    return text
