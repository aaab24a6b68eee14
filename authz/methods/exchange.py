"""What the methods share that take an id and a secret to the token endpoint."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz.errors import Reason, Unauthenticated, Unavailable
from authz.methods.base import Method, client_id_of
from authz.model import AccessToken, Identity
from authz.oauth.deadline import Deadline
from authz.oauth.places import Asker, Priority
from authz.oauth.token_endpoint import TokenEndpoint
from authz.tokens.guesses import Guess
from authz.tokens.keeper import Granted, Occasion
from authz.tokens.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.methods.base import MethodContext
    from authz.model import Claims, PairCredential, Request
    from authz.oauth.provider import Provider
    from authz.oauth.verifier import Verified
    from authz.parameters.memory import MemoryParameters
    from authz.secret import Secret
    from authz.tokens.tier import Kept

LOGGED_CHARS_MAX: Final = 100

_PRIORITIES: Final[Mapping[Occasion, Priority]] = {
    Occasion.RENEWAL: Priority.OWN,
    Occasion.KNOWN: Priority.KNOWN,
    Occasion.STRANGER: Priority.STRANGER,
}


class ExchangingMethod(Method):
    """A pair is exchanged for an access token, which the keeper keeps and renews.

    A pair that the provider refuses counts as a guess at its id.
    """

    def __init__(self, context: MethodContext) -> None:
        config = context.config
        self.terms: Final = _terms(config.memory)
        self.provider: Final = context.provider
        self.issuer: Final = config.provider.issuer
        self.endpoint: Final = TokenEndpoint(config, context.provider)
        self._verifier = context.verifier
        self._keeper = context.keeper
        self._sources = context.sources
        self._digest = context.digest
        self._timeout_s = config.reach.timeout / 1000
        # One pair may be a user's for one method and a client's for another.
        self._key = context.digest.after(self.name, *config.exchange_key)

    async def identified(self, credential: PairCredential, request: Request) -> Identity:
        """Exchange the pair for a token, or take the one that is kept for it."""
        # A key that goes while the provider is asked may have vouched for its token.
        version = self.provider.version
        key = self._key(credential.id, credential.secret.reveal())
        kept = await self._keeper.token(key, Exchange(self, credential, self._sources.of(request)))
        return Identity(
            method=self.name,
            claims=kept.claims,
            issuer=self.provider,
            issuer_version=version,
            client=client_id_of(kept.claims),
            token=AccessToken(kept.token),
            # What is handed on must still be good at the upstream: no leeway.
            expires_at=kept.expires_at,
            reusable_until=min(self._keeper.reusable_until(key), self.provider.expires_at),
        )

    @abstractmethod
    async def request(self, credential: PairCredential, asker: Asker) -> AccessToken:
        """Ask the token endpoint; raises Unauthenticated for a verdict on the pair alone."""

    @abstractmethod
    def check_owner(self, claims: Claims, presented: str) -> None:
        """Check that a token is for who asked: ``presented`` is the id of the pair."""

    def guess(self, credential: PairCredential, source: str) -> Guess:
        """Return whom a refused pair counts against."""
        pair = (credential.id, credential.secret)
        return Guess.of(self._digest, self.issuer, pair, source)

    async def exchange(self, credential: PairCredential, asker: Asker) -> Granted:
        """Ask for a token, verify it like any other, and check whose it is.

        A token that is not good is not the caller's fault:
        :class:`~authz.errors.Unavailable`.
        """
        async with Deadline(self._timeout_s):
            token = await self.request(credential, asker)
            try:
                verified = await self.verify(token.value)
            except Unauthenticated as error:
                raise Unavailable(
                    Reason.EXCHANGED_TOKEN_INVALID, f"the provider's {error.detail}"
                ) from error
        self.check_owner(verified.claims, credential.id)
        return Granted(token.value, verified.claims, verified.expires_at, token.expires_in)

    async def verify(self, token: Secret) -> Verified:
        """Verify a token that this provider gave."""
        return await self._verifier.verify(token.reveal(), from_exchange=True)


@dataclass(frozen=True, slots=True)
class Exchange:
    """The exchange of one pair: a :class:`~authz.tokens.keeper.Grant`."""

    method: ExchangingMethod
    credential: PairCredential
    source: str

    @property
    def terms(self) -> Terms:
        """For how long its token is kept."""
        return self.method.terms

    @property
    def provider(self) -> Provider:
        """Whom it asks."""
        return self.method.provider

    @property
    def guess(self) -> Guess:
        """Whom a refusal counts against."""
        return self.method.guess(self.credential, self.source)

    @property
    def log_fields(self) -> Mapping[str, str]:
        """Whose token it is, for the log."""
        presented = self.credential.id[:LOGGED_CHARS_MAX]
        return {"issuer": self.method.issuer, "presented_client": presented}

    async def obtain(self, occasion: Occasion, guess: Guess) -> Granted:
        """Ask the provider; those who wait for a place there take turns by source and by id."""
        asker = Asker(_PRIORITIES[occasion], source=guess.source, client=guess.client)
        return await self.method.exchange(self.credential, asker)

    async def vouch(self, kept: Kept) -> None:
        """Ask whether today's keys vouch for a kept token; its signature is not verified again."""
        await self.method.verify(kept.token)


def _terms(memory: MemoryParameters) -> Terms:
    return Terms(
        keep=memory.cache_tokens,
        min_s=memory.cache_ttl_min or 0,
        max_s=_or_ever(memory.cache_ttl_max),
        refused_s=_or_ever(memory.cache_ttl_neg),
        resurrect_s=_or_ever(memory.cache_ttl_resurrect),
    )


def _or_ever(seconds: float | None) -> float:
    return math.inf if seconds is None else seconds
