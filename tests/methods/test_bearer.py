"""The caller brings an access token."""

from __future__ import annotations

from base64 import urlsafe_b64encode
from typing import TYPE_CHECKING

import pytest
from support.idp import key
from support.methods import Headers, Subject
from support.running import KONG_ID, check_request, logged
from support.scenes import OTHER_ID, OTHER_SECRET, verdict

from authz.oauth import jwt
from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from support.idp import RunningIdp
    from support.running import RunningAuthz

    MakeAuthz = Callable[..., RunningAuthz]


def authorization(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


def forged(idp: RunningIdp) -> Headers:
    """A token under the id of the provider's key, signed by another one."""
    signed, _, _ = idp.issue().rpartition(".")
    signature = key(number=1).sign({"alg": "RS256"}, {}).rpartition(".")[2]
    return authorization(f"{signed}.{signature}")


OUR_CLIENT = {"client_id": (OTHER_ID,), "client_secret": (Secret(OTHER_SECRET),)}
ASKING = [("introspection", "introspection"), ("userinfo", "userinfo")]
"""The methods that take opaque tokens, and the endpoint that each of them asks."""

SUBJECT = Subject(
    good=lambda idp: authorization(idp.issue()),
    bad=forged,
    refused="token_signature_invalid",
    elsewhere=lambda idp: {"headers": {"x-access-token": idp.issue()}},
    endpoint="certs",
)


def with_header(header: str, claims: str = "{}") -> str:
    """A token whose first segments say this."""
    said = (urlsafe_b64encode(text.encode()).decode().rstrip("=") for text in (header, claims))
    return ".".join((*said, "c2ln"))


OPAQUE = {
    "opaque": "1 segments; a signed JWT has three",
    "a.b": "2 segments; a signed JWT has three",
    "a.b.c.d": "4 segments; a signed JWT has three",
    "v4.public.eyJzdWIiOiJ4In0": "the first is no header of one (a segment is not canonical",
    "v4aA.public.eyJzdWIiOiJ4In0": "the first is no header of one (header: not valid JSON in UTF",
    "v2.local.x.y": "4 segments; a signed JWT has three",
    "a.b.c": "the first is no header of one (a segment is not canonical base64url)",
    "+/+/.b.c": "the first is not base64url",
    ".e30.c2ln": "the first is not base64url",
    with_header("[]"): "the first is no header of one (the header is no JSON object)",
    with_header("7"): "the first is no header of one (the header is no JSON object)",
    with_header("{"): "the first is no header of one (header: not valid JSON in UTF",
    with_header('{"a":1,"a":2}'): "a name stands twice in one object",
    with_header('{"a":NaN}'): "NaN and Infinity are no JSON numbers",
}
"""Tokens that are no JWT, by what is found instead."""

A_JWT = {
    with_header('{"alg":"none"}'): "token_unsupported",
    with_header('{"alg":"HS256"}'): "token_unsupported",
    with_header('{"alg":"RS256","crit":[]}'): "token_unsupported",
    with_header('{"alg":"RS256","typ":"dpop+jwt"}'): "token_unsupported",
    "e30.e30.c2ln": "token_unsupported",
    "e30.W10.c2ln": "token_malformed",
    "e30.b.c": "token_malformed",
    "e30..": "token_malformed",
    with_header('{"alg":"RS256"}', '{"iss":"x"}'): "token_issuer_refused",
    with_header("x" * 2_000): "token_malformed",
}
"""JWTs as far as their headers tell, each bad, by the reason."""


@pytest.mark.parametrize(("token", "found"), OPAQUE.items())
async def test_what_is_no_jwt_is_401_and_said_where_only_jwts_are_taken(
    make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture, token: str, found: str
) -> None:
    if not token.startswith(("+", ".")):  # these are no b64token
        assert verdict(await make_authz().bearer(token)) == "401 token_malformed"
        assert found in logged(caplog.records)
    assert not jwt.is_signed(token)
    assert found in jwt.not_signed(token).detail
    assert "use introspection or userinfo" in jwt.not_signed(token).detail


async def test_what_is_encrypted_is_said_to_be(make_authz: MakeAuthz) -> None:
    assert verdict(await make_authz().bearer("e30.b.c.d.e")) == "401 token_malformed"
    assert "encrypted (five segments" in jwt.not_signed("e30.b.c.d.e").detail


@pytest.mark.parametrize(("method", "endpoint"), ASKING)
@pytest.mark.parametrize("token", [token for token in OPAQUE if not token.startswith(".")])
async def test_what_is_no_jwt_is_left_to_a_method_that_asks_about_it(
    idp: RunningIdp, make_authz: MakeAuthz, token: str, method: str, endpoint: str
) -> None:
    idp.opaque[token] = {"sub": KONG_ID, "client_id": KONG_ID, "scope": "openid"}
    authz = make_authz(auth_methods=("bearer", method), consumer_claim=("sub",), **OUR_CLIENT)

    assert (await authz.bearer(token)).allowed
    assert idp.counters[endpoint] == 1


@pytest.mark.parametrize(("method", "endpoint"), ASKING)
@pytest.mark.parametrize(("token", "reason"), A_JWT.items())
async def test_a_bad_jwt_is_refused_and_asked_nobody_about(
    idp: RunningIdp, make_authz: MakeAuthz, token: str, reason: str, method: str, endpoint: str
) -> None:
    idp.opaque[token] = {"sub": KONG_ID, "client_id": KONG_ID, "scope": "openid"}
    authz = make_authz(auth_methods=("bearer", method), consumer_claim=("sub",), **OUR_CLIENT)

    assert verdict(await authz.bearer(token)) == f"401 {reason}"
    assert verdict(await make_authz().bearer(token)) == f"401 {reason}"
    assert idp.counters[endpoint] == 0


@pytest.mark.parametrize(("token", "expected"), [("v4.public.x", "200"), ("e30.e30.x", "401")])
async def test_where_jwts_are_introspected_what_is_none_is_not_verified(
    idp: RunningIdp, make_authz: MakeAuthz, token: str, expected: str
) -> None:
    idp.opaque[token] = {"client_id": KONG_ID}
    methods = ("bearer", "introspection")
    authz = make_authz(auth_methods=methods, introspect_jwt_tokens=True, **OUR_CLIENT)

    assert verdict(await authz.bearer(token)).startswith(expected)


async def test_the_answer_is_reused_for_cache_ttl_max_at_most(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock, cache_ttl_max=10)
    wire = check_request(authorization(idp.issue()))
    await authz.authorizer.check(wire, None)
    await authz.authorizer.check(wire, None)  # by when the names of its headers are known

    assert authz.authorizer.cached(wire) is not None
    clock.advance(10)
    assert authz.authorizer.cached(wire) is None
