"""Each way in which a client proves itself, as the provider reads it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from support.clock import Clock
from support.idp import key

from authz.oauth import client as clients
from authz.oauth.assertion import UnusableKeyError
from authz.oauth.client_authentication import (
    ASSERTION_SECONDS_MAX,
    ASSERTION_TYPE,
    HINT_ENCODED,
    Endpoint,
    FormRequest,
)
from authz.parameters import OpenIDConnect
from authz.parameters.client import ClientJwk
from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.oauth.client import Client

ISSUER = "https://idp.test/realms/kong"
SECRET = "RVXO9SOJskjw4LeVupjRbIMJIAyyil8j"
REQUEST = FormRequest((("grant_type", "client_credentials"),), {"x-extra": "1"})


def caller(secret: str = SECRET, **parameters: Any) -> Client:
    config = OpenIDConnect.of(issuer=ISSUER, **parameters)
    return clients.caller(config, "kong_id", Secret(secret), Clock())


def signed(client: Client, *auth_methods: str) -> FormRequest:
    endpoint = Endpoint(f"{ISSUER}/token", ISSUER, auth_methods)
    return client.authentication.sign(REQUEST, endpoint)


def method_of(request: FormRequest) -> str:
    names = dict(request.form)
    if "authorization" in request.headers:
        return "client_secret_basic"
    return "client_secret_post" if "client_secret" in names else "client_secret_jwt"


# --- The choice ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "supported", "chosen"),
    [
        pytest.param({}, (), "client_secret_basic", id="nothing said"),
        pytest.param({}, ("client_secret_post",), "client_secret_post", id="discovered"),
        pytest.param({}, ("client_secret_jwt",), "client_secret_jwt", id="discovered jwt"),
        pytest.param(
            {},
            ("client_secret_jwt", "client_secret_post", "client_secret_basic"),
            "client_secret_basic",
            id="the plainest that is discovered",
        ),
        pytest.param({}, ("private_key_jwt",), "client_secret_basic", id="none that we have"),
        pytest.param(
            {"client_auth": ("client_secret_post", "client_secret_jwt")},
            ("client_secret_basic",),
            "client_secret_post",
            id="the first client_auth",
        ),
        pytest.param(
            {
                "client_auth": ("client_secret_post",),
                "token_endpoint_auth_method": "client_secret_jwt",
            },
            (),
            "client_secret_jwt",
            id="token_endpoint_auth_method",
        ),
    ],
)
def test_the_callers_authentication_is_chosen_in_kongs_order(
    parameters: dict[str, Any], supported: tuple[str, ...], chosen: str
) -> None:
    assert method_of(signed(caller(**parameters), *supported)) == chosen


@pytest.mark.parametrize(
    ("method", "needs"),
    [
        ("client_secret_basic", False),
        ("client_secret_post", False),
        ("client_secret_jwt", True),
        (None, True),
    ],
)
def test_metadata_are_needed_for_a_choice_and_for_an_audience(
    method: str | None, *, needs: bool
) -> None:
    client = caller(token_endpoint_auth_method=method)

    assert client.authentication.needs_metadata is needs


def test_what_was_asked_for_is_still_in_a_signed_request() -> None:
    for method in ("client_secret_basic", "client_secret_post", "client_secret_jwt"):
        request = signed(caller(token_endpoint_auth_method=method))

        assert request.form[0] == REQUEST.form[0]
        assert request.headers["x-extra"] == "1"
        assert request.secrets
        assert all(secret not in repr(request) for secret in request.secrets)


# --- client_secret_basic and client_secret_post -------------------------------------------


@pytest.mark.parametrize("text", ["a+b", "a/b", "a%b", "a:b", "pässword", "a b"])
def test_client_secret_basic_form_encodes_and_says_so_in_a_hint(text: str) -> None:
    request = signed(caller(text, token_endpoint_auth_method="client_secret_basic"))
    _, _, blob = request.headers["authorization"].partition(" ")
    client_id, _, secret = base64.b64decode(blob).decode().partition(":")

    assert (unquote_plus(client_id), unquote_plus(secret)) == ("kong_id", text)
    assert request.hint == HINT_ENCODED
    assert "client_secret_post" in HINT_ENCODED


def test_there_is_no_hint_where_nothing_is_encoded() -> None:
    assert signed(caller()).hint == ""
    assert signed(caller("a+b", token_endpoint_auth_method="client_secret_post")).hint == ""


# --- client_secret_jwt --------------------------------------------------------------------


def assertion_of(request: FormRequest) -> str:
    form = dict(request.form)
    assert form["client_assertion_type"] == ASSERTION_TYPE
    assert form["client_id"] == "kong_id"
    assert "client_secret" not in form
    return form["client_assertion"]


def test_client_secret_jwt_is_an_assertion_of_one_minute_for_the_issuer_alone() -> None:
    client, now = caller(token_endpoint_auth_method="client_secret_jwt"), int(Clock().now())
    assertion = assertion_of(signed(client))

    read = jwt.decode_complete(
        assertion,
        SECRET,
        algorithms=["HS256"],
        audience=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )
    claims = read["payload"]
    assert read["header"] == {"alg": "HS256", "typ": "JWT"}
    assert claims.keys() == {"iss", "sub", "aud", "jti", "iat", "exp"}
    assert (claims["iss"], claims["sub"], claims["aud"]) == ("kong_id", "kong_id", ISSUER)
    assert (claims["iat"], claims["exp"] - claims["iat"]) == (now, ASSERTION_SECONDS_MAX)
    assert ASSERTION_SECONDS_MAX <= 60


def test_no_two_assertions_have_one_jti() -> None:
    client = caller(token_endpoint_auth_method="client_secret_jwt")
    seen = set()
    for _ in range(100):
        payload = assertion_of(signed(client)).split(".")[1]
        seen.add(json.loads(base64.urlsafe_b64decode(payload + "=="))["jti"])

    assert len(seen) == 100


def test_a_secret_that_looks_like_a_key_file_signs_like_any_other() -> None:
    pem = "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----"

    assert assertion_of(signed(caller(pem, token_endpoint_auth_method="client_secret_jwt")))


# --- Our own client ---------------------------------------------------------------------


def own(auth_method: str | None = None, **parameters: Any) -> Client:
    given = {"client_id": ("ours",), **parameters}
    config = OpenIDConnect.of(issuer=ISSUER, **given)
    return clients.own(config.client, auth_method, Clock())


def jwk(algorithm: str, number: int = 0, *, without: tuple[str, ...] = ()) -> ClientJwk:
    members: dict[str, Any] = {
        name: Secret(value) if name in {"d", "p", "q", "dp", "dq", "qi"} else value
        for name, value in key(algorithm, number).private_jwk.items()
        if name not in without
    }
    return ClientJwk(**members)


@pytest.mark.parametrize(
    ("parameters", "auth_method", "supported", "chosen"),
    [
        pytest.param({}, None, (), "client_secret_basic", id="nothing said"),
        pytest.param({}, None, ("client_secret_post",), "client_secret_post", id="discovered"),
        pytest.param(
            {"client_auth": ("client_secret_post", "client_secret_jwt")},
            None,
            ("client_secret_basic",),
            "client_secret_post",
            id="client_auth of the first client",
        ),
        pytest.param(
            {"client_auth": ("client_secret_post",)},
            "client_secret_jwt",
            (),
            "client_secret_jwt",
            id="the endpoint's own",
        ),
    ],
)
def test_our_own_clients_authentication_is_chosen_in_kongs_order(
    parameters: dict[str, Any], auth_method: str | None, supported: tuple[str, ...], chosen: str
) -> None:
    client = own(auth_method, client_secret=(Secret(SECRET), Secret("another")), **parameters)

    assert method_of(signed(client, *supported)) == chosen
    assert not client.is_caller
    assert client.id == "ours"


@pytest.mark.parametrize("supported", [(), ("private_key_jwt",), ("client_secret_basic",)])
def test_our_own_client_with_a_key_and_no_secret_signs(supported: tuple[str, ...]) -> None:
    client = own(client_jwk=(jwk("RS256"),))

    assert "client_assertion" in dict(signed(client, *supported).form)


@pytest.mark.parametrize(
    ("kind", "client_alg", "without", "algorithm"),
    [
        pytest.param("RS256", (), (), "RS256", id="as the key says"),
        pytest.param("RS256", (), ("alg",), "RS256", id="RSA, nothing said"),
        pytest.param("RS256", ("PS512",), ("alg",), "PS512", id="client_alg"),
        pytest.param("RS256", ("PS256", "RS256"), (), "PS256", id="client_alg of the first client"),
        pytest.param("RS256", ("HS256",), (), "RS256", id="an algorithm for the secret"),
        pytest.param("ES256", (), ("alg",), "ES256", id="P-256"),
        pytest.param("ES384", (), ("alg",), "ES384", id="P-384"),
        pytest.param("ES512", (), ("alg",), "ES512", id="P-521"),
        pytest.param("EdDSA", (), ("alg",), "EdDSA", id="Ed25519"),
        pytest.param("EdDSA", ("EdDSA",), (), "EdDSA", id="EdDSA by name"),
        pytest.param("RS256", (), ("p", "q", "dp", "dq", "qi"), "RS256", id="RSA without primes"),
    ],
)
def test_private_key_jwt_signs_with_the_algorithm_that_fits_its_key(
    kind: str, client_alg: tuple[str, ...], without: tuple[str, ...], algorithm: str
) -> None:
    client = own("private_key_jwt", client_jwk=(jwk(kind, without=without),), client_alg=client_alg)
    request = signed(client)
    read = jwt.decode_complete(
        dict(request.form)["client_assertion"],
        key(kind, 0).private.public_key(),
        algorithms=[algorithm],
        audience=ISSUER,
        options={"verify_exp": False, "verify_iat": False},
    )

    assert read["header"] == {"alg": algorithm, "typ": "JWT", "kid": key(kind, 0).kid}
    assert (read["payload"]["iss"], read["payload"]["sub"]) == ("ours", "ours")
    assert read["payload"]["exp"] - read["payload"]["iat"] == ASSERTION_SECONDS_MAX
    assert dict(request.form)["client_id"] == "ours"


def test_client_alg_names_the_hmac_of_client_secret_jwt() -> None:
    client = own("client_secret_jwt", client_secret=(Secret(SECRET),), client_alg=("HS512",))
    assertion = dict(signed(client).form)["client_assertion"]

    assert jwt.get_unverified_header(assertion)["alg"] == "HS512"


def small_rsa_jwk() -> ClientJwk:
    members = jwt.get_algorithm_by_name("RS256").to_jwk(
        rsa.generate_private_key(public_exponent=65537, key_size=1024),  # noqa: S505 - weak on purpose
        as_dict=True,
    )
    return ClientJwk(kty="RSA", n=members["n"], e=members["e"], d=Secret(members["d"]))


@pytest.mark.parametrize(
    ("given", "client_alg", "said"),
    [
        pytest.param(lambda: jwk("RS256", without=("d",)), (), "no private key", id="public"),
        pytest.param(lambda: jwk("RS256", without=("kty",)), (), "no private key", id="no kty"),
        pytest.param(
            lambda: ClientJwk(kty="oct", k=Secret("c2VjcmV0")), (), "no private", id="oct"
        ),
        pytest.param(
            lambda: jwk("RS256"), ("ES256",), "does not sign with ES256", id="another family"
        ),
        pytest.param(lambda: jwk("ES256"), ("ES384",), "its algorithms: ES256", id="another curve"),
        pytest.param(lambda: jwk("RS256", without=("n",)), (), "cannot be read", id="no modulus"),
        pytest.param(
            lambda: replace(jwk("ES256"), d=Secret("!")), (), "cannot be read", id="no base64url"
        ),
        pytest.param(small_rsa_jwk, (), "1024 bits; at least 2048", id="a small one"),
    ],
)
def test_a_key_that_cannot_sign_is_said_to_and_never_quoted(
    given: Callable[[], ClientJwk], client_alg: tuple[str, ...], said: str
) -> None:
    with pytest.raises(UnusableKeyError, match=said) as raised:
        own(client_jwk=(given(),), client_alg=client_alg)
    assert "d=" not in str(raised.value)
