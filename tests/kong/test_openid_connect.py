"""The plugin's parameters: what takes effect, what is refused, what is only noticed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from support.configuration import (
    FORMAT,
    PLUGIN,
    complaints,
    config,
    load,
    notices,
    with_parameters,
)

from authz.kong import document, schema
from authz.kong.document import MappingNode, Node
from authz.kong.openid_connect import FORWARDED_NAMES_MAX, _not_done
from authz.kong.problems import Problems
from authz.methods import METHOD_NAMES
from authz.parameters import PARAMETERS
from authz.parameters.browser import LEGACY
from authz.parameters.common import AUTH_METHODS, METHODS_FOR_BROWSERS
from authz.parameters.declaration import Status
from authz.parameters.kinds import Array, Object

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.parameters import OpenIDConnect
    from authz.parameters.kinds import Field


def refused(*lines: str, instead_of: str = "") -> str:
    [complaint] = complaints(with_parameters(*lines, instead_of=instead_of))
    return complaint.split(": ", 1)[1]


# --- The table --------------------------------------------------------------------


def test_all_235_parameters_of_kong_3_16_are_known_and_the_older_consumer_claim() -> None:
    assert len(PARAMETERS.keys() - LEGACY.keys() - {"consumer_claim"}) == 235


def default_of(name: str) -> Any:
    """Return Kong's default as a dump has it: objects with all of their fields."""
    parameter = PARAMETERS[name]
    if isinstance(parameter.kind, Object):
        return {field: f.default for field, f in parameter.kind.fields.items()}
    return parameter.default


def test_a_full_dump_of_kongs_defaults_is_never_refused() -> None:
    values = {name: default_of(name) for name in PARAMETERS} | {"issuer": "https://idp.example"}
    dump = {
        "_format_version": "3.0",
        "plugins": [{"name": "openid-connect", "config": values}],
    }
    read = load(json.dumps(dump)).plugins[0].config
    assert read.callers.auth_methods == ("bearer", "client_credentials")
    assert read.callers.client_credentials_param_type == ("header", "query")
    assert read.exchange.scopes == ("openid",)


@pytest.mark.parametrize("older", [False, None])
def test_defaults_of_older_versions_are_never_refused(older: bool | None) -> None:
    text = json.dumps(older)
    found = load(
        with_parameters(
            f"session_memcached_ssl_verify: {text}",
            f"cluster_cache_redis: {{ssl_verify: {text}, timeout: 2000, cluster_addresses: null}}",
            f"redis: {{ssl_verify: {text}}}",
        )
    )
    assert found == load(PLUGIN)  # nothing is set by them, and nothing is said of them


URL = "https://idp.example/x"


def other_than_default(name: str) -> Any:
    """Return the first value that the parameter's type takes and that is not the default."""
    parameter = PARAMETERS[name]
    listed = isinstance(parameter.kind, Array)
    kind = parameter.kind.of if isinstance(parameter.kind, Array) else parameter.kind
    for value in (*getattr(kind, "allowed", ()), "x", 7, not parameter.default, URL, {}):
        taken = schema.read(parameter.kind, node(value), name, Problems())
        if taken is not None and taken != () and not parameter.is_default(taken):
            return [value] if listed else value
    raise AssertionError(name)


def node(value: Any) -> Node:
    root = document.parse(json.dumps({"value": value}).encode(), "f", {}, Problems())
    assert isinstance(root, MappingNode)
    return root.entries["value"].value


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, parameter in PARAMETERS.items()
        # An object counts as set once something in it does: tested below.
        if parameter.status is Status.REFUSED and not isinstance(parameter.kind, Object)
    ],
)
def test_what_is_not_done_is_refused_by_name_when_it_is_set(name: str) -> None:
    line = f"{name}: {json.dumps(other_than_default(name))}"
    message = refused(line, instead_of="auth_methods")  # with each method that might use it
    assert message == f"{name}: {_not_done(PARAMETERS[name])}"


def test_C_07_each_refusal_says_what_it_means_to_do_without_the_parameter() -> None:
    for name, parameter in PARAMETERS.items():
        outcome = parameter.becomes
        leaves_out = outcome.status in {Status.REFUSED, Status.NOTICED} or bool(outcome.values)
        assert bool(outcome.without) is leaves_out, name
    for name in CHECKS:
        assert "get in" in PARAMETERS[name].becomes.without, name


# Parameters that turn callers away; to do without one of them is never harmless.
CHECKS = (
    "claims_forbidden",
    "domains",
    "max_age",
    "principals",
)


IDLE = (
    "no effect, for only methods that are not named in auth_methods, or are for browsers, "
    "use it: {}"
)
OWN_CLIENT = "no method that acts here uses a client of our own ({}): callers present theirs"


