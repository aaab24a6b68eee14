"""What a resource says of itself to whoever has no token yet (RFC 9728)."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from authz.errors import MetadataAsked

if TYPE_CHECKING:
    from typing import Self

    from authz.model import OpenIDConnect, Request
    from authz.parameters.answers import ProtectedResourceMetadata

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
"""RFC 9728 section 3."""


class ResourceMetadata:
    """The metadata of one plugin (Kong's ``protected_resource_metadata``).

    They are answered at the path that RFC 9728 gives, between the host and the path of
    the resource; at the one that Kong gives, behind it; and at ``metadata_endpoint``.
    """

    def __init__(self, said: ProtectedResourceMetadata) -> None:
        resource = urlsplit(said.resource)
        path = resource.path.removesuffix("/")
        behind = f"{path}{WELL_KNOWN}"
        origin = f"{resource.scheme}://{resource.netloc}"
        endpoint = said.metadata_endpoint or behind
        url = f"{origin}{endpoint}" if endpoint.startswith("/") else endpoint
        self.host: Final = resource.hostname or ""
        """The host of the resource, in lower case and without a port."""
        self.paths: Final = frozenset({behind, f"{WELL_KNOWN}{path}", urlsplit(url).path})
        """Where the metadata are, whatever query follows."""
        scopes = f', scope="{" ".join(said.scopes_supported)}"' if said.scopes_supported else ""
        self.challenge: Final = f'resource_metadata="{url}"{scopes}'
        """What a 401 says of them, in the challenge (RFC 9728 section 5.1)."""
        self._body = json.dumps(
            {
                "resource": said.resource,
                "authorization_servers": said.authorization_servers,
                **({"scopes_supported": said.scopes_supported} if said.scopes_supported else {}),
            },
            separators=(",", ":"),
        )

    @classmethod
    def of(cls, config: OpenIDConnect) -> Self | None:
        """Return a plugin's metadata, if it has any."""
        said = config.answers.protected_resource_metadata
        return None if said is None else cls(said)

    def are_at(self, path: str) -> bool:
        """Tell whether a request's path, query included, is one of theirs."""
        return path.partition("?")[0] in self.paths

    def answer(self, request: Request) -> MetadataAsked | None:
        """Return what a request for the metadata gets; ``None``: it is not for them."""
        if not self.are_at(request.path):
            return None
        return MetadataAsked(self._body if request.method == "GET" else None)


def host_of(request: Request) -> str:
    """Return the host that a request names, in lower case and without its port."""
    try:
        return urlsplit(f"//{request.host}").hostname or ""
    except ValueError:  # brackets that do not close
        return ""
