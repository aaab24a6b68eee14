"""Asking the token endpoint (RFC 6749 section 3.2), and what its successes must look like."""

from __future__ import annotations

import json
import logging
import re
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Final

from authz.errors import Reason, Unavailable
from authz.model import AccessToken, Secret
from authz.net import B64TOKEN
from authz.oauth import endpoints, grants
from authz.oauth.client import OwnClientWatch
from authz.oauth.client_authentication import Endpoint
from authz.oauth.jwt import TIME_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.model import OpenIDConnect
    from authz.oauth.client import Client
    from authz.oauth.client_authentication import FormRequest
    from authz.oauth.grants import Grant, ProviderAnswer
    from authz.oauth.http import Response
    from authz.oauth.places import Asker
    from authz.oauth.provider import Provider

_log = logging.getLogger("authz.exchange")

ACCESS_TOKEN_BYTES_MAX: Final = 16 * 1024
# Of a token_type that is quoted in a message.
_QUOTED_CHARS_MAX: Final = 40


class TokenEndpoint:
    """Where one plugin asks for access tokens."""

    def __init__(self, config: OpenIDConnect, provider: Provider) -> None:
        self._config = config
        self._provider = provider
        # What the plugin asks for in every grant.
        scope = (("scope", " ".join(config.exchange.scopes)),) if config.exchange.scopes else ()
        self._asked_for = (*scope, *(("audience", one) for one in config.token.audience))
        self._own_client = OwnClientWatch(config.provider.issuer)
        self._untyped_token_noticed = False

    async def request(self, grant: Grant, client: Client, asker: Asker) -> AccessToken:
        """Ask for an access token.

        Raises :class:`~authz.errors.Unauthenticated` when the provider refuses the
        caller's secret, :class:`~authz.errors.Forbidden` when it gives this caller no
        token, :class:`~authz.errors.IdpOutage` when it is unreachable or overwhelmed,
        :class:`~authz.errors.Unavailable` when it refuses us, or its answer is of no use.
        """
        endpoint = await self._endpoint(client)
        wanted = grant.request.with_fields(self._asked_for)

        def signed() -> FormRequest:
            return client.authentication.sign(wanted, endpoint)

        asked = signed()

        def read(response: Response) -> AccessToken:
            answer = grants.read(response, asked)
            if answer.refused:
                raise grants.verdict(answer, grant.kind, is_caller=client.is_caller)
            return self._access_token(answer)

        request = grants.posted(endpoint.url, asked, signed)
        with nullcontext() if client.is_caller else self._own_client.watched():
            return await self._provider.door.ask(endpoints.TOKEN, request, read, asker)

    async def _endpoint(self, client: Client) -> Endpoint:
        """Return where to ask, discovering what is not configured."""
        url = self._config.exchange.token_endpoint
        if url is not None and not client.authentication.needs_metadata:
            return Endpoint(url)
        metadata = await self._provider.metadata()
        url = url or metadata.url_of(endpoints.TOKEN)
        if url is None:
            raise Unavailable(Reason.IDP_ANSWER_INVALID, "discovery: no token_endpoint")
        auth_methods = metadata.strings("token_endpoint_auth_methods_supported")
        return Endpoint(url, metadata.issuer, auth_methods)

    def _access_token(self, answer: ProviderAnswer) -> AccessToken:
        """Read a success (RFC 6749 section 5.1)."""
        self._check_type(answer.document.get("token_type"))
        token = answer.document.get("access_token")
        if (
            not isinstance(token, str)
            or len(token) > ACCESS_TOKEN_BYTES_MAX
            or B64TOKEN.fullmatch(token) is None
        ):
            raise Unavailable(
                Reason.IDP_ANSWER_INVALID,
                f"access_token is {_kind(token)}; wanted a bearer token of at most "
                f"{ACCESS_TOKEN_BYTES_MAX} bytes (RFC 6750 section 2.1)",
            )
        return AccessToken(Secret(token), expires_in=_expires_in(answer.document))

    def _check_type(self, kind: object) -> None:
        """Refuse all but a Bearer token; one without a type is taken for Bearer, with a notice."""
        if kind in (None, ""):
            self._notice_untyped_token()
        elif not isinstance(kind, str) or kind.lower() != "bearer":
            found = json.dumps(kind)[:_QUOTED_CHARS_MAX]
            raise Unavailable(
                Reason.IDP_ANSWER_INVALID, f"token_type is {found}; only Bearer is done"
            )

    def _notice_untyped_token(self) -> None:
        if not self._untyped_token_noticed:
            self._untyped_token_noticed = True
            _log.warning(
                "notice: the provider's token answers have no token_type (RFC 6749 section 5.1 "
                "requires it); taken for Bearer",
                extra={"fields": {"issuer": self._config.provider.issuer}},
            )


def _kind(token: object) -> str:
    """Say what stands in the place of a token, without its text."""
    if token is None:
        return "missing or null"
    if not isinstance(token, str):
        return "no string"
    return f"{len(token)} characters" if len(token) > ACCESS_TOKEN_BYTES_MAX else "empty or not one"


def _expires_in(document: Mapping[str, Any]) -> float | None:
    """Return ``expires_in`` in seconds; some providers send a string of digits.

    Anything else is as good as absent: the token's own ``exp`` bounds it anyway.
    """
    value = document.get("expires_in")
    if isinstance(value, str) and re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(max(-TIME_MAX, min(value, TIME_MAX)))
    return None
