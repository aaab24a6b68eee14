"""The development identity provider answers as Keycloak does, and misbehaves on demand."""

from __future__ import annotations

import base64
import http.client
import io
import json
import signal
import ssl
import sys
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus, urlencode

import jwt
import pytest
from support.idp import RunningIdp, key
from support.tls import authority, ca_file, server_context

from authz.credentials import basic
from authz.demo.idp import ABSENT, CLIENTS, ISSUER, USERS, DevelopmentIdp, serve
from authz.demo.keys import Key
from authz.demo.parts import Process, answers, free_port
from authz.demo.script import Answer

if TYPE_CHECKING:
    from pathlib import Path

    from support.clock import Clock

SECRET = CLIENTS["kong_id"]
GRANT = {"grant_type": "client_credentials"}
# What the workshop shows for `jwt decode`; None where the value differs every time.
SEED_CLAIMS: dict[str, Any] = {
    "acr": "1",
    "allowed-origins": ["/*"],
    "aud": "account",
    "azp": "kong_id",
    "clientAddress": None,
    "clientHost": None,
    "client_id": "kong_id",
    "email_verified": False,
    "exp": None,
    "iat": None,
    "iss": "http://keycloak.keycloak:8080/realms/kong",
    "jti": None,
    "preferred_username": "service-account-kong_id",
    "realm_access": {"roles": ["offline_access", "uma_authorization", "default-roles-kong"]},
    "resource_access": {
        "account": {"roles": ["manage-account", "manage-account-links", "view-profile"]}
    },
    "scope": "openid email profile",
    "sub": None,
    "typ": "Bearer",
}


class Reply:
    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)


def call(idp: RunningIdp, path: str, method: str = "GET", **request: Any) -> Reply:
    connection = http.client.HTTPConnection("127.0.0.1", idp.port, timeout=5)
    try:
        connection.request(method, path, **request)
        return Reply(connection.getresponse())
    finally:
        connection.close()


def authorized(client_id: str, secret: str) -> dict[str, str]:
    """The header of ``client_secret_basic``: each half is form-encoded (RFC 6749 2.3.1)."""
    return {"authorization": basic(quote_plus(client_id), quote_plus(secret))}


def token(
    idp: RunningIdp,
    form: dict[str, str] | str,
    headers: dict[str, str] | None = None,
) -> Reply:
    body = form if isinstance(form, str) else urlencode(form)
    form_type = {"content-type": "application/x-www-form-urlencoded"}
    path = "/realms/kong/protocol/openid-connect/token"
    return call(idp, path, "POST", body=body, headers=form_type | (headers or {}))


def claims(access_token: str) -> dict[str, Any]:
    decoded: dict[str, Any] = jwt.decode(access_token, options={"verify_signature": False})
    return decoded


def test_an_access_token_has_exactly_the_claims_of_the_workshop(clock: Clock) -> None:
    with RunningIdp(issuer=ISSUER, now=clock.now) as idp:
        reply = token(idp, GRANT | {"scope": "openid"}, authorized("kong_id", SECRET))
        access_token = reply.json["access_token"]
        found = claims(access_token)

        assert found.keys() == SEED_CLAIMS.keys()
        assert {n: v for n, v in found.items() if SEED_CLAIMS[n] is not None} == {
            n: v for n, v in SEED_CLAIMS.items() if v is not None
        }
        assert found["iat"] == clock.now()
        assert found["exp"] == clock.now() + 300
        header = jwt.get_unverified_header(access_token)
        assert header == {"alg": "RS256", "typ": "JWT", "kid": idp.keys[0].kid}


def test_the_token_answer_has_the_members_and_headers_of_keycloak(idp: RunningIdp) -> None:
    reply = token(idp, GRANT, authorized("kong_id", SECRET))

    assert reply.status == 200
    assert {n: v for n, v in reply.json.items() if n != "access_token"} == {
        "expires_in": 300,
        "refresh_expires_in": 0,
        "token_type": "Bearer",
        "not-before-policy": 0,
        "scope": "email profile",
    }
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["pragma"] == "no-cache"


