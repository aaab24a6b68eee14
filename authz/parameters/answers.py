"""What callers are told."""

from __future__ import annotations

from dataclasses import dataclass

from authz.parameters import checks
from authz.parameters.common import CALLER_MISSES, FLAG, TEXT, TEXTS, URL
from authz.parameters.declaration import DONE, param, refused, required
from authz.parameters.kinds import Array, Object, Text
from authz.parameters.upstream import HeaderFromClaim

_NO_REDIRECT = refused("callers would get other words, or no redirect")


@dataclass(frozen=True, slots=True, kw_only=True)
class ProtectedResourceMetadata:
    """What callers may learn about the resource (RFC 9728)."""

    resource: str = required(Text(check=checks.resource))
    authorization_servers: tuple[str, ...] = required(Array(URL, at_least=1))
    scopes_supported: tuple[str, ...] = param(Array(Text(check=checks.scope)))
    metadata_endpoint: str | None = param(Text(check=checks.metadata_endpoint))


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerParameters:
    """What callers are told."""

    unauthorized_error_message: str = param(
        Text(check=checks.message), "Unauthorized", becomes=DONE, about="the message of a 401"
    )
    forbidden_error_message: str = param(
        Text(check=checks.message), "Forbidden", becomes=DONE, about="the message of a 403"
    )
    display_errors: bool = param(
        FLAG, default=False, becomes=DONE, about="whether callers are told the reason"
    )
    expose_error_code: bool = param(
        FLAG,
        default=True,
        becomes=DONE,
        about="whether the WWW-Authenticate header holds the error's code",
    )
    unauthorized_redirect_uri: tuple[str, ...] = param(
        TEXTS, becomes=_NO_REDIRECT, about="where a 401 sends the caller"
    )
    forbidden_redirect_uri: tuple[str, ...] = param(
        TEXTS, becomes=_NO_REDIRECT, about="where a 403 sends the caller"
    )
    unexpected_redirect_uri: tuple[str, ...] = param(
        TEXTS, becomes=_NO_REDIRECT, about="where any other error sends the caller"
    )
    protected_resource_metadata: ProtectedResourceMetadata | None = param(
        Object(ProtectedResourceMetadata),
        becomes=DONE,
        about="what callers may learn about the resource (RFC 9728)",
    )
    downstream_access_token_header: str | None = param(
        TEXT, becomes=CALLER_MISSES, about="the header of the access token"
    )
    downstream_access_token_jwk_header: str | None = param(
        TEXT, becomes=CALLER_MISSES, about="the header of the key that signed it"
    )
    downstream_id_token_header: str | None = param(
        TEXT, becomes=CALLER_MISSES, about="the header of the ID token"
    )
    downstream_id_token_jwk_header: str | None = param(
        TEXT, becomes=CALLER_MISSES, about="the header of the key that signed it"
    )
    downstream_refresh_token_header: str | None = param(
        TEXT, becomes=CALLER_MISSES, about="the header of the refresh token"
    )
    downstream_introspection_header: str | None = param(
        TEXT, becomes=CALLER_MISSES, about="the header of the introspection's answer"
    )
    downstream_introspection_jwt_header: str | None = param(
        TEXT, becomes=CALLER_MISSES, about="the header of that answer as a JWT"
    )
    downstream_user_info_header: str | None = param(
        TEXT, becomes=CALLER_MISSES, about="the header of the userinfo endpoint's answer"
    )
    downstream_user_info_jwt_header: str | None = param(
        TEXT, becomes=CALLER_MISSES, about="the header of that answer as a JWT"
    )
    downstream_headers: tuple[HeaderFromClaim, ...] = param(
        Array(Object(HeaderFromClaim)), becomes=CALLER_MISSES, about="headers and their claims"
    )
    downstream_headers_claims: tuple[str, ...] = param(
        TEXTS, becomes=CALLER_MISSES, about="claims that become headers"
    )
    downstream_headers_names: tuple[str, ...] = param(
        TEXTS, becomes=CALLER_MISSES, about="the names of those headers"
    )
