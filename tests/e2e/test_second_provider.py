"""The npm package ``oidc-provider``: a provider that shares no code and no habit with Keycloak."""

from __future__ import annotations

import json
import urllib.parse
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from support.curl import Token
from support.deployment import Deployment, Edge, assert_no_secret_in
from support.oidc_provider import JWT_AUDIENCE, OidcProvider

from authz.demo.keys import Key

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.transports import Name
    from support.upstream import Upstream

FILE = Path(__file__).with_name("second-provider.yaml")
# An HMAC key of SHA-256 is as long as its digest, or longer (RFC 7518 section 3.2).
SECRET = "kP4vR7wX2cN9mB5tZ8qL3jH6gF1dS0aYeUoI"
CLIENTS = {
    "client_secret_basic": "basic_id",
    "client_secret_post": "post_id",
    "client_secret_jwt": "secret_jwt_id",
}
SECRETS = [(name, SECRET) for name in (*CLIENTS.values(), "opaque_id")]


def client(client_id: str, auth_method: str, **members: Any) -> dict[str, Any]:
    """The metadata of a client (RFC 7591) that may have tokens of its own."""
    return {
        "client_id": client_id,
        "token_endpoint_auth_method": auth_method,
        "grant_types": ["client_credentials"],
        "redirect_uris": [],
        "response_types": [],
        **members,
    }


@pytest.fixture(scope="module")
def key() -> Key:
    """The key that our own client signs with."""
    return Key.generate("ES256")


@pytest.fixture(scope="module")
def oidc_provider(say: Callable[[str], None], key: Key) -> Iterator[OidcProvider]:
    other = Key.generate("ES256")
    with_secret = [
        client(client_id, auth_method, client_secret=SECRET, scope="openid jwt")
        for auth_method, client_id in CLIENTS.items()
    ]
    clients = [
        *with_secret,
        client("opaque_id", "client_secret_post", client_secret=SECRET),
        client("private_key_id", "private_key_jwt", jwks={"keys": [key.jwk]}),
        client("other_key_id", "private_key_jwt", jwks={"keys": [{**other.jwk, "kid": key.kid}]}),
    ]
    with OidcProvider(clients) as running:
        say(f"oidc-provider is ready on port {running.port}")
        yield running


@pytest.fixture(scope="module")
def authz(
    transport: Name, oidc_provider: OidcProvider, witness: Upstream, key: Key
) -> Iterator[Deployment]:
    members = key.private_jwk
    with Deployment(
        FILE,
        transport=transport,
        idp_port=oidc_provider.port,
        services={"seen.test:8000": witness.port},
        env={
            "DECK_ISSUER": oidc_provider.issuer,
            "DECK_SECRET": SECRET,
            **{f"DECK_KEY_{name.upper()}": members[name] for name in ("kid", "x", "y", "d")},
        },
        secrets=[*SECRETS, ("private_key_id", members["d"])],
    ) as running:
        yield running


@pytest.fixture(scope="module")
def envoy(authz: Deployment) -> Iterator[Edge]:
    with authz.edge() as running:
        yield running
    assert_no_secret_in(running.output(), SECRETS)


# --- client_credentials ---------------------------------------------------------------------


@pytest.mark.parametrize("auth_method", CLIENTS)
def test_the_callers_pair_is_exchanged_for_a_token_however_its_client_proves_itself(
    envoy: Edge, seen: Upstream, oidc_provider: OidcProvider, auth_method: str
) -> None:
    user = (CLIENTS[auth_method], SECRET)
    assert envoy.curl(f"/exchange/{auth_method}/x", user=user).status == 200
    (request,) = seen.requests
    (authorization,) = request.header("authorization")
    token = Token(authorization.removeprefix("Bearer "))
    assert (token.header["typ"], token.header["alg"]) == ("at+jwt", "RS256")
    assert token.claims["client_id"] == CLIENTS[auth_method]
    assert (token.claims["iss"], token.claims["aud"]) == (oidc_provider.issuer, JWT_AUDIENCE)


@pytest.mark.parametrize("auth_method", CLIENTS)
@pytest.mark.parametrize("wrong", ["secret", "id"])
def test_a_pair_that_the_provider_does_not_know_is_401(
    envoy: Edge, authz: Deployment, seen: Upstream, auth_method: str, wrong: str
) -> None:
    before = authz.denied("secret_rejected")
    client_id = "nobody" if wrong == "id" else CLIENTS[auth_method]
    secret = SECRET[::-1] if wrong == "secret" else SECRET
    reply = envoy.curl(f"/exchange/{auth_method}/x", user=(client_id, secret))
    assert (reply.status, reply.text, seen.requests) == (401, '{"message":"Unauthorized"}', [])
    assert authz.denied("secret_rejected") == before + 1


# --- introspection --------------------------------------------------------------------------

OUR_CLIENTS = (*CLIENTS, "private_key_jwt")


@pytest.fixture
def opaque_token(oidc_provider: OidcProvider) -> str:
    """A fresh access token that says nothing of itself."""
    form = {"grant_type": "client_credentials", "client_id": "opaque_id", "client_secret": SECRET}
    data = urllib.parse.urlencode(form).encode()
    with urllib.request.urlopen(f"{oidc_provider.issuer}/token", data, timeout=20) as response:  # noqa: S310 - loopback
        token: str = json.load(response)["access_token"]
    assert "." not in token
    return token


def bearer(token: str) -> list[tuple[str, str]]:
    return [("Authorization", f"Bearer {token}")]


@pytest.mark.parametrize("auth_method", OUR_CLIENTS)
def test_an_opaque_token_is_introspected_however_our_own_client_proves_itself(
    envoy: Edge, seen: Upstream, opaque_token: str, auth_method: str
) -> None:
    reply = envoy.curl(f"/introspection/{auth_method}/x", headers=bearer(opaque_token))
    assert reply.status == 200
    (request,) = seen.requests
    assert request.header("authorization") == [f"Bearer {opaque_token}"]
    assert request.header("x-consumer-username") == ["opaque_id"]


@pytest.mark.parametrize("auth_method", OUR_CLIENTS)
def test_a_string_that_the_provider_does_not_know_is_401(
    envoy: Edge, authz: Deployment, seen: Upstream, auth_method: str
) -> None:
    before = authz.denied("token_inactive")
    reply = envoy.curl(f"/introspection/{auth_method}/x", headers=bearer("nobodys"))
    assert (reply.status, seen.requests) == (401, [])
    assert authz.denied("token_inactive") == before + 1


def test_our_clients_wrong_key_is_our_fault_and_503(
    envoy: Edge, authz: Deployment, seen: Upstream, opaque_token: str
) -> None:
    before = authz.denied("own_client_rejected")
    reply = envoy.curl("/introspection/other-key/x", headers=bearer(opaque_token))
    assert (reply.status, seen.requests) == (503, [])
    assert authz.denied("own_client_rejected") == before + 1