def test_scope_openid_also_gives_an_id_token(idp: RunningIdp) -> None:
    reply = token(idp, GRANT | {"scope": "openid"}, authorized("kong_id", SECRET))

    assert claims(reply.json["id_token"])["typ"] == "ID"
    assert claims(reply.json["id_token"])["aud"] == "kong_id"


def test_a_client_keeps_its_subject_and_differs_from_others(idp: RunningIdp) -> None:
    subjects = [claims(idp.issue(name))["sub"] for name in ("kong_id", "kong_id", "other_id")]

    assert subjects[0] == subjects[1] != subjects[2]


@pytest.mark.parametrize(
    "secret", ["100%25 sure%", "a+b++c", "c:d:", " two  spaces ", "café é", "a/b=c?d&e"]
)
def test_a_secret_of_any_characters_passes_by_basic_and_by_post(
    idp: RunningIdp, secret: str
) -> None:
    idp.clients["odd"] = secret
    posted = {"client_id": "odd", "client_secret": secret}

    assert token(idp, GRANT, authorized("odd", secret)).status == 200
    assert token(idp, GRANT | posted).status == 200


UNKNOWN = (401, "invalid_client", "Invalid client or Invalid client credentials")
WRONG = (401, "unauthorized_client", "Invalid client or Invalid client credentials")


@pytest.mark.parametrize(
    ("form", "headers", "expected"),
    [
        pytest.param(GRANT, authorized("kong_id", "wrong"), WRONG, id="wrong secret"),
        pytest.param(GRANT, authorized("nobody", SECRET), UNKNOWN, id="unknown client"),
        pytest.param(GRANT, {}, UNKNOWN, id="no client authentication"),
        pytest.param(GRANT, {"authorization": "Bearer x"}, UNKNOWN, id="another scheme"),
        pytest.param(GRANT, {"authorization": "Basic !!!"}, UNKNOWN, id="no base64"),
        pytest.param(GRANT, {"authorization": "Basic a29uZ19pZA=="}, UNKNOWN, id="no colon"),
        pytest.param(GRANT | {"client_id": "kong_id"}, {}, WRONG, id="no secret"),
        pytest.param(
            GRANT,
            {"authorization": basic("kong_id", "100%")},
            (400, "unauthorized_client", "Unexpected error when authenticating client"),
            id="secret not form-encoded",
        ),
        pytest.param(
            GRANT | {"client_id": "kong_id", "client_secret": SECRET},
            authorized("kong_id", SECRET),
            (400, "invalid_request", "more than one client authentication"),
            id="basic and post",
        ),
        pytest.param(
            {"grant_type": "refresh_token"},
            authorized("kong_id", SECRET),
            (400, "unsupported_grant_type", "Unsupported grant_type"),
            id="another grant",
        ),
        pytest.param(
            {"scope": "openid"},
            authorized("kong_id", SECRET),
            (400, "invalid_request", "Missing form parameter: grant_type"),
            id="no grant",
        ),
        pytest.param(
            "grant_type=client_credentials&scope=openid&scope=openid",
            authorized("kong_id", SECRET),
            (400, "invalid_request", "duplicated parameter"),
            id="a parameter twice",
        ),
        pytest.param(
            GRANT | {"scope": "openid nope"},
            authorized("kong_id", SECRET),
            (400, "invalid_scope", "Invalid scopes: openid nope"),
            id="unknown scope",
        ),
        pytest.param(
            GRANT,
            authorized("kong_id", SECRET) | {"content-type": "application/json"},
            (400, "invalid_request", "Missing form parameter: grant_type"),
            id="no form",
        ),
    ],
)
def test_a_bad_token_request_is_refused_as_keycloak_refuses_it(
    idp: RunningIdp,
    form: dict[str, str] | str,
    headers: dict[str, str],
    expected: tuple[int, str, str],
) -> None:
    reply = token(idp, form, headers)

    assert (reply.status, reply.json["error"], reply.json["error_description"]) == expected


