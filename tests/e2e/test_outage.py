"""Keycloak is stopped, and started again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support.curl import curl
from support.deployment import Deployment, authz_check, until

from authz.demo.parts import CHECKOUT

if TYPE_CHECKING:
    from support.deployment import Edge
    from support.keycloak import Keycloak
    from support.transports import Name

WORKSHOP = CHECKOUT / "examples" / "workshop.yaml"
PATH = "/oidc-route/get"


def test_RL_01_RL_06_known_callers_pass_while_keycloak_is_down_and_all_heals_by_itself(
    transport: Name,
    keycloak: Keycloak,
    workshop: Deployment,
    envoy: Edge,
    kong_id: tuple[str, str],
    other_id: tuple[str, str],
) -> None:
    before = envoy.curl(PATH, user=kong_id)
    assert before.status == 200
    stranger = ("percent_id", "100%25 sure%")

    keycloak.stop()
    started_meanwhile = Deployment(
        WORKSHOP, transport=transport, idp_port=keycloak.port, services={}, secrets=[kong_id]
    )
    started_meanwhile.authz.start()
    try:
        assert envoy.curl(PATH, user=kong_id).token == before.token

        reply = envoy.curl(PATH, user=stranger)
        assert (reply.status, reply.text) == (503, '{"message":"Service unavailable"}')
        assert reply.header("retry-after") == ["1"]
        until(lambda: workshop.denials()[-1] == "idp_unavailable")
        code, lines = authz_check(WORKSHOP, keycloak.port, kong_id, f"http://localhost{PATH}")
        assert code == 4
        assert lines[0].startswith("deny 503: ")

        until(lambda: started_meanwhile.live)
        verbose = curl(started_meanwhile.admin_port, "/readyz?verbose")
        assert verbose.status == 503
        assert f"[-] {keycloak.issuer}" in verbose.text

        keycloak.start().wait_ready()
        # No consumer, but Keycloak says who it is: the outage was not taken for a bad secret.
        until(lambda: envoy.curl(PATH, user=stranger).status == 403)
        assert envoy.curl(PATH, user=kong_id).status == 200
        assert envoy.curl(PATH, user=other_id).status == 403
        started_meanwhile.authz.wait_ready()
    finally:
        started_meanwhile.authz.stop()
        if not keycloak.running:
            keycloak.start().wait_ready()
    started_meanwhile.check_nothing_leaked()