@pytest.mark.parametrize(
    "name", [name for name, parameter in PARAMETERS.items() if parameter.used_by - {"bearer"}]
)
def test_D_11_what_only_another_method_uses_takes_no_effect_and_is_one_notice(name: str) -> None:
    parameter = PARAMETERS[name]
    method = "bearer" if "client_credentials" in parameter.used_by else "client_credentials"
    plain = PLUGIN
    if method == "bearer":
        plain = plain.replace("client_credentials_param", "bearer_token_param")
        plain = plain.replace("client_credentials", "bearer")
    text = f"{plain}    {name}: {json.dumps(other_than_default(name))}\n"
    [notice] = [line for line in notices(text) if f": {name}: " in line]
    words = OWN_CLIENT if name in {"client_id", "client_secret", "client_jwk"} else IDLE
    assert notice.partition(": ")[2] == f"{name}: {words.format(name)}"
    given, left_out = (load(each).plugins[0].config for each in (text, plain))
    assert changed(given, left_out) <= {name}  # what nobody reads may still be told


def changed(one: OpenIDConnect, other: OpenIDConnect) -> set[str]:
    before, after = one.flat(), other.flat()
    return {name for name in before if before[name] != after[name]}


@pytest.mark.parametrize("name", ["bearer_token_header_name", "bearer_token_cookie_name"])
def test_D_11_a_place_for_bearer_tokens_takes_no_effect_without_bearer(name: str) -> None:
    [notice] = notices(with_parameters(f"{name}: x"))
    assert notice.partition(": ")[2] == f"{name}: {IDLE.format(name)}"
    assert "is not done here" in refused(f"{name}: x", instead_of="auth_methods")


def test_D_11_what_only_a_login_uses_takes_no_effect_beside_a_method_for_machines() -> None:
    text = PLUGIN.replace("client_credentials_param", "bearer_token_param").replace(
        "[client_credentials]", "[bearer, authorization_code, session]"
    )
    found = notices(text + "    token_post_args_names: [resource]\n")
    assert any("use it: token_post_args_names" in line for line in found)


def test_D_11_nothing_that_turns_callers_away_is_ever_without_effect() -> None:
    for name, parameter in PARAMETERS.items():
        if parameter.used_by:
            assert not name.endswith(("_required", "_forbidden", "_allowed")), name
            assert not name.startswith(("verify_", "proof_of_possession_", "dpop_")), name
    assert not any(PARAMETERS[name].used_by for name in (*CHECKS, "introspect_jwt_tokens"))


REFERENCEABLE = {
    "client_id", "client_secret", "extra_jwks_uris", "http_proxy_authorization",
    "https_proxy_authorization", "introspection_endpoint", "introspection_headers_values",
    "issuer", "issuers_allowed", "login_redirect_uri", "logout_redirect_uri", "scopes",
    "session_secret",
    *(f"client_jwk.{name}" for name in ("d", "dp", "dq", "k", "oth", "p", "q", "qi", "r", "t")),
    *(
        f"{redis}.{name}"
        for redis in ("cluster_cache_redis", "redis")
        for name in (
            "cloud_authentication.auth_provider", "cloud_authentication.aws_access_key_id",
            "cloud_authentication.aws_assume_role_arn", "cloud_authentication.aws_cache_name",
            "cloud_authentication.aws_region", "cloud_authentication.aws_role_session_name",
            "cloud_authentication.aws_secret_access_key", "cloud_authentication.azure_client_id",
            "cloud_authentication.azure_client_secret", "cloud_authentication.azure_tenant_id",
            "cloud_authentication.gcp_service_account_json", "host", "password", "port",
            "sentinel_password", "sentinel_username", "server_name", "username",
            "cloud_authentication.oauth.client_id", "cloud_authentication.oauth.client_secret",
            "cloud_authentication.oauth.password", "cloud_authentication.oauth.redis_username",
            "cloud_authentication.oauth.username",
        )
    ),
    "token_exchange.request.actor_token.static_token",
}  # fmt: skip
"""Kong's own list for openid-connect, of its documentation of 3.16."""


def referenceable(fields: Mapping[str, Field], prefix: str = "") -> set[str]:
    found = set()
    for name, field in fields.items():
        kind = field.kind.of if isinstance(field.kind, Array) else field.kind
        if field.referenceable:
            found.add(prefix + name)
        if isinstance(kind, Object):
            found |= referenceable(kind.fields, f"{prefix}{name}.")
    return found


def test_D_07_the_fields_that_take_references_are_kongs() -> None:
    assert referenceable(PARAMETERS) == REFERENCEABLE


@pytest.mark.parametrize("name", sorted(REFERENCEABLE))
@pytest.mark.parametrize("enabled", [True, False])
def test_D_07_no_vault_is_asked_for_what_takes_no_effect(name: str, enabled: bool) -> None:
    *outer, inner = name.split(".")
    value: Any = "{vault://hcv/secret}"
    for key in reversed([*outer[1:], inner] if outer else []):
        value = {key: value}
    top = outer[0] if outer else inner
    line = f"{top}: {json.dumps([value] if top == 'client_jwk' else value)}"
    text = with_parameters(line, instead_of=top)
    if not enabled:
        text = text.replace("- name: openid-connect", "- name: openid-connect\n  enabled: no")
    needed = enabled and top in {"extra_jwks_uris", "issuer", "issuers_allowed", "scopes"}
    assert any("the vault 'hcv' cannot be read here" in line for line in complaints(text)) is needed
    if PARAMETERS[top].status is not Status.REFUSED and not needed:
        assert complaints(text) == []


