"""What a method is, and what it may use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.cache.digest import Digester
    from authz.cache.tokens import TokenStore
    from authz.clock import Clock
    from authz.credentials import Places
    from authz.model import AccessToken, Claims, Credential, OpenIDConnect
    from authz.oauth.provider import Provider
    from authz.oauth.verifier import TokenVerifier
    from authz.telemetry import Telemetry


@dataclass(frozen=True, slots=True)
class MethodContext:
    """What the methods of one plugin share."""

    config: OpenIDConnect
    provider: Provider
    verifier: TokenVerifier
    store: TokenStore
    digest: Digester
    clock: Clock
    telemetry: Telemetry
    renewal_patience_s: float


class Method(ABC):
    """One of Kong's ``auth_methods``."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, resources: MethodContext) -> None: ...

    @abstractmethod
    def extract(self, positions: Places) -> Credential | None:
        """Return this method's credential, ``None`` if there is none, or raise if it is bad."""

    @abstractmethod
    async def obtain(self, credential: Any) -> AccessToken:  # noqa: ANN401 - what extract returned
        """Return the access token that goes with a credential."""

    @abstractmethod
    async def verify(self, token: AccessToken, credential: Any) -> Claims:  # noqa: ANN401 - likewise
        """Return the verified claims of the token."""

    @abstractmethod
    def valid_until(self, claims: Claims) -> float:
        """Return when the verdict ends, in seconds since 1970."""


# RFC 9068 names client_id; the others are what providers used before it.
_CLIENT_CLAIMS = ("client_id", "azp", "clientId", "cid", "appid")


def client_of(claims: Mapping[str, Any]) -> object:
    """Return whose token it is: the first of the known claims that says something, or ``None``."""
    return next((c for name in _CLIENT_CLAIMS if (c := claims.get(name)) is not None), None)
