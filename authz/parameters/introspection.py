"""What is asked of the introspection endpoint (RFC 7662)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters import checks
from authz.parameters.common import (
    ASKED_OTHERWISE,
    CLIENT_AUTH,
    CLIENT_AUTH_DONE,
    FILLED,
    FLAG,
    SECRETS,
    TEXT,
    URL,
    choice,
)
from authz.parameters.declaration import DONE, param
from authz.parameters.kinds import Array, SecretText, Text

if TYPE_CHECKING:
    from authz.secret import Secret

_METHOD = frozenset({"introspection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionParameters:
    """What is asked of the introspection endpoint (RFC 7662)."""

    introspection_endpoint: str | None = param(
        URL,
        becomes=DONE,
        referenceable=True,
        used_by=_METHOD,
        about="the introspection endpoint, instead of what is discovered",
    )
    introspection_endpoint_auth_method: str | None = param(
        CLIENT_AUTH,
        becomes=CLIENT_AUTH_DONE,
        used_by=_METHOD,
        about="how our client proves itself there; before client_auth",
    )
    mtls_introspection_endpoint: str | None = param(
        TEXT,
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="the introspection endpoint for clients that show a certificate",
    )
    # It is looked at whichever methods are named: a token that was revoked is refused by it.
    introspect_jwt_tokens: bool = param(
        FLAG,
        default=False,
        becomes=DONE,
        about="whether JWTs are introspected too",
    )
    introspection_check_active: bool = param(
        FLAG,
        default=True,
        becomes=DONE,
        used_by=_METHOD,
        about="whether the answer must say active: true; if not, it must have an exp to come",
    )
    introspection_hint: str = param(
        Text(check=checks.filled),
        "access_token",
        becomes=DONE,
        used_by=_METHOD,
        about="the token_type_hint that is sent",
    )
    introspection_token_param_name: str = param(
        Text(check=checks.filled),
        "token",
        becomes=DONE,
        used_by=_METHOD,
        about="the name of the argument that holds the token",
    )
    introspection_accept: str = param(
        choice("application/json", "application/token-introspection+jwt", "application/jwt"),
        "application/json",
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="the kind of answer that is asked for",
    )
    introspection_headers_names: tuple[str, ...] = param(
        Array(Text(check=checks.header_name)),
        becomes=DONE,
        used_by=_METHOD,
        about="the names of further headers",
    )
    # Values for the provider are API keys, as a rule.
    introspection_headers_values: tuple[Secret, ...] = param(
        Array(SecretText(check=checks.header_value)),
        becomes=DONE,
        referenceable=True,
        used_by=_METHOD,
        about="their values",
    )
    introspection_headers_client: tuple[str, ...] = param(
        Array(Text(check=checks.forwarded_header)),
        becomes=DONE,
        used_by=_METHOD,
        about="headers of the caller that are passed on",
    )
    introspection_post_args_names: tuple[str, ...] = param(
        FILLED, becomes=DONE, used_by=_METHOD, about="the names of further arguments"
    )
    introspection_post_args_values: tuple[Secret, ...] = param(
        SECRETS, becomes=DONE, used_by=_METHOD, about="their values"
    )
    introspection_post_args_client: tuple[str, ...] = param(
        Array(Text(check=checks.argument_name)),
        becomes=DONE,
        used_by=_METHOD,
        about="arguments of the caller that are passed on",
    )
    introspection_post_args_client_headers: tuple[str, ...] = param(
        Array(Text(check=checks.header_as_argument)),
        becomes=DONE,
        used_by=_METHOD,
        about="headers of the caller that are passed on as arguments",
    )
    cache_introspection: bool = param(
        FLAG,
        default=True,
        becomes=DONE,
        used_by=_METHOD,
        about="whether answers are kept",
    )
