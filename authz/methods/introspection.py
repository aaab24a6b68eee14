"""The caller brings a token that the provider is asked about (RFC 7662); Kong's ``introspection``.

For opaque tokens, and for JWTs where their revocation matters (``introspect_jwt_tokens``).
"""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, ClassVar

from authz.errors import Reason, Unauthenticated
from authz.methods.base import Method, client_id_of
from authz.model import AccessToken, Identity
from authz.oauth import client, introspection, jwt
from authz.oauth.deadline import within
from authz.oauth.forwarded import Forwarding
from authz.oauth.places import Asker, Priority
from authz.tokens.introspected import Introspected

if TYPE_CHECKING:
    from authz.errors import Refusal
    from authz.methods.base import MethodContext
    from authz.model import BearerCredential, Request
    from authz.oauth.forwarded import Forwarded
    from authz.secret import Secret


class Introspection(Method):
    """The provider's word on a token, kept while it is good, and held to a token's rules."""

    name: ClassVar[str] = "introspection"

    def __init__(self, context: MethodContext) -> None:
        config = context.config
        own = client.own(
            config.client, config.introspection.introspection_endpoint_auth_method, context.clock
        )
        self._endpoint = introspection.Introspection(config.introspection, context.provider, own)
        self._provider = context.provider
        self._verifier = context.verifier
        self._clock = context.clock
        self._telemetry = context.telemetry
        self._answers = context.introspected
        self._sources = context.sources
        self._digest = context.digest.after(self.name, *config.introspection_key)
        self._timeout_s = config.reach.timeout / 1000
        # Beside ``bearer`` a JWT has to be good by both: its signature and its issuer's word.
        self._verifies_jwt = "bearer" in config.callers.auth_methods
        self._leeway_s = config.token.leeway
        memory = config.memory
        self._forwarding = Forwarding(
            config.introspection, reads_body="body" in config.callers.bearer_token_param_type
        )
        self._keeps = config.introspection.cache_introspection
        # What is forwarded would be missed by who finds an answer by Authorization alone.
        self._is_reusable = self._keeps and self._forwarding.is_empty
        self._kept_s = min(
            config.reach.cache_ttl,
            math.inf if memory.cache_ttl_max is None else memory.cache_ttl_max,
        )
        self._inactive_s = math.inf if memory.cache_ttl_neg is None else memory.cache_ttl_neg

    async def authenticate(self, credential: BearerCredential, request: Request) -> Identity:
        """Ask what the token stands for, or take the answer that was kept."""
        # What goes while the provider is asked did not vouch for what it answers.
        version = self._provider.version
        text = credential.token.reveal()
        ends_at, vouched_until = await self._bounds_of_jwt(text)
        forwarded = self._forwarding.of(request)
        token = self._digest(text)
        key = self._digest(text, *forwarded.key)
        kept = self._answers.get(key)
        self._telemetry.cache("introspected", "miss" if kept is None else "hit")
        if kept is None:
            priority = Priority.KNOWN if self._answers.is_known(token) else Priority.STRANGER
            asker = Asker(priority, self._sources.of(request))
            ask = partial(self._ask, key, credential.token, forwarded, asker)
            kept = await self._answers.run(key, token, ask)
        if kept.claims is None:
            raise self.unknown(credential)
        await self._verifier.check_introspected(kept.claims)
        return Identity(
            method=self.name,
            claims=kept.claims,
            issuer=self._provider,
            issuer_version=version,
            client=client_id_of(kept.claims),
            token=AccessToken(credential.token),
            expires_at=min(kept.expires_at, ends_at),
            reusable_until=min(kept.kept_until, vouched_until) if self._is_reusable else 0.0,
        )

    async def _bounds_of_jwt(self, text: str) -> tuple[float, float]:
        """Verify a token if it is a JWT that ``bearer`` leaves to the issuer's word.

        Return its end in wall time, and until when its keys vouch in monotonic time.  The
        answer about it may name no end, or a later one.
        """
        if not (self._verifies_jwt and jwt.is_signed(text)):
            # An answer may say no more than that a token is active; so is an ID token.
            jwt.check_kind(text)
            return math.inf, math.inf
        verified = await self._verifier.verify(text)
        return verified.expires_at + self._leeway_s, self._provider.expires_at

    async def _ask(
        self, key: bytes, token: Secret, forwarded: Forwarded, asker: Asker
    ) -> Introspected:
        """Ask, and keep the answer; this runs once for all who wait."""
        async with within(self._timeout_s):
            claims = await self._endpoint.ask(token, forwarded, asker)
        now, kept_s = self._clock.now(), self._kept_s
        if claims is None:
            return self._answers.keep_inactive(key, lifetime_s=self._inactive_s)
        # Its own end, without leeway: the provider says whether a token is good.
        expires_at = jwt.expiry(claims) if "exp" in claims else now + kept_s
        kept_s = min(kept_s, expires_at - now)
        answer = Introspected(claims, expires_at, self._clock.monotonic() + kept_s)
        self._answers.keep(
            key, self._digest(token.reveal()), answer, lifetime_s=kept_s if self._keeps else 0.0
        )
        return answer

    def unknown(self, credential: BearerCredential) -> Refusal:
        """Say that the token is not active."""
        del credential
        return Unauthenticated(
            Reason.TOKEN_INACTIVE, "the provider says that the token is not active"
        )
