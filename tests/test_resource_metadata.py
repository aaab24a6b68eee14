"""What a resource says of itself to whoever has no token yet (RFC 9728), over real sockets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from support.configuration import load

from authz.errors import ConfigurationError

if TYPE_CHECKING:
    from support.idp import RunningIdp
    from support.running import Answer, MakeAuthz

    from authz.model import Gateway

RESOURCE = "https://api.example/mcp"
AT = "/.well-known/oauth-protected-resource"
FILE = """
_format_version: "3.0"
consumers: [{{username: kong_id}}]
services:
- name: tools
  url: http://tools
  routes:
  - {{name: mcp, paths: [/mcp]}}
  - {{name: posts, paths: [/posts], methods: [POST]}}
  plugins:
  - name: openid-connect
    config:
      issuer: "{issuer}"
      consumer_claim: [client_id]
      protected_resource_metadata:
        resource: {resource}
        authorization_servers: ["{issuer}"]
        {more}
- name: others
  url: http://others
  routes: [{{name: open, paths: [/open]}}]
"""
SCOPES = "scopes_supported: [mcp:read, mcp:write]"


def file(idp: RunningIdp, more: str = SCOPES, resource: str = RESOURCE) -> Gateway:
    return load(FILE.format(issuer=idp.issuer, more=more, resource=resource))


def document(answer: Answer) -> object:
    assert (answer.status, answer.reason) == (200, "resource_metadata")
    assert answer.header("content-type") == "application/json"
    assert answer.header("cache-control") == "no-store"
    return json.loads(answer.body)


@pytest.mark.parametrize("named", [{}, {"route": "mcp"}, {"service": "tools"}])
@pytest.mark.parametrize("query", ["", "?a=1"])
async def test_the_metadata_are_told_without_a_credential_and_without_the_provider(
    idp: RunningIdp, make_authz: MakeAuthz, named: dict[str, str], query: str
) -> None:
    authz = make_authz(file(idp))

    answer = await authz.ask(path=f"/mcp{AT}{query}", host="api.example:8443", context=named)

    assert document(answer) == {
        "resource": RESOURCE,
        "authorization_servers": [idp.issuer],
        "scopes_supported": ["mcp:read", "mcp:write"],
    }
    assert not any(idp.counters.values())


async def test_they_are_where_the_rfc_has_them_too_though_no_route_reaches_there(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(file(idp))

    for host in ("api.example", "API.example:443"):
        assert document(await authz.ask(path=f"{AT}/mcp", host=host))
    for other in (
        await authz.ask(path=f"{AT}/mcp", host="other.example"),
        await authz.ask(path=f"{AT}/mcp", host="[api.example"),
        await authz.ask(path=AT, host="api.example"),
    ):
        assert other.status in (400, 404)


async def test_a_known_caller_gets_them_as_anybody_does(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(file(idp))
    for _ in range(2):
        assert (await authz.basic(path="/mcp", context={"route": "mcp"})).allowed

    for path in (f"/mcp{AT}", f"{AT}/mcp?x"):
        assert document(await authz.basic(path=path, context={"route": "mcp"}))
    assert (await authz.basic(path=f"/mcp{AT}/", context={"route": "mcp"})).allowed


@pytest.mark.parametrize("method", ["POST", "HEAD", "OPTIONS", "get"])
async def test_another_method_is_405(idp: RunningIdp, make_authz: MakeAuthz, method: str) -> None:
    answer = await make_authz(file(idp)).ask(path=f"/mcp{AT}", method=method)

    assert (answer.status, answer.header("allow")) == (405, "GET")
    assert answer.body == '{"message":"Method not allowed"}'


async def test_a_caller_of_grpc_hears_of_405_in_its_way(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz(file(idp)).ask(
        {"content-type": "application/grpc"},
        path=f"/mcp{AT}",
        method="POST",
        host="api.example",
    )

    assert (answer.status, answer.header("grpc-status"), answer.body) == (405, "2", "")


async def test_a_401_says_where_they_are_and_nothing_else_does(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(file(idp))
    told = f'resource_metadata="{RESOURCE}{AT}", scope="mcp:read mcp:write"'

    missing = await authz.ask(path="/mcp")
    wrong = await authz.bearer("no.to.ken", path="/mcp")
    unknown = await authz.basic("stranger", "hunter22", path="/mcp")
    stranger = await authz.bearer(idp.issue(client_id="stranger"), path="/mcp")

    bearer, basic = missing.headers["www-authenticate"]
    assert bearer == f'Bearer realm="127.0.0.1", {told}'
    assert "resource_metadata" not in basic
    for refused in (wrong, unknown):
        assert refused.headers["www-authenticate"][0] == (
            f'Bearer realm="127.0.0.1", error="invalid_token", {told}'
        )
    assert stranger.status == 403
    assert "resource_metadata" not in (stranger.header("www-authenticate") or "")


async def test_a_route_for_other_methods_is_no_hindrance(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(file(idp, resource="https://api.example/posts"))

    assert document(await authz.ask(path=f"/posts{AT}", host="api.example"))


@pytest.mark.parametrize(
    ("endpoint", "path", "url"),
    [
        ("/mcp/about", "/mcp/about", "https://api.example/mcp/about"),
        ("https://meta.example/mcp/about", "/mcp/about", "https://meta.example/mcp/about"),
    ],
)
async def test_the_file_may_say_where_they_are(
    idp: RunningIdp, make_authz: MakeAuthz, endpoint: str, path: str, url: str
) -> None:
    authz = make_authz(file(idp, f"metadata_endpoint: {endpoint}"))

    assert document(await authz.ask(path=path)) == {
        "resource": RESOURCE,
        "authorization_servers": [idp.issuer],
    }
    challenge = (await authz.ask(path="/mcp")).headers["www-authenticate"][0]
    assert challenge == f'Bearer realm="127.0.0.1", resource_metadata="{url}"'


@pytest.mark.parametrize("resource", ["https://api.example", "https://api.example/"])
async def test_a_resource_without_a_path_has_one_place_for_them(
    idp: RunningIdp, make_authz: MakeAuthz, resource: str
) -> None:
    authz = make_authz(file(idp, resource=resource))

    assert document(await authz.ask(path=AT, host="api.example"))


async def test_a_route_without_metadata_tells_none(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    assert (await make_authz(file(idp)).ask(path=f"/open{AT}")).allowed


@pytest.mark.parametrize(
    ("more", "resource", "said"),
    [
        ("scopes_supported: ['a b']", RESOURCE, "must be one scope"),
        ("scopes_supported: ['a\"b']", RESOURCE, "must be one scope"),
        ("metadata_endpoint: about", RESOURCE, "must be an absolute URL"),
        ("metadata_endpoint: '/a?b'", RESOURCE, "must hold no query"),
        ("metadata_endpont: /a", RESOURCE, "did you mean"),
        ("", "https://api.example/mcp?a", "must hold no query"),
        ("", "https://api.example/#a", "must not hold a fragment"),
        ("", "'https://api.example/\"'", "no quotation mark"),
        ("", "null", "protected_resource_metadata.resource: is required"),
        ("", "/mcp", "must be an absolute URL"),
    ],
)
def test_metadata_that_nobody_could_use_are_refused(
    idp: RunningIdp, more: str, resource: str, said: str
) -> None:
    with pytest.raises(ConfigurationError, match="protected_resource_metadata") as caught:
        file(idp, more, resource)

    assert said in str(caught.value)


def test_both_required_fields_are_asked_for(idp: RunningIdp) -> None:
    text = FILE.format(issuer=idp.issuer, more="", resource=RESOURCE)
    without = text.replace(f'authorization_servers: ["{idp.issuer}"]', "")

    with pytest.raises(ConfigurationError, match="authorization_servers: is required"):
        load(without)
