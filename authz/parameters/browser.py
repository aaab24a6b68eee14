"""Logins and sessions: what is for people with browsers, and changes nothing for machines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.parameters.common import (
    AUTH_METHODS,
    CLIENT_AUTH,
    FLAG,
    NUMBER,
    PORT,
    SECRET,
    TEXT,
    TEXTS,
    choice,
    choices,
)
from authz.parameters.declaration import BROWSER, Parameter, param
from authz.parameters.kinds import Anything, Object
from authz.parameters.redis import SessionRedis

if TYPE_CHECKING:
    from authz.secret import Secret

_SAME_SITE = choice("Strict", "Lax", "None", "Default")
_SESSION_HEADERS = choices(
    "id", "audience", "subject", "timeout", "idling-timeout", "rolling-timeout", "absolute-timeout"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoginParameters:
    """The authorization code flow, its end, and what a browser gets."""

    authorization_endpoint: str | None = param(TEXT, becomes=BROWSER)
    authorization_query_args_client: tuple[str, ...] = param(TEXTS, becomes=BROWSER)
    authorization_query_args_names: tuple[str, ...] = param(TEXTS, becomes=BROWSER)
    authorization_query_args_values: tuple[str, ...] = param(TEXTS, becomes=BROWSER)
    authorization_cookie_domain: str | None = param(TEXT, becomes=BROWSER)
    authorization_cookie_http_only: bool = param(FLAG, default=True, becomes=BROWSER)
    authorization_cookie_name: str = param(TEXT, "authorization", becomes=BROWSER)
    authorization_cookie_path: str = param(TEXT, "/", becomes=BROWSER)
    authorization_cookie_same_site: str = param(_SAME_SITE, "Default", becomes=BROWSER)
    authorization_cookie_secure: bool | None = param(FLAG, becomes=BROWSER)
    authorization_rolling_timeout: float = param(NUMBER, 600, becomes=BROWSER)
    end_session_endpoint: str | None = param(TEXT, becomes=BROWSER)
    login_action: str = param(
        choice("upstream", "response", "redirect"), "upstream", becomes=BROWSER
    )
    login_methods: tuple[str, ...] = param(
        choices(*AUTH_METHODS), ("authorization_code",), becomes=BROWSER
    )
    login_redirect_mode: str = param(choice("fragment", "query"), "fragment", becomes=BROWSER)
    login_redirect_uri: tuple[str, ...] = param(TEXTS, becomes=BROWSER, referenceable=True)
    login_tokens: tuple[str, ...] = param(
        choices("id_token", "access_token", "refresh_token", "tokens", "introspection"),
        ("id_token",),
        becomes=BROWSER,
    )
    logout_methods: tuple[str, ...] = param(
        choices("POST", "GET", "DELETE"), ("POST", "DELETE"), becomes=BROWSER
    )
    logout_post_arg: str | None = param(TEXT, becomes=BROWSER)
    logout_query_arg: str | None = param(TEXT, becomes=BROWSER)
    logout_redirect_uri: tuple[str, ...] = param(TEXTS, becomes=BROWSER, referenceable=True)
    logout_revoke: bool = param(FLAG, default=False, becomes=BROWSER)
    logout_revoke_access_token: bool = param(FLAG, default=True, becomes=BROWSER)
    logout_revoke_refresh_token: bool = param(FLAG, default=True, becomes=BROWSER)
    logout_uri_suffix: str | None = param(TEXT, becomes=BROWSER)
    mtls_revocation_endpoint: str | None = param(TEXT, becomes=BROWSER)
    preserve_query_args: bool = param(FLAG, default=False, becomes=BROWSER)
    pushed_authorization_request_endpoint: str | None = param(TEXT, becomes=BROWSER)
    pushed_authorization_request_endpoint_auth_method: str | None = param(
        CLIENT_AUTH, becomes=BROWSER
    )
    redirect_uri: tuple[str, ...] = param(TEXTS, becomes=BROWSER)
    refresh_tokens: bool = param(FLAG, default=True, becomes=BROWSER)
    require_proof_key_for_code_exchange: bool | None = param(FLAG, becomes=BROWSER)
    require_pushed_authorization_requests: bool | None = param(FLAG, becomes=BROWSER)
    require_signed_request_object: bool | None = param(FLAG, becomes=BROWSER)
    response_mode: str = param(
        choice(
            "query", "form_post", "fragment", "jwt", "query.jwt", "form_post.jwt", "fragment.jwt"
        ),
        "query",
        becomes=BROWSER,
    )
    response_type: tuple[str, ...] = param(TEXTS, ("code",), becomes=BROWSER)
    revocation_endpoint: str | None = param(TEXT, becomes=BROWSER)
    revocation_endpoint_auth_method: str | None = param(CLIENT_AUTH, becomes=BROWSER)
    revocation_token_param_name: str = param(TEXT, "token", becomes=BROWSER)
    verify_nonce: bool = param(FLAG, default=True, becomes=BROWSER)


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionParameters:
    """Sessions: cookies, and where their content is stored."""

    disable_session: tuple[str, ...] = param(choices(*AUTH_METHODS), becomes=BROWSER)
    downstream_session_id_header: str | None = param(TEXT, becomes=BROWSER)
    forbidden_destroy_session: bool = param(FLAG, default=True, becomes=BROWSER)
    redis: SessionRedis | None = param(Object(SessionRedis), becomes=BROWSER)
    reverify: bool = param(FLAG, default=False, becomes=BROWSER)
    session_absolute_timeout: float = param(NUMBER, 86_400, becomes=BROWSER)
    session_audience: str = param(TEXT, "default", becomes=BROWSER)
    session_bind: tuple[str, ...] = param(choices("ip", "scheme", "user-agent"), becomes=BROWSER)
    session_cookie_domain: str | None = param(TEXT, becomes=BROWSER)
    session_cookie_http_only: bool = param(FLAG, default=True, becomes=BROWSER)
    session_cookie_name: str = param(TEXT, "session", becomes=BROWSER)
    session_cookie_path: str = param(TEXT, "/", becomes=BROWSER)
    session_cookie_same_site: str = param(_SAME_SITE, "Lax", becomes=BROWSER)
    session_cookie_secure: bool | None = param(FLAG, becomes=BROWSER)
    session_enforce_same_subject: bool = param(FLAG, default=False, becomes=BROWSER)
    session_hash_storage_key: bool = param(FLAG, default=False, becomes=BROWSER)
    session_hash_subject: bool = param(FLAG, default=False, becomes=BROWSER)
    session_idling_timeout: float = param(NUMBER, 900, becomes=BROWSER)
    session_memcached_host: str = param(TEXT, "127.0.0.1", becomes=BROWSER)
    session_memcached_port: int = param(PORT, 11_211, becomes=BROWSER)
    session_memcached_prefix: str | None = param(TEXT, becomes=BROWSER)
    session_memcached_socket: str | None = param(TEXT, becomes=BROWSER)
    session_memcached_ssl: bool | None = param(FLAG, also=(False,), becomes=BROWSER)
    session_memcached_ssl_verify: bool = param(FLAG, default=True, also=(False,), becomes=BROWSER)
    session_remember: bool = param(FLAG, default=False, becomes=BROWSER)
    session_remember_absolute_timeout: float = param(NUMBER, 2_592_000, becomes=BROWSER)
    session_remember_cookie_name: str = param(TEXT, "remember", becomes=BROWSER)
    session_remember_rolling_timeout: float = param(NUMBER, 604_800, becomes=BROWSER)
    session_request_headers: tuple[str, ...] = param(_SESSION_HEADERS, becomes=BROWSER)
    session_response_headers: tuple[str, ...] = param(_SESSION_HEADERS, becomes=BROWSER)
    session_rolling_timeout: float = param(NUMBER, 3600, becomes=BROWSER)
    session_secret: Secret | None = param(SECRET, becomes=BROWSER, referenceable=True)
    session_storage: str = param(
        choice("cookie", "memcache", "memcached", "redis"), "cookie", becomes=BROWSER
    )
    session_store_metadata: bool = param(FLAG, default=False, becomes=BROWSER)
    unauthorized_destroy_session: bool = param(FLAG, default=True, becomes=BROWSER)
    upstream_session_id_header: str | None = param(TEXT, becomes=BROWSER)


LEGACY = {
    name: Parameter(Anything(), name=name, attribute=name, becomes=BROWSER)
    for name in (
        "authorization_cookie_samesite", "authorization_cookie_httponly",
        "session_compressor", "session_cookie_httponly", "session_cookie_idletime",
        "session_cookie_lifetime", "session_cookie_maxsize", "session_cookie_renew",
        "session_cookie_samesite", "session_strategy",
        *(f"session_memcache_{what}" for what in ("host", "port", "prefix", "socket")),
        *(
            f"session_redis_{what}"
            for what in (
                "auth", "cluster_max_redirections", "cluster_maxredirections", "cluster_nodes",
                "connect_timeout", "host", "password", "port", "prefix", "read_timeout",
                "send_timeout", "server_name", "socket", "ssl", "ssl_verify", "username",
            )
        ),
    )
}  # fmt: skip
"""Names of older versions, of which nothing is read."""
