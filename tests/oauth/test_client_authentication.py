"""Each way in which a client proves itself, as the provider reads it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

import jwt
import pytest
from support.clock import Clock

from authz.model import OpenIDConnect, Secret
from authz.oauth import client as clients
from authz.oauth.client_authentication import (
    ASSERTION_SECONDS_MAX,
    ASSERTION_TYPE,
    HINT_ENCODED,
    Endpoint,
    FormRequest,
)

if TYPE_CHECKING:
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
