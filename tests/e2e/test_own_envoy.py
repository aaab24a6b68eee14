"""An Envoy of one's own with what the README shows, to the letter."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.deployment import Edge, json_lines, until

from authz.demo.parts import CHECKOUT, LOOPBACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.deployment import Deployment
    from support.upstream import Upstream

PATH = "/oidc-route/get"
AUTHZ_PORT = 9191  # in the README
TYPES = "type.googleapis.com/envoy.extensions.filters"


def shown(holds: str) -> dict[str, Any]:
    """Return the README's block of YAML that holds this."""
    text = (CHECKOUT / "README.md").read_text("utf-8")
    blocks = re.findall(r"```yaml\n(.*?)```", text, flags=re.DOTALL)
    [block] = (block for block in blocks if holds in block)
    loaded: dict[str, Any] = yaml.safe_load(block)
    return loaded


def own_envoy(authz: Deployment, seen: Upstream, *, named: bool) -> dict[str, Any]:
    """Return the least bootstrap around the README's snippets."""
    clusters = shown("clusters:")["clusters"]
    address = clusters[0]["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
    assert address["address"]["socket_address"]["port_value"] == AUTHZ_PORT
    address["address"]["socket_address"]["port_value"] = int(authz.listen.rpartition(":")[2])
    route = {"match": {"prefix": "/"}, "route": {"cluster": "seen"}}
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{TYPES}.http.router.v3.Router"},
    }
    filters = shown("http_filters:")["http_filters"]
    manager = {
        "@type": f"{TYPES}.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "own",
        **({} if named else shown("normalize_path:")),
        "http_filters": [*filters, router],
        "route_config": {
            "virtual_hosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [{**route, **(shown("context_extensions:") if named else {})}],
                }
            ]
        },
    }
    listener = {
        "name": "own",
        "address": {"socket_address": {"address": LOOPBACK, "port_value": 0}},
        "enable_reuse_port": False,
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }
    return {
        "admin": {"address": {"socket_address": {"address": LOOPBACK, "port_value": 0}}},
        "static_resources": {
            "listeners": [listener],
            "clusters": [*clusters, _cluster("seen", seen.port)],
        },
    }


def _cluster(name: str, port: int) -> dict[str, Any]:
    address = {"socket_address": {"address": LOOPBACK, "port_value": port}}
    return {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    }


@pytest.fixture
def authz(deploy: Callable[..., Deployment]) -> Iterator[Deployment]:
    with deploy() as running:
        yield running


@pytest.mark.parametrize("named", [True, False], ids=["routes named", "routes not named"])
def test_E_10_what_the_readme_shows_is_all_that_an_envoy_needs(
    authz: Deployment, seen: Upstream, kong_id: tuple[str, str], named: bool
) -> None:
    with Edge(own_envoy(authz, seen, named=named)) as envoy:
        for _ in range(2):
            assert envoy.curl(PATH, user=kong_id).status == 200
        spoofed = [("X.Consumer.Groups", "admin"), ("X-Consumer-Username", "admin")]
        assert envoy.curl(PATH, user=kong_id, headers=spoofed).status == 200
        assert envoy.curl(PATH).status == 401
        assert envoy.curl(PATH, user=("kong_id", "wrong")).status == 401
        assert envoy.curl("/nowhere", user=kong_id).status == (200 if named else 404)

    first, *_ = seen.requests
    assert first.header("authorization")[0].startswith("Bearer ey")
    for request in seen.requests:
        assert request.header("x-consumer-username") == ["kong_id"]
        assert "x.consumer.groups" not in request.names


def test_E_10_a_cluster_without_http2_lets_nobody_in_and_is_told_once(
    authz: Deployment, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    bootstrap = own_envoy(authz, seen, named=True)
    del bootstrap["static_resources"]["clusters"][0]["typed_extension_protocol_options"]
    with Edge(bootstrap) as envoy:
        replies = [envoy.curl(PATH, user=kong_id) for _ in range(5)]

        def told() -> list[dict[str, Any]]:
            lines = json_lines(authz.authz.output())
            return [line for line in lines if "HTTP/1" in line["message"]]

        if authz.transport == "native":  # grpcio has nothing to tell it by
            until(told)
            assert len(told()) == 1
            assert "http2_protocol_options" in told()[0]["message"]

    assert [(reply.status, reply.body) for reply in replies] == [(503, b"")] * 5
    assert seen.requests == []
