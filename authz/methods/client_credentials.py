"""The caller brings a client id and secret; Kong's ``client_credentials``.

The plugin itself knows no secrets: it exchanges the caller's for an access token
at the provider (RFC 6749 section 4.4), and so the provider is who checks them.
"""

from __future__ import annotations

import logging
import math
import re
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from authz.cache.guesses import fold
from authz.errors import (
    Forbidden,
    IdpOutage,
    Overloaded,
    Reason,
    Refusal,
    Unauthenticated,
    Unavailable,
)
from authz.methods.base import Method, client_id_of, client_of
from authz.model import Identity
from authz.oauth import grants, jwt
from authz.oauth.client import caller
from authz.oauth.deadline import within
from authz.oauth.places import Asker, Priority
from authz.oauth.token_endpoint import TokenEndpoint

if TYPE_CHECKING:
    from authz.methods.base import MethodContext
    from authz.model import AccessToken, Claims, PairCredential, Request

_log = logging.getLogger("authz.exchange")

# A token is renewed this long before its end, or a tenth of its life if less.
RENEWAL_SECONDS_MAX: Final = 30.0
RENEWAL_SHARE: Final = 0.1
# After a renewal has failed for an outage, the next one waits this long.
RENEWAL_RETRY_SECONDS: Final = 5.0

# Verdicts on a pair, which the next moment will not change.
_REMEMBERED: Final = (
    Reason.SECRET_REJECTED,
    Reason.CLIENT_NOT_ALLOWED,
    Reason.IDENTITY_MISMATCH,
)
_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_LOGGED_CHARS_MAX: Final = 100