@pytest.mark.parametrize(
    ("line", "instead"),
    [
        ("http_version: 1.0", "the provider is asked in HTTP/1.1"),
        ("keepalive: false", "connections to the provider are kept"),
        ("verify_parameters: true", "the parameters are not compared with what is discovered"),
    ],
)
def test_what_no_answer_depends_on_is_accepted_with_one_notice(line: str, instead: str) -> None:
    text = with_parameters(line)
    [notice] = notices(text)
    name = line.partition(":")[0]
    assert notice.partition(": ")[2] == f"{name}: has no effect here: {instead}"
    assert load(text).plugins[0].config == load(PLUGIN).plugins[0].config


def test_what_no_answer_depends_on_is_a_closed_list() -> None:
    # Each of them was looked at: a new one must be, too.
    noticed = {name for name, one in PARAMETERS.items() if one.status is Status.NOTICED}
    assert noticed == {"http_version", "keepalive", "verify_parameters"}


def test_an_object_that_is_not_done_is_refused_when_something_in_it_is_set() -> None:
    assert refused("principals: {enabled: true}").startswith("principals: is not done here")
    assert complaints(with_parameters("principals: {enabled: false}")) == []


def test_browser_parameters_stand_in_one_notice() -> None:
    [notice] = notices(
        with_parameters("session_secret: x", "logout_methods: [GET]", "session_redis_host: h")
    )
    assert notice == (
        "9:5: session_secret: of logins and sessions, changes nothing for machine callers: "
        "session_secret, logout_methods and 1 of older versions"
    )


def test_legacy_names_alone_are_only_noticed() -> None:
    [notice] = notices(with_parameters("session_cookie_renew: 600"))
    assert notice.endswith("changes nothing for machine callers: legacy names")


def test_CF_01_an_unknown_parameter_is_an_error_with_a_hint() -> None:
    assert refused("audiance: x") == "audiance: is not known here; did you mean 'audience'?"


def test_an_unknown_key_of_a_nested_object_is_an_error_too() -> None:
    assert refused("redis: {hots: x}") == "redis.hots: is not known here; did you mean 'host'?"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("consumer_by: [usrname]", "or id, not 'usrname'; did you mean 'username'?"),
        ("leeway: [1]", "must be a number, not a list"),
        ("client_id: 7", "must be a string, not a number: put it in quotes"),
        ("client_id: [null]", "a list cannot hold null"),
        ("client_id: ['']", "must not be empty"),
        ("client_id: [{}]", "must be a string, not a mapping"),
        ("credential_claim: []", "must not be empty"),
        ("redis: 1", "must be a mapping, not a number"),
        ("verify_claims: maybe", "must be true or false"),
        ("verify_claims: 'true'", "must be true or false, without quotes"),
    ],
)
def test_a_value_of_another_type_is_refused(line: str, message: str) -> None:
    assert refused(line).endswith(message)


def test_a_disabled_plugin_is_checked_for_grammar_only() -> None:
    text = PLUGIN.replace("  config:", "  enabled: false\n  config:")
    assert load(text + "    anonymous: guest\n").plugins == ()
    assert complaints(text + "    anonymos: guest\n") != []


# --- Numbers and texts --------------------------------------------------------------


@pytest.mark.parametrize(
    "line",
    [
        "leeway: -1", "leeway: 121", "cache_ttl: 0", "cache_ttl: -1", "cache_ttl: .nan",
        "cache_ttl: .inf", "cache_ttl: 5m", "cache_ttl: 1e12", "cache_ttl_max: 0",
        "cache_ttl_min: -1", "cache_ttl_neg: 0", "rediscovery_lifetime: -1", "timeout: 0",
        "timeout: 0.5",
    ],
)  # fmt: skip
def test_CF_08_a_number_that_makes_no_sense_is_refused(line: str) -> None:
    assert refused(line).startswith(line.partition(":")[0])


def test_CF_08_leeway_up_to_two_minutes_and_rediscovery_at_once_are_fine() -> None:
    read = config("leeway: 120", "rediscovery_lifetime: 0")
    assert (read.token.leeway, read.reach.rediscovery_lifetime) == (120, 0)


def test_cache_ttl_min_cannot_exceed_cache_ttl_max() -> None:
    assert refused("cache_ttl_min: 5", "cache_ttl_max: 4").startswith("cache_ttl_min: must not")


@pytest.mark.parametrize("name", ["unauthorized_error_message", "forbidden_error_message"])
@pytest.mark.parametrize("text", ['"a\\nb"', '"\\x85"', "x" * 1001])
def test_an_error_message_is_bounded_and_printable(name: str, text: str) -> None:
    assert refused(f"{name}: {text}").startswith(f"{name}: must not")


