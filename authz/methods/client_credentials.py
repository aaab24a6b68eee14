"""The caller brings a client id and secret; Kong's ``client_credentials``.

The plugin itself knows no secrets: it exchanges the caller's for an access token
at the provider (RFC 6749 section 4.4), and so the provider is who checks them.
"""

from __future__ import annotations

import logging
import re
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from authz.errors import Reason, Refusal, Unauthenticated, Unavailable
from authz.methods.base import client_of
from authz.methods.exchange import LOGGED_CHARS_MAX, ExchangingMethod
from authz.oauth import grants
from authz.oauth.client import caller
from authz.tokens.guesses import fold

if TYPE_CHECKING:
    from authz.methods.base import MethodContext
    from authz.model import AccessToken, Claims, Identity, PairCredential, Request
    from authz.oauth.places import Asker

_log = logging.getLogger("authz.exchange")

_GUID: Final = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


class ClientCredentials(ExchangingMethod):
    """The provider gives a token to the caller's client, or refuses it."""

    name: ClassVar[str] = "client_credentials"

    def __init__(self, context: MethodContext) -> None:
        super().__init__(context)
        self._config = context.config
        self._clock = context.clock
        self._telemetry = context.telemetry
        self._anonymous_token_noticed = False

    async def authenticate(self, credential: PairCredential, request: Request) -> Identity:
        """Exchange the pair for a token, or take the one that is kept for it."""
        return await self.identified(credential, request)

    def unknown(self, credential: PairCredential) -> Refusal:
        """Say that the provider refused the pair."""
        del credential
        return Unauthenticated(Reason.SECRET_REJECTED, "the provider refused the client")

    async def request(self, credential: PairCredential, asker: Asker) -> AccessToken:
        """Ask in the caller's own name."""
        client = caller(self._config, credential.id, credential.secret, self._clock)
        return await self.endpoint.request(grants.IN_ITS_OWN_NAME, client, asker)

    def check_owner(self, claims: Claims, presented: str) -> None:
        """Check that the token is the caller's: one of an id that differs by case is a guess."""
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
                    "presented": presented[:LOGGED_CHARS_MAX],
                    "token_is_of": str(owner)[:LOGGED_CHARS_MAX],
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


def _same_client(owner: object, presented: str) -> bool:
    """Whether two ids are one: exactly, or as GUIDs (RFC 9562 section 4: in either case)."""
    if owner == presented:
        return True
    return (
        isinstance(owner, str)
        and _GUID.fullmatch(owner) is not None
        and owner.lower() == presented.lower()
    )