class ClientCredentials(Method):
    """One exchange per credential, shared, verified, and remembered while it is good."""

    name: ClassVar[str] = "client_credentials"

    def __init__(self, context: MethodContext) -> None:
        config = context.config
        self._config = config
        self._endpoint = TokenEndpoint(config, context.provider)
        self._provider = context.provider
        self._verifier = context.verifier
        self._store = context.store
        self._clock = context.clock
        self._telemetry = context.telemetry
        self._digest = context.digest
        self._timeout_s = config.reach.timeout / 1000
        # A renewal that takes longer counts as an outage to those who wait for it: their
        # token is still good.  The exchange itself goes on.
        self._patience_s = context.renewal_patience_s
        self._token_key = context.digest.after(*config.exchange_key)
        self._renew_not_before = 0.0
        self._anonymous_token_noticed = False

    async def authenticate(self, credential: PairCredential, request: Request) -> Identity:
        """Exchange the pair for a token, or take the one that was kept for it."""
        del request
        token = await self._obtain(credential)
        claims = await self._verify(token, credential)
        return Identity(
            method=self.name,
            claims=claims,
            issuer=self._provider,
            issuer_version=self._provider.version,
            client=client_id_of(claims),
            token=token,
            # What we hand on must still be good at the upstream: no leeway.
            expires_at=jwt.expiry(claims),
            reusable_until=min(token.fresh_until, self._provider.expires_at),
        )

    def unknown(self, credential: PairCredential) -> Refusal:
        """Say that the provider refused the pair."""
        del credential
        return _refusal(Reason.SECRET_REJECTED)

    async def _obtain(self, credential: PairCredential) -> AccessToken:
        """Return a verified token for the credential: a remembered one, or a new one.

        While the provider is out, a token that is due for renewal is served on,
        to its own end and not a second longer.
        """
        key = self._token_key(credential.id, credential.secret.reveal())
        held = await self._held(key, credential)
        if held is not None and (fresh := self._fresh(held)):
            return fresh
        if (reason := self._store.refusal(key)) is not None:
            self._telemetry.cache("refusals", "hit")
            raise _refusal(reason)
        self._telemetry.cache("tokens", "miss")
        try:
            if held is None:  # the exchange has a deadline of its own
                return await self._shared_exchange(key, credential)
            async with within(self._patience_s):
                return await self._shared_exchange(key, credential)
        except (IdpOutage, Overloaded, Forbidden):
            self._renew_not_before = self._clock.monotonic() + RENEWAL_RETRY_SECONDS
            # Looked up again: it may have come to its end while we waited.
            held = await self._held(key, credential)
            if held is None or not (fresh := self._fresh(held)):
                raise
            return fresh

    async def _shared_exchange(self, key: bytes, credential: PairCredential) -> AccessToken:
        return await self._store.exchanges.run(key, partial(self._exchange, key, credential))

    async def _held(self, key: bytes, credential: PairCredential) -> AccessToken | None:
        """Return the token in store if it is still good by today's keys; else forget it."""
        token = self._store.token(key)
        if token is None:
            return None
        try:
            await self._verify(token, credential)
        except Refusal:
            self._store.forget(key)
            return None
        return token

    def _fresh(self, held: AccessToken) -> AccessToken | None:
        """Return a token that need not be renewed now, or cannot be."""
        now = self._clock.monotonic()
        if now < held.fresh_until:
            self._telemetry.cache("tokens", "hit")
            return held
        if now < self._renew_not_before:
            self._telemetry.cache("tokens", "stale")
            return replace(held, fresh_until=min(self._renew_not_before, held.good_until))
        return None

    async def _exchange(self, key: bytes, credential: PairCredential) -> AccessToken:
        """Exchange a pair; one that nobody knows takes a place among the guesses meanwhile."""
        if self._store.is_known(key):
            return await self._ask(key, credential, Asker(Priority.KNOWN))
        client = self._digest(self._config.provider.issuer, fold(credential.id))
        with self._store.guesses.place(client):
            return await self._ask(key, credential, Asker(Priority.STRANGER, client=client))

    async def _ask(self, key: bytes, credential: PairCredential, asker: Asker) -> AccessToken:
        """Exchange, verify, and only then remember; this runs once for all who wait."""
        try:
            async with within(self._timeout_s):
                client = caller(self._config, credential.id, credential.secret, self._clock)
                token = await self._endpoint.request(grants.client_credentials(), client, asker)
                claims = await self._verify(token, credential)
        except Refusal as error:
            if error.reason in _REMEMBERED:
                neg = self._config.memory.cache_ttl_neg
                self._store.refuse(
                    key,
                    error.reason,
                    lifetime_s=math.inf if neg is None else neg,
                    # A client that may not have a token now has proven who it is.
                    ends_token=error.reason is not Reason.CLIENT_NOT_ALLOWED,
                )
            raise
        self._store.accept(key)
        return self._keep(key, token, claims)

    def _keep(self, key: bytes, token: AccessToken, claims: Claims) -> AccessToken:
        """Remember a token, as long as Kong's ``cache_ttl*`` and the token itself allow."""
        config = self._config
        own_life_s = jwt.expiry(claims) - self._clock.now()
        life_s = own_life_s if token.expires_in is None else min(own_life_s, token.expires_in)
        if not config.memory.cache_tokens or life_s <= 0:
            return token
        life_s = min(max(life_s, config.memory.cache_ttl_min or 0), own_life_s)
        if config.memory.cache_ttl_max is not None:
            life_s = min(life_s, config.memory.cache_ttl_max)
        fresh_s = life_s - min(RENEWAL_SECONDS_MAX, RENEWAL_SHARE * life_s)
        if config.memory.cache_ttl_resurrect is not None:
            life_s = min(life_s, fresh_s + config.memory.cache_ttl_resurrect)
        now = self._clock.monotonic()
        kept = replace(token, fresh_until=now + fresh_s, good_until=now + life_s)
        self._store.keep(key, kept, lifetime_s=life_s)
        return kept

    async def _verify(self, token: AccessToken, credential: PairCredential) -> Claims:
        """Verify an exchanged token like any other, and that it is the caller's.

        A failure is not the caller's fault: :class:`~authz.errors.Unavailable`; but for
        a client id that is right but for its case, which is a guess.
        """
        try:
            text = token.value.reveal()
            claims = (await self._verifier.verify(text, from_exchange=True)).claims
        except Unauthenticated as error:
            raise Unavailable(
                Reason.EXCHANGED_TOKEN_INVALID, f"the provider's {error.detail}"
            ) from error
        owner = client_of(claims)
        if owner is None:
            self._notice_anonymous_token()
        elif not _same_client(owner, credential.id):
            self._another_client(owner, credential.id)
        return claims

    def _another_client(self, owner: object, presented: str) -> NoReturn:
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
                    "issuer": self._config.provider.issuer,
                    "presented": presented[:_LOGGED_CHARS_MAX],
                    "token_is_of": str(owner)[:_LOGGED_CHARS_MAX],
                }
            },
        )
        raise _refusal(Reason.SECRET_REJECTED if by_case else Reason.IDENTITY_MISMATCH)

    def _notice_anonymous_token(self) -> None:
        if not self._anonymous_token_noticed:
            self._anonymous_token_noticed = True
            _log.warning(
                "notice: the provider's tokens do not say whose they are (client_id, azp …)",
                extra={"fields": {"issuer": self._config.provider.issuer}},
            )


def _refusal(reason: Reason) -> Refusal:
    """Return a refusal that may be remembered: the same the second time as the first."""
    if reason is Reason.SECRET_REJECTED:
        return Unauthenticated(reason, "the provider refused the client")
    if reason is Reason.CLIENT_NOT_ALLOWED:
        return Forbidden(reason, "the provider knows the client and gives it no token")
    return Unavailable(reason, "the provider's token is another client's")


def _same_client(owner: object, presented: str) -> bool:
    """Whether two ids are one: exactly, or as GUIDs (RFC 9562 section 4: in either case)."""
    if owner == presented:
        return True
    return (
        isinstance(owner, str)
        and _GUID.fullmatch(owner) is not None
        and owner.lower() == presented.lower()
    )