def test_paths_and_methods_it_does_not_know_are_answered_as_by_keycloak(idp: RunningIdp) -> None:
    token_path = "/realms/kong/protocol/openid-connect/token"
    found = [
        call(idp, "/realms/nope/.well-known/openid-configuration"),
        call(idp, "/nope"),
        call(idp, token_path),
    ]

    assert [(reply.status, reply.json["error"]) for reply in found] == [
        (404, "Realm does not exist"),
        (404, "Unable to find matching target resource method"),
        (405, "HTTP 405 Method Not Allowed"),
    ]


def test_discovery_carries_the_issuer_wherever_the_provider_listens() -> None:
    with RunningIdp(issuer=ISSUER) as idp:
        document = call(idp, "/realms/kong/.well-known/openid-configuration").json

    assert document["issuer"] == ISSUER
    assert document["token_endpoint"] == f"{ISSUER}/protocol/openid-connect/token"
    assert document["jwks_uri"] == f"{ISSUER}/protocol/openid-connect/certs"


@pytest.mark.parametrize(
    "algorithm",
    ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"],
)
def test_the_published_keys_verify_tokens_of_every_algorithm(algorithm: str) -> None:
    with RunningIdp(keys=[key(algorithm)]) as idp:
        published = call(idp, "/realms/kong/protocol/openid-connect/certs").json["keys"]

        verified = jwt.decode(
            idp.issue(), jwt.PyJWK(published[0]), algorithms=[algorithm], audience="account"
        )
    assert verified["client_id"] == "kong_id"
    assert {"d", "p", "q"}.isdisjoint(published[0])


def test_an_encryption_key_is_published_beside_the_signing_key(idp: RunningIdp) -> None:
    published = call(idp, "/realms/kong/protocol/openid-connect/certs").json["keys"]

    assert [(jwk["use"], jwk["alg"]) for jwk in published] == [
        ("sig", "RS256"),
        ("enc", "RSA-OAEP"),
    ]


def test_rotation_signs_with_a_new_key_and_keeps_or_retires_the_old(idp: RunningIdp) -> None:
    first = idp.keys[0].kid
    second = idp.rotate("ES256").kid
    kept = [jwk["kid"] for jwk in idp_keys(idp)]
    third = idp.rotate("EdDSA", retire=True).kid

    assert jwt.get_unverified_header(idp.issue())["kid"] == third
    assert kept[:2] == [second, first]
    assert [jwk["kid"] for jwk in idp_keys(idp)] == [third]


def idp_keys(idp: RunningIdp) -> list[dict[str, Any]]:
    keys: list[dict[str, Any]] = call(idp, "/realms/kong/protocol/openid-connect/certs").json[
        "keys"
    ]
    return keys


def test_claims_header_and_members_are_overridden_or_left_out(idp: RunningIdp) -> None:
    idp.claims |= {"aud": "elsewhere", "azp": ABSENT}
    idp.header |= {"kid": "unknown", "jku": "http://127.0.0.1:1/"}
    idp.members |= {"token_type": "bearer", "expires_in": ABSENT}
    answer = token(idp, GRANT, authorized("kong_id", SECRET)).json
    found = claims(answer["access_token"])

    assert found["aud"] == "elsewhere"
    assert "azp" not in found
    header = json.loads(base64.urlsafe_b64decode(answer["access_token"].split(".")[0] + "=="))
    assert header["kid"] == "unknown"
    assert header["jku"] == "http://127.0.0.1:1/"
    assert answer["token_type"] == "bearer"
    assert "expires_in" not in answer


def test_any_bytes_can_be_signed_by_any_key(idp: RunningIdp) -> None:
    other = key("ES256")
    signed = idp.sign(b'{"alg":"ES256"}', b'{"a":1,"a":2}', key=other)
    payload = jwt.api_jws.PyJWS().decode(signed, jwt.PyJWK(other.jwk), algorithms=["ES256"])

    assert payload == b'{"a":1,"a":2}'


