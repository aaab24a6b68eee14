"""Is this token good for this plugin?  Spelling, issuer, signature, claims, in that order."""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.oauth import jwt, token_kind
from authz.oauth.jwt import ClaimRules

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.model import AccessToken, Claims, OpenIDConnect
    from authz.oauth.provider import Provider


class TokenVerifier:
    """One plugin's rules over one provider's keys."""

    def __init__(self, config: OpenIDConnect, provider: Provider, *, clock: Clock) -> None:
        self._config = config
        self._provider = provider
        self._clock = clock
        self._rules = self._rules_for(config.issuers_allowed)
        # audience is checked here, audience_required by the policy.
        self._audience_asked = bool(config.audience or config.audience_required)

    def _rules_for(self, accepted: tuple[str, ...]) -> ClaimRules:
        return ClaimRules(
            issuers=jwt.issuers(accepted),
            audience=frozenset(self._config.audience),
            leeway_s=self._config.leeway,
        )

    async def verify(self, token: AccessToken, *, from_exchange: bool = False) -> Claims:
        """Return the verified claims.

        ``from_exchange``: the provider has given us this token as an access token.
        Raises :class:`~authz.errors.Unauthenticated` for a token that is not
        good, :class:`~authz.errors.Unavailable` while that cannot be known.
        """
        text = token.value.reveal()
        unverified = jwt.parse(text)
        rules = await self._current_rules()
        rules.check_issuer(unverified.claims)
        claims = await self._provider.verify(unverified, text)
        rules.check(claims, self._clock.now())
        token_kind.check(
            claims,
            marked=unverified.marked,
            from_exchange=from_exchange,
            audience_asked=self._audience_asked,
        )
        return claims

    async def _current_rules(self) -> ClaimRules:
        """Return the rules with the accepted issuers: configured, else as discovered."""
        if not self._config.issuers_allowed:
            discovered = (await self._provider.metadata()).issuer
            if jwt.issuers((discovered,)) != self._rules.issuers:
                self._rules = self._rules_for((discovered,))
        return self._rules
