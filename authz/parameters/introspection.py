"""What is asked of the introspection endpoint (RFC 7662)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters.common import (
    ASKED_OTHERWISE,
    CLIENT_AUTH,
    FLAG,
    OWN_MEMORY,
    SECRETS,
    TEXT,
    TEXTS,
    UNSAFE,
    URL,
    choice,
)
from authz.parameters.declaration import param, refused

if TYPE_CHECKING:
    from authz.secret import Secret

_METHOD = frozenset({"introspection"})


@dataclass(frozen=True, slots=True, kw_only=True)
class IntrospectionParameters:
    """What is asked of the introspection endpoint (RFC 7662)."""

    introspection_endpoint: str | None = param(
        URL,
        becomes=ASKED_OTHERWISE,
        referenceable=True,
        used_by=_METHOD,
        about="the introspection endpoint, instead of what is discovered",
    )
    introspection_endpoint_auth_method: str | None = param(
        CLIENT_AUTH,
        becomes=ASKED_OTHERWISE,
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
        becomes=refused("a token that was revoked would be accepted until it expires"),
        about="whether JWTs are introspected too",
    )
    introspection_check_active: bool = param(
        FLAG,
        default=True,
        becomes=UNSAFE,
        used_by=_METHOD,
        about="whether the answer must say active: true",
    )
    introspection_hint: str = param(
        TEXT,
        "access_token",
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="the token_type_hint that is sent",
    )
    introspection_token_param_name: str = param(
        TEXT,
        "token",
        becomes=ASKED_OTHERWISE,
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
        TEXTS, becomes=ASKED_OTHERWISE, used_by=_METHOD, about="the names of further headers"
    )
    # Values for the provider are API keys, as a rule.
    introspection_headers_values: tuple[Secret, ...] = param(
        SECRETS,
        becomes=ASKED_OTHERWISE,
        referenceable=True,
        used_by=_METHOD,
        about="their values",
    )
    introspection_headers_client: tuple[str, ...] = param(
        TEXTS,
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="headers of the caller that are passed on",
    )
    introspection_post_args_names: tuple[str, ...] = param(
        TEXTS, becomes=ASKED_OTHERWISE, used_by=_METHOD, about="the names of further arguments"
    )
    introspection_post_args_values: tuple[Secret, ...] = param(
        SECRETS, becomes=ASKED_OTHERWISE, used_by=_METHOD, about="their values"
    )
    introspection_post_args_client: tuple[str, ...] = param(
        TEXTS,
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="arguments of the caller that are passed on",
    )
    introspection_post_args_client_headers: tuple[str, ...] = param(
        TEXTS,
        becomes=ASKED_OTHERWISE,
        used_by=_METHOD,
        about="headers of the caller that are passed on as arguments",
    )
    cache_introspection: bool = param(
        FLAG,
        default=True,
        becomes=OWN_MEMORY,
        used_by=_METHOD,
        about="whether answers are kept",
    )
