"""Files to a gateway: decK's grammar, scopes, merging, and what else stands in a dump."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID

import pytest
from support.configuration import FORMAT, PLUGIN, complaints, load, load_files, notices

from authz.errors import ConfigurationError
from authz.kong import plugins
from authz.kong.entities import derived_id
from authz.kong.problems import SUGGESTIONS_MAX

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIG = "config: {issuer: 'https://idp.example/x', audience: [a], auth_methods: [bearer]}"
OIDC = f"{{name: openid-connect, {CONFIG}}}"

ID = "8c1a5a5e-0d3a-4b7e-9a51-2f6b6f1f0001"
SERVICES = """\
services:
- name: orders
  url: https://orders.internal/v1
  plugins: [{plugin}]
  routes:
  - name: list
    paths: [/orders]
    plugins: [{plugin}]
"""


def text(*parts: str) -> str:
    return FORMAT + "".join(part if part.endswith("\n") else part + "\n" for part in parts)


# --- The examples -----------------------------------------------------------------


def test_the_workshop_file_is_the_seed_byte_for_byte() -> None:
    digest = hashlib.sha256((EXAMPLES / "workshop.yaml").read_bytes()).hexdigest()
    assert digest == "561c9c5da6841c4f8850e066a80a92be90cc0c63f9a02110bfe127416b96fb7c"


def test_the_workshop_file_loads_as_it_stands() -> None:
    gateway = load_files(str(EXAMPLES / "workshop.yaml"))
    [plugin], [route], [consumer] = gateway.plugins, gateway.routes, gateway.consumers
    assert plugin.route is route
    assert plugin.service is None
    assert plugin.instance_name == "openid-connect1"
    assert plugin.position.line == 16
    assert plugin.config.identity.consumer_claims == (("client_id",),)
    assert plugin.config.identity.consumer_by == ("username",)
    assert plugin.config.callers.auth_methods == ("client_credentials",)
    assert route.service is gateway.services[0]
    assert (route.service.host, route.service.port) == ("httpbin.kong.svc.cluster.local", 8000)
    assert consumer.username == "kong_id"
    assert [notice.parameter for notice in gateway.notices] == [
        "audience",
        "client_credentials_param_type",
        "issuer",
    ]


def test_the_how_to_loads_with_its_variables() -> None:
    environ = {
        "DECK_ISSUER": "http://127.0.0.1:8080/realms/master",
        "DECK_CLIENT_ID": "kong",
        "DECK_CLIENT_SECRET": "s3cret",
    }
    gateway = load_files(str(EXAMPLES / "how-to.yaml"), environ=environ)
    [plugin], [service], [route] = gateway.plugins, gateway.services, gateway.routes
    assert plugin.service is service
    assert plugin.route is None
    assert (service.host, service.port, service.path) == ("httpbin.konghq.com", 80, "/anything")
    assert (route.name, route.paths) == ("example-route", ("/anything",))
    assert plugin.config.client.client_auth == ("client_secret_post",)
    assert plugin.config.client.client_secret[0].reveal() == "s3cret"


def test_the_how_to_names_each_variable_that_is_missing() -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_files(str(EXAMPLES / "how-to.yaml"))
    assert [problem.parameter for problem in caught.value.problems] == ["env"] * 3


def test_the_minimal_file_has_one_global_plugin_and_nothing_to_say() -> None:
    gateway = load_files(str(EXAMPLES / "minimal.yaml"))
    [plugin] = gateway.plugins
    assert (plugin.service, plugin.route) == (None, None)
    assert (gateway.routes, gateway.notices) == ((), ())


# --- Several files ---------------------------------------------------------------


def test_references_cross_files(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(text(f"plugins: [{{service: orders, {OIDC[1:]}]"))
    (tmp_path / "b.yaml").write_text(text("services: [{name: orders, host: h}]"))
    [plugin] = load_files(str(tmp_path)).plugins
    assert plugin.service is not None


@pytest.mark.parametrize("label", ["_workspace", "_konnect"])
def test_files_of_two_gateways_are_refused(tmp_path: Path, label: str) -> None:
    for name in "ab":
        value = name if label == "_workspace" else f"{{control_plane_name: {name}}}"
        (tmp_path / f"{name}.yaml").write_text(text(f"{label}: {value}"))
    with pytest.raises(ConfigurationError, match="one gateway at a time"):
        load_files(str(tmp_path))


# --- The top level ------------------------------------------------------------------


@pytest.mark.parametrize("version", ['"1.1"', '"2.1"', "1.1"])
def test_a_file_of_an_older_kong_is_refused_with_the_command_that_converts_it(version: str) -> None:
    [found] = complaints(f"_format_version: {version}\n")
    assert 'is of Kong before 3.0, must be "3.0": convert the file by deck file convert' in found


@pytest.mark.parametrize("version", ['"1.1"', '"2.1"', '"4.0"', "[]"])
def test_a_file_of_another_format_is_refused(version: str) -> None:
    assert 'must be "3.0"' in complaints(f"_format_version: {version}\n")[0]


def test_the_format_must_be_said() -> None:
    assert complaints("services: []") == ['1:1: _format_version: is required: write "3.0"']


def test_CF_01_an_unknown_section_is_an_error_with_a_hint() -> None:
    assert complaints(text("servces: []")) == [
        "2:1: servces: is not known here; did you mean 'services'?"
    ]


def test_what_has_no_effect_is_one_notice() -> None:
    [notice] = notices(text("upstreams: [{name: u}]", "certificates: [{}]", "vaults: []"))
    assert notice == (
        "2:1: upstreams: has no effect here and is read past: upstreams, certificates"
    )


@pytest.mark.parametrize("section", ["filter_chains", "plugins_partials", "consumer_group_plugins"])
def test_a_section_that_may_decide_who_gets_in_is_refused(section: str) -> None:
    assert complaints(text(f"{section}: []")) == []
    assert len(complaints(text(f"{section}: [{{}}]"))) == 1


# --- Scopes --------------------------------------------------------------------------


def test_a_plugin_applies_to_what_it_stands_in() -> None:
    gateway = load(text(SERVICES.format(plugin=OIDC), f"plugins: [{OIDC}]"))
    scopes = [(p.service and p.service.name, p.route and p.route.name) for p in gateway.plugins]
    assert scopes == [("orders", None), (None, "list"), (None, None)]


@pytest.mark.parametrize("reference", ["orders", "{name: orders}"])
def test_a_plugin_names_its_service_and_route(reference: str) -> None:
    top = f"plugins: [{{service: {reference}, route: list, {OIDC[1:]}]"
    [plugin] = load(text(SERVICES.format(plugin=""), top)).plugins
    assert plugin.service is not None
    assert plugin.route is not None


def test_an_entity_is_found_by_its_id() -> None:
    services = f"services: [{{id: {ID}, host: h}}]"
    for reference in (ID, f"{{id: {ID}}}"):
        top = f"plugins: [{{service: {reference}, {OIDC[1:]}]"
        [plugin] = load(text(services, top)).plugins
        assert plugin.service is not None
        assert plugin.service.id == ID


def test_a_reference_that_leads_nowhere_has_a_hint() -> None:
    top = f"plugins: [{{service: order, {OIDC[1:]}]"
    [found] = complaints(text(SERVICES.format(plugin=""), top))
    assert found.endswith("service: 'order' is none of the services; did you mean 'orders'?")


def test_a_reference_by_the_name_of_one_and_the_id_of_another_is_refused() -> None:
    services = f"services: [{{name: a, host: h}}, {{name: b, host: h, id: {ID}}}]"
    plugin = "plugins: [{{name: cors, service: {{name: {}, id: {}}}}}]"
    assert not complaints(text(services, plugin.format("b", ID)))
    [found] = complaints(text(services, plugin.format("a", ID)))
    assert "service: name and id are those of two services" in found


def test_two_plugins_of_one_name_and_scope_are_refused() -> None:
    [found] = complaints(text(f"plugins: [{OIDC}, {OIDC}]"))
    assert "another plugin with the same scope has the same, at <stdin>:2:18" in found


def test_a_nested_and_a_top_level_plugin_of_one_scope_are_refused_too() -> None:
    top = f"plugins: [{{service: orders, {OIDC[1:]}]"
    assert len(complaints(text(SERVICES.format(plugin=OIDC), top))) == 1


def test_instance_names_are_unique() -> None:
    labelled = "{name: cors, instance_name: x}, {name: jq, instance_name: x}"
    [found] = complaints(text(f"plugins: [{labelled}]"))
    assert "instance_name: another plugin has the same" in found


@pytest.mark.parametrize(
    "part",
    [
        f"consumers: [{{username: a, plugins: [{OIDC}]}}]",
        f"consumer_groups: [{{name: a, plugins: [{OIDC}]}}]",
        f"plugins: [{{consumer: a, {OIDC[1:]}]",
        f"plugins: [{{consumer_group: a, {OIDC[1:]}]",
    ],
)
def test_openid_connect_cannot_depend_on_a_consumer(part: str) -> None:
    [found] = complaints(text(part))
    assert "openid-connect finds the consumer and cannot depend on one" in found


def test_consumers_may_each_have_their_own_limits() -> None:
    limited = "plugins: [{name: rate-limiting}]"
    [notice] = notices(text(f"consumers: [{{username: a, {limited}}}, {{username: b, {limited}}}]"))
    assert notice.endswith("left to Envoy: rate-limiting")


# --- Plugins that are not openid-connect -------------------------------------------------


@pytest.mark.parametrize("field", ["condition: 'true'", "ordering: {before: {}}", "partials: [{}]"])
def test_what_changes_when_the_plugin_applies_is_refused(field: str) -> None:
    [found] = complaints(text(f"plugins: [{{{field}, {OIDC[1:]}]"))
    assert found.split(": ")[1] == field.partition(":")[0]


@pytest.mark.parametrize(
    "name",
    [
        "key-auth", "basic-auth", "jwt", "oauth2", "hmac-auth", "ldap-auth",
        "ldap-auth-advanced", "mtls-auth", "saml", "acl", "ip-restriction", "opa", "session",
        "pre-function", "jwt-signer", "vault-auth", "key-auth-enc",
        "bot-detection", "header-cert-auth",
    ],
)  # fmt: skip
def test_another_plugin_that_decides_who_gets_in_is_refused(name: str) -> None:
    [found] = complaints(text(f"plugins: [{{name: {name}}}]"))
    assert f"name: {name} decides who gets in and is not done here: without it" in found


def test_C_08_a_plugin_that_guards_is_not_to_be_removed_without_a_word() -> None:
    [found] = complaints(text("plugins: [{name: key-auth}]"))
    assert found.endswith(
        "without it whatever it guards stands open, except where openid-connect applies; write "
        "openid-connect in its place, or request-termination to keep it shut, and remove or "
        "disable it only if it may stand open"
    )


KONGS = (
    "ace", "acl", "acme", "ai-a2a-proxy", "ai-aws-guardrails", "ai-azure-content-safety",
    "ai-custom-guardrail", "ai-gcp-model-armor", "ai-lakera-guard", "ai-llm-as-judge",
    "ai-mcp-oauth2", "ai-mcp-proxy", "ai-model-selector", "ai-prompt-compressor",
    "ai-prompt-decorator", "ai-prompt-guard", "ai-prompt-template", "ai-proxy", "ai-proxy-advanced",
    "ai-rag-injector", "ai-rate-limiting-advanced", "ai-request-transformer",
    "ai-response-transformer", "ai-sanitizer", "ai-semantic-cache", "ai-semantic-prompt-guard",
    "ai-semantic-response-guard", "app-dynamics", "application-registration", "aws-lambda",
    "azure-functions", "basic-auth", "bot-detection", "canary", "confluent", "confluent-consume",
    "correlation-id", "cors", "datadog", "datakit", "degraphql", "entitlement-enforcement",
    "exit-transformer", "file-log", "forward-proxy", "governance", "graphql-proxy-cache-advanced",
    "graphql-rate-limiting-advanced", "grpc-gateway", "grpc-web", "header-cert-auth", "hmac-auth",
    "http-log", "injection-protection", "ip-restriction", "jq", "json-threat-protection",
    "jwe-decrypt", "jwt", "jwt-signer", "kafka-consume", "kafka-log", "kafka-upstream", "key-auth",
    "key-auth-enc", "konnect-application-auth", "ldap-auth", "ldap-auth-advanced", "loggly",
    "metering-and-billing", "mocking", "mtls-auth", "oas-validation", "oauth2",
    "oauth2-introspection", "opa", "openid-connect", "opentelemetry", "post-function",
    "pre-function", "prometheus", "proxy-cache", "proxy-cache-advanced", "rate-limiting",
    "rate-limiting-advanced", "redirect", "request-callout", "request-size-limiting",
    "request-termination", "request-transformer", "request-transformer-advanced",
    "request-validator", "response-ratelimiting", "response-transformer",
    "response-transformer-advanced", "route-by-header", "route-transformer-advanced", "saml",
    "service-protection", "session", "solace-consume", "solace-log", "solace-upstream",
    "standard-webhooks", "statsd", "statsd-advanced", "syslog", "tcp-log", "tls-handshake-modifier",
    "tls-metadata-headers", "udp-log", "upstream-oauth", "upstream-timeout", "vault-auth",
    "websocket-size-limit", "websocket-validator", "xml-threat-protection", "zipkin",
)  # fmt: skip
"""The plugins of Kong Gateway 3.4 to 3.16, by its published schemas."""


@pytest.mark.parametrize("name", KONGS)
def test_D_09_each_plugin_of_kongs_is_known_by_its_name(name: str) -> None:
    assert plugins.role(name) is not plugins.PluginRole.UNKNOWN


def test_an_unknown_plugin_is_refused_with_a_hint() -> None:
    [found] = complaints(text("plugins: [{name: openid-conect}]"))
    assert found.endswith("may decide who gets in; did you mean 'openid-connect'?")


@pytest.mark.parametrize("name", ["key-auth", "my-own"])
def test_a_disabled_plugin_never_matters(name: str) -> None:
    assert notices(text(f"plugins: [{{name: {name}, enabled: false}}]")) == []


def test_all_others_stand_in_one_notice() -> None:
    [notice] = notices(text("plugins: [{name: cors}, {name: http-log}]", "services: []"))
    assert notice.endswith("are left to Envoy: cors, http-log")


def test_no_plugin_is_in_two_classes() -> None:
    assert not plugins._DECIDES & plugins._READ_PAST


def test_a_clone_is_what_it_is_a_clone_of() -> None:
    clones = "cloned_plugins: [{name: mine, ref: key-auth}, {name: soft, ref: cors}]"
    [found] = complaints(text(clones, "plugins: [{name: mine}, {name: soft}]"))
    assert "mine decides who gets in" in found


@pytest.mark.parametrize("taken", ["key-auth", "openid-connect", "mine"])
def test_a_clone_takes_no_name_that_a_plugin_has(taken: str) -> None:
    clones = f"cloned_plugins: [{{name: mine, ref: file-log}}, {{name: {taken}, ref: cors}}]"
    [found] = complaints(text(clones))
    assert f"name: '{taken}' names a plugin already" in found


@pytest.mark.parametrize("name", ["openid-connect", "request-termination"])
def test_a_clone_of_a_plugin_that_is_done_is_refused(name: str) -> None:
    [found] = complaints(text(f"cloned_plugins: [{{name: mine, ref: {name}}}]"))
    assert f"clones of {name} are not done here" in found


def test_a_subset_of_protocols_is_noticed() -> None:
    every = f"plugins: [{{protocols: [grpc, grpcs, http, https], {OIDC[1:]}]"
    some = f"plugins: [{{protocols: [https], {OIDC[1:]}]"
    assert [n for n in notices(text(every)) if "protocols" in n] == []
    assert len([n for n in notices(text(some)) if "protocols" in n]) == 1


# --- Shared configuration -----------------------------------------------------------------


def test_a_shared_configuration_lies_below_the_plugins_own() -> None:
    shared = "_plugin_configs: {oidc: {issuer: 'https://idp.example/x', leeway: 5, scopes: [a]}}"
    own = "plugins: [{name: openid-connect, _config: oidc, config: {leeway: 7}}]"
    [plugin] = load(text(shared, own)).plugins
    assert (plugin.config.token.leeway, plugin.config.exchange.scopes) == (7, ("a",))


def test_a_shared_configuration_that_is_missing_has_a_hint() -> None:
    own = f"plugins: [{{_config: oid, {OIDC[1:]}]"
    [found] = complaints(text("_plugin_configs: {oidc: {}}", own))
    assert found.endswith("_config: is none of _plugin_configs; did you mean 'oidc'?")


def test_defaults_lie_below_services_and_routes() -> None:
    head = "_info: {defaults: {service: {port: 8080, retries: 1}, route: {strip_path: false}}}"
    gateway = load(text(head, "services: [{name: a, host: h, retries: 2, routes: [{paths: [/]}]}]"))
    [service], [route] = gateway.services, gateway.routes
    assert (service.port, service.retries) == (8080, 2)
    assert route.strip_path is False


def test_defaults_of_what_nobody_knows_are_refused() -> None:
    [found] = complaints(text("_info: {defaults: {servic: {}}}"))
    assert "_info.defaults.servic: is not known here; did you mean 'service'?" in found


# --- Consumers -------------------------------------------------------------------------------


def test_ids_that_the_file_does_not_give_are_the_same_everywhere() -> None:
    first, second = (load(text("consumers: [{username: kong_id}]")) for _ in range(2))
    assert first.consumers[0].id == second.consumers[0].id
    assert UUID(first.consumers[0].id).version == 5
    # Pinned: an upstream may have stored it.
    assert first.consumers[0].id == "08bee6ba-7589-5dac-b9c2-291cc29f20b2"


def test_a_name_and_a_custom_id_never_share_an_id() -> None:
    gateway = load(text("consumers: [{username: x}, {custom_id: x}]"))
    assert len({consumer.id for consumer in gateway.consumers}) == 2


@pytest.mark.parametrize(
    ("consumers", "field"),
    [
        ("[{username: a}, {username: a}]", "username"),
        ("[{custom_id: a, username: b}, {custom_id: a}]", "custom_id"),
        (f"[{{id: {ID}, username: a}}, {{id: {ID}, username: b}}]", "id"),
    ],
)
def test_CF_06_two_consumers_cannot_share_a_key(consumers: str, field: str) -> None:
    [found] = complaints(text(f"consumers: {consumers}"))
    assert f"{field}: another of the consumers has the same, at <stdin>:2:13" in found


@pytest.mark.parametrize(
    ("kind", "one", "other", "derived"),
    [
        ("services", "name: a, host: h", "name: b, host: h", derived_id("services", "a")),
        ("routes", "name: a, paths: [/a]", "name: b, paths: [/b]", derived_id("routes", "a")),
        ("consumers", "username: a", "username: b", derived_id("consumers", "a")),
    ],
)
def test_CF_06_no_id_equals_one_that_is_made_from_a_name(
    kind: str, one: str, other: str, derived: str
) -> None:
    made, given = f"{{{one}}}", f"{{id: {derived}, {other}}}"
    for entities in (f"[{made}, {given}]", f"[{given}, {made}]"):
        [found] = complaints(text(f"{kind}: {entities}"))
        assert f"id: another of the {kind} has the same, at <stdin>:2:" in found


def test_a_consumer_needs_a_name() -> None:
    assert complaints(text("consumers: [{tags: [x]}]")) == [
        "2:13: username: is required, or custom_id"
    ]


def test_consumers_that_no_header_can_carry_are_one_notice() -> None:
    [notice] = notices(text("consumers: [{username: é}, {username: ' a'}, {username: a b}]"))
    assert notice.startswith("2:13: consumers: 2 of them")


@pytest.mark.parametrize("kind", ["services", "routes"])
def test_G_06_names_and_ids_are_one_namespace(kind: str) -> None:
    fields = {"services": "host: h", "routes": "paths: [/]"}[kind]
    given, derived = f"{{name: a, id: {ID}, {fields}}}", f"{{name: a, {fields}}}"
    for first, name in ((given, ID), (derived, derived_id(kind, "a"))):
        other = f"{{name: {name}, {fields}}}"
        [found] = complaints(text(f"{kind}: [{first}, {other}]"))
        assert f"name: is the id of another of the {kind}, at <stdin>:2:" in found
        [found] = complaints(text(f"{kind}: [{other}, {first}]"))
        assert f"id: is the name of another of the {kind}, at <stdin>:2:" in found
    assert complaints(text(f"{kind}: [{{name: {ID}, id: {ID}, {fields}}}]")) == []


def test_G_06_the_id_of_a_route_without_a_name_is_in_the_namespace() -> None:
    made = load(text("routes: [{paths: [/a]}]")).routes[0].id
    [found] = complaints(text(f"routes: [{{paths: [/a]}}, {{name: {made}, paths: [/b]}}]"))
    assert "name: is the id of another of the routes" in found


def test_G_06_a_service_and_a_route_may_share_a_name() -> None:
    assert complaints(text("services: [{name: a, host: h, routes: [{name: a, paths: [/]}]}]")) == []


@pytest.mark.parametrize(
    ("consumer_by", "people", "refused"),
    [
        ("[username, custom_id]", "{username: a}, {username: b, custom_id: a}", "custom_id"),
        ("[custom_id, username]", "{username: b, custom_id: a}, {username: a}", "username"),
        ("[id, username]", f"{{username: a, id: {ID}}}, {{username: {ID}}}", "username"),
        ("[username]", "{username: a}, {username: b, custom_id: a}", None),
        ("[username, custom_id]", "{username: a, custom_id: a}, {username: b}", None),
    ],
)
def test_G_06_a_name_in_a_token_cannot_mean_two_consumers(
    consumer_by: str, people: str, refused: str | None
) -> None:
    found = complaints(
        PLUGIN
        + f"    consumer_claims: [[sub]]\n    consumer_by: {consumer_by}\n"
        + f"consumers: [{people}]"
    )
    if refused is None:
        assert found == []
    else:
        assert len(found) == 1
        assert f"{refused}: is the " in found[0]
        assert "looks for both (consumer_by): who is meant?" in found[0]


def test_G_06_consumers_that_no_plugin_looks_for_may_share_names() -> None:
    people = "consumers: [{username: a}, {username: b, custom_id: a}]"
    assert complaints(PLUGIN + people) == []


def test_ignoring_case_makes_two_consumers_ambiguous() -> None:
    people = "consumers: [{username: Kong}, {username: kong}]"
    assert complaints(text(people)) == []
    [found] = complaints(PLUGIN + "    by_username_ignore_case: true\n" + people)
    assert "username: differs only in case from the one at <stdin>:10:13" in found


def test_groups_of_consumers_are_one_notice() -> None:
    [notice] = notices(text("consumer_groups: [{name: a}, {name: b}]"))
    assert notice.endswith("consumer_groups: groups of consumers have no effect here")


def test_credentials_of_other_plugins_are_read_past() -> None:
    file = text("consumers: [{username: a, keyauth_credentials: [{key: x}], groups: [{name: g}]}]")
    assert [consumer.username for consumer in load(file).consumers] == ["a"]


# --- Entries that are no entities ------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "complaint"),
    [
        ("services: 1", "2:11: services: must be a list, not a number"),
        ("services: [x]", "2:12: services: must be a mapping, not a string"),
        ("plugins: [{enabled: true}]", "2:11: name: is required"),
        ("consumer_groups: [{tags: []}]", "2:19: name: is required"),
        ("_info: x", "2:8: _info: must be a mapping, not a string"),
        ("_plugin_configs: []", "2:18: _plugin_configs: must be a mapping, not a list"),
        (
            "services: [{host: h, client_certificate: []}]",
            "2:42: client_certificate: must be the id of a certificate",
        ),
    ],
)
def test_an_entry_of_another_shape_is_refused(part: str, complaint: str) -> None:
    assert complaints(text(part)) == [complaint]


@pytest.mark.parametrize("reference", [ID, f"{{id: {ID}}}"])
def test_a_client_certificate_is_named_by_its_id(reference: str) -> None:
    gateway = load(text(f"services: [{{host: h, client_certificate: {reference}}}]"))
    assert gateway.services[0].client_certificate == ID


@pytest.mark.parametrize(
    "head", ["_plugin_configs: {a: {}}", "_info: {defaults: {service: {port: 1}}}"]
)
def test_what_is_shared_is_said_in_one_file_only(tmp_path: Path, head: str) -> None:
    for name in "ab":
        (tmp_path / f"{name}.yaml").write_text(text(head))
    with pytest.raises(ConfigurationError, match=r"first at .*a\.yaml:2:"):
        load_files(str(tmp_path))


# --- Routes that let everybody in ---------------------------------------------------------------


def test_routes_to_which_no_plugin_applies_are_one_notice() -> None:
    routes = ", ".join(f"{{name: r{number}, paths: [/{number}]}}" for number in range(7))
    guarded = f"{{name: guarded, paths: [/g], plugins: [{OIDC}]}}"
    [notice] = notices(text(f"routes: [{guarded}, {routes}]"))[-1:]
    assert notice.startswith("2:")
    assert notice.endswith(
        "routes: without authentication, no openid-connect plugin applies: "
        "r0, r1, r2, r3, r4 and 2 more"
    )


@pytest.mark.parametrize(
    "parts",
    [
        ["routes: [{name: a, paths: [/]}]", f"plugins: [{OIDC}]"],
        [f"services: [{{host: h, routes: [{{paths: [/]}}], plugins: [{OIDC}]}}]"],
        [f"routes: [{{name: a, paths: [/], plugins: [{OIDC}]}}]"],
        ["services: [{host: h, enabled: false, routes: [{paths: [/]}]}]"],
        ["services: [{host: h}]"],
    ],
)
def test_without_such_a_route_there_is_no_such_notice(parts: list[str]) -> None:
    assert not any("without authentication" in notice for notice in notices(text(*parts)))


def test_a_plugin_that_is_disabled_protects_nothing() -> None:
    disabled = f"{{enabled: false, {OIDC[1:]}"
    found = notices(text(f"routes: [{{name: a, paths: [/], plugins: [{disabled}]}}]"))
    assert any(notice.endswith("no openid-connect plugin applies: a") for notice in found)


# --- Many problems, and files that are none -----------------------------------------------------


def test_a_load_makes_no_more_than_a_few_suggestions() -> None:
    routes = ", ".join(f"{{paths: [/{n}], service: order}}" for n in range(SUGGESTIONS_MAX + 1))
    found = complaints(text("services: [{name: orders, host: h}]", f"routes: [{routes}]"))
    assert len(found) == SUGGESTIONS_MAX + 1
    assert sum("did you mean 'orders'?" in problem for problem in found) == SUGGESTIONS_MAX


def test_a_service_that_leads_to_an_upstream_of_kongs_is_noticed() -> None:
    found = notices(
        """
        _format_version: "3.0"
        upstreams:
        - name: httpbin.upstream
          targets: [{target: "10.0.0.1:80"}]
        services:
        - name: httpbin
          host: httpbin.upstream
        """
    )

    assert any("names an upstream, whose targets are not read" in notice for notice in found)


def services(count: int) -> str:
    plugin = "{name: openid-connect, config: {issuer: 'https://idp.example'}}"
    each = (f"{{name: s{n}, host: h, plugins: [{plugin}]}}" for n in range(count))
    return text("services:", *(f"- {service}" for service in each))


def test_C_09_equal_notices_are_one_line_with_their_count_and_first_places() -> None:
    audience = [notice for notice in notices(services(60)) if ": audience: " in notice]

    assert len(audience) == 1
    assert audience[0] == (
        "3:33: audience: is not set: a token that this issuer made for another service is "
        "accepted too (60 times: also at <stdin>:4:33, <stdin>:5:33 and 57 more)"
    )


@pytest.mark.parametrize("services_count", [2, 3, 60])
def test_C_09_many_services_give_as_many_notices_as_one(services_count: int) -> None:
    assert len(notices(services(services_count))) == len(notices(services(1)))


def test_C_09_a_notice_that_stands_once_or_twice_names_each_place() -> None:
    one, two = notices(services(1))[0], notices(services(2))[0]

    assert "times" not in one
    assert two.endswith("(2 times: also at <stdin>:4:33)")