@pytest.mark.parametrize(
    "header",
    [
        "host", ":path", "content-length", "Content_Length", "transfer-encoding", "connection",
        "te", "upgrade", "x-envoy-original-path", "x-consumer-id", "a b", "authorization:b c",
        "x.consumer.id", "X~Anonymous~Consumer", "x!a-b.c-d_e|f*g",
        "x-a-b-c-d-e-f-g", "X-Real-IP", "x_forwarded_for:bearer",
    ],
)  # fmt: skip
def test_CF_06_a_reserved_or_impossible_token_header_is_refused(header: str) -> None:
    assert refused(f'upstream_access_token_header: "{header}"').startswith("upstream_access_")


@pytest.mark.parametrize("nothing", ["null", '""'])
def test_an_empty_token_header_switches_the_header_off(nothing: str) -> None:
    read = config(f"upstream_access_token_header: {nothing}")
    assert read.upstream.upstream_access_token_header == ""


@pytest.mark.parametrize("nothing", ["null", '""', "[]"])
def test_empty_scopes_send_none(nothing: str) -> None:
    assert config(f"scopes: {nothing}").exchange.scopes == ()


# --- URLs ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url",
    [
        "idp.example", "//idp.example", "ftp://idp.example", "https://", "https:///x",
        '" https://idp.example"', '"https://idp.example "', '"https://idp.example/#x"',
        "https://idp.example:0/", "https://idp.example:x/", "https://idp.example:/",
        "https://[::1/", "https://idp..example", '"https://idp\\u00e9.example"',
        '"https://idp.example\\\\@evil"',
    ],
)  # fmt: skip
def test_CF_02_what_is_no_absolute_url_with_a_host_is_refused(url: str) -> None:
    assert refused(f"issuer: {url}", instead_of="issuer").startswith("issuer: must")


@pytest.mark.parametrize("name", ["issuer", "token_endpoint", "jwks_endpoint", "extra_jwks_uris"])
def test_LG_03_a_password_in_a_url_is_refused_and_not_repeated(name: str) -> None:
    message = refused(f"{name}: https://user:hunter2@idp.example/", instead_of=name)
    assert message == f"{name}: must not hold a user name or a password"


@pytest.mark.parametrize(
    "realm", ["https://a\\\\b/", 'https://a\\"b/', "https://a\\r\\nb/", "https://\\u00fc/"]
)
def test_CF_12_an_issuer_that_no_challenge_can_carry_is_refused(realm: str) -> None:
    assert refused(f'issuer: "{realm}"', instead_of="issuer").startswith("issuer: must")


@pytest.mark.parametrize(
    "issuer",
    [
        "https://idp.example/.well-known/openid-configuration",
        "https://idp.example/.well-known/oauth-authorization-server/x",
        "https://[::1]:8443/realms/kong/",
    ],
)
def test_an_issuer_may_be_written_as_its_discovery_url(issuer: str) -> None:
    assert config(f"issuer: {issuer}", instead_of="issuer").provider.issuer == issuer


def test_CF_02_plain_http_beyond_loopback_is_one_notice() -> None:
    [notice] = notices(
        with_parameters(
            "issuer: http://keycloak.keycloak:8080/realms/kong",
            "extra_jwks_uris: ['http://keycloak/certs', 'http://127.0.0.1/certs']",
            instead_of="issuer",
        )
    )
    assert "(issuer, extra_jwks_uris)" in notice


@pytest.mark.parametrize("host", ["localhost", "idp.localhost", "127.0.0.2:80", "[::1]"])
def test_CF_02_plain_http_to_loopback_goes_without_saying(host: str) -> None:
    assert notices(with_parameters(f"issuer: http://{host}/x", instead_of="issuer")) == []


def test_the_issuer_is_required() -> None:
    text = FORMAT + "plugins:\n- name: openid-connect\n"
    assert complaints(text) == ["3:3: issuer: is required: the URL of the identity provider"]


def test_a_pseudo_issuer_needs_its_endpoints() -> None:
    found = complaints(with_parameters("using_pseudo_issuer: true"))
    assert [line.split(": ")[2] for line in found] == [
        "needs jwks_endpoint or extra_jwks_uris for the keys",
        "needs token_endpoint",
    ]
    read = config(
        "using_pseudo_issuer: true",
        "token_endpoint: https://idp.example/token",
        "extra_jwks_uris: https://idp.example/certs",
    )
    assert read.provider.using_pseudo_issuer


# --- Methods, credentials, clients ----------------------------------------------------


def test_methods_of_browsers_are_noticed_even_when_named() -> None:
    text = with_parameters(
        "auth_methods: [session, authorization_code, client_credentials]",
        instead_of="auth_methods",
    )
    assert load(text).plugins[0].config.callers.auth_methods == ("client_credentials",)
    [notice] = notices(text)
    assert notice.endswith("authorization_code, session: for browsers, not done here")


