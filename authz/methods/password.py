"""The caller brings a user's name and password; Kong's ``password``.

Our own client asks the provider for a token in the user's name (RFC 6749 section 4.3),
and so the provider is who checks the password.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from authz.errors import Reason, Unauthenticated, Unavailable
from authz.methods.base import client_of
from authz.methods.exchange import ExchangingMethod
from authz.oauth import client, grants

if TYPE_CHECKING:
    from authz.errors import Refusal
    from authz.methods.base import MethodContext
    from authz.model import AccessToken, Claims, Identity, PairCredential, Request
    from authz.oauth.places import Asker


class Password(ExchangingMethod):
    """The provider gives our own client a token for the user, or refuses the password."""

    name: ClassVar[str] = "password"

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        config = context.config
        self._client = client.own(
            config.client, config.exchange.token_endpoint_auth_method, context.clock
        )
        self._telemetry = context.telemetry
        self._may_be_a_client = "client_credentials" in config.callers.auth_methods

    async def authenticate(self, credential: PairCredential, request: Request) -> Identity | None:
        """Ask for a token in the user's name, or take the one that is kept for the pair.

        A pair that is no user's may be a client's, where the plugin takes those too.
        """
        try:
            return await self.identified(credential, request)
        except Unauthenticated as error:
            if error.reason is Reason.SECRET_REJECTED and self._may_be_a_client:
                return None
            raise

    def unknown(self, credential: PairCredential) -> Refusal:
        """Say that the provider refused the pair."""
        del credential
        return Unauthenticated(Reason.SECRET_REJECTED, "the provider refused the user")

    async def request(self, credential: PairCredential, asker: Asker) -> AccessToken:
        """Ask in our own client's name."""
        grant = grants.password(credential.id, credential.secret)
        return await self.endpoint.request(grant, self._client, asker)

    def check_owner(self, claims: Claims, presented: str) -> None:
        """Refuse a token that was made for another client than the one that asked.

        What it says of the user is the provider's business: a login name is not a claim.
        """
        del presented
        owner = client_of(claims)
        if owner is not None and owner != self._client.id:
            self._telemetry.identity_mismatch("client")
            raise Unavailable(
                Reason.IDENTITY_MISMATCH,
                "the provider's token was made for another client than our own",
            )
