"""What both seeds ask of a provider: these calls, and no others, whatever callers bring."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.deployment import Deployment

from authz.demo.parts import CHECKOUT

if TYPE_CHECKING:
    from pathlib import Path

    from support.idp import RunningIdp
    from support.transports import Name
    from support.upstream import Upstream

EXAMPLES = CHECKOUT / "examples"
ISSUER = "http://keycloak.keycloak:8080/realms/kong"
HOSTS = ("httpbin.kong.svc.cluster.local:8000", "httpbin.konghq.com:80")
NAMES_ITS_METHODS = {
    "workshop": '        auth_methods: ["client_credentials"]\n',
    "how-to": "    auth_methods:\n    - client_credentials\n",
}


def without(seed: str, *texts: str) -> str:
    """Return a seed's file without these lines, each of which it must have."""
    text = (EXAMPLES / f"{seed}.yaml").read_text("utf-8")
    for each in texts:
        assert text.count(each) == 1
        text = text.replace(each, "")
    return text


FILES = {
    "the workshop's file": ("workshop", without("workshop")),
    "the how-to's file": ("how-to", without("how-to")),
    "the workshop's file without auth_methods": (
        "workshop",
        without("workshop", NAMES_ITS_METHODS["workshop"]),
    ),
}


@pytest.mark.parametrize(("seed", "text"), FILES.values(), ids=FILES)
def test_a_seed_asks_for_metadata_for_keys_and_once_for_each_pair(
    tmp_path: Path,
    transport: Name,
    provider: RunningIdp,
    seen: Upstream,
    kong_id: tuple[str, str],
    seed: str,
    text: str,
) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(text, "utf-8")
    path = "/oidc-route/get" if seed == "workshop" else "/anything"
    deployment = Deployment(
        file,
        transport=transport,
        idp_port=provider.port,
        services=dict.fromkeys(HOSTS, seen.port),
        env={"DECK_ISSUER": ISSUER, "DECK_CLIENT_ID": kong_id[0], "DECK_CLIENT_SECRET": kong_id[1]},
        secrets=[kong_id],
    )
    with deployment, deployment.edge() as envoy:
        statuses = [
            envoy.curl(path, user=kong_id).status,
            envoy.curl(path, user=kong_id).status,
            envoy.curl(path, user=("kong_id", "wrong")).status,
            envoy.curl(path, user=("kong_id", "wrong")).status,
            envoy.curl(path).status,
            envoy.curl(path, headers=[("Authorization", "Bearer opaque")]).status,
        ]

    assert statuses == [200, 200, 401, 401, 401, 401]
    asked = [request for request in provider.requests if request.endpoint == "token"]
    others = [each.endpoint for each in provider.requests if each.endpoint != "token"]
    assert [each.form["grant_type"] for each in asked] == ["client_credentials"] * 2
    assert sorted(others) == ["certs", "discovery"]