@pytest.mark.parametrize(
    "method", sorted(set(AUTH_METHODS) - METHODS_FOR_BROWSERS - set(METHOD_NAMES))
)
def test_a_method_that_is_named_and_not_done_is_refused(method: str) -> None:
    text = with_parameters(f"auth_methods: [bearer, {method}]", instead_of="auth_methods")
    [found] = complaints(text)
    assert found == (
        f"8:28: auth_methods: '{method}' is not done here. Without it, callers who prove who they "
        "are that way get 401: remove it only if that is right"
    )


def test_methods_that_let_nobody_in_are_refused() -> None:
    message = refused("auth_methods: []", instead_of="auth_methods")
    assert message == "auth_methods: lets nobody in: name " + " or ".join(METHOD_NAMES)


def test_the_default_places_are_header_and_query_with_one_notice() -> None:
    name = "client_credentials_param_type"
    for lines in ((), (f"{name}: [query, body, header]",)):
        text = with_parameters(*lines, instead_of=name)
        assert load(text).plugins[0].config.callers.client_credentials_param_type == (
            "header",
            "query",
        )
        [notice] = notices(text)
        assert f"{name}: header and query are read, not the body" in notice


def test_the_body_is_read_only_where_it_may_stay() -> None:
    name = "client_credentials_param_type"
    assert "body cannot be hidden" in refused(f"{name}: [header, body]", instead_of=name)
    read = config(f"{name}: [body]", "hide_credentials: false", instead_of=name)
    assert read.callers.client_credentials_param_type == ("body",)


def test_tokens_in_cookies_are_refused() -> None:
    found = refused(
        "auth_methods: [bearer]", "bearer_token_param_type: [cookie]", instead_of="auth_methods"
    )
    assert found == (
        "bearer_token_param_type: 'cookie' is not done here. Without it, callers who send their "
        "token in a cookie get 401: write header or query or body, if that is right"
    )


def test_no_place_at_all_is_refused() -> None:
    name = "client_credentials_param_type"
    assert refused(f"{name}: []", instead_of=name).endswith("must name a place: header or query")


@pytest.mark.parametrize(
    "method",
    ["tls_client_auth", "self_signed_tls_client_auth"],
)
@pytest.mark.parametrize("name", ["client_auth", "token_endpoint_auth_method"])
def test_client_authentication_that_is_not_done_is_refused(name: str, method: str) -> None:
    assert refused(f"{name}: {method}").startswith(f"{name}: '{method}' is not done here")


@pytest.mark.parametrize("name", ["client_auth", "token_endpoint_auth_method"])
def test_a_key_of_ours_proves_no_caller(name: str) -> None:
    assert "'private_key_jwt' proves our own client and no caller" in refused(
        f"{name}: private_key_jwt"
    )


# --- Our own client ----------------------------------------------------------------------


OURS = ("client_id: [ours]", "client_secret: [s3cr3t]")
A_KEY = "client_jwk: [{kty: EC, crv: P-256, x: AA, y: AA, d: AA}]"


def with_own_client(*lines: str, methods: str = "introspection, password") -> str:
    return with_parameters(f"auth_methods: [{methods}]", *lines, instead_of="auth_methods")


def own_client_refused(*lines: str, methods: str = "introspection, password") -> str:
    [found] = complaints(with_own_client(*lines, methods=methods))
    return found.partition(": ")[2]


@pytest.mark.parametrize(
    ("lines", "methods"),
    [
        (OURS, "bearer, introspection, password, client_credentials"),
        (("client_id: [ours]", A_KEY), "bearer, introspection, password, client_credentials"),
        (("client_id: [ours]",), "bearer, client_credentials"),
        (("client_secret: [s]",), "bearer, client_credentials"),
        (("client_id: [ours]", "client_secret: []"), "bearer, client_credentials"),
        ((), "bearer, client_credentials"),
    ],
)
def test_where_auth_methods_is_not_set_our_own_client_decides_which_act(
    lines: tuple[str, ...], methods: str
) -> None:
    text = with_parameters(*lines, instead_of="auth_methods")

    assert ", ".join(load(text).plugins[0].config.callers.auth_methods) == methods
    assert any(
        f"here it means {methods.replace(', ', ' and ')}" in notice for notice in notices(text)
    )


