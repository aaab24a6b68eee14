"""What the methods share that ask the provider about a token which the caller brings."""

from __future__ import annotations

import math
from abc import abstractmethod
from functools import partial
from typing import TYPE_CHECKING

from authz.errors import Reason, Unauthenticated
from authz.methods.base import Method, client_id_of
from authz.model import AccessToken, Identity
from authz.oauth import jwt
from authz.oauth.deadline import Deadline
from authz.oauth.places import Asker, Priority
from authz.tokens.vouched import Vouched

if TYPE_CHECKING:
    from collections.abc import Sequence

    from authz.errors import Refusal
    from authz.methods.base import MethodContext
    from authz.model import BearerCredential, Claims, Request
    from authz.oauth.forwarded import Forwarded, Forwarding
    from authz.secret import Secret


class AskingMethod(Method):
    """The provider's word on a token, kept while it is good, and held to a token's rules.

    ``key``: the parameters that the word and its life depend on.  ``forwarding``: what of
    the caller's request goes with the question.  ``keeps``: whether an answer is kept.
    """

    def __init__(
        self,
        context: MethodContext,
        *,
        key: Sequence[str],
        forwarding: Forwarding,
        keeps: bool,
    ) -> None:
        config = context.config
        self._provider = context.provider
        self._verifier = context.verifier
        self._clock = context.clock
        self._telemetry = context.telemetry
        self._answers = context.vouched
        self._sources = context.sources
        self._digest = context.digest.after(self.name, *key)
        self._timeout_s = config.reach.timeout / 1000
        self._leeway_s = config.token.leeway
        memory = config.memory
        self._forwarding = forwarding
        self._keeps = keeps
        # What is forwarded would be missed by who finds an answer by Authorization alone.
        self._is_reusable = keeps and forwarding.is_empty
        self._kept_s = min(
            config.reach.cache_ttl,
            math.inf if memory.cache_ttl_max is None else memory.cache_ttl_max,
        )
        self._inactive_s = math.inf if memory.cache_ttl_neg is None else memory.cache_ttl_neg

    async def authenticate(self, credential: BearerCredential, request: Request) -> Identity | None:
        """Ask what the token stands for, or take the answer that was kept."""
        # What goes while the provider is asked did not vouch for what it answers.
        version = self._provider.version
        text = credential.token.reveal()
        bounds = await self.bounds(text)
        if bounds is None:
            return None
        ends_at, vouched_until = bounds
        forwarded = self._forwarding.of(request)
        token = self._digest(text)
        key = self._digest(text, *forwarded.key)
        kept = self._answers.get(key)
        # One label for the answers of all methods: dashboards match on it.
        self._telemetry.cache("introspected", "miss" if kept is None else "hit")
        if kept is None:
            priority = Priority.KNOWN if self._answers.is_known(token) else Priority.STRANGER
            asker = Asker(priority, self._sources.of(request))
            ask = partial(self._ask, key, credential.token, forwarded, asker)
            kept = await self._answers.run(key, token, ask)
        if isinstance(kept, Unauthenticated):
            raise kept.again()
        await self._verifier.check_vouched(kept.claims)
        return Identity(
            method=self.name,
            claims=kept.claims,
            issuer=self._provider,
            issuer_version=version,
            client=client_id_of(kept.claims),
            token=AccessToken(credential.token),
            expires_at=min(kept.expires_at, ends_at),
            reusable_until=min(kept.kept_until, vouched_until) if self._is_reusable else 0.0,
            leeway_s=self._leeway_s,
        )

    @abstractmethod
    async def bounds(self, text: str) -> tuple[float, float] | None:
        """Look at what a token says of itself, before its issuer is asked.

        Return its end in wall time, and until when its keys vouch for it in monotonic
        time: the answer may name no end, or a later one.  ``None``: the token is not this
        method's.  Raises :class:`~authz.errors.Refusal` for one that is bad.
        """

    @abstractmethod
    async def ask(self, token: Secret, forwarded: Forwarded, asker: Asker) -> Claims:
        """Ask the provider.

        Raises :class:`~authz.errors.Unauthenticated` for its verdict on the token, which
        is kept for a moment; any other :class:`~authz.errors.Refusal` is trouble.
        """

    async def _ask(
        self, key: bytes, token: Secret, forwarded: Forwarded, asker: Asker
    ) -> Vouched | Unauthenticated:
        """Ask, and keep the answer; this runs once for all who wait."""
        try:
            async with Deadline(self._timeout_s):
                claims = await self.ask(token, forwarded, asker)
        except Unauthenticated as refusal:
            return self._answers.keep_inactive(key, refusal, lifetime_s=self._inactive_s)
        now, kept_s = self._clock.now(), self._kept_s
        # Its own end, without leeway: the provider says whether a token is good.
        expires_at = jwt.expiry(claims) if "exp" in claims else now + kept_s
        kept_s = min(kept_s, expires_at - now)
        answer = Vouched(claims, expires_at, self._clock.monotonic() + kept_s)
        self._answers.keep(
            key, self._digest(token.reveal()), answer, lifetime_s=kept_s if self._keeps else 0.0
        )
        return answer

    def unknown(self, credential: BearerCredential) -> Refusal:
        """Say that the token is not active."""
        del credential
        return inactive()


def inactive() -> Unauthenticated:
    """Return the provider's verdict that a token is not, or no longer, good."""
    return Unauthenticated(Reason.TOKEN_INACTIVE, "the provider says that the token is not active")
