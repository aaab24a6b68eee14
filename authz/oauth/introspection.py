"""Asking a provider what a token stands for (RFC 7662)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz import strict_json
from authz.errors import Reason, Unauthenticated, Unavailable
from authz.model import Claims
from authz.oauth import endpoints, grants, jwt, token_kind
from authz.oauth.client import OwnClientWatch
from authz.oauth.client_authentication import Endpoint, FormRequest

if TYPE_CHECKING:
    from authz.oauth.client import Client
    from authz.oauth.forwarded import Forwarded
    from authz.oauth.grants import ProviderAnswer
    from authz.oauth.http import Response
    from authz.oauth.jwt import ClaimRules
    from authz.oauth.places import Asker
    from authz.oauth.provider import Provider
    from authz.parameters.introspection import IntrospectionParameters
    from authz.secret import Secret

# RFC 7662 section 2.2 has the type of RFC 6749 section 7.1; some providers write the
# words of RFC 8693 section 3 in its place.
_TOKEN_TYPES: Final = frozenset(("bearer", "dpop", "access_token"))


class Introspection:
    """Where one plugin asks about tokens."""

    def __init__(
        self, parameters: IntrospectionParameters, provider: Provider, client: Client
    ) -> None:
        self._parameters = parameters
        self._provider = provider
        self._client = client
        self._own_client = OwnClientWatch(provider.config.issuer)

    async def ask(self, token: Secret, forwarded: Forwarded, asker: Asker) -> Claims | None:
        """Return what the provider says of a token; ``None``: it is not active.

        ``forwarded``: what of the caller's request goes with the question.  The answer is
        the provider's word, held to no rule yet: see :func:`check`.

        Raises :class:`~authz.errors.IdpOutage` when the provider is unreachable or
        overwhelmed, :class:`~authz.errors.Unavailable` when it refuses our client or its
        answer is of no use.
        """
        endpoint = await self._endpoint()

        def signed() -> FormRequest:
            return self._client.authentication.sign(self._question(token, forwarded), endpoint)

        asked = signed()

        def read(response: Response) -> Claims | None:
            answer = grants.read(response, asked)
            if answer.refused:
                raise grants.verdict(answer, grants.INTROSPECTION, is_caller=False)
            return _claims(answer, must_say_active=self._parameters.introspection_check_active)

        request = grants.posted(endpoint.url, asked, signed)
        with self._own_client.watched():
            return await self._provider.door.ask(endpoints.INTROSPECTION, request, read, asker)

    def _question(self, token: Secret, forwarded: Forwarded) -> FormRequest:
        """Return the request without our client's authentication (RFC 7662 section 2.1).

        No name is there twice: the file is refused otherwise.
        """
        parameters, text = self._parameters, token.reveal()
        values = [value.reveal() for value in parameters.introspection_post_args_values]
        headers = zip(
            parameters.introspection_headers_names,
            parameters.introspection_headers_values,
            strict=True,
        )
        return FormRequest(
            form=(
                (parameters.introspection_token_param_name, text),
                ("token_type_hint", parameters.introspection_hint),
                *zip(parameters.introspection_post_args_names, values, strict=True),
                *forwarded.arguments,
            ),
            headers={
                **{name.lower(): value.reveal() for name, value in headers},
                **dict(forwarded.headers),
            },
            secrets=(text, *values, *forwarded.values),
        )

    async def _endpoint(self) -> Endpoint:
        """Return where to ask, discovering what is not configured."""
        url = self._parameters.introspection_endpoint
        if url is not None and not self._client.authentication.needs_metadata:
            return Endpoint(url)
        metadata = await self._provider.metadata()
        url = url or metadata.url_of(endpoints.INTROSPECTION)
        if url is None:
            raise Unavailable(
                Reason.IDP_ANSWER_INVALID,
                "discovery: no introspection_endpoint; the provider has none, or write it into "
                "the file",
            )
        auth_methods = metadata.strings("introspection_endpoint_auth_methods_supported")
        return Endpoint(url, metadata.issuer, auth_methods)


def _claims(answer: ProviderAnswer, *, must_say_active: bool) -> Claims | None:
    """Read ``active``: a token counts as active only if it is true.

    RFC 7662 section 2.2 requires it.  Where it need not be there (Kong's
    ``introspection_check_active: false``) the token's end must be: an answer that names
    neither says nothing that a token could be believed by.
    """
    document = answer.document
    if "active" not in document and not must_say_active:
        return _with_an_end(jwt.without_empty(dict(document)))
    active = document.get("active")
    if active is False:
        return None
    if active is not True:
        raise Unavailable(
            Reason.IDP_ANSWER_INVALID,
            "active is neither true nor false, which RFC 7662 section 2.2 requires",
        )
    return jwt.without_empty(dict(document))


def _with_an_end(claims: Claims) -> Claims:
    try:
        jwt.expiry(claims)
    except Unauthenticated:
        found = strict_json.quoted(claims["exp"]) if "exp" in claims else "absent"
        raise Unavailable(
            Reason.IDP_ANSWER_INVALID,
            f"the answer has no active, and exp is {found}; without active"
            " (introspection_check_active: false) it must have exp, a number of seconds since 1970",
        ) from None
    return claims


def check(claims: Claims, rules: ClaimRules, now: float, *, audience_asked: bool) -> None:
    """Hold an answer to the rules of a token, as far as it says anything; ``iss`` aside.

    A provider need not say more than ``active``; what it says must be right all the same
    (CVE-2021-32701).  ``now``: seconds since 1970.  Raises
    :class:`~authz.errors.Unauthenticated` for a token that is not good here.
    """
    rules.check(claims if "exp" in claims else Claims({**claims, "exp": jwt.TIME_MAX}), now)
    kind = claims.get("token_type")
    if kind not in (None, "") and not _is_access_token(kind):
        found = strict_json.quoted(kind)
        raise Unauthenticated(
            Reason.TOKEN_UNSUPPORTED,
            f"introspection: token_type is {found}, an access token's is Bearer",
        )
    token_kind.check(claims, marked=bool(kind), audience_asked=audience_asked)


def _is_access_token(kind: object) -> bool:
    return isinstance(kind, str) and kind.lower() in _TOKEN_TYPES
