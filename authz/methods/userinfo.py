"""The caller brings a token, and the provider says whose it is; Kong's ``userinfo``.

The token itself is what the provider is asked with (OpenID Connect Core section 5.3), so no
client of our own is needed.  For opaque tokens; beside ``bearer`` a JWT is that method's.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from authz.methods.asking import AskingMethod
from authz.oauth import jwt
from authz.oauth.forwarded import Forwarding
from authz.oauth.userinfo import Userinfo as UserinfoEndpoint

if TYPE_CHECKING:
    from authz.methods.base import MethodContext
    from authz.model import Claims
    from authz.oauth.forwarded import Forwarded
    from authz.oauth.places import Asker
    from authz.secret import Secret


class Userinfo(AskingMethod):
    """The userinfo endpoint's word on whose a token is."""

    name: ClassVar[str] = "userinfo"

    def __init__(self, context: MethodContext) -> None:
        config = context.config
        parameters = config.userinfo
        super().__init__(
            context,
            key=config.userinfo_key,
            forwarding=Forwarding(
                headers=parameters.userinfo_headers_client,
                arguments=parameters.userinfo_query_args_client,
            ),
            keeps=parameters.cache_user_info,
        )
        self._endpoint = UserinfoEndpoint(parameters, context.provider)
        self._leaves_jwt = "bearer" in config.callers.auth_methods

    async def bounds(self, text: str) -> tuple[float, float] | None:
        """Leave a JWT to ``bearer``, or bound the answer by the end that it names itself."""
        if self._leaves_jwt and jwt.is_signed(text):
            return None
        named_end, now = jwt.check_kind(text), self._clock.now()
        if now >= named_end + self._leeway_s:
            raise jwt.expired(now - named_end, self._leeway_s)
        return named_end + self._leeway_s, math.inf

    async def ask(self, token: Secret, forwarded: Forwarded, asker: Asker) -> Claims:
        """Ask with the caller's own token."""
        return await self._endpoint.ask(token, forwarded, asker)
