"""Asking a provider whose token it is, with that token (OpenID Connect Core section 5.3)."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from authz.errors import Reason, Unauthenticated, Unavailable
from authz.oauth import endpoints, form_encoding, grants, jwt
from authz.oauth.client_authentication import FormRequest
from authz.oauth.http import HTTP_OK, Request

if TYPE_CHECKING:
    from authz.errors import Refusal
    from authz.model import Claims
    from authz.oauth.forwarded import Forwarded
    from authz.oauth.grants import ProviderAnswer
    from authz.oauth.http import Response
    from authz.oauth.places import Asker
    from authz.oauth.provider import Provider
    from authz.parameters.userinfo import UserinfoParameters
    from authz.secret import Secret

_VERDICTS: Final = frozenset((401, 403))
_SIGNED: Final = "application/jwt"
# RFC 6750 section 3: the error code in a Bearer challenge, where other challenges may stand
# before it.
_SCHEME: Final = re.compile(r"(?:^|[\s,])bearer\s", re.IGNORECASE)
_ERROR: Final = re.compile(r'(?:^|[\s,])error="?([^",\s]+)', re.IGNORECASE)


class Userinfo:
    """Where one plugin asks whose a token is."""

    def __init__(self, parameters: UserinfoParameters, provider: Provider) -> None:
        self._parameters = parameters
        self._provider = provider

    async def ask(self, token: Secret, forwarded: Forwarded, asker: Asker) -> Claims:
        """Return what the provider says of whom a token stands for.

        ``forwarded``: what of the caller's request goes with the question.

        Raises :class:`~authz.errors.Unauthenticated` when the provider refuses the token,
        :class:`~authz.errors.IdpOutage` when it is unreachable or overwhelmed, and
        :class:`~authz.errors.Unavailable` when its answer is of no use.
        """
        url = await self._url()
        asked = self._question(token, forwarded)
        arguments = form_encoding.encoded(asked.form)
        return await self._provider.door.ask(
            endpoints.USERINFO,
            Request(url, arguments=arguments, headers=asked.headers),
            lambda response: read(response, asked),
            asker,
        )

    def _question(self, token: Secret, forwarded: Forwarded) -> FormRequest:
        """Return what is sent; its form is the query's.

        The token stands in the header alone (RFC 6750 section 2.1): URLs are logged.  No
        name is there twice: the file is refused otherwise.
        """
        parameters, text = self._parameters, token.reveal()
        headers = [value.reveal() for value in parameters.userinfo_headers_values]
        arguments = [value.reveal() for value in parameters.userinfo_query_args_values]
        header_names = (name.lower() for name in parameters.userinfo_headers_names)
        return FormRequest(
            form=(
                *zip(parameters.userinfo_query_args_names, arguments, strict=True),
                *forwarded.arguments,
            ),
            headers={
                **dict(zip(header_names, headers, strict=True)),
                **dict(forwarded.headers),
                "authorization": f"Bearer {text}",
            },
            secrets=(text, *headers, *arguments, *forwarded.values),
        )

    async def _url(self) -> str:
        """Return where to ask, discovering what is not configured."""
        url = self._parameters.userinfo_endpoint
        url = url or (await self._provider.metadata()).url_of(endpoints.USERINFO)
        if url is None:
            raise Unavailable(
                Reason.IDP_ANSWER_INVALID,
                "discovery: no userinfo_endpoint; the provider has none, or write it into the file",
            )
        return url


def read(response: Response, asked: FormRequest) -> Claims:
    """Return the claims of an answer; raises as :meth:`Userinfo.ask`."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status == HTTP_OK and kind == _SIGNED:
        raise Unavailable(
            Reason.IDP_ANSWER_INVALID,
            f"the answer is {_SIGNED}, which is not done here; let the provider answer this"
            " token's client with JSON (userinfo_signed_response_alg)",
        )
    answer = grants.read(response, asked)
    if answer.refused:
        raise _verdict(answer, response.headers.get("www-authenticate", ""))
    claims = jwt.without_empty(dict(answer.document))
    if not isinstance(claims.get("sub"), str):
        raise Unavailable(
            Reason.IDP_ANSWER_INVALID,
            "the answer has no sub that is a string, which OpenID Connect Core section 5.3.2"
            " requires",
        )
    return claims


def _verdict(answer: ProviderAnswer, challenge: str) -> Refusal:
    """Return what a refusal means (section 5.3.3, RFC 6750 section 3.1).

    A bare 401 or 403 may come from a proxy in between: no verdict on a token.
    """
    code = _code(challenge) or answer.error
    if answer.status in _VERDICTS and code == "invalid_token":
        return Unauthenticated(
            Reason.TOKEN_INACTIVE,
            "the provider says that the token is not active",
            log_fields=answer.log_fields,
        )
    if answer.status in _VERDICTS and code == "insufficient_scope":
        return Unauthenticated(
            Reason.TOKEN_UNSUPPORTED,
            "the provider tells of nobody for this token; let its client ask for the scope openid",
            log_fields=answer.log_fields,
        )
    return grants.trouble(replace(answer, error=code))


def _code(challenge: str) -> str | None:
    """Return the error code of a Bearer challenge, if there is one."""
    scheme = _SCHEME.search(challenge)
    error = _ERROR.search(challenge[scheme.end() :]) if scheme else None
    return error[1] if error else None