@pytest.mark.parametrize(
    "lines", [(), ("client_id: [ours]",), ("client_secret: [s]",), (A_KEY,)], ids=str
)
def test_methods_that_ask_in_our_name_need_a_client_of_our_own(lines: tuple[str, ...]) -> None:
    assert own_client_refused(*lines).startswith(
        "client_id: is required with client_secret or client_jwk, for introspection and password"
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            (*OURS, "client_auth: [private_key_jwt]"),
            "client_auth: 'private_key_jwt' needs client_jwk",
        ),
        (
            ("client_id: [a]", A_KEY, "client_auth: [client_secret_post]"),
            "client_auth: 'client_secret_post' needs client_secret",
        ),
        (
            (*OURS, "client_auth: [none]"),
            "client_auth: none would let the provider answer anybody in our name: write",
        ),
        (
            (*OURS, "introspection_endpoint_auth_method: tls_client_auth"),
            "introspection_endpoint_auth_method: 'tls_client_auth' is not done here",
        ),
        (
            (*OURS, "client_auth: [client_secret_jwt]", "client_alg: [RS256]"),
            "client_alg: 'RS256' does not go with client_secret_jwt",
        ),
        (
            (*OURS, A_KEY, "client_auth: [private_key_jwt]", "client_alg: [HS256]"),
            "client_alg: 'HS256' does not go with private_key_jwt",
        ),
        ((*OURS, "client_arg: x"), "client_arg: is not done here"),
    ],
)
def test_an_authentication_of_ours_that_cannot_be_is_refused(
    lines: tuple[str, ...], said: str
) -> None:
    assert own_client_refused(*lines).startswith(said)


@pytest.mark.parametrize(
    ("lines", "missing"),
    [
        (("client_id: [ours]", 'client_secret: ["{vault://env/unset}"]'), ["client_secret"]),
        (('client_id: ["{vault://env/unset}"]', "client_secret: [s3cr3t]"), ["client_id"]),
        (
            ('client_id: ["{vault://env/unset}"]', 'client_secret: ["{vault://env/unset}"]'),
            ["client_id", "client_secret"],
        ),
        (("client_id: [ours]", 'client_secret: ["${{ env "DECK_UNSET" }}"]'), ["env"]),
        (('client_id: ["${{ env "DECK_UNSET" }}"]', "client_secret: [s3cr3t]"), ["env"]),
        (("client_id: [ours]", 'client_secret: ${{ env "DECK_UNSET" }}'), ["env"]),
        (
            (
                *OURS[:1],
                'client_secret: ["{vault://env/unset}"]',
                "client_auth: [client_secret_post]",
            ),
            ["client_secret"],
        ),
        (
            (
                "client_id: [ours]",
                'client_jwk: [{kty: EC, crv: P-256, x: AA, y: AA, d: "{vault://env/unset}"}]',
                "client_auth: [private_key_jwt]",
            ),
            ["client_jwk.d"],
        ),
    ],
)
def test_a_variable_of_our_client_that_is_not_set_is_one_error(
    lines: tuple[str, ...], missing: list[str]
) -> None:
    found = complaints(with_own_client(*lines))

    assert [complaint.split(": ")[1] for complaint in found] == missing
    assert all("is not set" in complaint for complaint in found)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("introspection_accept: application/jwt", "is not done here"),
        ("introspection_headers_names: [x-a]", "has 1 items, introspection_headers_values 0"),
        ("introspection_post_args_values: [a]", "has 0 items, introspection_post_args_values 1"),
        ("introspection_headers_names: [Authorization]", "names a header that authz itself writes"),
        ("introspection_headers_names: ['a b']", "must be the name of a header"),
        ("introspection_headers_values: ['a\u00e9']", "must be visible ASCII"),
        ("introspection_token_param_name: ''", "must not be empty"),
        ("introspection_endpoint: nowhere", "must be an absolute URL"),
    ],
)
def test_a_question_that_cannot_be_asked_is_refused(line: str, said: str) -> None:
    found = complaints(with_own_client(*OURS, line))

    assert len(found) == 1
    assert said in found[0]


def test_an_introspection_answer_need_not_say_active_where_the_file_says_so() -> None:
    assert complaints(with_own_client(*OURS, "introspection_check_active: false")) == []


@pytest.mark.parametrize("name", ["token", "token_type_hint", "client_id", "client_assertion"])
def test_an_argument_that_authz_writes_is_not_written_twice(name: str) -> None:
    found = own_client_refused(
        *OURS,
        f"introspection_post_args_names: [{name}]",
        "introspection_post_args_values: [x]",
    )
    assert f"'{name}' is an argument that authz writes" in found


