"""What is asked of the token endpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters import checks
from authz.parameters.common import (
    ASKED_OTHERWISE,
    CLIENT_AUTH,
    CLIENT_AUTH_DONE,
    FINDS_FEWER,
    FLAG,
    GRANT_METHODS,
    SECRET,
    SECRETS,
    TEXT,
    TEXTS,
    URL,
    WHOLE,
    choice,
    choices,
)
from authz.parameters.declaration import DONE, param, refused
from authz.parameters.kinds import Array, Object, Text

if TYPE_CHECKING:
    from authz.secret import Secret

_REPLAYED = refused("the caller would not get the provider's headers")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Which tokens of an issuer are exchanged."""

    has_audience: tuple[str, ...] = param(TEXTS)
    has_scopes: tuple[str, ...] = param(TEXTS)
    missing_audience: tuple[str, ...] = param(TEXTS)
    missing_scopes: tuple[str, ...] = param(TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class SubjectTokenIssuer:
    """An issuer whose tokens are exchanged."""

    conditions: Conditions | None = param(Object(Conditions))
    issuer: str | None = param(TEXT)
    jwks_uri: str | None = param(TEXT)
    verify_signature: bool = param(FLAG, default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class ActorToken:
    """The token of whoever acts for the subject (RFC 8693 section 2.1)."""

    source: str = param(choice("none", "header", "config"), "none")
    header_name: str | None = param(TEXT)
    static_token: Secret | None = param(SECRET, referenceable=True)
    type: str = param(TEXT, "urn:ietf:params:oauth:token-type:access_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExchangeRequest:
    """What the request for an exchange says."""

    audience: tuple[str, ...] = param(TEXTS)
    scopes: tuple[str, ...] = param(TEXTS)
    empty_audience: bool = param(FLAG, default=False)
    empty_scopes: bool = param(FLAG, default=False)
    actor_token: ActorToken | None = param(Object(ActorToken))
    headers_names: tuple[str, ...] = param(TEXTS)
    headers_values: tuple[Secret, ...] = param(SECRETS)
    post_args_names: tuple[str, ...] = param(TEXTS)
    post_args_values: tuple[Secret, ...] = param(SECRETS)
    empty_headers: bool = param(FLAG, default=False)
    empty_post_args: bool = param(FLAG, default=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExchangeCache:
    """How long exchanged tokens are kept."""

    enabled: bool = param(FLAG, default=True)
    ttl: int | None = param(WHOLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenExchange:
    """The exchange of a caller's token for another (RFC 8693)."""

    cache: TokenExchangeCache | None = param(Object(TokenExchangeCache))
    grant_type: str = param(choice("token_exchange", "jwt_bearer"), "token_exchange")
    map_identities_from: str = param(
        choice("exchanged_tokens", "subject_token"), "exchanged_tokens"
    )
    provider: str = param(choice("standard", "microsoft"), "standard")
    request: TokenExchangeRequest | None = param(Object(TokenExchangeRequest))
    subject_token_issuers: tuple[SubjectTokenIssuer, ...] = param(Array(Object(SubjectTokenIssuer)))


@dataclass(frozen=True, slots=True, kw_only=True)
class ExchangeParameters:
    """What is asked of the token endpoint."""

    token_endpoint: str | None = param(
        URL,
        becomes=DONE,
        used_by=GRANT_METHODS,
        about="the token endpoint, instead of what is discovered",
    )
    token_endpoint_auth_method: str | None = param(
        CLIENT_AUTH,
        becomes=CLIENT_AUTH_DONE,
        used_by=GRANT_METHODS,
        about="how a client proves itself at the token endpoint; before client_auth",
    )
    mtls_token_endpoint: str | None = param(
        TEXT,
        becomes=ASKED_OTHERWISE,
        used_by=GRANT_METHODS,
        about="the token endpoint for clients that show a certificate",
    )
    scopes: tuple[str, ...] = param(
        Array(Text(check=checks.scopes)),
        ("openid",),
        null=(),
        becomes=DONE,
        referenceable=True,
        used_by=GRANT_METHODS,
        about="the scopes that are asked for; null: none",
    )
    token_post_args_names: tuple[str, ...] = param(
        TEXTS,
        becomes=ASKED_OTHERWISE,
        used_by=GRANT_METHODS,
        about="the names of further arguments of the token request",
    )
    # Values for the provider are API keys, as a rule.
    token_post_args_values: tuple[Secret, ...] = param(
        SECRETS, becomes=ASKED_OTHERWISE, used_by=GRANT_METHODS, about="their values"
    )
    token_post_args_client: tuple[str, ...] = param(
        TEXTS,
        becomes=ASKED_OTHERWISE,
        used_by=GRANT_METHODS,
        about="arguments of the caller that are passed on",
    )
    token_headers_names: tuple[str, ...] = param(
        TEXTS,
        becomes=ASKED_OTHERWISE,
        used_by=GRANT_METHODS,
        about="the names of further headers of the token request",
    )
    token_headers_values: tuple[Secret, ...] = param(
        SECRETS, becomes=ASKED_OTHERWISE, used_by=GRANT_METHODS, about="their values"
    )
    token_headers_client: tuple[str, ...] = param(
        TEXTS,
        becomes=ASKED_OTHERWISE,
        used_by=GRANT_METHODS,
        about="headers of the caller that are passed on",
    )
    token_headers_replay: tuple[str, ...] = param(
        TEXTS,
        becomes=_REPLAYED,
        used_by=GRANT_METHODS,
        about="headers of the provider's answer that the caller gets",
    )
    token_headers_prefix: str | None = param(
        TEXT, becomes=_REPLAYED, used_by=GRANT_METHODS, about="what is put before their names"
    )
    token_headers_grants: tuple[str, ...] = param(
        choices("password", "client_credentials", "authorization_code", "refresh_token"),
        becomes=_REPLAYED,
        used_by=GRANT_METHODS,
        about="the grants whose headers the caller gets",
    )
    token_exchange: TokenExchange | None = param(
        Object(TokenExchange),
        becomes=refused(FINDS_FEWER),
        about="the exchange of a caller's token for another (RFC 8693)",
    )
    token_exchange_endpoint: str | None = param(
        TEXT, becomes=refused(FINDS_FEWER), about="the older form of such an exchange"
    )
