"""What the upstream gets besides the caller's request."""

from __future__ import annotations

from dataclasses import dataclass

from authz.parameters import checks
from authz.parameters.common import FLAG, TEXT, TEXTS, UPSTREAM_MISSES
from authz.parameters.declaration import DONE, param, refused
from authz.parameters.kinds import Array, Object, Text

_MISSES = refused(UPSTREAM_MISSES)
_MISSES_CLAIMS = refused(
    UPSTREAM_MISSES, "let the upstream read the claims of the access token, which it gets"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderFromClaim:
    """A header whose value is a claim."""

    header: str | None = param(TEXT)
    path: tuple[str, ...] = param(TEXTS)


@dataclass(frozen=True, slots=True, kw_only=True)
class UpstreamParameters:
    """What the upstream gets besides the caller's request."""

    hide_credentials: bool = param(
        FLAG,
        default=True,
        also=(False,),
        becomes=DONE,
        about="whether the caller's credential is removed from the request",
    )
    upstream_access_token_header: str = param(
        Text(check=checks.token_header),
        "authorization:bearer",
        null="",
        becomes=DONE,
        about="the header of the access token, with its scheme; null: none",
    )
    upstream_access_token_jwk_header: str | None = param(
        TEXT, becomes=_MISSES, about="the header of the key that signed it"
    )
    upstream_id_token_header: str | None = param(
        TEXT, becomes=_MISSES, about="the header of the ID token"
    )
    upstream_id_token_jwk_header: str | None = param(
        TEXT, becomes=_MISSES, about="the header of the key that signed it"
    )
    upstream_refresh_token_header: str | None = param(
        TEXT, becomes=_MISSES, about="the header of the refresh token"
    )
    upstream_introspection_header: str | None = param(
        TEXT, becomes=_MISSES, about="the header of the introspection's answer"
    )
    upstream_introspection_jwt_header: str | None = param(
        TEXT, becomes=_MISSES, about="the header of that answer as a JWT"
    )
    upstream_user_info_header: str | None = param(
        TEXT, becomes=_MISSES, about="the header of the userinfo endpoint's answer"
    )
    upstream_user_info_jwt_header: str | None = param(
        TEXT, becomes=_MISSES, about="the header of that answer as a JWT"
    )
    upstream_headers: tuple[HeaderFromClaim, ...] = param(
        Array(Object(HeaderFromClaim)), becomes=_MISSES_CLAIMS, about="headers and their claims"
    )
    upstream_headers_claims: tuple[str, ...] = param(
        TEXTS, becomes=_MISSES_CLAIMS, about="claims that become headers"
    )
    upstream_headers_names: tuple[str, ...] = param(
        TEXTS, becomes=_MISSES_CLAIMS, about="the names of those headers"
    )