@pytest.mark.parametrize(
    "name",
    [
        "Authorization", "Host", "Content-Type", "Content_Length", "Content-Whatever", "Connection",
        "Proxy-Connection", "Proxy-Authorization", "Keep-Alive", "TE", "Trailer",
        "Transfer-Encoding", "Upgrade", "Expect", "User-Agent",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "parameter", ["introspection_headers_client", "introspection_post_args_client_headers"]
)
def test_a_header_of_the_connection_the_body_or_the_credential_is_not_passed_on(
    parameter: str, name: str
) -> None:
    found = own_client_refused(*OURS, f"{parameter}: [{name}]")

    assert found.startswith(f"{parameter}: ")
    assert "never passed on" in found


@pytest.mark.parametrize(
    "name",
    [
        "token", "access_token", "token_type_hint", "grant_type", "client_id", "client_secret",
        "client_assertion", "client_assertion_type", "Client_ID", "client.id", "realm",
    ],
)  # fmt: skip
@pytest.mark.parametrize(
    "parameter", ["introspection_post_args_client", "introspection_post_args_client_headers"]
)
def test_a_caller_writes_no_argument_that_authz_or_the_file_writes(
    parameter: str, name: str
) -> None:
    found = own_client_refused(
        *OURS,
        "introspection_token_param_name: access_token",
        "introspection_post_args_names: [realm]",
        "introspection_post_args_values: [x]",
        f"{parameter}: [{name}]",
    )

    assert found.startswith(f"{parameter}: '{name}' is written already")


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ("introspection_headers_names: [X-A]", "introspection_headers_values: [x]",
             "introspection_headers_client: [x_a]"),
            "introspection_headers_client: 'x_a' is written already",
        ),
        (
            ("introspection_post_args_client: [a]", "introspection_post_args_client_headers: [A]"),
            "introspection_post_args_client_headers: 'A' is written already",
        ),
        (("introspection_post_args_client: ['a b']",), "letters, digits and -._~ alone"),
        (("introspection_post_args_client: ['a[b]']",), "letters, digits and -._~ alone"),
        (("introspection_post_args_client_headers: ['a!']",), "letters, digits and -._~ alone"),
        (("introspection_headers_client: ['a b']",), "must be the name of a header"),
    ],
)  # fmt: skip
def test_what_a_caller_adds_to_a_question_has_one_plain_name(
    lines: tuple[str, ...], said: str
) -> None:
    assert said in own_client_refused(*OURS, *lines)


def test_no_more_than_so_many_names_are_passed_on() -> None:
    def lines(count: int) -> tuple[str, ...]:
        names = ", ".join(f"a{number}" for number in range(count))
        return ("introspection_headers_client: [x-a]", f"introspection_post_args_client: [{names}]")

    assert complaints(with_own_client(*OURS, *lines(FORWARDED_NAMES_MAX - 1))) == []
    found = own_client_refused(*OURS, *lines(FORWARDED_NAMES_MAX))
    assert f"name {FORWARDED_NAMES_MAX + 1} in all; at most {FORWARDED_NAMES_MAX}" in found


# --- userinfo -----------------------------------------------------------------------------


def userinfo_complaints(*lines: str) -> list[str]:
    """What is wrong with a plugin whose only method is userinfo, for a reader that knows it."""
    named = ("auth_methods: [userinfo]", "bearer_token_param_type: [header]", *lines)
    return complaints(with_parameters(*named, instead_of="auth_methods"), methods=("userinfo",))


def test_the_question_to_the_userinfo_endpoint_needs_no_client_of_ours() -> None:
    assert (
        userinfo_complaints(
            "userinfo_endpoint: https://idp.example/userinfo?tenant=1",
            "userinfo_headers_names: [X-Api-Key]",
            "userinfo_headers_values: [k]",
            "userinfo_headers_client: [X-Tenant]",
            "userinfo_query_args_names: [detail]",
            "userinfo_query_args_values: [full]",
            "userinfo_query_args_client: [region]",
            "cache_user_info: false",
        )
        == []
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            ("userinfo_accept: application/jwt",),
            "the answer is JSON that nobody has signed: write application/json, if that is right",
        ),
        (("userinfo_endpoint: nowhere",), "must be an absolute URL"),
        (
            ("userinfo_headers_names: [x-a]",),
            "userinfo_headers_names: has 1 items, userinfo_headers_values 0: each name has one",
        ),
        (("userinfo_query_args_values: [a]",), "has 0 items, userinfo_query_args_values 1"),
        (("userinfo_headers_names: [Authorization]",), "a header that authz itself writes"),
        (("userinfo_headers_values: ['a\u00e9']",), "must be visible ASCII"),
        (("userinfo_headers_client: [Cookie, Host]",), "never passed on"),
        (("userinfo_query_args_client: ['a b']",), "letters, digits and -._~ alone"),
        (
            ("userinfo_query_args_names: [access_token]", "userinfo_query_args_values: [x]"),
            "userinfo_query_args_names: 'access_token' is an argument that authz writes",
        ),
        (
            ("userinfo_query_args_client: [Access-Token]",),
            "userinfo_query_args_client: 'Access-Token' is written already",
        ),
        (
            ("userinfo_query_args_names: [a]", "userinfo_query_args_values: [x]",
             "userinfo_query_args_client: [A]"),
            "userinfo_query_args_client: 'A' is written already",
        ),
        (
            ("userinfo_endpoint: 'https://idp.example/u?tenant=1'",
             "userinfo_query_args_client: [tenant]"),
            "userinfo_query_args_client: 'tenant' is written already",
        ),
        (
            ("userinfo_headers_names: [X-A]", "userinfo_headers_values: [x]",
             "userinfo_headers_client: [x_a]"),
            "userinfo_headers_client: 'x_a' is written already",
        ),
        (
            (f"userinfo_headers_client: [{', '.join(f'x-{n}' for n in range(17))}]",),
            f"userinfo_query_args_client name 17 in all; at most {FORWARDED_NAMES_MAX}",
        ),
        (
            ("using_pseudo_issuer: true", "jwks_endpoint: https://idp.example/certs"),
            "using_pseudo_issuer: needs userinfo_endpoint: nothing is discovered",
        ),
    ],
)  # fmt: skip
def test_a_question_to_the_userinfo_endpoint_that_cannot_be_asked_is_refused(
    lines: tuple[str, ...], said: str
) -> None:
    [found] = userinfo_complaints(*lines)

    assert said in found


