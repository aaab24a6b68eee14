"""The caller brings an access token (RFC 6750); Kong's ``bearer``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from authz.methods.base import Method, client_id_of
from authz.model import AccessToken, Identity
from authz.oauth import jwt

if TYPE_CHECKING:
    from authz.errors import Refusal
    from authz.methods.base import MethodContext
    from authz.model import BearerCredential, Request


class Bearer(Method):
    """The token is verified by the issuer's keys and handed on."""

    name: ClassVar[str] = "bearer"

    def __init__(self, context: MethodContext) -> None:
        config = context.config
        self._provider = context.provider
        self._verifier = context.verifier
        self._clock = context.clock
        # A JWT may have been revoked: introspection verifies it, and asks its issuer.
        self._asks_issuer = config.introspection.introspect_jwt_tokens
        self._leeway_s = config.token.leeway
        cache_ttl_max = config.memory.cache_ttl_max
        self._reuse_s_max = math.inf if cache_ttl_max is None else cache_ttl_max

    async def authenticate(self, credential: BearerCredential, request: Request) -> Identity | None:
        """Verify a JWT; it is its own proof of whose it is.

        An opaque token is not known here, nor is a JWT that its issuer is asked about all
        the same (``introspect_jwt_tokens``).
        """
        del request
        text = credential.token.reveal()
        if self._asks_issuer or not jwt.is_signed(text):
            return None
        version = self._provider.version
        verified = await self._verifier.verify(text)
        reusable_until = self._clock.monotonic() + self._reuse_s_max
        return Identity(
            method=self.name,
            claims=verified.claims,
            issuer=self._provider,
            issuer_version=version,
            client=client_id_of(verified.claims),
            token=AccessToken(credential.token),
            expires_at=verified.expires_at + self._leeway_s,
            reusable_until=min(reusable_until, self._provider.expires_at),
            leeway_s=self._leeway_s,
        )

    def unknown(self, credential: BearerCredential) -> Refusal:
        """Say what the token is instead of a signed JWT."""
        return jwt.not_signed(credential.token.reveal())
