"""The fast path may be silent; when it answers, it says what the whole way says."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from support.clock import Clock
from support.idp import RunningIdp
from support.running import (
    KONG_CONSUMER,
    KONG_ID,
    KONG_SECRET,
    POSITION,
    RunningAuthz,
    check_request,
    plugin,
    read,
    without_id,
)
from support.scenes import OTHER_ID, OTHER_SECRET

from authz.credentials import QUERY_BYTES_MAX, basic
from authz.fast_path import NAME_CHARS_MAX
from authz.header_names import IDENTITY, TOKENS, spellings
from authz.model import Gateway, Plugin, Route, Service, SourcePosition, Termination
from bench.messages import CheckRequest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

T = TypeVar("T")

# Filled in when a request is encoded: a bearer token that only the running provider
# can sign, and more bytes than a query may have.
TOKEN, LONG = "{token}", "{long}"
EVERYWHERE = ("header", "query")
SERVICE = Service("s1", "orders", POSITION, host="orders.internal")
OFF = Service("s2", "off", POSITION, host="off.internal", enabled=False)
# Both have a plugin; a route of the divided one has another, so its name does not tell which.
EVEN = Service("s4", "even", POSITION, host="even.internal")
DIVIDED = Service("s5", "divided", POSITION, host="divided.internal")

# One route for each way in which a plugin can read, or not read, a credential.
PLUGINS: Mapping[str, Mapping[str, Any]] = {
    "header": {},
    "query": {
        "client_credentials_param_type": EVERYWHERE,
        "bearer_token_param_type": EVERYWHERE,
    },
    "bearer": {"auth_methods": ("bearer",), "bearer_token_param_type": EVERYWHERE},
    "exchange": {
        "auth_methods": ("client_credentials",),
        "client_credentials_param_type": EVERYWHERE,
    },
    "body": {"client_credentials_param_type": ("header", "body"), "hide_credentials": False},
    "preflight": {"run_on_preflight": False},
    "kept": {"hide_credentials": False, "upstream_access_token_header": "x-token"},
    "strict": {"scopes_required": ("missing",)},
    "shut": {},
}


def route(name: str, authorizer: Service = SERVICE) -> Route:
    return Route(f"id-of-{name}", name, POSITION, authorizer, paths=(f"/{name}",))


def routed(issuer: str) -> Gateway:
    """A file with a route of each kind, some without a plugin, and services with one."""
    routes = {name: route(name) for name in PLUGINS}
    guarded = route("guarded", DIVIDED)
    plugins = [
        *(replace(plugin(issuer, **PLUGINS[name]), route=at) for name, at in routes.items()),
        replace(plugin(issuer), service=EVEN),
        replace(plugin(issuer), service=DIVIDED),
        replace(plugin(issuer, **PLUGINS["strict"]), route=guarded),
    ]
    others = (
        route("open", Service("s3", "bare", POSITION, host="bare.internal")),
        route("off", OFF),
        route("even", EVEN),
        guarded,
        route("free", DIVIDED),
    )
    return Gateway(
        services=(SERVICE, OFF, EVEN, DIVIDED),
        routes=(*routes.values(), *others),
        plugins=tuple(
            replace(each, position=SourcePosition("kong.yaml", line, 1))
            for line, each in enumerate(plugins, start=2)
        ),
        consumers=(KONG_CONSUMER,),
        terminations=(Termination(POSITION, route=routes["shut"]),),
    )


def unrouted(issuer: str, **parameters: Any) -> Gateway:
    """A file without routes: one plugin for everything."""
    everything: Plugin = plugin(issuer, **parameters)
    return Gateway(plugins=(everything,), consumers=(KONG_CONSUMER,))


def told(*resources: Mapping[str, Any]) -> dict[str, Any]:
    """What Envoy Gateway tells of the route that it has chosen."""
    return {"envoy-gateway": {"resources": [dict(each) for each in resources]}}


def http_route(name: str, **fields: Any) -> dict[str, Any]:
    return {"kind": "HTTPRoute", "namespace": "shop", "name": name, **fields}


@dataclass(frozen=True)
class Town:
    """Several configurations before one provider, and the loop that they live on."""

    running: Mapping[str, RunningAuthz]
    runner: asyncio.Runner
    token: str = field(repr=False)

    def ask(self, name: str, wire: bytes) -> tuple[bytes | None, bytes, bytes | None]:
        """Ask the fast path, the whole way, and the fast path once more."""

        async def asked() -> tuple[bytes | None, bytes, bytes | None]:
            authorizer = self.running[name].authorizer
            before = authorizer.cached(wire)
            answer = await authorizer.check(wire, None)
            after = authorizer.cached(wire)
            # Each decision has an id of its own; a cached answer has the one that it repeats.
            return before and without_id(before), without_id(answer), after and without_id(after)

        return self.runner.run(asked())


@pytest.fixture(scope="module")
def town() -> Iterator[Town]:
    clock = Clock()

    async def built(issuer: str) -> dict[str, RunningAuthz]:
        made = {"routed": routed(issuer), "unrouted": unrouted(issuer, **PLUGINS["query"])}
        running = {name: RunningAuthz(gateway, clock=clock) for name, gateway in made.items()}
        for name, gateway in made.items():
            named = RunningAuthz(gateway, clock=clock, route_metadata="envoy-gateway")
            running[f"{name}, told"] = named
        return running

    async def close(running: Mapping[str, RunningAuthz]) -> None:
        for name in running.values():
            await name.shared.aclose()

    with RunningIdp(now=clock.now) as idp, asyncio.Runner() as runner:
        running = runner.run(built(idp.issuer))
        yield Town(running, runner, idp.issue())
        runner.run(close(running))


# --- Requests around valid credentials --------------------------------------------

PAIR = basic(KONG_ID, KONG_SECRET)


def mostly(plain: st.SearchStrategy[T], strange: st.SearchStrategy[T]) -> st.SearchStrategy[T]:
    """Something plain most of the time: a request with five oddities says little of each."""
    return st.integers(0, 7).flatmap(lambda number: strange if number == 7 else plain)


authorizations = mostly(
    st.sampled_from([PAIR, f"Bearer {TOKEN}"]),
    st.sampled_from(
        [
            PAIR.replace("Basic", "bASIC "),
            f"{PAIR},{PAIR}",
            f"{PAIR},",
            basic(OTHER_ID, OTHER_SECRET),
            basic(KONG_ID, "wrong"),
            f"bearer  {TOKEN}",
            f"Bearer {TOKEN}x",
            "Digest x",
            "",
        ]
    ),
)
other_headers = mostly(
    st.just({}),
    st.sampled_from(
        [
            {"access-token": TOKEN},
            {"access-token": "garbage"},
            {"x-access-token": TOKEN},
            {"x-access-token": ""},
            {"Authorization": PAIR},
            {"Access-Token": TOKEN},
            {"content-type": "application/grpc"},
            {"content-type": "application/x-www-form-urlencoded"},
            {"x-envoy-auth-partial-body": "true"},
            {"proxy-authorization": PAIR, "cookie": f"access_token={TOKEN}"},
            {"x-consumer-id": "admin"},
        ]
    ),
)
arguments = st.sampled_from(
    [
        f"client_id={KONG_ID}",
        f"client_secret={KONG_SECRET}",
        f"access_token={TOKEN}",
        "client%5Fid=a",
        "access%5ftoken=a",
        "%63lient_secret=",
        "client_id",
        "a=client_id",
        "a=%41",
        "b",
        "",
        LONG,
    ]
)
queries = mostly(
    st.sampled_from(["", "?a=1", "?", "?a?b=2&c"]),
    st.lists(arguments, max_size=4).map(lambda parts: "?" + "&".join(parts)),
)
paths = mostly(
    st.sampled_from([f"/{name}/x" for name in (*PLUGINS, "guarded", "free")]),
    st.sampled_from(["/open", "/off", "*", "", f"/{LONG}"]),
)
contexts = {
    "unrouted": mostly(st.sampled_from([{}, {"tenant": "b"}]), st.just({"route": "header"})),
    "routed": mostly(
        st.sampled_from([{"route": name} for name in PLUGINS])
        | st.sampled_from([{"service": "even"}, {"service": "divided"}]),
        st.sampled_from(
            [
                *({"route": f"id-of-{name}"} for name in PLUGINS),
                {},
                {"route": "open"},
                {"route": "off"},
                {"route": ""},
                {"route": "unknown"},
                {"service": "orders"},
                {"service": "unknown"},
                {"service": "orders", "route": "header"},
                {"service": "off", "route": "header"},
            ]
        ),
    ),
}
metadata = mostly(
    st.sampled_from([told(http_route(name)) for name in PLUGINS]),
    st.sampled_from(
        [
            {},
            {"envoy-gateway": {}},
            {"another": told(http_route("header"))["envoy-gateway"]},
            told(),
            told(http_route("")),
            told(http_route("open")),
            told(http_route("unknown")),
            told(http_route("header"), http_route("open")),
            told(http_route("header", kind="Gateway")),
            told(http_route("open", annotations={"kong-route": "header"})),
            told(http_route("header", annotations={"kong-route": "unknown"})),
            {"envoy-gateway": {"resources": "header"}},
        ]
    ),
)
bodies = st.sampled_from([b"", f"client_id={KONG_ID}&client_secret={KONG_SECRET}".encode()])
methods = mostly(st.sampled_from(["GET", "POST"]), st.sampled_from(["OPTIONS", "options", ""]))


def more(**http: Any) -> bytes:
    """Bytes that, added to a CheckRequest, set what Envoy itself never sends so."""
    wire: bytes = CheckRequest(attributes={"request": {"http": http}}).SerializeToString()
    return wire


oddities = mostly(
    st.just(b""),
    st.sampled_from(
        [
            more(query=f"client_id={KONG_ID}"),
            more(header_map={"headers": [{"key": "authorization", "raw_value": PAIR.encode()}]}),
            more(header_map={"headers": []}),
            b"\xff",
        ]
    ),
)


@st.composite
def requests(draw: st.DrawFn, name: str) -> dict[str, Any]:
    """The arguments of one ``check_request``; ``TOKEN`` and ``LONG`` are not filled in yet."""
    return {
        "headers": {"authorization": draw(authorizations)} | draw(other_headers),
        "method": draw(methods),
        "path": draw(paths) + draw(queries),
        "body": draw(bodies),
        "context": draw(contexts[name.removesuffix(", told")]),
        "route_metadata": draw(metadata),
    }


def encoded(request: Mapping[str, Any], token: str) -> bytes:
    """The request as Envoy sends it, with what ``TOKEN`` and ``LONG`` stand for."""
    filled = {name: value.replace(TOKEN, token) for name, value in request["headers"].items()}
    path = request["path"].replace(TOKEN, token).replace(LONG, "a" * (QUERY_BYTES_MAX + 1))
    return check_request(**{**request, "headers": filled, "path": path})


# --- The law -----------------------------------------------------------------------


@pytest.mark.parametrize("name", ["routed", "unrouted", "routed, told", "unrouted, told"])
@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_whenever_the_hot_path_answers_the_whole_way_says_the_same(
    town: Town, name: str, data: st.DataObject
) -> None:
    request = data.draw(requests(name))
    wire = encoded(request, town.token) + data.draw(oddities)

    before, answer, after = town.ask(name, wire)

    event(f"answered from memory: {before is not None}")
    assert before in (None, answer)
    assert after in (None, answer)


@pytest.mark.parametrize("credential", [PAIR, f"Bearer {TOKEN}"], ids=["basic", "bearer"])
@pytest.mark.parametrize(
    ("name", "context"),
    [
        pytest.param("unrouted", {}, id="one plugin for everything"),
        pytest.param("routed", {"route": "header"}, id="a route by name"),
        pytest.param("routed", {"route": "id-of-query"}, id="a route by id"),
        pytest.param("routed", {"route": "kept"}, id="a route that hides nothing"),
        pytest.param("routed", {"service": "even"}, id="a service by name"),
        pytest.param("routed", {"service": "s4"}, id="a service by id"),
    ],
)
def test_where_the_policy_is_certain_the_second_answer_comes_from_memory(
    town: Town, name: str, context: Mapping[str, str], credential: str
) -> None:
    headers = {"authorization": credential}
    request = {"headers": headers, "context": context, "path": "/x?a=1", "method": "POST"}

    _, answer, after = town.ask(name, encoded(request, town.token))

    assert after == answer


def test_a_route_that_envoy_gateway_tells_is_answered_from_memory(town: Town) -> None:
    request = {"headers": {"authorization": PAIR}, "path": "/x"}
    named = {**request, "route_metadata": told(http_route("header"))}

    _, answer, after = town.ask("routed, told", encoded(named, town.token))
    unnamed, refusal, _ = town.ask("routed, told", encoded(request, town.token))

    assert after == answer
    assert read(answer).allowed
    assert unnamed is None
    assert read(refusal).status == 503


@pytest.mark.parametrize(
    ("route", "request_"),
    [
        pytest.param("query", {"path": "/?client_id=a"}, id="an argument that is read"),
        pytest.param("query", {"path": "/?client%5Fid=a"}, id="its encoded spelling"),
        pytest.param("query", {"path": "/?access_token=a"}, id="a token argument"),
        pytest.param("query", {"path": f"/?{LONG}"}, id="a query that is too long to be read"),
        pytest.param("header", {"headers": {"access-token": "a"}}, id="a token header"),
        pytest.param("header", {"headers": {"x-access-token": ""}}, id="an empty token header"),
        pytest.param("preflight", {"method": "OPTIONS"}, id="a preflight that is not asked"),
        pytest.param("body", {}, id="a policy that reads bodies"),
        pytest.param("strict", {}, id="a refusal"),
        pytest.param("shut", {}, id="C_08 a route that request-termination shuts"),
        pytest.param("open", {}, id="a route without a plugin"),
        pytest.param("off", {}, id="a route of a disabled service"),
    ],
)
def test_what_depends_on_more_than_the_credential_is_never_answered_from_memory(
    town: Town, route: str, request_: dict[str, Any]
) -> None:
    plain = {"headers": {"authorization": PAIR}, "context": {"route": route}, "path": "/"}
    town.ask("routed", encoded(plain, town.token))
    request = {**plain, **request_}
    request["headers"] = {"authorization": PAIR} | request_.get("headers", {})

    before, _, after = town.ask("routed", encoded(request, town.token))

    assert (before, after) == (None, None)


# --- Header names -----------------------------------------------------------------------

SEPARATORS = "!#$%&'*+-.^_`|~"  # all that RFC 9110 section 5.6.2 allows besides letters and digits
managed_names = st.sampled_from([*IDENTITY, *TOKENS])


@given(data=st.data())
@settings(max_examples=400, deadline=None)
def test_G_01_who_has_a_twin_of_our_names_is_never_answered_from_memory(
    town: Town, data: st.DataObject
) -> None:
    letters = data.draw(managed_names)
    twin = "".join(
        data.draw(st.sampled_from(SEPARATORS)) if letter == "-" else letter for letter in letters
    )
    request = {"headers": {"authorization": PAIR, twin: "admin"}, "context": {"route": "query"}}
    wire = encoded({**request, "path": "/"}, town.token)

    before, answer, after = town.ask("routed", wire)

    enumerated = twin in spellings([letters])
    event(f"enumerated: {enumerated}")
    if not enumerated:
        assert (before, after) == (None, None)
        assert twin in read(answer).removed
    elif letters in IDENTITY:
        assert after == answer
        assert twin in read(answer).removed | set(read(answer).headers)


@given(names=st.lists(st.text("abx-_." + SEPARATORS, min_size=1, max_size=12), max_size=6))
@settings(max_examples=200, deadline=None)
def test_G_01_a_name_that_is_no_twin_is_left_alone_and_soon_answered_from_memory(
    town: Town, names: list[str]
) -> None:
    headers = {"authorization": PAIR, **dict.fromkeys(names, "theirs")}
    wire = encoded({"headers": headers, "context": {"route": "query"}, "path": "/"}, town.token)

    _, answer, after = town.ask("routed", wire)

    assert after == answer
    assert read(answer).removed.isdisjoint(names)


@pytest.mark.parametrize(
    "headers",
    [
        {"connection": "Upgrade"},
        {"connection": "Upgrade, X-Consumer-Id"},
        {"access-token": ""},
        {"n" * (NAME_CHARS_MAX + 1): "too long to be remembered"},
    ],
)
def test_E_01_a_header_that_decides_something_is_never_familiar(
    town: Town, headers: dict[str, str]
) -> None:
    request = {"headers": {"authorization": PAIR, **headers}, "context": {"route": "header"}}

    before, _, after = town.ask("routed", encoded({**request, "path": "/"}, town.token))

    assert (before, after) == (None, None)


def test_the_name_of_a_service_is_not_enough_where_a_route_of_it_has_its_own_plugin(
    town: Town,
) -> None:
    request = {"headers": {"authorization": PAIR}, "context": {"service": "divided"}}
    statuses = {}
    for path in ("/free", "/guarded", "/query"):
        before, answer, after = town.ask("routed", encoded({**request, "path": path}, town.token))
        assert (before, after) == (None, None)
        statuses[path] = read(answer).status

    assert statuses == {"/free": 200, "/guarded": 403, "/query": 404}


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        pytest.param({"path": "/header"}, 200, id="a plain path"),
        pytest.param({"path": "/open/../header"}, 400, id="dot segments"),
        pytest.param({"path": "/x%2F..%2Fheader"}, 400, id="escaped slashes"),
        pytest.param({"path": "/header", "host": "localhost:x"}, 400, id="a host without a port"),
        pytest.param({"path": "/header" + "a" * 10_000}, 400, id="a path beyond the bound"),
    ],
)
def test_G_07_where_the_request_itself_decides_nothing_is_answered_from_memory(
    town: Town, request_: dict[str, Any], status: int
) -> None:
    headers = {"authorization": PAIR}
    named = {"headers": headers, "context": {"route": "header"}, "path": "/header"}
    town.ask("routed", encoded(named, town.token))

    before, answer, after = town.ask(
        "routed", encoded({"headers": headers, **request_}, town.token)
    )

    assert (before, after) == (None, None)
    assert read(answer).status == status


@pytest.mark.parametrize(("name", "context"), [("routed", {"route": "header"}), ("unrouted", {})])
def test_G_07_one_policy_for_every_path_is_answered_whatever_the_path_is(
    town: Town, name: str, context: dict[str, str]
) -> None:
    request = {"headers": {"authorization": PAIR}, "context": context, "host": "localhost:x"}
    for path in ("/x", "/open/../header", "//header", "/a%2Fb#c"):
        before, answer, after = town.ask(name, encoded({**request, "path": path}, town.token))
        assert read(answer).allowed
        assert before in (None, answer)
        assert after == answer