def test_a_method_that_is_done_acts_unasked_only_if_kongs_default_stands_for_it_here() -> None:
    ours = ("client_id: [a]", "client_secret: [s]")
    unnamed = with_parameters(*ours, instead_of="auth_methods")
    of_kongs_nine = with_parameters(
        f"auth_methods: [{', '.join(AUTH_METHODS)}]", *ours, instead_of="auth_methods"
    )
    for text in (unnamed, of_kongs_nine):
        read = load(text, methods=AUTH_METHODS).plugins[0].config
        assert set(read.callers.auth_methods) == {
            "bearer", "client_credentials", "introspection", "password",
        }  # fmt: skip


# --- Introspection of JWTs, what cannot be switched off ------------------------------------


def test_jwts_that_should_be_introspected_and_are_not_are_refused() -> None:
    assert refused("introspect_jwt_tokens: true").startswith(
        "introspect_jwt_tokens: needs introspection in auth_methods"
    )


def test_a_pseudo_issuer_needs_the_introspection_endpoint() -> None:
    found = own_client_refused(
        *OURS, "using_pseudo_issuer: true", "jwks_endpoint: https://idp.example/certs",
        methods="introspection",
    )  # fmt: skip
    assert found == "using_pseudo_issuer: needs introspection_endpoint: nothing is discovered"


@pytest.mark.parametrize("name", ["client_auth", "token_endpoint_auth_method"])
def test_client_authentication_none_would_let_everybody_in(name: str) -> None:
    assert "skip the caller's secret" in refused(f"{name}: none")


@pytest.mark.parametrize("name", ["verify_signature", "verify_claims"])
def test_verification_cannot_be_switched_off(name: str) -> None:
    assert refused(f"{name}: false").startswith(f"{name}: must stay true")


@pytest.mark.parametrize("action", ["response", "redirect"])
def test_a_login_action_for_machine_callers_is_refused(action: str) -> None:
    found = refused(f"login_action: {action}", "login_methods: [client_credentials]")
    assert found == (
        "login_action: other than upstream is not done here for client_credentials. Without it, "
        "requests go to the upstream, and callers do not get the token: remove it only if that is "
        "right"
    )
    assert len(notices(with_parameters(f"login_action: {action}"))) == 1


# --- Consumers, audience, cache ---------------------------------------------------------


def test_consumer_claim_is_one_path() -> None:
    assert config("consumer_claim: [realm, id]").identity.consumer_claims == (("realm", "id"),)
    assert config("consumer_claim: client_id").identity.consumer_claims == (("client_id",),)


def test_consumer_claims_are_several_paths() -> None:
    read = config("consumer_claims: [[client_id], [a, b]]", "consumer_by: [id, username]")
    assert read.identity.consumer_claims == (("client_id",), ("a", "b"))
    assert read.identity.consumer_by == ("id", "username")


def test_both_spellings_must_agree() -> None:
    both = "consumer_claim: [azp]", "consumer_claims: [[azp]]"
    assert config(*both).identity.consumer_claims == (("azp",),)
    assert refused(both[0], "consumer_claims: [[client_id]]").startswith("consumer_claim: says")


@pytest.mark.parametrize(
    "name",
    [
        "audience", "audience_required", "scopes", "scopes_required", "issuers_allowed",
        "scopes_claim", "credential_claim",
    ],
)  # fmt: skip
@pytest.mark.parametrize("blank", [" ", "  ", "\u00a0", "\u2003"])
def test_a_blank_item_which_every_token_has_is_refused(name: str, blank: str) -> None:
    complaint = refused(f'{name}: ["{blank}", x]', instead_of=name)
    assert complaint == f"{name}: must not be blank"


@pytest.mark.parametrize(
    ("lines", "names"),
    [
        (["client_id: [a]"], "client_id"),
        (["client_id: [a]", "client_secret: [s]"], "client_id, client_secret"),
    ],
)
def test_a_client_of_our_own_is_noticed_to_have_no_use(lines: list[str], names: str) -> None:
    [notice] = notices(with_parameters(*lines))
    assert notice == (
        "9:16: client_id: no method that acts here uses a client of our own "
        f"({names}): callers present theirs"
    )


def test_CF_04_an_audience_that_is_not_set_is_one_notice() -> None:
    [notice] = notices(with_parameters(instead_of="audience_required"))
    assert notice.startswith("3:3: audience: is not set")


def test_a_scope_that_is_to_stay_out_of_the_key_is_noticed() -> None:
    [notice] = notices(with_parameters("token_cache_key_include_scope: false"))
    assert "scopes are part of the key" in notice
    assert notices(with_parameters("token_cache_key_include_scope: true")) == []