def test_scripted_answers_come_in_order_and_then_its_own(idp: RunningIdp) -> None:
    html = (("content-type", "text/html"),)
    idp.token_answers += [
        Answer(503, b"down", (("retry-after", "7"),), times=2),
        Answer(200, b"<html>", html),
        Answer(302, headers=(("location", "http://127.0.0.1:1/"),)),
    ]
    replies = [token(idp, GRANT, authorized("kong_id", SECRET)) for _ in range(5)]

    assert [reply.status for reply in replies] == [503, 503, 200, 302, 200]
    assert replies[0].body == b"down"
    assert replies[1].headers["retry-after"] == "7"
    assert replies[2].headers.get_all("content-type") == ["text/html"]
    assert replies[3].headers["location"] == "http://127.0.0.1:1/"
    assert "access_token" in replies[4].json


def test_a_scripted_answer_without_times_stays(idp: RunningIdp) -> None:
    idp.certs_answers.append(Answer(500, times=None))
    path = "/realms/kong/protocol/openid-connect/certs"

    assert [call(idp, path).status for _ in range(3)] == [500, 500, 500]


def test_a_dripped_body_arrives_whole(idp: RunningIdp) -> None:
    idp.discovery_answers.append(Answer(200, b"{}", drip_s=0.001))

    assert call(idp, "/realms/kong/.well-known/openid-configuration").body == b"{}"


async def test_a_held_answer_waits_for_its_event(idp: RunningIdp) -> None:
    release = threading.Event()
    idp.token_answers.append(Answer(hold=release))
    replies: list[Reply] = []
    caller = threading.Thread(
        target=lambda: replies.append(token(idp, GRANT, authorized("kong_id", SECRET)))
    )
    caller.start()
    await idp.reached("token")

    assert replies == []
    release.set()
    caller.join()
    assert replies[0].status == 200


def test_requests_are_recorded_and_counted_by_endpoint(idp: RunningIdp) -> None:
    token(idp, GRANT, authorized("kong_id", SECRET) | {"x-extra": "1"})
    call(idp, "/realms/kong/.well-known/openid-configuration?x=1")

    assert dict(idp.counters) == {"token": 1, "discovery": 1, "certs": 0}
    first, second = idp.requests
    assert first.header("authorization") == authorized("kong_id", SECRET)["authorization"]
    assert first.header("x-extra") == "1"
    assert first.body == b"grant_type=client_credentials"
    assert first.form == GRANT
    assert second.target == "/realms/kong/.well-known/openid-configuration?x=1"


def test_a_stopped_provider_refuses_and_comes_back_on_its_port(idp: RunningIdp) -> None:
    port = idp.port
    idp.stop()
    with pytest.raises(ConnectionRefusedError):
        token(idp, GRANT)
    idp.start()

    assert idp.port == port
    assert token(idp, GRANT, authorized("kong_id", SECRET)).status == 200


async def test_a_stop_cuts_a_connection_that_waits_for_its_answer(idp: RunningIdp) -> None:
    idp.token_answers.append(Answer(hold=threading.Event()))
    failures: list[Exception] = []

    def wait_in_vain() -> None:
        try:
            token(idp, GRANT)
        except (ConnectionError, http.client.HTTPException) as error:
            failures.append(error)

    caller = threading.Thread(target=wait_in_vain)
    caller.start()
    await idp.reached("token")
    idp.stop()
    caller.join()

    assert len(failures) == 1


@pytest.mark.parametrize(
    ("tls", "trusted"),
    [
        pytest.param(server_context(), True, id="trusted"),
        pytest.param(server_context(ca=authority("unknown")), False, id="wrong authority"),
        pytest.param(server_context("elsewhere.example"), False, id="wrong name"),
        pytest.param(server_context(expired=True), False, id="expired"),
    ],
)
def test_it_speaks_https_with_a_good_or_a_bad_certificate(
    tmp_path: Path, tls: ssl.SSLContext, trusted: bool
) -> None:
    client = ssl.create_default_context(cafile=ca_file(tmp_path))
    with RunningIdp(tls=tls) as idp:
        connection = http.client.HTTPSConnection("127.0.0.1", idp.port, timeout=5, context=client)
        verdict = nullcontext() if trusted else pytest.raises(ssl.SSLCertVerificationError)
        with verdict:
            connection.request("GET", "/realms/kong/.well-known/openid-configuration")
            assert json.loads(connection.getresponse().read())["issuer"].startswith("https://")
        connection.close()


