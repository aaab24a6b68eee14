"""Every parameter of Kong's openid-connect plugin: type, default, and what becomes of it.

Names, types, defaults and allowed values are those of Kong Gateway 3.15;
``also`` has the defaults of versions from 3.4 on.  The order of Kong's lists
says nothing, and none of these comparisons looks at it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from typing import TYPE_CHECKING

from authz.kong import checks
from authz.kong.schema import Anything, Array, Boolean, Field, Number, Object, Text

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.kong.schema import Type


class Status(Enum):
    """What becomes of a parameter that is set to something else than its default."""

    DONE = "done"
    """It takes effect."""
    BROWSER = "browser flow"
    """It is about sessions and logins: nothing changes for machine callers."""
    REFUSED = "refused"
    """To ignore it would change who gets in, or what the upstream sees."""


@dataclass(frozen=True, slots=True)
class Parameter(Field):
    """A field of the plugin's ``config``.

    ``used_by``: the only methods that look at it, if not all do.  ``without``: what
    it means to do without a parameter that is refused.
    """

    status: Status = Status.REFUSED
    used_by: frozenset[str] = frozenset()
    without: str = ""


AUTH_METHODS = (
    "authorization_code", "bearer", "client_credentials", "introspection", "kong_oauth2",
    "password", "refresh_token", "session", "userinfo",
)  # fmt: skip
CREDENTIAL_LOCATIONS = ("header", "query", "body")
_CLIENT_AUTH = (
    "client_secret_basic", "client_secret_post", "client_secret_jwt", "private_key_jwt",
    "tls_client_auth", "self_signed_tls_client_auth", "none",
)  # fmt: skip
_ALGORITHMS = tuple(
    f"{family}{bits}" for family in ("HS", "RS", "PS", "ES") for bits in (256, 384, 512)
)
_SAME_SITE = ("Strict", "Lax", "None", "Default")
_SESSION_HEADERS = (
    "id", "audience", "subject", "timeout", "idling-timeout", "rolling-timeout",
    "absolute-timeout",
)  # fmt: skip

SECONDS_MAX = 315_360_000
"""Ten years: a longer time is a mistake in the unit."""
LEEWAY_SECONDS_MAX = 120
_MILLISECONDS_MAX = 2_147_483_646
_PORT_MAX = 65535

_TEXT = Text()
_TEXTS = Array(_TEXT)
_SECRET = Text(secret=True)
_SECRETS = Array(_SECRET)
_FILLED = Array(Text(check=checks.filled))
_URL = Text(check=checks.url)
_FLAG = Boolean()
_NUMBER = Number()
_WHOLE = Number(whole=True)
_MILLISECONDS = Number(minimum=0, maximum=_MILLISECONDS_MAX, whole=True)
_SECONDS = Number(minimum=0, maximum=SECONDS_MAX)
_LIFETIME = Number(above=0, maximum=SECONDS_MAX)
_PORT = Number(minimum=0, maximum=_PORT_MAX, whole=True)
_CLAIM = Array(Text(check=checks.filled), at_least=1)


def _done(kind: Type, default: object = None, *, referenceable: bool = False) -> Parameter:
    return Parameter(kind, default, referenceable=referenceable, status=Status.DONE)


def _browser(
    kind: Type,
    default: object = None,
    *,
    also: tuple[object, ...] = (),
    referenceable: bool = False,
) -> Parameter:
    return Parameter(kind, default, also, referenceable, status=Status.BROWSER)


def _refused(kind: Type, default: object = None, *, referenceable: bool = False) -> Parameter:
    return Parameter(kind, default, referenceable=referenceable, status=Status.REFUSED)


def _each(parameter: Parameter, *names: str) -> dict[str, Parameter]:
    return dict.fromkeys(names, parameter)


def _choice(*allowed: str) -> Text:
    return Text(allowed=allowed)


def _choices(*allowed: str) -> Array:
    return Array(Text(allowed=allowed))


# --- Objects inside the configuration -------------------------------------------


def _unset(kind: Type, *names: str, referenceable: bool = False) -> dict[str, Field]:
    return dict.fromkeys(names, Field(kind, referenceable=referenceable))


_CLOUD_AUTHENTICATION: Mapping[str, Field] = {
    "auth_provider": Field(_choice("aws", "azure", "gcp"), referenceable=True),
    "aws_is_serverless": Field(_FLAG, default=True),
    **_unset(
        _TEXT,
        "aws_assume_role_arn", "aws_cache_name", "aws_region", "aws_role_session_name",
        referenceable=True,
    ),
    **_unset(
        _SECRET,
        "aws_access_key_id", "aws_secret_access_key", "azure_client_id", "azure_client_secret",
        "azure_tenant_id", "gcp_service_account_json",
        referenceable=True,
    ),
}  # fmt: skip
_REDIS: Mapping[str, Field] = {
    "cloud_authentication": Field(Object(_CLOUD_AUTHENTICATION)),
    "cluster_max_redirections": Field(_WHOLE, 5),
    "cluster_nodes": Field(
        Array(Object({"ip": Field(_TEXT, "127.0.0.1"), "port": Field(_PORT, 6379)}))
    ),
    **dict.fromkeys(
        ("connect_timeout", "read_timeout", "send_timeout"), Field(_MILLISECONDS, 2000)
    ),
    "connection_is_proxied": Field(_FLAG, default=False),
    "database": Field(_WHOLE, 0),
    "host": Field(_TEXT, "127.0.0.1", referenceable=True),
    "keepalive_backlog": Field(_WHOLE, also=(0,)),
    "keepalive_pool_size": Field(_WHOLE, 256),
    "port": Field(_PORT, 6379, referenceable=True),
    "sentinel_nodes": Field(
        Array(Object({"host": Field(_TEXT, "127.0.0.1"), "port": Field(_PORT, 6379)}))
    ),
    "sentinel_role": Field(_choice("any", "master", "slave")),
    "ssl": Field(_FLAG, default=False),
    "ssl_verify": Field(_FLAG, default=True, also=(False,)),
    "sentinel_master": Field(_TEXT),
    "server_name": Field(_TEXT, referenceable=True),
    **_unset(
        _SECRET,
        "username", "password", "sentinel_username", "sentinel_password",
        referenceable=True,
    ),
    # Names of older versions, which write them beside the new ones.
    "timeout": Field(_MILLISECONDS, 2000),
    **_unset(_TEXTS, "cluster_addresses", "sentinel_addresses"),
}  # fmt: skip
_SESSION_REDIS: Mapping[str, Field] = {**_REDIS, **_unset(_TEXT, "prefix", "socket")}
_CLIENT_JWK: Mapping[str, Field] = {
    **_unset(_TEXT, "alg", "crv", "e", "issuer", "kid", "kty", "n", "use", "x", "y"),
    **_unset(_TEXT, "x5t", "x5t#S256", "x5u"),
    **_unset(_SECRET, "d", "dp", "dq", "k", "oth", "p", "q", "qi", "r", "t", referenceable=True),
    **_unset(_TEXTS, "key_ops", "x5c"),
}
_CLIENT_CERTIFICATE_HEADER: Mapping[str, Field] = {
    "allow_partial_chain": Field(_FLAG, default=False),
    "ca_certificates": Field(_TEXTS),
    "cert_cache_ttl": Field(_NUMBER, 60_000),
    "certificate_header_format": Field(_choice("base64_encoded", "url_encoded"), "url_encoded"),
    "certificate_header_name": Field(_TEXT),
    "http_timeout": Field(_NUMBER, 30_000),
    "revocation_check_mode": Field(_choice("IGNORE_CA_ERROR", "SKIP", "STRICT"), "IGNORE_CA_ERROR"),
    "secure_source": Field(_FLAG, default=True),
    "ssl_verify": Field(_FLAG, default=True),
    **_unset(_TEXT, "http_proxy_host", "https_proxy_host"),
    **_unset(_PORT, "http_proxy_port", "https_proxy_port"),
}
_PRINCIPALS: Mapping[str, Field] = {
    "directory": Field(_TEXT, "default"),
    "enabled": Field(_FLAG, default=False),
    "error_on_miss": Field(_FLAG, default=True),
    "match_consumer": Field(_FLAG, default=True),
    "match_consumer_groups": Field(_FLAG, default=True),
    "principal_by": Field(_TEXT),
    "principal_claim": Field(_TEXTS),
}
_SUBJECT_TOKEN_ISSUER: Mapping[str, Field] = {
    "conditions": Field(
        Object(_unset(_TEXTS, "has_audience", "has_scopes", "missing_audience", "missing_scopes"))
    ),
    "issuer": Field(_TEXT),
    "jwks_uri": Field(_TEXT),
    "verify_signature": Field(_FLAG, default=False),
}
_TOKEN_EXCHANGE: Mapping[str, Field] = {
    "cache": Field(Object({"enabled": Field(_FLAG, default=True), "ttl": Field(_WHOLE)})),
    "request": Field(
        Object(
            {
                **_unset(_TEXTS, "audience", "scopes"),
                **dict.fromkeys(("empty_audience", "empty_scopes"), Field(_FLAG, default=False)),
            }
        )
    ),
    "subject_token_issuers": Field(Array(Object(_SUBJECT_TOKEN_ISSUER))),
}
_HEADER_FROM_CLAIM: Mapping[str, Field] = {"header": Field(_TEXT), "path": Field(_TEXTS)}


# --- Parameters that take effect --------------------------------------------------

_DONE: Mapping[str, Parameter] = {
    "audience": _done(_FILLED),
    "audience_claim": _done(_CLAIM, ("aud",)),
    "audience_required": _done(_FILLED),
    "auth_methods": _done(_choices(*AUTH_METHODS), AUTH_METHODS),
    "bearer_token_param_type": _done(
        _choices(*CREDENTIAL_LOCATIONS, "cookie"), CREDENTIAL_LOCATIONS
    ),
    "by_username_ignore_case": _done(_FLAG, default=False),
    "cache_tokens": _done(_FLAG, default=True),
    "cache_tokens_salt": _done(Text(check=checks.filled, secret=True)),
    "cache_ttl": _done(_LIFETIME, 3600),
    "cache_ttl_max": _done(_LIFETIME),
    "cache_ttl_min": _done(_SECONDS),
    "cache_ttl_neg": _done(_LIFETIME),
    "cache_ttl_resurrect": _done(_SECONDS),
    "client_auth": _done(_choices(*_CLIENT_AUTH)),
    "client_credentials_param_type": _done(_choices(*CREDENTIAL_LOCATIONS), CREDENTIAL_LOCATIONS),
    "client_id": _done(_FILLED, referenceable=True),
    "client_secret": _done(Array(Text(check=checks.filled, secret=True)), referenceable=True),
    "consumer_by": _done(
        Array(Text(allowed=("username", "custom_id", "id")), at_least=1), ("username", "custom_id")
    ),
    "consumer_claim": _done(_CLAIM),
    "consumer_claims": _done(Array(_CLAIM)),
    "consumer_optional": _done(_FLAG, default=False),
    "credential_claim": _done(_CLAIM, ("sub",)),
    "display_errors": _done(_FLAG, default=False),
    "expose_error_code": _done(_FLAG, default=True),
    "extra_jwks_uris": _done(Array(_URL), referenceable=True),
    "forbidden_error_message": _done(Text(check=checks.message), "Forbidden"),
    "hide_credentials": _done(_FLAG, default=True),
    "issuer": _done(_URL, referenceable=True),
    "issuers_allowed": _done(_FILLED, referenceable=True),
    "jwks_endpoint": _done(_URL),
    "leeway": _done(Number(minimum=0, maximum=LEEWAY_SECONDS_MAX), 0),
    "rediscovery_lifetime": _done(_SECONDS, 30),
    "run_on_preflight": _done(_FLAG, default=True),
    "scopes": _done(Array(Text(check=checks.scopes)), ("openid",), referenceable=True),
    "scopes_claim": _done(_CLAIM, ("scope",)),
    "scopes_required": _done(_FILLED),
    "ssl_verify": _done(_FLAG, default=True),
    "timeout": _done(Number(minimum=1, maximum=_MILLISECONDS_MAX, whole=True), 10_000),
    "token_cache_key_include_scope": _done(_FLAG, default=False),
    "token_endpoint": _done(_URL),
    "token_endpoint_auth_method": _done(_choice(*_CLIENT_AUTH)),
    "unauthorized_error_message": _done(Text(check=checks.message), "Unauthorized"),
    "upstream_access_token_header": _done(Text(check=checks.token_header), "authorization:bearer"),
    "using_pseudo_issuer": _done(_FLAG, default=False),
    "verify_claims": _done(_FLAG, default=True),
    "verify_signature": _done(_FLAG, default=True),
}

# --- Parameters of logins and sessions ----------------------------------------------

_BROWSER: Mapping[str, Parameter] = {
    "authorization_cookie_http_only": _browser(_FLAG, default=True),
    "authorization_cookie_name": _browser(_TEXT, "authorization"),
    "authorization_cookie_path": _browser(_TEXT, "/"),
    "authorization_cookie_same_site": _browser(_choice(*_SAME_SITE), "Default"),
    "authorization_rolling_timeout": _browser(_NUMBER, 600),
    "disable_session": _browser(_choices(*AUTH_METHODS)),
    "login_action": _browser(_choice("upstream", "response", "redirect"), "upstream"),
    "login_methods": _browser(_choices(*AUTH_METHODS), ("authorization_code",)),
    "login_redirect_mode": _browser(_choice("fragment", "query"), "fragment"),
    "login_tokens": _browser(
        _choices("id_token", "access_token", "refresh_token", "tokens", "introspection"),
        ("id_token",),
    ),
    "logout_methods": _browser(_choices("POST", "GET", "DELETE"), ("POST", "DELETE")),
    "logout_revoke": _browser(_FLAG, default=False),
    "preserve_query_args": _browser(_FLAG, default=False),
    "pushed_authorization_request_endpoint_auth_method": _browser(_choice(*_CLIENT_AUTH)),
    "redis": _browser(Object(_SESSION_REDIS)),
    "response_mode": _browser(
        _choice(
            "query", "form_post", "fragment", "jwt", "query.jwt", "form_post.jwt", "fragment.jwt"
        ),
        "query",
    ),
    "response_type": _browser(_TEXTS, ("code",)),
    "reverify": _browser(_FLAG, default=False),
    "revocation_endpoint_auth_method": _browser(_choice(*_CLIENT_AUTH)),
    "revocation_token_param_name": _browser(_TEXT, "token"),
    "session_absolute_timeout": _browser(_NUMBER, 86_400),
    "session_audience": _browser(_TEXT, "default"),
    "session_bind": _browser(_choices("ip", "scheme", "user-agent")),
    "session_cookie_name": _browser(_TEXT, "session"),
    "session_cookie_path": _browser(_TEXT, "/"),
    "session_cookie_same_site": _browser(_choice(*_SAME_SITE), "Lax"),
    "session_idling_timeout": _browser(_NUMBER, 900),
    "session_memcached_host": _browser(_TEXT, "127.0.0.1"),
    "session_memcached_port": _browser(_PORT, 11211),
    "session_memcached_ssl": _browser(_FLAG, also=(False,)),
    "session_memcached_ssl_verify": _browser(_FLAG, default=True, also=(False,)),
    "session_remember_absolute_timeout": _browser(_NUMBER, 2_592_000),
    "session_remember_cookie_name": _browser(_TEXT, "remember"),
    "session_remember_rolling_timeout": _browser(_NUMBER, 604_800),
    "session_rolling_timeout": _browser(_NUMBER, 3600),
    "session_secret": _browser(_SECRET, referenceable=True),
    "session_storage": _browser(_choice("cookie", "memcache", "memcached", "redis"), "cookie"),
    "verify_nonce": _browser(_FLAG, default=True),
    **_each(_browser(_choices(*_SESSION_HEADERS)), "session_request_headers"),
    **_each(_browser(_choices(*_SESSION_HEADERS)), "session_response_headers"),
    **_each(
        _browser(_FLAG, default=True),
        "forbidden_destroy_session", "unauthorized_destroy_session",
        "logout_revoke_access_token", "logout_revoke_refresh_token",
        "refresh_tokens", "session_cookie_http_only",
    ),
    **_each(
        _browser(_FLAG, default=False),
        "session_enforce_same_subject", "session_hash_storage_key", "session_hash_subject",
        "session_remember", "session_store_metadata",
    ),
    **_each(
        _browser(_FLAG),
        "authorization_cookie_secure", "session_cookie_secure",
        "require_proof_key_for_code_exchange", "require_pushed_authorization_requests",
        "require_signed_request_object",
    ),
    **_each(
        _browser(_TEXT),
        "authorization_cookie_domain", "authorization_endpoint", "end_session_endpoint",
        "logout_post_arg", "logout_query_arg", "logout_uri_suffix", "mtls_revocation_endpoint",
        "pushed_authorization_request_endpoint", "revocation_endpoint", "session_cookie_domain",
        "session_memcached_prefix", "session_memcached_socket",
        "downstream_session_id_header", "upstream_session_id_header",
    ),
    **_each(
        _browser(_TEXTS),
        "authorization_query_args_client", "authorization_query_args_names",
        "authorization_query_args_values", "redirect_uri",
    ),
    **_each(_browser(_TEXTS, referenceable=True), "login_redirect_uri", "logout_redirect_uri"),
}  # fmt: skip

# --- Parameters that are not done ---------------------------------------------------

_REFUSED: Mapping[str, Parameter] = {
    "anonymous": _refused(_TEXT),
    "bearer_token_cookie_name": _refused(_TEXT),
    "bearer_token_header_name": _refused(_TEXT),
    "client_alg": _refused(_choices(*_ALGORITHMS, "EdDSA")),
    "client_arg": _refused(_TEXT, "client_id"),
    "client_jwk": _refused(Array(Object(_CLIENT_JWK))),
    "cluster_cache_items": _refused(_choices("introspection", "tokens"), ("introspection",)),
    "cluster_cache_redis": _refused(Object(_REDIS)),
    "cluster_cache_strategy": _refused(_choice("off", "redis"), "off"),
    "downstream_headers": _refused(Array(Object(_HEADER_FROM_CLAIM))),
    "dpop_proof_lifetime": _refused(_NUMBER, 300),
    "groups_claim": _refused(_TEXTS, ("groups",)),
    "http_version": _refused(_NUMBER, 1.1),
    "ignore_signature": _refused(
        _choices(*(name for name in AUTH_METHODS if name not in {"bearer", "kong_oauth2"})), ()
    ),
    "introspection_accept": _refused(
        _choice("application/json", "application/token-introspection+jwt", "application/jwt"),
        "application/json",
    ),
    "introspection_endpoint": _refused(_TEXT, referenceable=True),
    "introspection_endpoint_auth_method": _refused(_choice(*_CLIENT_AUTH)),
    "introspection_headers_values": _refused(_SECRETS, referenceable=True),
    "introspection_hint": _refused(_TEXT, "access_token"),
    "introspection_token_param_name": _refused(_TEXT, "token"),
    "jwt_session_claim": _refused(_TEXT, "sid"),
    "max_age": _refused(_NUMBER),
    "principals": _refused(Object(_PRINCIPALS)),
    "proof_of_possession_dpop": _refused(_choice("off", "optional", "strict"), "off"),
    "proof_of_possession_mtls": _refused(_choice("off", "optional", "strict"), "off"),
    "proof_of_possession_mtls_from_header": _refused(Object(_CLIENT_CERTIFICATE_HEADER)),
    "roles_claim": _refused(_TEXTS, ("roles",)),
    "token_exchange": _refused(Object(_TOKEN_EXCHANGE)),
    "token_headers_grants": _refused(
        _choices("password", "client_credentials", "authorization_code", "refresh_token")
    ),
    "upstream_headers": _refused(Array(Object(_HEADER_FROM_CLAIM))),
    "userinfo_accept": _refused(_choice("application/json", "application/jwt"), "application/json"),
    **_each(
        _refused(_choices(*CREDENTIAL_LOCATIONS), CREDENTIAL_LOCATIONS),
        "id_token_param_type", "password_param_type", "refresh_token_param_type",
    ),
    **_each(
        _refused(_SECRET, referenceable=True),
        "http_proxy_authorization", "https_proxy_authorization",
    ),
    **_each(
        _refused(_FLAG, default=True),
        "cache_introspection", "cache_token_exchange", "cache_user_info",
        "introspection_check_active", "keepalive", "proof_of_possession_auth_methods_validation",
        "tls_client_auth_ssl_verify",
    ),
    **_each(
        _refused(_FLAG, default=False),
        "consumer_groups_optional", "dpop_use_nonce", "enable_hs_signatures",
        "introspect_jwt_tokens", "resolve_distributed_claims", "search_user_info",
        "verify_parameters",
    ),
    **_each(
        _refused(_SECRET),
        "http_proxy", "https_proxy",  # URLs that may hold a password
    ),
    **_each(
        _refused(_TEXT),
        "id_token_param_name", "jwt_session_cookie", "mtls_introspection_endpoint",
        "mtls_token_endpoint", "no_proxy", "refresh_token_param_name", "tls_client_auth_cert_id",
        "token_exchange_endpoint", "token_headers_prefix", "userinfo_endpoint",
        *(
            f"downstream_{what}_header"
            for what in (
                "access_token", "access_token_jwk", "id_token", "id_token_jwk", "introspection",
                "introspection_jwt", "refresh_token", "user_info", "user_info_jwt",
            )
        ),
        *(
            f"upstream_{what}_header"
            for what in (
                "access_token_jwk", "id_token", "id_token_jwk", "introspection",
                "introspection_jwt", "refresh_token", "user_info", "user_info_jwt",
            )
        ),
    ),
    **_each(
        _refused(_SECRETS),  # values for the identity provider: API keys, as a rule
        "discovery_headers_values", "introspection_post_args_values", "token_headers_values",
        "token_post_args_values", "userinfo_headers_values", "userinfo_query_args_values",
    ),
    **_each(
        _refused(_TEXTS),
        "authenticated_groups_claim", "claims_forbidden", "consumer_groups_claim",
        "discovery_headers_names", "domains", "downstream_headers_claims",
        "downstream_headers_names", "forbidden_redirect_uri", "groups_required",
        "introspection_headers_client", "introspection_headers_names",
        "introspection_post_args_client", "introspection_post_args_client_headers",
        "introspection_post_args_names", "roles_required", "token_headers_client",
        "token_headers_names", "token_headers_replay", "token_post_args_client",
        "token_post_args_names", "unauthorized_redirect_uri", "unexpected_redirect_uri",
        "upstream_headers_claims", "upstream_headers_names", "userinfo_headers_client",
        "userinfo_headers_names", "userinfo_query_args_client", "userinfo_query_args_names",
    ),
}  # fmt: skip

# --- Names of older versions ----------------------------------------------------------

_LEGACY: Mapping[str, Parameter] = {
    **_each(
        _browser(Anything()),
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
    ),
}  # fmt: skip

# --- What only some methods use --------------------------------------------------------

_EXCHANGE = frozenset(
    {"authorization_code", "client_credentials", "password", "refresh_token"}
)  # those that ask the token endpoint
_OUR_CLIENT = frozenset(AUTH_METHODS) - {"bearer", "client_credentials", "kong_oauth2", "session"}

_USED_BY: Mapping[str, frozenset[str]] = {
    **dict.fromkeys(
        ("bearer_token_cookie_name", "bearer_token_header_name", "bearer_token_param_type"),
        frozenset({"bearer"}),
    ),
    **dict.fromkeys(
        (
            "cache_introspection", "introspection_accept", "introspection_check_active",
            "introspection_endpoint", "introspection_endpoint_auth_method",
            "introspection_headers_client", "introspection_headers_names",
            "introspection_headers_values", "introspection_hint",
            "introspection_post_args_client", "introspection_post_args_client_headers",
            "introspection_post_args_names", "introspection_post_args_values",
            "introspection_token_param_name", "mtls_introspection_endpoint",
        ),
        frozenset({"introspection"}),
    ),
    **dict.fromkeys(
        (
            "cache_user_info", "userinfo_accept", "userinfo_endpoint", "userinfo_headers_client",
            "userinfo_headers_names", "userinfo_headers_values", "userinfo_query_args_client",
            "userinfo_query_args_names", "userinfo_query_args_values",
        ),
        frozenset({"userinfo"}),
    ),
    **dict.fromkeys(
        ("refresh_token_param_name", "refresh_token_param_type"), frozenset({"refresh_token"})
    ),
    "client_credentials_param_type": frozenset({"client_credentials"}),
    "password_param_type": frozenset({"password"}),
    **dict.fromkeys(
        (
            "client_auth", "mtls_token_endpoint", "scopes", "token_endpoint",
            "token_endpoint_auth_method", "token_headers_client", "token_headers_grants",
            "token_headers_names", "token_headers_prefix", "token_headers_replay",
            "token_headers_values", "token_post_args_client", "token_post_args_names",
            "token_post_args_values",
        ),
        _EXCHANGE,
    ),
    **dict.fromkeys(("client_arg", "client_id", "client_secret"), _OUR_CLIENT),
}  # fmt: skip

# --- What it means to do without ---------------------------------------------------------

_TURNS_AWAY = "callers whom it turns away would get in"
_FINDS_FEWER = "callers whom it lets in would be refused"
_UNSAFE = "nothing gets weaker, for it only switches a check off"
_WITHOUT: Mapping[str, tuple[str, ...]] = {
    _TURNS_AWAY: (
        "claims_forbidden", "consumer_groups_claim", "domains", "groups_claim", "groups_required",
        "jwt_session_claim", "jwt_session_cookie", "max_age", "principals", "roles_claim",
        "roles_required",
    ),
    "a token that was revoked would be accepted until it expires": ("introspect_jwt_tokens",),
    "whoever holds a stolen token could use it": (
        "dpop_proof_lifetime", "dpop_use_nonce", "proof_of_possession_dpop",
        "proof_of_possession_mtls", "proof_of_possession_mtls_from_header",
    ),
    "the acl plugin and the upstream would see no groups": ("authenticated_groups_claim",),
    _UNSAFE: (
        "consumer_groups_optional", "enable_hs_signatures", "ignore_signature",
        "introspection_check_active", "proof_of_possession_auth_methods_validation",
        "tls_client_auth_ssl_verify",
    ),
    _FINDS_FEWER: (
        "anonymous", "bearer_token_cookie_name", "bearer_token_header_name", "id_token_param_name",
        "id_token_param_type", "password_param_type", "refresh_token_param_name",
        "refresh_token_param_type", "resolve_distributed_claims", "search_user_info",
        "token_exchange", "token_exchange_endpoint",
    ),
    "callers would get other words, or no redirect": (
        "forbidden_redirect_uri", "unauthorized_redirect_uri", "unexpected_redirect_uri",
    ),
    "each instance would keep what it has fetched in its own memory": (
        "cache_introspection", "cache_token_exchange", "cache_user_info", "cluster_cache_items",
        "cluster_cache_redis", "cluster_cache_strategy",
    ),
    "the provider would be reached without the proxy": (
        "http_proxy", "http_proxy_authorization", "https_proxy", "https_proxy_authorization",
        "no_proxy",
    ),
    "nothing changes for callers": ("http_version", "keepalive", "verify_parameters"),
}  # fmt: skip
_WITHOUT_BY_PREFIX: Mapping[str, str] = {
    "upstream_": "the upstream would not get what it says",
    "downstream_": "the caller would not get what it says",
    "token_headers_replay": "the caller would not get the provider's headers",
    "": "the provider would not be asked the way it says",
}


def _without(name: str) -> str:
    for said, names in _WITHOUT.items():
        if name in names:
            return said
    return next(said for prefix, said in _WITHOUT_BY_PREFIX.items() if name.startswith(prefix))


PARAMETERS: Mapping[str, Parameter] = {
    name: replace(
        parameter,
        used_by=_USED_BY.get(name, frozenset()),
        without=_without(name) if parameter.status is Status.REFUSED else "",
    )
    for name, parameter in {**_DONE, **_BROWSER, **_REFUSED, **_LEGACY}.items()
}
LEGACY = frozenset(_LEGACY)
