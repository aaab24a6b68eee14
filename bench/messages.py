"""The messages of ext_authz as Envoy writes and reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from google.protobuf import message_factory

from authz.envoy.check import POOL

if TYPE_CHECKING:
    from collections.abc import Mapping


def _message(name: str) -> Any:  # noqa: ANN401 - made when the program runs
    return message_factory.GetMessageClass(
        POOL.FindMessageTypeByName(f"envoy.service.auth.v3.{name}")
    )


CheckRequest: Final = _message("CheckRequest")
CheckResponse: Final = _message("CheckResponse")


def check_request(
    headers: Mapping[str, str],
    *,
    method: str = "GET",
    path: str,
    host: str = "localhost",
    body: bytes = b"",
    context: Mapping[str, str] | None = None,
    route_metadata: Mapping[str, Mapping[str, Any]] | None = None,
) -> Any:  # noqa: ANN401 - as above
    """Return a CheckRequest about this request of HTTP/1.1.

    ``context``: what the route says; ``route_metadata``: its metadata, by their namespace.
    """
    request = CheckRequest()
    attributes = request.attributes
    http = attributes.request.http
    http.method, http.path, http.host, http.scheme = method, path, host, "http"
    http.protocol = "HTTP/1.1"
    http.headers.update(headers)
    http.raw_body = body
    attributes.context_extensions.update(context or {})
    for namespace, told in (route_metadata or {}).items():
        attributes.route_metadata_context.filter_metadata[namespace].update(told)
    return request
