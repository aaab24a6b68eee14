"""The caller brings an access token."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.idp import key
from support.methods import Headers, Subject
from support.running import check_request
from support.scenes import verdict

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from support.idp import RunningIdp
    from support.running import RunningAuthz

    MakeAuthz = Callable[..., RunningAuthz]


def authorization(token: str) -> Headers:
    return {"authorization": f"Bearer {token}"}


def forged(idp: RunningIdp) -> Headers:
    """A token under the id of the provider's key, signed by another one."""
    signed, _, _ = idp.issue().rpartition(".")
    signature = key(number=1).sign({"alg": "RS256"}, {}).rpartition(".")[2]
    return authorization(f"{signed}.{signature}")


SUBJECT = Subject(
    good=lambda idp: authorization(idp.issue()),
    bad=forged,
    refused="token_signature_invalid",
    elsewhere=lambda idp: {"headers": {"x-access-token": idp.issue()}},
    endpoint="certs",
)


@pytest.mark.parametrize("token", ["opaque", "a.b", "a.b.c.d.e"])
async def test_what_is_no_signed_token_is_not_known_here(make_authz: MakeAuthz, token: str) -> None:
    assert verdict(await make_authz().bearer(token)) == "401 token_malformed"


async def test_the_answer_is_reused_for_cache_ttl_max_at_most(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock, cache_ttl_max=10)
    wire = check_request(authorization(idp.issue()))
    await authz.authorizer.check(wire, None)
    await authz.authorizer.check(wire, None)  # by when the names of its headers are known

    assert authz.authorizer.cached(wire) is not None
    clock.advance(10)
    assert authz.authorizer.cached(wire) is None
