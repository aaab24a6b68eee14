"""What the upstream may believe: whatever the caller sends, only we say who calls."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from support.running import (
    KONG_CONSUMER,
    KONG_ID,
    KONG_SECRET,
    POSITION,
    check_request,
    gateway,
    plugin,
)
from support.scenes import OTHER_ID, OTHER_SECRET, verdict

from authz.header_names import FORWARDED, IDENTITY, spellings
from authz.model import Consumer, Gateway, Route, Service
from bench.messages import CheckRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.idp import RunningIdp
    from support.running import MakeAuthz


SERVICE = Service("s1", "orders", POSITION, host="orders.internal")
OPEN = Route("r1", "open", POSITION, SERVICE, paths=("/open",))
GUARDED = Route("r2", "guarded", POSITION, SERVICE, paths=("/guarded",))
BLOB = base64.b64encode(f"{KONG_ID}:{KONG_SECRET}".encode()).decode()


def routed(idp: RunningIdp, **parameters: Any) -> Gateway:
    """One route with the plugin, and one that is open to everybody."""
    guard = replace(plugin(idp.issuer, **parameters), route=GUARDED)
    return Gateway((SERVICE,), (OPEN, GUARDED), (guard,), (KONG_CONSUMER,))


def twins(name: str) -> set[str]:
    """A few spellings that a CGI-style upstream takes for ``name``."""
    first, separator, rest = name.partition("-")
    if not separator:
        return {name}
    return {name, name.replace("-", "_"), f"{first}_{rest}", f"{first}-{rest.replace('-', '_')}"}


# --- On the way in --------------------------------------------------------------------


async def test_HS_01_a_spoofed_consumer_is_overwritten(make_authz: MakeAuthz) -> None:
    authz = make_authz()
    spoofed = {"x-consumer-id": "admin", "x-consumer-username": "admin"}
    plain = await authz.basic()

    answer = await authz.ask({"authorization": f"Basic {BLOB}", **spoofed})

    assert answer.headers["x-consumer-id"] == [KONG_CONSUMER.id]
    assert answer.headers["x-consumer-username"] == [KONG_ID]
    assert answer.wire == plain.wire


async def test_HS_02_what_the_consumer_does_not_have_is_removed(make_authz: MakeAuthz) -> None:
    answer = await make_authz().basic()

    assert "x-consumer-custom-id" in answer.removed


async def test_HS_02_what_the_consumer_has_is_set(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    named = Consumer("c1", None, "kong_id", POSITION)
    authz = make_authz(gateway(idp, consumers=[named], consumer_by=("custom_id",)))

    answer = await authz.basic()

    assert answer.header("x-consumer-custom-id") == "kong_id"
    assert "x-consumer-username" in answer.removed


@pytest.mark.parametrize("name", [*IDENTITY, "authorization", "access-token", "x-access-token"])
async def test_HS_03_every_managed_name_is_set_or_removed_in_every_spelling(
    make_authz: MakeAuthz, name: str
) -> None:
    answer = await make_authz().basic()

    assert twins(name) <= answer.removed | set(answer.headers)
    assert twins(name) - {name} <= answer.removed


async def test_HS_03_the_configured_token_header_is_guarded_in_every_spelling(
    make_authz: MakeAuthz,
) -> None:
    answer = await make_authz(upstream_access_token_header="x-upstream-token").basic()

    assert (answer.header("x-upstream-token") or "").startswith("ey")
    assert twins("x-upstream-token") - {"x-upstream-token"} <= answer.removed


@pytest.mark.parametrize(
    ("client_id", "client_secret", "status"),
    [
        pytest.param(KONG_ID, "wrong", 401, id="401"),
        pytest.param(OTHER_ID, OTHER_SECRET, 403, id="403"),
        pytest.param(KONG_ID, KONG_SECRET, 503, id="503"),
    ],
)
async def test_HS_04_a_denial_says_nothing_of_anybody(
    idp: RunningIdp, make_authz: MakeAuthz, client_id: str, client_secret: str, status: int
) -> None:
    if status == 503:
        idp.stop()

    answer = await make_authz().basic(client_id, client_secret)

    assert answer.status == status
    assert set(answer.headers) <= {
        "cache-control",
        "content-type",
        "retry-after",
        "www-authenticate",
        "x-content-type-options",
    }


async def test_HS_05_a_route_without_a_plugin_announces_nobody_and_keeps_authorization(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz(routed(idp)).basic(context={"route": "open"})

    assert verdict(answer) == "200 unprotected"
    assert not answer.headers
    assert {spelling for name in IDENTITY for spelling in twins(name)} <= answer.removed
    assert "authorization" not in answer.removed
    assert idp.counters["token"] == 0


async def test_HS_05_a_preflight_that_is_not_asked_announces_nobody(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(run_on_preflight=False, upstream_access_token_header="x-token")

    answer = await authz.ask({"x-consumer-id": "admin"}, method="OPTIONS")

    assert verdict(answer) == "200 unprotected"
    assert not answer.headers
    for name in (*IDENTITY, "authorization", "access-token", "x-access-token", "x-token"):
        assert twins(name) <= answer.removed
    assert verdict(await authz.ask(method="GET")) == "401 credential_missing"


async def test_HS_05_a_preflight_is_asked_by_default(make_authz: MakeAuthz) -> None:
    assert verdict(await make_authz().ask(method="OPTIONS")) == "401 credential_missing"


# --- Names that an upstream folds onto ours ----------------------------------------------

TWINS = [
    "x.consumer.username",
    "x~consumer~username",
    "x-consumer.username",
    "x!consumer_username",
    "x|authenticated#groups",
    "x-envoy`auth-failure^mode_allowed",
]
CALLS: list[Any] = [
    pytest.param({"context": {"route": "guarded"}}, id="protected"),
    pytest.param({"path": "/open"}, id="unprotected"),
    pytest.param({"context": {"route": "preflight"}, "method": "OPTIONS"}, id="preflight"),
]


def guarded_open_and_preflight(idp: RunningIdp) -> Gateway:
    """As ``routed``, and a route whose preflights are not asked."""
    before = routed(idp)
    late = Route("r3", "preflight", POSITION, SERVICE, paths=("/preflight",))
    lenient = replace(
        plugin(idp.issuer, run_on_preflight=False), route=late, position=replace(POSITION, line=2)
    )
    return replace(before, routes=(*before.routes, late), plugins=(*before.plugins, lenient))


def raw(headers: Mapping[str, str], **request: Any) -> bytes:
    """A CheckRequest of an Envoy with ``encode_raw_headers``."""
    wire: Any = CheckRequest.FromString(check_request(**request))
    http = wire.attributes.request.http
    http.headers.clear()
    for name, value in headers.items():
        http.header_map.headers.add(key=name, raw_value=value.encode())
    encoded: bytes = wire.SerializeToString()
    return encoded


@pytest.mark.parametrize("encoding", ["headers", "header_map"])
@pytest.mark.parametrize("request_", CALLS)
async def test_G_01_what_folds_onto_a_name_of_ours_is_removed_by_its_own_name(
    idp: RunningIdp, make_authz: MakeAuthz, request_: dict[str, Any], encoding: str
) -> None:
    authz = make_authz(guarded_open_and_preflight(idp))
    sent = {"authorization": f"Basic {BLOB}", **dict.fromkeys(TWINS, "admin")}
    wire = check_request(sent, **request_) if encoding == "headers" else raw(sent, **request_)

    for _ in range(2):
        answer = await authz.ask_wire(wire)
        assert answer.allowed
        assert set(TWINS) <= answer.removed


async def test_G_01_a_twin_of_the_configured_header_is_removed(make_authz: MakeAuthz) -> None:
    authz = make_authz(upstream_access_token_header="x.upstream-token")

    answer = await authz.ask({"authorization": f"Basic {BLOB}", "x~upstream~token": "theirs"})

    assert (answer.header("x.upstream-token") or "").startswith("ey")
    assert {"x~upstream~token", "x-upstream-token", "x_upstream_token"} <= answer.removed


async def test_G_01_what_cannot_be_named_to_envoy_lets_nobody_pass(make_authz: MakeAuthz) -> None:
    answer = await make_authz().ask({"authorization": f"Basic {BLOB}", "x consumer id": "admin"})

    assert verdict(answer) == "400 request_malformed"


async def test_G_01_a_pseudo_header_is_no_twin(make_authz: MakeAuthz) -> None:
    authz = make_authz(upstream_access_token_header="-path")

    assert (
        ":path" not in (await authz.ask({"authorization": f"Basic {BLOB}", ":path": "/"})).removed
    )


@pytest.mark.parametrize(
    "connection",
    [
        "x-consumer-username",
        "Upgrade, X-Consumer-Username",
        "upgrade,x_consumer-id",
        "close ,\t X.Consumer.Id\t, ,",
        "keep-alive,upgrade,,x-credential-identifier",
        "Upgrade,Upgrade,x-authenticated-scope;q=1",
        'upgrade, "x-consumer-groups"',
        "x-envoy-auth-failure-mode-allowed",
        pytest.param("a," * 600, id="too long to be looked at"),
        "upgrade, X-Envoy-External-Address",
        *(f"upgrade, {name}" for name in FORWARDED),
    ],
)
@pytest.mark.parametrize("request_", CALLS)
async def test_E_01_connection_names_nothing_of_ours_away(
    idp: RunningIdp, make_authz: MakeAuthz, request_: dict[str, Any], connection: str
) -> None:
    authz = make_authz(guarded_open_and_preflight(idp))
    sent = {"authorization": f"Basic {BLOB}"}
    await authz.ask(sent, **request_)

    answer = await authz.ask({**sent, "connection": connection}, **request_)

    assert verdict(answer) == "400 connection_header_refused"


@pytest.mark.parametrize("name", ["authorization", "access-token", "x-token"])
async def test_E_01_where_a_plugin_reads_or_sets_a_header_connection_may_not_name_it(
    make_authz: MakeAuthz, name: str
) -> None:
    authz = make_authz(upstream_access_token_header="x-token")

    answer = await authz.ask(
        {"authorization": f"Basic {BLOB}", "connection": f"Upgrade, {name.title()}"}
    )

    assert verdict(answer) == "400 connection_header_refused"


@pytest.mark.parametrize(
    "connection", ["", "Upgrade", "keep-alive", "keep-alive, Upgrade", "close", "x-consumer, te"]
)
@pytest.mark.parametrize("request_", CALLS)
async def test_E_01_any_other_connection_is_the_callers_business(
    idp: RunningIdp, make_authz: MakeAuthz, request_: dict[str, Any], connection: str
) -> None:
    authz = make_authz(guarded_open_and_preflight(idp))

    answer = await authz.ask(
        {"authorization": f"Basic {BLOB}", "connection": connection}, **request_
    )

    assert answer.allowed


async def test_E_01_the_authorization_of_an_open_route_is_the_callers_to_name(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz(routed(idp)).ask({"connection": "authorization"}, path="/open")

    assert answer.allowed


# --- What claims may become -----------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        pytest.param("a\r\nx-admin: 1", id="HS-07 CR LF"),
        pytest.param("a\x00b", id="HS-07 NUL"),
        pytest.param("\ud800", id="HS-07 a lone surrogate"),
        pytest.param("é", id="HS-07 not ASCII"),
        pytest.param("a" * 9_000, id="HS-07 9 kB"),
        pytest.param("", id="HS-07 empty"),
        pytest.param(" a", id="HS-07 a space before"),
        pytest.param("a\t", id="HS-07 a TAB behind"),
        pytest.param(["a", "b"], id="HS-08 a list"),
        pytest.param({"x": 1}, id="HS-08 an object"),
        pytest.param(True, id="HS-08 a boolean"),
        pytest.param(1e308, id="HS-08 a number"),
        pytest.param(["a,b"], id="HS-09 a comma inside of a list"),
    ],
)
async def test_HS_07_a_claim_that_fits_in_no_header_lets_nobody_pass(
    idp: RunningIdp, make_authz: MakeAuthz, value: object
) -> None:
    authz = make_authz(credential_claim=("nickname",))

    answer = await authz.bearer(idp.issue(nickname=value))

    assert verdict(answer) == "403 header_value_refused"


@pytest.mark.parametrize(
    "name", [pytest.param("é", id="not ASCII"), pytest.param("a" * 4_097, id="too long")]
)
async def test_HS_07_a_consumers_name_that_fits_in_no_header_lets_nobody_pass(
    idp: RunningIdp, make_authz: MakeAuthz, name: str
) -> None:
    authz = make_authz(gateway(idp, consumers=[Consumer("c1", name, None, POSITION)]))

    answer = await authz.bearer(idp.issue(client_id=name))

    assert verdict(answer) == "403 header_value_refused"


async def test_HS_07_a_claim_with_a_line_break_names_no_consumer(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz().bearer(idp.issue(client_id="kong_id\r\nx-admin: 1"))

    assert verdict(answer) == "403 consumer_unknown"


async def test_HS_07_visible_ascii_with_spaces_inside_is_announced_as_it_is(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz(credential_claim=("nickname",)).bearer(idp.issue(nickname='a b,"~'))

    assert answer.header("x-credential-identifier") == 'a b,"~'


async def test_an_absent_credential_claim_is_no_header(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz(credential_claim=("nickname",)).basic()

    assert answer.allowed
    assert "x-credential-identifier" in answer.removed


# --- What decides nothing ---------------------------------------------------------------

NO_BYPASS: list[Any] = [
    pytest.param({"x-envoy-original-path": "/public"}, id="HS-11 x-envoy-original-path"),
    pytest.param({"x-envoy-auth-failure-mode-allowed": "true"}, id="HS-11 failure mode"),
    pytest.param({"x-envoy-auth-partial-body": "true"}, id="HS-11 partial body"),
    pytest.param({"x-forwarded-uri": "/open", "x-original-url": "/open"}, id="HS-11 other paths"),
    pytest.param({"user-agent": "kube-probe/1.29"}, id="HS-12 kube-probe"),
    pytest.param({"user-agent": "GoogleHC/1.0"}, id="HS-12 GoogleHC"),
    pytest.param({"x-health": "1"}, id="HS-12 x-health"),
    pytest.param({"tenant": "b", "route": "open"}, id="HS-21 a header named route"),
]


@pytest.mark.parametrize("headers", NO_BYPASS)
async def test_HS_10_no_header_lets_a_caller_pass(
    idp: RunningIdp, make_authz: MakeAuthz, headers: Mapping[str, str]
) -> None:
    authz = make_authz(routed(idp))

    answer = await authz.ask(headers, path="/guarded", context={"route": "guarded"})

    assert verdict(answer) == "401 credential_missing"
    assert dict(idp.counters) == {"token": 0, "discovery": 0, "certs": 0}


@pytest.mark.parametrize("headers", NO_BYPASS)
async def test_HS_10_no_header_changes_what_the_upstream_hears(
    idp: RunningIdp, make_authz: MakeAuthz, headers: Mapping[str, str]
) -> None:
    authz = make_authz(routed(idp))
    plain = await authz.basic(context={"route": "guarded"})

    answer = await authz.ask(
        {"authorization": f"Basic {BLOB}", **headers}, context={"route": "guarded"}
    )

    assert answer.wire == plain.wire
    assert twins("x-envoy-auth-failure-mode-allowed") <= answer.removed


async def test_HS_13_a_forwarded_certificate_proves_no_bound_token(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    token = idp.issue(cnf={"x5t#S256": "bwcK0esc3ACC3DB2Y5_lESsXE8o9ltc05O89jdN-dg2"})

    answer = await make_authz().ask(
        {"authorization": f"Bearer {token}", "x-forwarded-client-cert": "Hash=6f070ad1eb1cdc00"}
    )

    assert verdict(answer) == "401 token_unsupported"


@pytest.mark.parametrize(
    "host",
    ["evil.com,for=127.0.0.1", "", "LOCALHOST:8080", "localhost.", "[::1]:80", "a b"],
)
async def test_HS_18_the_host_is_no_identity(make_authz: MakeAuthz, host: str) -> None:
    authz = make_authz()
    plain = await authz.basic()

    assert (await authz.basic(host=host)).wire == plain.wire
    assert verdict(await authz.ask(host=host)) == "401 credential_missing"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/guarded?x=/open", "401 credential_missing"),
        ("/guarded/%2e%2e/guarded", "401 credential_missing"),
        ("/guarded;x=1/open", "401 credential_missing"),
        ("//guarded", "400 route_ambiguous"),  # no route to an Envoy that merges no slashes
        ("/guarded#/open", "400 request_malformed"),  # no request has a fragment
    ],
)
async def test_HS_19_no_spelling_of_a_path_opens_a_guarded_route(
    idp: RunningIdp, make_authz: MakeAuthz, path: str, expected: str
) -> None:
    assert verdict(await make_authz(routed(idp)).ask(path=path)) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("*", "404 route_unmatched"),
        ("", "404 route_unmatched"),
        ("/a%2e%2e/open", "404 route_unmatched"),
        # To Kong %2f is no separator, to an Envoy that unescapes slashes it is.
        ("/%6Fpen%2f..%2fguarded", "400 route_ambiguous"),
        pytest.param("/" * 20_000, "400 request_malformed", id="20 kB"),
    ],
)
async def test_HS_19_an_odd_path_is_answered_as_kong_reads_it(
    idp: RunningIdp, make_authz: MakeAuthz, path: str, expected: str
) -> None:
    assert verdict(await make_authz(routed(idp)).ask(path=path)) == expected


async def test_HS_20_claims_that_another_filter_left_are_no_identity(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    left = CheckRequest()
    payload = left.attributes.metadata_context.filter_metadata["envoy.filters.http.jwt_authn"]
    payload.fields["client_id"].string_value = KONG_ID

    answer = await make_authz().ask_wire(check_request() + left.SerializeToString())

    assert verdict(answer) == "401 credential_missing"


async def test_HS_21_only_envoys_word_names_a_route(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    authz = make_authz(routed(idp))
    headers = {"route": "open", "x-route": "open"}

    assert (await authz.ask(headers, path="/open", context={"route": "guarded"})).status == 401
    assert (await authz.ask(headers, path="/guarded", context={"route": "open"})).status == 200
    unknown = await authz.ask(headers, path="/open", context={"route": "other"})
    assert verdict(unknown) == "404 route_unknown"


# --- On the way out -----------------------------------------------------------------------


@pytest.mark.parametrize("header", ["authorization:bearer", "x-token", "x-token:bearer", None])
async def test_HS_14_the_callers_secret_is_overwritten_or_removed(
    make_authz: MakeAuthz, header: str | None
) -> None:
    authz = make_authz(upstream_access_token_header=header)

    for answer in (await authz.basic(), await authz.basic()):
        overwritten = (answer.header("authorization") or "").startswith("Bearer ey")
        assert overwritten != ("authorization" in answer.removed)
        assert overwritten == (header == "authorization:bearer")
        assert BLOB.encode() not in answer.wire
        assert KONG_SECRET.encode() not in answer.wire


async def test_HS_16_a_secret_in_the_query_is_removed_by_its_literal_name(
    make_authz: MakeAuthz,
) -> None:
    authz = make_authz(client_credentials_param_type=("query",))

    answer = await authz.ask(path=f"/?client_id={KONG_ID}&client_secret={KONG_SECRET}")

    assert answer.allowed
    assert answer.removed_query == ("client_id", "client_secret")
    assert KONG_SECRET.encode() not in answer.wire


async def test_HS_16_authorization_is_taken_away_though_the_token_goes_elsewhere(
    make_authz: MakeAuthz,
) -> None:
    answer = await make_authz(upstream_access_token_header="x-token").basic()

    assert "authorization" in answer.removed


@pytest.mark.parametrize(
    ("parameters", "whose"),
    [
        pytest.param({}, "ours", id="bearer reads headers"),
        pytest.param({"bearer_token_param_type": ("query",)}, "theirs", id="bearer reads none"),
        pytest.param({"auth_methods": ("client_credentials",)}, "theirs", id="no bearer"),
    ],
)
async def test_D_14_a_token_header_is_the_applications_where_no_method_reads_it(
    make_authz: MakeAuthz, parameters: dict[str, Any], whose: str
) -> None:
    authz = make_authz(**parameters)

    answer = await authz.basic()

    removed = {name for name in ("access-token", "x-access-token") if name in answer.removed}
    assert removed == ({"access-token", "x-access-token"} if whose == "ours" else set())


async def test_D_14_a_token_header_of_the_application_is_answered_from_memory(
    make_authz: MakeAuthz,
) -> None:
    authz = make_authz(auth_methods=("client_credentials",))
    wire = check_request({"authorization": f"Basic {BLOB}", "x-access-token": "the application's"})
    await authz.ask_wire(wire)

    assert authz.authorizer.cached(wire) is not None


async def test_D_14_an_open_route_leaves_the_token_headers_alone(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz(routed(idp)).ask(path="/open")

    assert answer.removed == spellings(IDENTITY)


async def test_half_a_pair_in_the_query_goes_to_no_upstream(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(client_credentials_param_type=("header", "query"))

    answer = await authz.basic(path=f"/get?client_secret={KONG_SECRET}")

    assert answer.allowed
    assert answer.removed_query == ("client_secret",)
