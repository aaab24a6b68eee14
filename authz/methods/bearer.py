"""The caller brings an access token (RFC 6750); Kong's ``bearer``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar, Final

from authz import credentials
from authz.methods.base import Method
from authz.model import AccessToken
from authz.oauth import jwt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.credentials import Places
    from authz.methods.base import MethodContext
    from authz.model import BearerCredential, Claims

_FINDERS: Final[Mapping[str, Callable[[Places], BearerCredential | None]]] = {
    "header": credentials.bearer_headers,
    "query": credentials.bearer_query,
    "body": credentials.bearer_body,
}


class Bearer(Method):
    """The given token is verified by the issuer's keys and handed on."""

    name: ClassVar[str] = "bearer"

    def __init__(self, resources: MethodContext) -> None:
        config = resources.config
        self._finders = tuple(
            _FINDERS[position] for position in config.callers.bearer_token_param_type
        )
        self._verifier = resources.verifier
        self._clock = resources.clock
        self._leeway_s = config.token.leeway
        self._reuse_s_max = (
            math.inf if config.memory.cache_ttl_max is None else config.memory.cache_ttl_max
        )

    def extract(self, positions: Places) -> BearerCredential | None:
        """Find the one bearer token in the places that the plugin names."""
        found = (find(positions) for find in self._finders)
        return credentials.only([token for token in found if token is not None])

    async def obtain(self, credential: BearerCredential) -> AccessToken:
        """Take the token as it is."""
        fresh_until = self._clock.monotonic() + self._reuse_s_max
        return AccessToken(credential.token, fresh_until=fresh_until)

    async def verify(self, token: AccessToken, credential: BearerCredential) -> Claims:
        """Verify the token; it is its own proof of whose it is."""
        del credential
        return (await self._verifier.verify(token.value.reveal())).claims

    def valid_until(self, claims: Claims) -> float:
        """Return the token's expiry, with the leeway that its verdict grants."""
        return jwt.expiry(claims) + self._leeway_s
