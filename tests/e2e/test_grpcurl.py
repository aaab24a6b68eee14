"""grpcurl, as the README shows it."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Any

import pytest

from authz.credentials import basic
from authz.demo.parts import grpcurl

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.deployment import Deployment

AUTHORIZATION = "envoy.service.auth.v3.Authorization"
HEALTH = "grpc.health.v1.Health"


def ask(*arguments: str) -> str:
    """Run grpcurl and return what it prints."""
    done = grpcurl(*arguments)
    assert done.returncode == 0, done.stderr
    return done.stdout


def check(authz: Deployment, headers: dict[str, Any]) -> Any:
    """Ask with every field that Envoy documents; return the CheckResponse."""
    request = json.dumps(every_field(headers))
    return json.loads(ask("-d", request, authz.listen, f"{AUTHORIZATION}/Check"))


def plain(user: tuple[str, str]) -> dict[str, Any]:
    """The caller's headers as Envoy sends them by default."""
    return {"headers": {"authorization": basic(*user), "accept": "*/*"}}


def raw(user: tuple[str, str]) -> dict[str, Any]:
    """The caller's headers as Envoy sends them with ``encode_raw_headers``."""
    value = base64.b64encode(basic(*user).encode()).decode()
    return {"headerMap": {"headers": [{"key": "authorization", "rawValue": value}]}}


def every_field(headers: dict[str, Any]) -> dict[str, Any]:
    return {
        "attributes": {
            "source": {
                "address": {"socketAddress": {"address": "10.244.0.7", "portValue": 40312}},
                "service": "spiffe-less",
                "labels": {"app": "curl"},
                "principal": "",
                "certificate": "",
            },
            "destination": {
                "address": {"socketAddress": {"address": "10.244.0.1", "portValue": 8000}},
                "service": "httpbin",
                "labels": {"app": "httpbin"},
                "principal": "spiffe://cluster.local/ns/kong/sa/httpbin",
            },
            "request": {
                "time": "2025-08-11T20:33:33.123456Z",
                "http": {
                    "id": "4711",
                    "method": "GET",
                    **headers,
                    "path": "/oidc-route/get?x=1",
                    "host": "localhost",
                    "scheme": "http",
                    "query": "",
                    "fragment": "",
                    "size": "-1",
                    "protocol": "HTTP/1.1",
                    "body": "",
                    "rawBody": "",
                },
            },
            "contextExtensions": {"route": "oidc-route"},
            "metadataContext": {"filterMetadata": {"envoy.lb": {"canary": True}}},
            "routeMetadataContext": {"filterMetadata": {"kong": {"route": "oidc-route"}}},
            "tlsSession": {"sni": "localhost"},
        }
    }


def test_list_names_the_services(workshop: Deployment) -> None:
    assert {AUTHORIZATION, HEALTH} <= set(ask(workshop.listen, "list").split())


@pytest.mark.parametrize(
    ("symbol", "shows"),
    [
        (AUTHORIZATION, "rpc Check"),
        ("envoy.service.auth.v3.CheckRequest", "AttributeContext attributes"),
        ("envoy.service.auth.v3.AttributeContext", "context_extensions"),
        ("envoy.service.auth.v3.CheckResponse", "DeniedHttpResponse denied_response"),
        (HEALTH, "rpc Watch"),
    ],
)
def test_describe_shows_the_schema(workshop: Deployment, symbol: str, shows: str) -> None:
    assert shows in ask(workshop.listen, "describe", symbol)


@pytest.mark.parametrize("headers", [plain, raw])
def test_a_full_documented_check_is_allowed(
    workshop: Deployment, kong_id: tuple[str, str], headers: Callable[..., dict[str, Any]]
) -> None:
    answer = check(workshop, headers(kong_id))
    assert answer["status"].get("code", 0) == 0
    options = [option["header"] for option in answer["okResponse"]["headers"]]
    upstream = {option["key"]: option["value"] for option in options}
    assert upstream["authorization"].startswith("Bearer eyJ")
    assert upstream["x-consumer-username"] == "kong_id"
    assert "x_consumer_id" in answer["okResponse"]["headersToRemove"]
    assert answer["dynamicMetadata"]["consumer_username"] == "kong_id"


@pytest.mark.parametrize("headers", [plain, raw])
def test_a_full_documented_check_is_denied(
    workshop: Deployment, headers: Callable[..., dict[str, Any]]
) -> None:
    answer = check(workshop, headers(("kong_id", "wrong")))
    assert answer["status"]["code"] == 16
    assert answer["deniedResponse"]["status"]["code"] == "Unauthorized"
    assert answer["deniedResponse"]["body"] == '{"message":"Unauthorized"}'
    assert answer["dynamicMetadata"].keys() == {"decision_id", "reason"}
    assert answer["dynamicMetadata"]["reason"] == "secret_rejected"


def test_GR_13_health_says_serving(workshop: Deployment) -> None:
    for request in ("{}", json.dumps({"service": AUTHORIZATION})):
        answer = json.loads(ask("-d", request, workshop.listen, f"{HEALTH}/Check"))
        assert answer == {"status": "SERVING"}


def test_GR_13_health_does_not_know_other_services(workshop: Deployment) -> None:
    done = grpcurl("-d", '{"service": "nobody"}', workshop.listen, f"{HEALTH}/Check")
    assert "NotFound" in done.stderr


def test_GR_14_without_reflection_nothing_is_listed(deploy: Callable[..., Deployment]) -> None:
    with deploy(flags=["--no-reflection"]) as authz:
        done = grpcurl(authz.listen, "list")
    assert done.returncode != 0
    assert "does not support the reflection API" in done.stderr
