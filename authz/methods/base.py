"""What a method is, and what it may use."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.clock import Clock
    from authz.errors import Refusal
    from authz.model import Identity, OpenIDConnect, Request
    from authz.oauth.provider import Provider
    from authz.oauth.verifier import TokenVerifier
    from authz.telemetry import Telemetry
    from authz.tokens.digest import Digester
    from authz.tokens.keeper import Keeper
    from authz.tokens.sources import Sources
    from authz.tokens.vouched import VouchedTokens


@dataclass(frozen=True, slots=True)
class MethodContext:
    """What the methods of one plugin share."""

    config: OpenIDConnect
    provider: Provider
    verifier: TokenVerifier
    keeper: Keeper
    vouched: VouchedTokens
    sources: Sources
    digest: Digester
    clock: Clock
    telemetry: Telemetry


class Method(ABC):
    """One of Kong's ``auth_methods``: it turns a credential into an identity."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, context: MethodContext) -> None: ...

    @abstractmethod
    async def authenticate(
        self,
        credential: Any,  # noqa: ANN401 - of the kind that the method's slots have
        request: Request,
    ) -> Identity | None:
        """Return who presents this credential.

        ``None``: this method does not know the credential, another one may.  Raises
        :class:`~authz.errors.Refusal` if the credential is this method's, and bad, or if
        that cannot be known now.
        """

    @abstractmethod
    def unknown(self, credential: Any) -> Refusal:  # noqa: ANN401 - as above
        """Return what to say of a credential that neither this method nor another one knows."""


# RFC 9068 names client_id; the others are what providers used before it.
_CLIENT_CLAIMS = ("client_id", "azp", "clientId", "cid", "appid")


def client_of(claims: Mapping[str, Any]) -> object:
    """Return whose token it is: the first of the known claims that says something, or ``None``."""
    return next((c for name in _CLIENT_CLAIMS if (c := claims.get(name)) is not None), None)


def client_id_of(claims: Mapping[str, Any]) -> str | None:
    """Return the id of the client whose token it is, if the claims name one."""
    client = client_of(claims)
    return client if isinstance(client, str) else None
