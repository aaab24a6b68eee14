"""Is this token good for this plugin?  Spelling, issuer, signature, claims, in that order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz import strict_json
from authz.oauth import introspection, jwt, token_kind
from authz.oauth.jwt import ClaimRules

if TYPE_CHECKING:
    from authz.clock import Clock
    from authz.model import Claims, OpenIDConnect
    from authz.oauth.issuers import SignedToken
    from authz.oauth.provider import Provider


@dataclass(frozen=True, slots=True, repr=False)
class Verified:
    """A token that its issuer has signed and whose claims say what the plugin asks for.

    ``issuer``: the accepted issuer, as the file or discovery spells it.  ``expires_at``:
    ``exp``, in seconds since 1970.
    """

    claims: Claims
    issuer: str
    expires_at: float


class TokenVerifier:
    """One plugin's rules over one provider's issuers and keys."""

    def __init__(self, config: OpenIDConnect, provider: Provider, *, clock: Clock) -> None:
        self._provider = provider
        self._clock = clock
        self._rules = ClaimRules(
            audience=frozenset(config.token.audience),
            audience_claim=config.access.audience_claim,
            leeway_s=config.token.leeway,
        )
        # audience is checked here, audience_required by the policy.
        self._audience_asked = bool(config.token.audience or config.access.audience_required)

    async def verify(self, text: str, *, from_exchange: bool = False) -> Verified:
        """Verify a token and return its claims; a signature is verified once.

        ``from_exchange``: the provider has given us this token as an access token.
        Raises :class:`~authz.errors.Unauthenticated` for a token that is not
        good, :class:`~authz.errors.Unavailable` while that cannot be known.
        """
        digest = self._provider.digest(text)
        signed = self._provider.remembered(digest)
        if signed is None:
            signed = await self._signed(text, from_exchange=from_exchange)
            self._provider.remember(digest, signed, size_bytes=4 * len(text))
        ahead_s_max = jwt.AHEAD_SECONDS_MAX if from_exchange else 0
        claims = signed.claims
        ahead_s = self._rules.check(claims, self._clock.now(), ahead_s_max=ahead_s_max)
        token_kind.check(
            claims,
            marked=signed.marked,
            from_exchange=from_exchange,
            audience_asked=self._audience_asked,
        )
        if from_exchange:
            self._provider.report_ahead(ahead_s)
        return Verified(claims, signed.issuer.name, jwt.expiry(claims))

    async def _signed(self, text: str, *, from_exchange: bool) -> SignedToken:
        token = jwt.parse(text, strict_json.quoted if from_exchange else strict_json.kind)
        issuers = await self._provider.issuers()
        issuer = issuers.find(token.claims.get("iss"))
        if issuer is None:
            raise issuers.refusal(token.claims, trusted=from_exchange)
        return await self._provider.verify(token, issuer, from_exchange=from_exchange)

    async def check_vouched(self, claims: Claims) -> None:
        """Hold what the provider said of a token to a token's rules; see ``introspection``.

        Raises :class:`~authz.errors.Unauthenticated` for one that is not good here.
        """
        if "iss" in claims:
            issuers = await self._provider.issuers()
            if issuers.find(claims["iss"]) is None:
                raise issuers.refusal(claims, trusted=True)
        introspection.check(
            claims, self._rules, self._clock.now(), audience_asked=self._audience_asked
        )
