"""Who asks a provider: the caller with its own id and secret, or our own client."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import Reason
from authz.oauth.assertion import DEFAULT_SECRET_ALGORITHM, SecretSigner
from authz.oauth.client_authentication import (
    AsProviderSays,
    Assertion,
    ClientSecretBasic,
    ClientSecretPost,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.clock import Clock
    from authz.errors import Refusal
    from authz.model import OpenIDConnect, Secret
    from authz.oauth.client_authentication import ClientAuthentication

_log = logging.getLogger("authz.exchange")

DEFAULT_METHOD: Final = "client_secret_basic"
"""The default of RFC 8414 section 2, and so the first to be looked for in a provider's list."""


@dataclass(frozen=True, slots=True)
class Client:
    """A client at a provider, and how it proves itself.

    ``is_caller``: whether it is the caller's client; a provider that refuses it then
    refuses the caller, and else us.
    """

    id: str
    authentication: ClientAuthentication
    is_caller: bool


class OwnClientWatch:
    """Says that a provider refuses our own client: once, until it is accepted again."""

    def __init__(self, issuer: str) -> None:
        self._issuer = issuer
        self._warned = False

    def refused(self, refusal: Refusal) -> None:
        """Warn if this is about our own client, and not said yet."""
        if refusal.reason is not Reason.OWN_CLIENT_REJECTED or self._warned:
            return
        self._warned = True
        _log.warning(
            "own_client_rejected: callers get 503 until the provider takes our own client",
            extra={
                "fields": {
                    "issuer": self._issuer,
                    "detail": refusal.detail,
                    **refusal.log_fields,
                }
            },
        )

    def accepted(self) -> None:
        """Note that the provider has answered our client."""
        self._warned = False


def caller(config: OpenIDConnect, client_id: str, secret: Secret, clock: Clock) -> Client:
    """Return the caller as a client of the token endpoint.

    The method is Kong's choice: ``token_endpoint_auth_method``, else the first
    ``client_auth``, else what the provider lists, else client_secret_basic.  Each one
    sends or signs with the caller's secret: the provider is who checks it.
    """
    ways = _with_secret(client_id, secret, DEFAULT_SECRET_ALGORITHM, clock)
    named = config.exchange.token_endpoint_auth_method or next(
        iter(config.client.client_auth), None
    )
    return Client(client_id, _chosen(ways, named), is_caller=True)


def _chosen(ways: Mapping[str, ClientAuthentication], named: str | None) -> ClientAuthentication:
    return AsProviderSays(ways) if named is None else ways[named]


def _with_secret(
    client_id: str, secret: Secret, algorithm: str, clock: Clock
) -> dict[str, ClientAuthentication]:
    """Return the ways that a secret allows, the one to be preferred first."""
    return {
        DEFAULT_METHOD: ClientSecretBasic(client_id, secret),
        "client_secret_post": ClientSecretPost(client_id, secret),
        "client_secret_jwt": Assertion(client_id, SecretSigner(secret, algorithm), clock),
    }
