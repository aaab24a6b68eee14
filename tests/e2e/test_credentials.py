"""Every place and every kind of credential, through Envoy to Keycloak and back.

Envoy and authz speak over a Unix socket here.
"""

from __future__ import annotations

import base64
import json
import stat
import urllib.parse
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support.curl import Token
from support.deployment import Deployment, Edge, assert_no_secret_in

from authz.credentials import basic

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.keycloak import Keycloak
    from support.transports import Name
    from support.upstream import Received, Upstream

ROUTES = Path(__file__).with_name("routes.yaml")
ODD_CLIENTS = ("percent_id", "plus_id", "colon_id", "space_id", "accent_id")


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("run") / "authz.sock"


@pytest.fixture(scope="module")
def envoy(
    transport: Name,
    keycloak: Keycloak,
    witness: Upstream,
    greeter: int,
    socket: Path,
    clients: dict[str, str],
) -> Iterator[Edge]:
    deployment = Deployment(
        ROUTES,
        transport=transport,
        idp_port=keycloak.port,
        services={"seen.test:8000": witness.port, "greeter.test:9000": greeter},
        listen=f"unix:{socket}",
        secrets=clients.items(),
    )
    with deployment, deployment.edge() as running:
        yield running
    assert_no_secret_in(running.output(), clients.items())


def test_the_socket_is_for_its_owner_and_group_only(envoy: Edge, socket: Path) -> None:
    assert stat.filemode(socket.stat().st_mode) == "srw-rw----"


# --- Secrets with characters that some encoding on the way has a meaning for ---------------


@pytest.mark.parametrize("route", ["basic", "post"])
@pytest.mark.parametrize("client_id", ODD_CLIENTS)
def test_an_odd_secret_reaches_keycloak_as_it_was_typed(
    envoy: Edge, seen: Upstream, clients: dict[str, str], route: str, client_id: str
) -> None:
    assert envoy.curl(f"/{route}/x", user=(client_id, clients[client_id])).status == 200
    (request,) = seen.requests
    assert request.header("x-consumer-username") == [client_id]
    assert token(request).claims["client_id"] == client_id


MISREAD = {
    "percent_id": ("100% sure%", "100%2525+sure%25"),
    "plus_id": ("a b  c", "a%2Bb%2B%2Bc"),
    "colon_id": ("c", "c:d", "c%3Ad%3A"),
    "space_id": ("two  spaces", "+two++spaces+", "%20two%20%20spaces%20"),
    "accent_id": ("cafÃ© Ã©", "caf%C3%A9+%C3%A9", "cafe\u0301 e\u0301"),
}


@pytest.mark.parametrize("route", ["basic", "post"])
@pytest.mark.parametrize(
    ("client_id", "secret"),
    [(client_id, secret) for client_id, secrets in MISREAD.items() for secret in secrets],
)
def test_what_an_encoding_makes_of_an_odd_secret_is_another_secret(
    envoy: Edge, route: str, client_id: str, secret: str
) -> None:
    assert envoy.curl(f"/{route}/x", user=(client_id, secret)).status == 401


def test_a_custom_id_that_the_file_has_is_announced(
    envoy: Edge, seen: Upstream, clients: dict[str, str]
) -> None:
    envoy.curl("/basic/x", user=("percent_id", clients["percent_id"]))
    (request,) = seen.requests
    assert request.header("x-consumer-custom-id") == ["100"]


def token(request: Received) -> Token:
    (authorization,) = request.header("authorization")
    scheme, _, value = authorization.partition(" ")
    assert scheme == "Bearer"
    return Token(value)


# --- The query ----------------------------------------------------------------------------


@pytest.mark.parametrize("client_id", ["kong_id", *ODD_CLIENTS])
def test_a_pair_in_the_query_is_taken_out_before_the_upstream(
    envoy: Edge, seen: Upstream, clients: dict[str, str], client_id: str
) -> None:
    pair = urllib.parse.urlencode({"client_id": client_id, "client_secret": clients[client_id]})
    assert envoy.curl(f"/query/x?a=1&{pair}&b=%20").status == 200
    (request,) = seen.requests
    assert request.target == "/x?a=1&b=%20"
    assert token(request).claims["client_id"] == client_id


