"""The manual, read aloud: what happens to a request, over real sockets."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
from support.running import KONG_ID, KONG_SECRET

from authz.credentials import basic
from authz.kong import state
from authz.kong.files import Sources
from authz.methods import METHOD_NAMES

if TYPE_CHECKING:
    from support.idp import RunningIdp
    from support.running import MakeAuthz


async def test_CP_02_a_known_client_passes_with_a_verified_token(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz().basic()

    assert answer.allowed
    assert answer.header("x-consumer-username") == "kong_id"
    assert (answer.header("authorization") or "").startswith("Bearer ey")
    assert idp.counters["token"] == 1


async def test_CP_02_a_second_request_is_answered_from_memory(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    first = await authz.basic()

    assert (await authz.basic()).wire == first.wire
    assert idp.counters["token"] == 1
    assert 'authz_checks_total{reason="allowed",verdict="allow"} 2.0' in authz.metrics()


async def test_DS_01_a_thousand_cold_callers_cost_one_exchange(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    answers = await asyncio.gather(*(authz.basic(seconds=5) for _ in range(1000)))

    assert all(answer.allowed for answer in answers)
    assert dict(idp.counters) == {"token": 1, "discovery": 1, "certs": 1}


BROWSERS_ONLY = """
_format_version: "3.0"
plugins:
- name: openid-connect
  config: {{issuer: "{issuer}", auth_methods: {methods}, audience: [account]}}
- name: openid-connect
  route: machines
  config: {{issuer: "{issuer}", auth_methods: [client_credentials], audience: [account]}}
routes:
- {{name: machines, paths: [/machines]}}
- {{name: people, paths: [/people]}}
"""


@pytest.mark.parametrize(
    "methods", ["[authorization_code]", "[session]", "[authorization_code, session]"]
)
async def test_D_08_a_route_for_browsers_is_shut_to_every_machine_and_the_file_loads(
    idp: RunningIdp, make_authz: MakeAuthz, methods: str
) -> None:
    text = BROWSERS_ONLY.format(issuer=idp.issuer, methods=methods)
    gateway = state.parse(Sources((("kong.yaml", text.encode()),)), {}, METHOD_NAMES)
    authz = make_authz(gateway)
    token = (await authz.basic(path="/machines")).header("authorization") or ""

    for named in ({}, {"route": "people"}):
        for headers in (
            {},
            {"authorization": basic(KONG_ID, KONG_SECRET)},
            {"authorization": token},
        ):
            answer = await authz.ask(headers, path="/people", context=named)
            assert (answer.status, answer.reason) == (401, "methods_for_browsers")
        preflight = await authz.ask({}, path="/people", method="OPTIONS", context=named)
        assert preflight.status == 401
    assert (await authz.basic(path="/machines")).allowed
    [notice] = [n.message for n in gateway.notices if n.parameter == "auth_methods"]
    assert notice.endswith("nothing else is named: every request gets 401 methods_for_browsers")
