"""Whose keys are whose: the issuer is chosen by iss, and only its own keys vouch for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from support.idp import RunningIdp, key
from support.scenes import at, verdict

from authz.errors import ConfigurationError
from authz.oauth.issuers import UndecidedKeysError, owners

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.clock import Clock
    from support.running import MakeAuthz


KC = "https://kc.test/realms/a"
KC_B = "https://kc.test/realms/b"
SSO = "https://sso.test/realms/a"
PARTNER = "https://partner.test"
GOOGLE = "https://accounts.google.test"

KC_KEYS = f"{KC}/protocol/openid-connect/certs"
KC_B_KEYS = f"{KC_B}/protocol/openid-connect/certs"
PARTNER_KEYS = "https://partner.test/jwks.json"
CDN_KEYS = "https://cdn.test/keys.json"

CASES: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], dict[str, tuple[int, ...]]]] = {
    "one issuer has all sets": ((KC,), (PARTNER_KEYS, CDN_KEYS), {KC: (0, 1, 2)}),
    "a slash makes no second issuer": ((KC, f"{KC}/"), (CDN_KEYS,), {f"{KC}/": (0, 1)}),
    "several names of one provider": ((KC, SSO), (), {KC: (0,), SSO: (0,)}),
    "a partner with its own set": ((KC, PARTNER), (PARTNER_KEYS,), {KC: (0,), PARTNER: (1,)}),
    "two names, and a partner": (
        (KC, SSO, PARTNER),
        (PARTNER_KEYS,),
        {KC: (0,), SSO: (0,), PARTNER: (1,)},
    ),
    "the nearest path": ((KC, KC_B), (KC_B_KEYS,), {KC: (0,), KC_B: (1,)}),
    "more keys of our own": (
        (KC, PARTNER),
        (KC_KEYS, PARTNER_KEYS),
        {KC: (0, 1), PARTNER: (2,)},
    ),
    "keys elsewhere, and one issuer without": (
        (KC, GOOGLE),
        ("https://www.googleapis.test/certs",),
        {KC: (0,), GOOGLE: (1,)},
    ),
    "our own under another name": ((SSO, PARTNER), (PARTNER_KEYS,), {SSO: (0,), PARTNER: (1,)}),
    "a port by default": (
        (KC, "https://partner.test:443"),
        (PARTNER_KEYS,),
        {KC: (0,), "https://partner.test:443": (1,)},
    ),
    "an issuer that is no URL": (
        (KC, "urn:partner"),
        (PARTNER_KEYS,),
        {KC: (0,), "urn:partner": (1,)},
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_JK_18_each_key_set_belongs_to_the_issuer_that_it_is_near_to(case: str) -> None:
    accepted, extra, expected = CASES[case]

    assert owners(KC, accepted, extra) == expected


def test_JK_18_a_primary_set_that_is_an_extra_one_too_has_one_owner() -> None:
    accepted, extra = (KC, PARTNER), (KC_KEYS, PARTNER_KEYS)

    assert owners("https://pseudo.test", accepted, extra, PARTNER_KEYS) == {
        KC: (1,),
        PARTNER: (0, 2),
    }
    with pytest.raises(UndecidedKeysError):
        owners(KC, (KC, SSO), (KC_KEYS,), KC_KEYS)  # else these keys would be SSO's as well


@pytest.mark.parametrize(
    ("accepted", "extra"),
    [
        pytest.param((KC, KC_B), ("https://kc.test/keys.json",), id="equally near to two"),
        pytest.param((KC, SSO, GOOGLE), (CDN_KEYS,), id="near to none, two without keys"),
        pytest.param((KC, PARTNER), (PARTNER_KEYS, CDN_KEYS), id="near to none, none without"),
    ],
)
def test_JK_18_keys_that_could_be_several_issuers_are_refused(
    accepted: tuple[str, ...], extra: tuple[str, ...]
) -> None:
    with pytest.raises(UndecidedKeysError):
        owners(KC, accepted, extra)


def test_JK_18_such_a_file_is_refused_at_start_with_what_to_write(make_authz: MakeAuthz) -> None:
    with pytest.raises(ConfigurationError, match=r"kong.yaml:1:1: extra_jwks_uris: .*each issuer"):
        make_authz(at(KC, issuers_allowed=(KC, SSO, GOOGLE), extra_jwks_uris=(CDN_KEYS,)))


TWO = key("RS256", 2)


async def test_JK_18_a_key_of_one_accepted_issuer_vouches_for_no_other(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with RunningIdp(keys=[TWO]) as partner:
        accepted: dict[str, Any] = {
            "issuers_allowed": (idp.issuer, partner.issuer),
            "extra_jwks_uris": (partner.jwks_uri,),
        }
        authz = make_authz(**accepted)

        assert (await authz.bearer(idp.issue())).allowed
        assert (await authz.bearer(partner.issue())).allowed
        by_theirs = idp.issue(key=TWO)
        by_ours = partner.issue(key=idp.keys[0])
        assert verdict(await authz.bearer(by_theirs)) == "401 token_key_unknown"
        assert verdict(await authz.bearer(by_ours)) == "401 token_key_unknown"
        same_kid = partner.issue(key=idp.keys[0], header={"kid": TWO.kid})
        assert verdict(await authz.bearer(same_kid)) == "401 token_signature_invalid"


async def test_JK_18_several_names_of_one_provider_share_its_keys(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(issuers_allowed=(idp.issuer, SSO))

    assert (await authz.bearer(idp.issue())).allowed
    assert (await authz.bearer(idp.issue(iss=SSO))).allowed
    assert verdict(await authz.bearer(idp.issue(iss=KC))) == "401 token_issuer_refused"


async def test_C6_readiness_tells_the_accepted_issuers_and_each_key_set(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    with RunningIdp(keys=[TWO, key("ES256")], now=clock.now) as partner:
        accepted: dict[str, Any] = {
            "issuers_allowed": (idp.issuer, partner.issuer),
            "extra_jwks_uris": (partner.jwks_uri,),
        }
        authz = make_authz(clock=clock, **accepted)
        await authz.bearer(idp.issue())
        [status] = authz.configuration.status()
        assert status.detail.splitlines() == [
            "1 keys",
            f"accepts iss: {idp.issuer}, {partner.issuer}",
            f"keys as discovered: 0 s old; algorithms RS256; kids {idp.keys[0].kid}",
            f"keys of {partner.jwks_uri}: not fetched",
        ]

        clock.advance(12)
        await authz.bearer(partner.issue())
        [status] = authz.configuration.status()
        kids = f"{TWO.kid}, {key('ES256').kid}"
        assert status.detail.splitlines()[-1] == (
            f"keys of {partner.jwks_uri}: 0 s old; algorithms ES256, RS256; kids {kids}"
        )
        assert "keys as discovered: 12 s old" in status.detail


async def test_C6_readiness_tells_the_issuer_that_discovery_names(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    address = idp.issuer
    idp.metadata = {"token_endpoint": idp.token_endpoint, "jwks_uri": idp.jwks_uri}
    idp.issuer = "https://id.test/realms/kong"
    authz = make_authz(at(address))
    [status] = authz.configuration.status()
    assert "accepts iss: not discovered yet" in status.detail

    await authz.bearer(idp.issue())
    [status] = authz.configuration.status()
    assert "accepts iss: https://id.test/realms/kong\n" in status.detail