def test_a_name_that_is_percent_encoded_is_400_and_goes_no_further(
    envoy: Edge, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    client_id, secret = kong_id
    reply = envoy.curl(f"/query/x?client_id={client_id}&client%5Fsecret={secret}")
    assert (reply.status, seen.requests) == (400, [])


def test_a_route_that_reads_the_query_leaves_basic_unread(
    envoy: Edge, kong_id: tuple[str, str]
) -> None:
    assert envoy.curl("/query/x", user=kong_id).status == 401


# --- Bearer -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def access_token(keycloak: Keycloak, kong_id: tuple[str, str]) -> str:
    """A token that the caller has fetched from Keycloak."""
    request = urllib.request.Request(  # noqa: S310 - Keycloak, on loopback
        keycloak.token_endpoint,
        urllib.parse.urlencode({"grant_type": "client_credentials"}).encode(),
        {"Authorization": basic(*kong_id)},
    )
    with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310 - as above
        value: str = json.load(answer)["access_token"]
    return value


@pytest.mark.parametrize("header", ["Authorization: Bearer {}", "Access-Token: {}"])
def test_a_token_in_a_header_reaches_the_upstream_as_it_is(
    envoy: Edge, seen: Upstream, access_token: str, header: str
) -> None:
    name, _, value = header.format(access_token).partition(": ")
    assert envoy.curl("/bearer/x", headers=[(name, value)]).status == 200
    (request,) = seen.requests
    assert token(request).value == access_token
    assert request.header("x-consumer-username") == ["kong_id"]
    assert request.header("access-token") == []


def test_a_token_in_the_query_moves_to_authorization(
    envoy: Edge, seen: Upstream, access_token: str
) -> None:
    assert envoy.curl(f"/bearer/x?access_token={access_token}&a=1").status == 200
    (request,) = seen.requests
    assert request.target == "/x?a=1"
    assert token(request).value == access_token


def test_the_same_route_takes_basic_too(envoy: Edge, kong_id: tuple[str, str]) -> None:
    assert envoy.curl("/bearer/x", user=kong_id).status == 200


def test_CP_27_a_token_and_a_pair_are_400(
    envoy: Edge, seen: Upstream, access_token: str, kong_id: tuple[str, str]
) -> None:
    reply = envoy.curl(f"/bearer/x?access_token={access_token}", user=kong_id)
    assert (reply.status, seen.requests) == (400, [])


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda token: token[:-4], id="cut short"),
        pytest.param(lambda token: resigned(token, alg="none"), id="alg none"),
        pytest.param(lambda token: resigned(token, alg="HS256"), id="alg HS256"),
        pytest.param(lambda token: "opaque", id="opaque"),
    ],
)
def test_a_token_that_keycloak_did_not_sign_is_401(
    envoy: Edge, seen: Upstream, access_token: str, change: Any
) -> None:
    reply = envoy.curl("/bearer/x", headers=[("Authorization", f"Bearer {change(access_token)}")])
    assert (reply.status, seen.requests) == (401, [])
    assert reply.header("www-authenticate")[0].endswith('error="invalid_token"')


def resigned(token: str, *, alg: str) -> str:
    """Return the token under another algorithm, with a signature that says nothing."""
    header = json.dumps({"alg": alg, "typ": "JWT"}).encode()
    encoded = base64.urlsafe_b64encode(header).rstrip(b"=").decode()
    _, claims, signature = token.split(".")
    return f"{encoded}.{claims}.{'' if alg == 'none' else signature}"


# --- A route without a plugin ---------------------------------------------------------------


def test_HS_05_an_open_route_leaves_authorization_alone_and_announces_nobody(
    envoy: Edge, seen: Upstream
) -> None:
    theirs = [("Authorization", "Digest theirs"), ("X-Consumer-Username", "admin")]
    assert envoy.curl("/open/x", headers=[*theirs, ("X_Consumer_Id", "1")]).status == 200
    (request,) = seen.requests
    assert request.header("authorization") == ["Digest theirs"]
    assert not [name for name in request.names if "consumer" in name]


# --- A gRPC caller ----------------------------------------------------------------------------


class Greeter(grpc.GenericRpcHandler):
    """A gRPC upstream that answers with the metadata it received, as JSON."""

    def service(
        self, details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        metadata = {name: str(value) for name, value in details.invocation_metadata}
        return grpc.unary_unary_rpc_method_handler(lambda *_: json.dumps(metadata).encode())


@pytest.fixture(scope="module")
def greeter() -> Iterator[int]:
    """A port where ``Greeter`` listens."""
    server = grpc.server(ThreadPoolExecutor(2), handlers=[Greeter()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield port
    server.stop(None).wait()


def greet(envoy: Edge, authorization: str | None) -> bytes:
    """Call ``greeter.Greeter/Greet`` through Envoy; raises ``grpc.RpcError``."""
    metadata = () if authorization is None else (("authorization", authorization),)
    with grpc.insecure_channel(f"127.0.0.1:{envoy.port}") as channel:
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(
            "/greeter.Greeter/Greet", request_serializer=bytes, response_deserializer=bytes
        )
        return call(b"", metadata=metadata, timeout=20)


def test_a_grpc_caller_reaches_a_grpc_upstream(envoy: Edge, kong_id: tuple[str, str]) -> None:
    metadata = json.loads(greet(envoy, basic(*kong_id)))
    assert metadata["authorization"].startswith("Bearer eyJ")
    assert metadata["x-consumer-username"] == "kong_id"


@pytest.mark.parametrize(
    ("caller", "code", "details"),
    [
        (None, grpc.StatusCode.UNAUTHENTICATED, "Unauthorized"),
        ("kong_id", grpc.StatusCode.UNAUTHENTICATED, "Unauthorized"),
        ("other_id", grpc.StatusCode.PERMISSION_DENIED, "Forbidden"),
    ],
    ids=["no credential", "a wrong secret", "no consumer"],
)
def test_a_grpc_caller_is_refused_in_grpcs_own_words(
    envoy: Edge,
    clients: dict[str, str],
    caller: str | None,
    code: grpc.StatusCode,
    details: str,
) -> None:
    secret = clients["other_id"]  # for kong_id the wrong one
    with pytest.raises(grpc.RpcError) as refusal:
        greet(envoy, None if caller is None else basic(caller, secret))
    error: Any = refusal.value
    # A body would stand in the details, for Envoy moves it into grpc-message.
    assert (error.code(), error.details()) == (code, details)


def test_a_caller_who_does_not_speak_grpc_is_told_so(envoy: Edge, kong_id: tuple[str, str]) -> None:
    reply = envoy.curl("/greeter.Greeter/Greet", method="POST", user=kong_id)
    assert reply.status == 415
