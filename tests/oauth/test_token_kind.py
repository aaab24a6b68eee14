"""Which tokens are access tokens: brought by a caller, and obtained for one."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.idp import key
from support.running import KONG_ID
from support.scenes import verdict

from authz.demo.idp import ABSENT
from authz.errors import Unauthenticated
from authz.model import Claims
from authz.oauth import jwt, token_kind

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.idp import RunningIdp
    from support.running import MakeAuthz


ALLOWED: Final = "200 allowed"
REFUSED: Final = "401 token_unsupported"
OUR_FAULT: Final = "503 exchanged_token_invalid"
AUDIENCE: Final = "api"

HASH: Final = "77QmUPtjPfzWtF2AnpK9RQ"
LOGOUT: Final[Mapping[str, Any]] = {"http://schemas.openid.net/event/backchannel-logout": {}}


class Kind(NamedTuple):
    """What a token says, and what becomes of it.

    ``bearer``: brought to a plugin that asks for no audience; ``audience``: to one that
    asks for one, which the token has; ``exchange``: given by the provider.
    """

    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    bearer: str
    audience: str
    exchange: str


def access(*, header: Mapping[str, Any] | None = None, **claims: Any) -> Kind:
    return Kind(header or {}, claims, ALLOWED, ALLOWED, ALLOWED)


def doubtful(**claims: Any) -> Kind:
    """Only who it is meant for, or who gave it, can tell."""
    return Kind({}, claims, REFUSED, ALLOWED, ALLOWED)


def other(*, header: Mapping[str, Any] | None = None, **claims: Any) -> Kind:
    return Kind(header or {}, claims, REFUSED, REFUSED, OUR_FAULT)


KINDS: Final[Mapping[str, Kind]] = {
    "Keycloak 26, access": access(typ="Bearer"),
    "Keycloak 24, access": access(typ="Bearer", nonce="n-0S6_WzA2Mj", session_state="6f3"),
    "RFC 9068, access": access(header={"typ": "at+jwt"}),
    "RFC 9068, access, with a nonce": access(header={"typ": "Application/AT+JWT"}, nonce="n"),
    "Auth0, access": access(gty="client-credentials"),
    "Entra, access": access(appid=KONG_ID, idtyp="app", ver="1.0"),
    "Cognito, access": access(token_use="access", version=2),
    "Cognito, access, with at_hash": access(token_use="access", at_hash=HASH),
    "access_token": access(token_use="access_token", c_hash=HASH),
    "Dex, access": doubtful(at_hash=HASH, email_verified=True, name="x"),
    "Google, ID": doubtful(azp=KONG_ID, at_hash=HASH, email_verified=True),
    "plain ID": doubtful(nonce="n-0S6_WzA2Mj", auth_time=1_754_944_000),
    "hybrid ID": doubtful(c_hash=HASH),
    # Nothing tells these two apart: an ID token that has nothing of its own.
    "nothing says what": access(),
    "Keycloak, ID": other(typ="ID", at_hash=HASH),
    "Keycloak, refresh": other(typ="Refresh"),
    "Keycloak, offline": other(typ="Offline"),
    "Keycloak, userinfo": other(typ="UserInfo"),
    "Keycloak, logout": other(typ="Logout"),
    "Keycloak, a kind of tomorrow": other(typ="Tomorrow"),
    "Keycloak, ID in an access token's header": other(header={"typ": "at+jwt"}, typ="ID"),
    "Cognito, ID": other(token_use="id", at_hash=HASH),
    "Cognito, refresh": other(token_use="refresh"),
    "Cognito, in another case": other(token_use="Access"),
    "token_use that is no word": other(token_use=["access"]),
    "logout": other(header={"typ": "logout+jwt"}, events=LOGOUT),
    "logout, unmarked": other(events=LOGOUT, sid="08a5019c"),
    "events that hold nothing": other(events={}),
    "events in an access token": other(typ="Bearer", events=LOGOUT),
    "DPoP": other(typ="DPoP"),
    "DPoP, bound": other(typ="dpop", cnf={"jkt": HASH}),
    "bound to nothing": other(typ="Bearer", cnf={}),
    "typ in lower case": access(typ="bearer", nonce="n"),
    "typ in upper case": access(typ="BEARER", nonce="n"),
    "typ null": access(typ=None),
    "typ empty": access(typ=""),
    "typ null says nothing": doubtful(typ=None, nonce="n"),
    "typ empty says nothing": doubtful(typ="", token_use="", nonce="n"),
    "cnf and events null": access(cnf=None, events=None),
    "of an ID token, null and empty": access(nonce=None, at_hash="", c_hash=None),
    "JOSE": access(header={"typ": "JOSE"}),
    "application/jose": access(header={"typ": "application/jose"}),
    "JOSE says nothing": doubtful(nonce="n")._replace(header={"typ": "JOSE"}),
    "no header typ": access(header={"typ": ABSENT}),
    "header typ null": other(header={"typ": None}),
}


def token(idp: RunningIdp, kind: Kind) -> str:
    own = idp.access_claims(KONG_ID, "openid") | {"aud": [AUDIENCE, KONG_ID]}
    own = {name: value for name, value in own.items() if name not in {"typ", "azp"}}
    return idp.sign(kind.header, {**own, **kind.claims})


async def test_G_18_access_tokens_and_no_others_pass(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    bearer, audience = make_authz(), make_authz(audience=(AUDIENCE,))
    required = make_authz(audience_required=(AUDIENCE,))

    told = {}
    for name, kind in KINDS.items():
        presented = token(idp, kind)
        idp.members["access_token"] = presented
        told[name] = Kind(
            kind.header,
            kind.claims,
            verdict(await bearer.bearer(presented)),
            verdict(await audience.bearer(presented)),
            verdict(await make_authz().basic()),
        )
        assert told[name].audience == verdict(await required.bearer(presented))
    assert told == KINDS


async def test_G_18_an_audience_that_the_token_lacks_settles_no_doubt(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    presented = token(idp, KINDS["Google, ID"])

    asked = await make_authz(audience=("another",)).bearer(presented)
    assert verdict(asked) == "401 token_audience_refused"
    required = await make_authz(audience_required=("another",)).bearer(presented)
    assert verdict(required) == "403 audience_missing"


@pytest.mark.parametrize("name", ["nonce", "at_hash", "c_hash"])
async def test_G_18_the_refusal_says_which_claim_and_what_to_set(
    idp: RunningIdp, make_authz: MakeAuthz, name: str
) -> None:
    authz = make_authz(display_errors=True)
    answer = await authz.bearer(token(idp, doubtful(**{name: "x"})))

    assert f"token: {name}, as ID tokens have" in answer.body
    assert "audience_required" in answer.body


async def test_G_18_a_type_that_is_no_string_is_a_wrong_claim(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    for typ in (7, ["Bearer"], {"Bearer": 1}, True):
        answer = await authz.bearer(token(idp, access(typ=typ)))
        assert verdict(answer) == "401 token_claim_invalid"


SIMPLE: Final = st.sampled_from([None, True, 7, "", "x", [], ["Bearer"], {}, {"typ": "Bearer"}])
NAMES: Final = ("typ", "token_use", "events", "cnf", "nonce", "at_hash", "c_hash")
WORDS: Final = st.sampled_from(["Bearer", "DPoP", "ID", "access", "id", ""])


@given(
    header=st.dictionaries(st.just("typ"), SIMPLE | st.sampled_from(["JWT", "at+jwt", "JOSE"])),
    claims=st.dictionaries(st.sampled_from(NAMES), SIMPLE | WORDS),
    from_exchange=st.booleans(),
    audience_asked=st.booleans(),
)
def test_G_18_whatever_a_token_says_only_access_tokens_pass(
    header: dict[str, Any], claims: dict[str, Any], from_exchange: bool, audience_asked: bool
) -> None:
    try:
        marked = token_kind.is_marked(header)
        token_kind.check(
            Claims(claims),
            marked=marked,
            from_exchange=from_exchange,
            audience_asked=audience_asked,
        )
    except Unauthenticated:
        return
    assert str(claims.get("typ") or "Bearer").lower() in ("bearer", "dpop")
    assert claims.get("token_use") in (None, "", "access", "access_token")
    assert claims.get("events") is None
    says_access = marked or claims.get("typ") or claims.get("token_use")
    if not (says_access or from_exchange or audience_asked):
        assert all(claims.get(name) in (None, "") for name in ("nonce", "at_hash", "c_hash"))


@pytest.mark.parametrize(
    ("claims", "end"),
    [
        ({"exp": 1_700_000_000}, 1_700_000_000.0),
        ({"exp": 0.5}, 0.5),
        ({}, math.inf),
        ({"exp": "1700000000"}, math.inf),
        ({"exp": True}, math.inf),
        ({"exp": 2**60}, math.inf),
    ],
)
def test_a_jwt_names_its_own_end_whoever_has_signed_it(claims: dict[str, Any], end: float) -> None:
    assert jwt.check_kind(key().sign({"alg": "RS256"}, claims)) == end


@pytest.mark.parametrize("text", ["opaque", "a.b.c", "e30.W10.x", "e30.e30"])
def test_what_is_no_jwt_names_no_end(text: str) -> None:
    assert jwt.check_kind(text) == math.inf
