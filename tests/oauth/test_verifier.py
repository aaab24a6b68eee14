"""A token is parsed and its signature verified once; what may have changed is looked at again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.scenes import landed

from authz.errors import Reason, Unauthenticated
from authz.oauth.verifier import TokenVerifier

if TYPE_CHECKING:
    from support.clock import Clock
    from support.idp import RunningIdp
    from support.running import MakeAuthz, RunningAuthz


HOUR = 3_600.0
DAY = 24 * HOUR


@pytest.fixture
def authz(idp: RunningIdp, make_authz: MakeAuthz, clock: Clock) -> RunningAuthz:
    idp.now, idp.token_lifetime_s = clock.now, int(2 * DAY)
    return make_authz(clock=clock)


def verifier_of(authz: RunningAuthz, clock: Clock) -> TokenVerifier:
    [provider] = authz.configuration.providers
    return TokenVerifier(authz.configuration.gateway.plugins[0].config, provider, clock=clock)


async def test_a_verified_token_is_good_until_its_key_has_gone(
    idp: RunningIdp, authz: RunningAuthz, clock: Clock
) -> None:
    verifier, token = verifier_of(authz, clock), idp.issue()
    verified = await verifier.verify(token)
    assert (verified.issuer, verified.expires_at) == (idp.issuer, clock.now() + 2 * DAY)

    idp.rotate()
    clock.advance(HOUR)
    await landed(authz)
    assert await verifier.verify(token) == verified  # there is another key beside its own
    idp.rotate(retire=True)
    clock.advance(HOUR)
    await landed(authz)
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.reason is Reason.TOKEN_KEY_UNKNOWN


async def test_a_verified_token_is_good_no_longer_than_itself(
    idp: RunningIdp, authz: RunningAuthz, clock: Clock
) -> None:
    verifier, token = verifier_of(authz, clock), idp.issue(exp=clock.now() + 10)
    verified = await verifier.verify(token)

    clock.advance(9)
    assert await verifier.verify(token) == verified
    clock.advance(1)
    with pytest.raises(Unauthenticated) as caught:
        await verifier.verify(token)
    assert caught.value.reason is Reason.TOKEN_EXPIRED