def test_faults_are_set_over_the_control_endpoint(idp: RunningIdp) -> None:
    changes = {
        "claims": {"aud": "elsewhere", "azp": None},
        "rotate": "ES256",
        "token_answers": [{"status": 503, "body": "down", "headers": {"retry-after": "1"}}],
    }
    reply = call(idp, "/control", "POST", body=json.dumps(changes))

    assert reply.json == {
        "requests": {"token": 0, "discovery": 0, "certs": 0},
        "kid": idp.keys[0].kid,
    }
    assert idp.keys[0].algorithm == "ES256"
    assert token(idp, GRANT).status == 503
    found = claims(token(idp, GRANT, authorized("kong_id", SECRET)).json["access_token"])
    assert found["aud"] == "elsewhere"
    assert "azp" not in found
    call(idp, "/control", "POST", body='{"reset": true}')
    assert call(idp, "/control").json["requests"]["token"] == 0
    assert idp.claims == {}


@pytest.mark.parametrize("body", ["{", "[]", '{"nope": 1}', '{"token_answers": [{"nope": 1}]}'])
def test_the_control_endpoint_refuses_what_it_does_not_know(idp: RunningIdp, body: str) -> None:
    assert call(idp, "/control", "POST", body=body).status == 400


def test_a_key_is_named_by_its_digest_and_never_prints_itself() -> None:
    made = Key.generate("EdDSA")

    assert len(made.kid) == 43
    assert "private" not in repr(made)


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "idp.example"])  # noqa: S104 - it is refused
def test_serving_beyond_loopback_is_refused(host: str) -> None:
    out = io.StringIO()

    assert serve(host, 0, out=out) == 2
    assert host in out.getvalue()


def test_serving_on_a_port_that_is_taken_is_one_line(idp: RunningIdp) -> None:
    out = io.StringIO()

    assert serve("127.0.0.1", idp.port, out=out) == 1
    assert out.getvalue().count("\n") == 1


class Served(Process):
    """``serve`` in a process of its own, as ``authz idp`` runs it."""

    name = "idp"

    def __init__(self) -> None:
        super().__init__()
        self.port = free_port()

    def command(self, directory: Path) -> list[str]:
        run = f"serve('127.0.0.1', {self.port}, out=sys.stdout)"
        return [
            sys.executable,
            "-c",
            f"import sys; from authz.demo.idp import serve; sys.exit({run})",
        ]

    def is_ready(self) -> bool:
        return answers(f"http://127.0.0.1:{self.port}/control")


def test_serving_says_what_it_is_for_and_ends_with_0_on_an_interrupt() -> None:
    with Served() as served:
        served.send_signal(signal.SIGINT)
        code = served.wait(10)

    assert code == 0
    lines = served.output().splitlines()
    assert "for development only" in lines[0]
    assert lines[1] == f"issuer   http://127.0.0.1:{served.port}/realms/kong"
    assert len(lines) == 6


def test_without_keys_it_makes_its_own() -> None:
    assert [made.algorithm for made in DevelopmentIdp().keys] == ["RS256", "RSA-OAEP"]


# --- Passwords, assertions, introspection, userinfo ----------------------------------------------


def test_a_users_password_gets_a_token_in_the_users_name(idp: RunningIdp) -> None:
    grant = {"grant_type": "password", "username": "alice"}
    good = token(idp, grant | {"password": USERS["alice"]}, authorized("kong_id", SECRET))
    bad = token(idp, grant | {"password": "wrong"}, authorized("kong_id", SECRET))

    found = claims(good.json["access_token"])
    assert (found["preferred_username"], found["azp"]) == ("alice", "kong_id")
    assert "client_id" not in found
    assert (bad.status, bad.json["error"]) == (401, "invalid_grant")


