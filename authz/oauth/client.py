"""Who asks a provider: the caller with its own id and secret, or our own client."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from authz.errors import Reason, Refusal
from authz.oauth.assertion import (
    DEFAULT_SECRET_ALGORITHM,
    SecretSigner,
    key_signer,
    members_of,
)
from authz.oauth.client_authentication import (
    AsProviderSays,
    Assertion,
    ClientSecretBasic,
    ClientSecretPost,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from authz.clock import Clock
    from authz.oauth.client_authentication import ClientAuthentication
    from authz.parameters import OpenIDConnect
    from authz.parameters.client import ClientParameters
    from authz.secret import Secret

    Way = Callable[[], ClientAuthentication]

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

    @contextlib.contextmanager
    def watched(self) -> Iterator[None]:
        """Watch how a call through the door ends."""
        try:
            yield
        except Refusal as refusal:
            self._refused(refusal)
            raise
        self._warned = False

    def _refused(self, refusal: Refusal) -> None:
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


def caller(config: OpenIDConnect, client_id: str, secret: Secret, clock: Clock) -> Client:
    """Return the caller as a client of the token endpoint.

    The method is Kong's choice: ``token_endpoint_auth_method``, else the first
    ``client_auth``, else what the provider lists, else client_secret_basic.  Each one
    sends or signs with the caller's secret: the provider is who checks it.
    """
    ways = _with_secret(client_id, secret, config.client.client_alg, clock)
    named = config.exchange.token_endpoint_auth_method
    return Client(client_id, _chosen(ways, named, config.client), is_caller=True)


def own(parameters: ClientParameters, auth_method: str | None, clock: Clock) -> Client:
    """Return our own client, the first of those that the file has.

    ``auth_method``: the one that the file names for this endpoint; else as for callers.
    Raises :class:`~authz.oauth.assertion.UnusableKeyError` for a ``client_jwk`` that
    cannot sign.
    """
    client_id = parameters.client_id[0]
    ways: dict[str, Way] = {}
    for secret in parameters.client_secret[:1]:
        ways |= _with_secret(client_id, secret, parameters.client_alg, clock)
    for jwk in parameters.client_jwk[:1]:
        algorithm = next((a for a in parameters.client_alg[:1] if not a.startswith("HS")), None)
        signer = key_signer(members_of(jwk), algorithm)
        ways["private_key_jwt"] = partial(Assertion, client_id, signer, clock)
    return Client(client_id, _chosen(ways, auth_method, parameters), is_caller=False)


def _chosen(
    ways: Mapping[str, Way], named: str | None, parameters: ClientParameters
) -> ClientAuthentication:
    """Return the way that the file names, else the one that the provider lists."""
    named = named or next(iter(parameters.client_auth), None)
    return AsProviderSays(ways) if named is None else ways[named]()


def _with_secret(
    client_id: str, secret: Secret, algorithms: Sequence[str], clock: Clock
) -> dict[str, Way]:
    """Return the ways that a secret allows, the one to be preferred first."""

    def assertion() -> ClientAuthentication:
        hmac = next((a for a in algorithms[:1] if a.startswith("HS")), DEFAULT_SECRET_ALGORITHM)
        return Assertion(client_id, SecretSigner(secret, hmac), clock)

    return {
        DEFAULT_METHOD: partial(ClientSecretBasic, client_id, secret),
        "client_secret_post": partial(ClientSecretPost, client_id, secret),
        "client_secret_jwt": assertion,
    }
