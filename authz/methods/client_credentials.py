"""The caller brings a client id and secret; Kong's ``client_credentials``.

The plugin itself knows no secrets: it exchanges the caller's for an access token
at the provider (RFC 6749 section 4.4), and so the provider is who checks them.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from authz.errors import Reason, Refusal, Unauthenticated, Unavailable
from authz.methods.base import Method, client_id_of, client_of
from authz.model import AccessToken, Identity
from authz.oauth import grants
from authz.oauth.client import caller
from authz.oauth.deadline import within
from authz.oauth.places import Asker, Priority
from authz.oauth.token_endpoint import TokenEndpoint
from authz.tokens.guesses import Guess, fold
from authz.tokens.keeper import Granted, Occasion
from authz.tokens.sources import source_of
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

_log = logging.getLogger("authz.exchange")

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LOGGED_CHARS_MAX: Final = 100
_PRIORITIES: Final[Mapping[Occasion, Priority]] = {
    Occasion.RENEWAL: Priority.OWN,
    Occasion.KNOWN: Priority.KNOWN,
    Occasion.STRANGER: Priority.STRANGER,
}


class ClientCredentials(Method):
    """The provider gives a token to the caller's client, or refuses it."""

    name: ClassVar[str] = "client_credentials"

    def __init__(self, context: MethodContext) -> None:
        config = context.config
        self._config = config
        self._clock = context.clock
        self.terms: Final = _terms(config.memory)
        self.provider: Final = context.provider
        self.issuer: Final = config.provider.issuer
        self._endpoint = TokenEndpoint(config, context.provider)
        self._verifier = context.verifier
        self._keeper = context.keeper
        self._telemetry = context.telemetry
        self._digest = context.digest
        self._timeout_s = config.reach.timeout / 1000
        self._key = context.digest.after(*config.exchange_key)
        self._anonymous_token_noticed = False

    async def authenticate(self, credential: PairCredential, request: Request) -> Identity:
        """Exchange the pair for a token, or take the one that is kept for it."""
        key = self._key(credential.id, credential.secret.reveal())
        exchange = Exchange(self, credential, source_of(request))
        kept = await self._keeper.token(key, exchange)
        return Identity(
            method=self.name,
            claims=kept.claims,
            issuer=self.provider,
            issuer_version=self.provider.version,
            client=client_id_of(kept.claims),
            token=AccessToken(kept.token),
            # What is handed on must still be good at the upstream: no leeway.
            expires_at=kept.expires_at,
            reusable_until=min(self._keeper.reusable_until(key), self.provider.expires_at),
        )

    def unknown(self, credential: PairCredential) -> Refusal:
        """Say that the provider refused the pair."""
        del credential
        return Unauthenticated(Reason.SECRET_REJECTED, "the provider refused the client")

    def guess(self, credential: PairCredential, source: str) -> Guess:
        """Return whom a refused pair counts against."""
        pair = (credential.id, credential.secret)
        return Guess.of(self._digest, self.issuer, pair, source)

    async def exchange(self, credential: PairCredential, asker: Asker) -> Granted:
        """Ask for a token, and verify it like any other, and that it is the caller's.

        A token that is not good is not the caller's fault:
        :class:`~authz.errors.Unavailable`; but for a client id that is right but for its
        case, which is a guess.
        """
        async with within(self._timeout_s):
            client = caller(self._config, credential.id, credential.secret, self._clock)
            token = await self._endpoint.request(grants.client_credentials(), client, asker)
            try:
                verified = await self.verify(token.value)
            except Unauthenticated as error:
                raise Unavailable(
                    Reason.EXCHANGED_TOKEN_INVALID, f"the provider's {error.detail}"
                ) from error
        self._check_owner(verified.claims, credential.id)
        return Granted(token.value, verified.claims, verified.expires_at, token.expires_in)

    async def verify(self, token: Secret) -> Verified:
        """Verify a token that this provider gave."""
        return await self._verifier.verify(token.reveal(), from_exchange=True)

    def _check_owner(self, claims: Claims, presented: str) -> None:
        owner = client_of(claims)
        if owner is None:
            self._notice_anonymous_token()
        elif not _same_client(owner, presented):
            self._refuse_another_client(owner, presented)

    def _refuse_another_client(self, owner: object, presented: str) -> NoReturn:
        """Refuse a token that is not the caller's.

        A provider that ignores case has checked the secret of a client that was spelled
        otherwise.  Whoever tries spellings must not learn from the answer that the
        secret was right.
        """
        by_case = isinstance(owner, str) and fold(owner) == fold(presented)
        self._telemetry.identity_mismatch("case" if by_case else "client")
        _log.warning(
            "identity_mismatch: the provider's token is another client's",
            extra={
                "fields": {
                    "issuer": self.issuer,
                    "presented": presented[:_LOGGED_CHARS_MAX],
                    "token_is_of": str(owner)[:_LOGGED_CHARS_MAX],
                }
            },
        )
        if by_case:
            raise Unauthenticated(Reason.SECRET_REJECTED, "the provider refused the client")
        raise Unavailable(Reason.IDENTITY_MISMATCH, "the provider's token is another client's")

    def _notice_anonymous_token(self) -> None:
        if not self._anonymous_token_noticed:
            self._anonymous_token_noticed = True
            _log.warning(
                "notice: the provider's tokens do not say whose they are (client_id, azp …)",
                extra={"fields": {"issuer": self.issuer}},
            )


@dataclass(frozen=True, slots=True)
class Exchange:
    """The exchange of one pair: a :class:`~authz.tokens.keeper.Grant`."""

    method: ClientCredentials
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
        client = self.credential.id[:_LOGGED_CHARS_MAX]
        return {"issuer": self.method.issuer, "presented_client": client}

    async def obtain(self, occasion: Occasion) -> Granted:
        """Ask the provider; those who wait for a place there take turns by source and by id."""
        guess = self.guess
        asker = Asker(_PRIORITIES[occasion], source=guess.source, client=guess.client)
        return await self.method.exchange(self.credential, asker)

    async def vouch(self, kept: Kept) -> None:
        """Ask whether today's keys vouch for a kept token; its signature is not verified again."""
        await self.method.verify(kept.token)


def _same_client(owner: object, presented: str) -> bool:
    """Whether two ids are one: exactly, or as GUIDs (RFC 9562 section 4: in either case)."""
    if owner == presented:
        return True
    return (
        isinstance(owner, str)
        and _GUID.fullmatch(owner) is not None
        and owner.lower() == presented.lower()
    )


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