def assertion(idp: RunningIdp, key: Key, **claims: Any) -> dict[str, str]:
    now = int(idp.now())
    own = {"iss": "kong_id", "sub": "kong_id", "aud": idp.issuer, "jti": "1", "exp": now + 60}
    signed = key.sign({"alg": key.algorithm, "typ": "JWT", "kid": key.kid}, own | claims)
    kind = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
    return GRANT | {"client_assertion": signed, "client_assertion_type": kind}


@pytest.mark.parametrize("algorithm", ["RS256", "PS256", "ES256", "EdDSA"])
def test_an_assertion_is_taken_once(idp: RunningIdp, algorithm: str) -> None:
    idp.client_keys["kong_id"] = own = key(algorithm, 7)

    assert token(idp, assertion(idp, own)).status == 200
    assert token(idp, assertion(idp, own)).status == 401
    assert token(idp, assertion(idp, own, jti="2")).status == 200


@pytest.mark.parametrize(
    "claims",
    [
        {"aud": "elsewhere"},
        {"iss": "other_id"},
        {"sub": "other_id"},
        {"exp": 1},
        {"exp": 10**11},
        {"exp": None},
        {"jti": ["1"]},
    ],
    ids=str,
)
def test_an_assertion_that_is_not_for_us_alone_is_refused(
    idp: RunningIdp, claims: dict[str, Any]
) -> None:
    idp.client_keys["kong_id"] = own = key("ES256", 7)

    assert token(idp, assertion(idp, own, **claims)).status == 401
    assert token(idp, assertion(idp, key("ES256", 8))).status == 401


def introspect(idp: RunningIdp, text: str, headers: dict[str, str]) -> Reply:
    form_type = {"content-type": "application/x-www-form-urlencoded"}
    path = "/realms/kong/protocol/openid-connect/token/introspect"
    return call(idp, path, "POST", body=urlencode({"token": text}), headers=form_type | headers)


def test_introspection_says_what_a_token_stands_for(idp: RunningIdp) -> None:
    idp.opaque["opaque-1"] = {"client_id": "kong_id"}
    jwt_token, client = idp.issue(), authorized("kong_id", SECRET)

    assert introspect(idp, "opaque-1", client).json == {
        "active": True,
        "client_id": "kong_id",
        "token_type": "Bearer",
    }
    assert introspect(idp, jwt_token, client).json["azp"] == "kong_id"
    idp.revoked.add(jwt_token)
    for text in (jwt_token, "unknown", idp.issue(exp=1), "a.b.c", "é.b.c"):
        assert introspect(idp, text, client).json == {"active": False}
    assert introspect(idp, "opaque-1", authorized("kong_id", "wrong")).status == 401


def test_userinfo_says_whose_a_token_is(idp: RunningIdp) -> None:
    path = "/realms/kong/protocol/openid-connect/userinfo"

    def ask(text: str) -> Reply:
        return call(idp, path, "GET", headers={"authorization": f"Bearer {text}"})

    idp.opaque["opaque-1"] = {"sub": "7", "exp": 2**40}
    assert ask("opaque-1").json == {"sub": "7"}
    told = ask(idp.issue()).json
    assert told.keys() == {"sub", "email_verified", "preferred_username"}
    assert told["preferred_username"] == "service-account-kong_id"
    idp.told["sub"] = "8"
    assert ask("opaque-1").json == {"sub": "8"}

    unknown, unasked, nothing = ask("x"), ask(idp.issue(scope="email")), call(idp, path, "GET")
    assert (unknown.status, unasked.status, nothing.status) == (401, 403, 401)
    assert 'error="invalid_token"' in unknown.headers["www-authenticate"]
    assert 'error="insufficient_scope"' in unasked.headers["www-authenticate"]
    assert nothing.headers["www-authenticate"] == 'Bearer realm="kong"'
