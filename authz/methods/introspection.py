"""The caller brings a token that the provider is asked about (RFC 7662); Kong's ``introspection``.

For opaque tokens, and for JWTs where their revocation matters (``introspect_jwt_tokens``).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from authz.methods.asking import AskingMethod, inactive
from authz.oauth import client, introspection, jwt
from authz.oauth.forwarded import Forwarding

if TYPE_CHECKING:
    from authz.methods.base import MethodContext
    from authz.model import Claims
    from authz.oauth.forwarded import Forwarded
    from authz.oauth.places import Asker
    from authz.secret import Secret


class Introspection(AskingMethod):
    """The introspection endpoint's word on a token."""

    name: ClassVar[str] = "introspection"

    def __init__(self, context: MethodContext) -> None:
        config = context.config
        parameters = config.introspection
        super().__init__(
            context,
            key=config.introspection_key,
            forwarding=Forwarding(
                headers=parameters.introspection_headers_client,
                arguments=parameters.introspection_post_args_client,
                headers_as_arguments=parameters.introspection_post_args_client_headers,
                reads_body="body" in config.callers.bearer_token_param_type,
            ),
            keeps=parameters.cache_introspection,
        )
        own = client.own(
            config.client, parameters.introspection_endpoint_auth_method, context.clock
        )
        self._endpoint = introspection.Introspection(parameters, context.provider, own)
        # Beside ``bearer`` a JWT has to be good by both: its signature and its issuer's word.
        self._verifies_jwt = "bearer" in config.callers.auth_methods

    async def bounds(self, text: str) -> tuple[float, float]:
        """Verify a token if it is a JWT that ``bearer`` leaves to the issuer's word."""
        if not (self._verifies_jwt and jwt.is_signed(text)):
            # An answer may say no more than that a token is active; so is an ID token.
            jwt.check_kind(text)
            return math.inf, math.inf
        verified = await self._verifier.verify(text)
        return verified.expires_at + self._leeway_s, self._provider.expires_at

    async def ask(self, token: Secret, forwarded: Forwarded, asker: Asker) -> Claims:
        """Ask; a token that is not active is no caller's."""
        claims = await self._endpoint.ask(token, forwarded, asker)
        if claims is None:
            raise inactive()
        if "active" not in claims and (over_s := self._clock.now() - jwt.expiry(claims)) >= 0:
            # Nobody says that it is good but its end, so no leeway.
            raise jwt.expired(over_s, 0)
        return claims
