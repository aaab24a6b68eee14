"""What a verified token means: claims, consumers, requirements and the headers they become."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.errors import Forbidden, Reason
from authz.header_names import AUTHORIZATION, IDENTITY, TOKENS, spellings
from authz.kong import slots
from authz.model import (
    AccessToken,
    BearerCredential,
    Claims,
    Consumer,
    Credential,
    CredentialLocation,
    Identity,
    OpenIDConnect,
    PairCredential,
    Request,
    Secret,
    Slot,
    SourcePosition,
)
from authz.policy.authorization import Authorization
from authz.policy.claims import walk, words
from authz.policy.consumers import ConsumerDirectory, Consumers
from authz.policy.headers import (
    OPEN_ROUTE,
    UpstreamHeaders,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.decision import Allow

POSITION = SourcePosition("kong.yaml", 1, 1)
ALICE = Consumer("11111111-1111-1111-1111-111111111111", "alice", "A-1", POSITION)
BOB = Consumer("22222222-2222-2222-2222-222222222222", "Bob", None, POSITION)
KATE = Consumer("44444444-4444-4444-4444-444444444444", "kate", None, POSITION)
NAMELESS = Consumer("33333333-3333-3333-3333-333333333333", None, "alice", POSITION)


def config(**parameters: Any) -> OpenIDConnect:
    return OpenIDConnect.of(issuer="https://idp.test", **parameters)


# --- Walking into claims ----------------------------------------------------------------

CLAIMS = {
    "sub": "s",
    "realm": {"roles": ["a", "b", {"name": "c"}], "1": "one"},
    "a.b": "dotted",
    "a": {"b": "nested"},
    "null": None,
    "false": False,
    "list": [["x", "y"]],
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        pytest.param(["sub"], "s", id="a member"),
        pytest.param(["a", "b"], "nested", id="a member of a member"),
        pytest.param(["a.b"], "dotted", id="a dot is part of the name"),
        pytest.param(["realm", "roles", "1"], "a", id="the first item is 1"),
        pytest.param(["realm", "roles", "3", "name"], "c", id="through an array"),
        pytest.param(["list", "1", "2"], "y", id="an array in an array"),
        pytest.param(["realm", "1"], "one", id="a number names a member of an object"),
        pytest.param(["false"], False, id="false is a value"),
        pytest.param(["realm", "roles", "0"], None, id="no item is 0"),
        pytest.param(["realm", "roles", "4"], None, id="beyond the end"),
        pytest.param(["realm", "roles", "-1"], None, id="no item counts from the end"),
        pytest.param(["realm", "roles", "٢"], None, id="another script's digits"),
        pytest.param(["realm", "roles", "name"], None, id="a name in an array"),
        pytest.param(["sub", "1"], None, id="a string is no array"),
        pytest.param(["null"], None, id="null is as good as absent"),
        pytest.param(["null", "a"], None, id="beyond null"),
        pytest.param(["missing", "a"], None, id="beyond what is missing"),
        pytest.param([], CLAIMS, id="no path at all"),
    ],
)
def test_a_path_walks_as_kongs_does(path: list[str], found: object) -> None:
    assert walk(CLAIMS, path) == found


@pytest.mark.parametrize(
    ("value", "held"),
    [
        ("openid  email ", {"openid", "email"}),
        (["openid", "a b"], {"openid", "a b"}),
        ("", set()),
        ([], set()),
        (["a", 1], None),
        (None, None),
        (True, None),
        ({"openid": True}, None),
    ],
)
def test_words_are_those_of_a_string_or_the_items_of_an_array(
    value: object, held: set[str] | None
) -> None:
    assert words(value) == held


# --- What a token must hold ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("required", "scope", "passes"),
    [
        pytest.param(["a"], "a b", True, id="one of several"),
        pytest.param(["a b"], "b c a", True, id="a spaced string: all of them"),
        pytest.param(["a b"], "a", False, id="all of them, one is missing"),
        pytest.param(["a b", "c"], "c", True, id="an array: any of them"),
        pytest.param(["a b", "c"], "a", False, id="an array: none of them"),
        pytest.param(["a"], "A", False, id="case counts"),
        pytest.param(["a"], "ab", False, id="whole words only"),
        pytest.param(["a"], ["a"], True, id="an array of scopes"),
        pytest.param(["a"], ["a b"], False, id="an item is one word"),
        pytest.param(["a"], None, False, id="no scope claim"),
        pytest.param(["a"], {"a": True}, False, id="an object grants nothing"),
        pytest.param(["a"], 1, False, id="a number grants nothing"),
        pytest.param([], None, True, id="nothing required"),
    ],
)
def test_an_array_is_any_of_and_a_spaced_string_is_all_of(
    required: list[str], scope: object, passes: bool
) -> None:
    authorization = Authorization(config(scopes_required=tuple(required)))
    claims = Claims({} if scope is None else {"scope": scope})

    if passes:
        authorization.check(claims)
    else:
        with pytest.raises(Forbidden) as caught:
            authorization.check(claims)
        assert caught.value.reason is Reason.SCOPE_MISSING


def test_an_audience_is_required_in_the_claim_that_is_named() -> None:
    authorization = Authorization(
        config(audience_required=("orders",), audience_claim=("target", "1"))
    )

    authorization.check(Claims({"target": ["orders"]}))
    with pytest.raises(Forbidden, match=r"target\.1") as caught:
        authorization.check(Claims({"aud": "orders", "target": ["other"]}))
    assert caught.value.reason is Reason.AUDIENCE_MISSING


def test_every_requirement_counts() -> None:
    authorization = Authorization(config(audience_required=("x",), scopes_required=("y",)))

    authorization.check(Claims({"aud": ["x"], "scope": "y"}))
    for claims in ({"aud": ["x"]}, {"scope": "y"}):
        with pytest.raises(Forbidden):
            authorization.check(Claims(claims))


# --- Consumers ------------------------------------------------------------------------------


def find(claims: dict[str, Any], **parameters: Any) -> Consumer | None:
    parameters = {"consumer_claims": (("name",),), **parameters}
    directory = ConsumerDirectory([ALICE, BOB, KATE, NAMELESS])
    return Consumers(config(**parameters), directory).find(Claims(claims))


@pytest.mark.parametrize(
    ("name", "by", "found"),
    [
        pytest.param("alice", ("username", "custom_id"), ALICE, id="the username first"),
        pytest.param("alice", ("custom_id", "username"), NAMELESS, id="the custom_id first"),
        pytest.param("A-1", ("username", "custom_id"), ALICE, id="the second field"),
        pytest.param(BOB.id, ("id",), BOB, id="the id"),
    ],
)
def test_a_consumer_is_looked_up_by_each_field_in_order(
    name: str, by: tuple[str, ...], found: Consumer
) -> None:
    assert find({"name": name}, consumer_by=by) == found


@pytest.mark.parametrize(
    ("claims", "by", "reason"),
    [
        pytest.param({"name": "eve"}, ("username",), Reason.CONSUMER_UNKNOWN, id="a stranger"),
        pytest.param({"name": "bob"}, ("username",), Reason.CONSUMER_UNKNOWN, id="case counts"),
        pytest.param({"name": "alice "}, ("username",), Reason.CONSUMER_UNKNOWN, id="a space"),
        pytest.param({"name": "A-1"}, ("username",), Reason.CONSUMER_UNKNOWN, id="another field"),
        pytest.param({"name": ALICE.id}, ("username",), Reason.CONSUMER_UNKNOWN, id="no id"),
        pytest.param({"name": ""}, ("username",), Reason.CONSUMER_UNKNOWN, id="an empty name"),
        pytest.param({"name": 1}, ("username",), Reason.CONSUMER_UNKNOWN, id="a number"),
        pytest.param({"name": True}, ("username",), Reason.CONSUMER_UNKNOWN, id="true"),
        pytest.param({"name": ["alice"]}, ("username",), Reason.CONSUMER_UNKNOWN, id="a list"),
        pytest.param({}, ("username",), Reason.CONSUMER_CLAIM_MISSING, id="no claim"),
        pytest.param({"name": None}, ("username",), Reason.CONSUMER_CLAIM_MISSING, id="null"),
    ],
)
def test_whoever_is_no_consumer_is_forbidden_unless_none_is_needed(
    claims: dict[str, Any], by: tuple[str, ...], reason: Reason
) -> None:
    with pytest.raises(Forbidden) as caught:
        find(claims, consumer_by=by)

    assert caught.value.reason is reason
    assert find(claims, consumer_by=by, consumer_optional=True) is None


def test_without_consumer_claims_nobody_is_looked_up() -> None:
    assert find({"name": "alice"}, consumer_claims=()) is None


def test_the_first_claim_that_the_token_has_decides() -> None:
    paths = (("client_id",), ("azp",), ("clientId",))

    assert find({"azp": "alice", "clientId": "Bob"}, consumer_claims=paths) == ALICE
    with pytest.raises(Forbidden):
        find({"client_id": "eve", "azp": "alice"}, consumer_claims=paths)


def test_a_claim_inside_of_others_names_a_consumer() -> None:
    paths = (("act", "names", "2"),)

    assert find({"act": {"names": ["eve", "alice"]}}, consumer_claims=paths) == ALICE


def test_usernames_may_ignore_case_and_nothing_else_does() -> None:
    ignoring: dict[str, Any] = {"by_username_ignore_case": True}

    assert find({"name": "BOB"}, **ignoring) == BOB
    for name in ("a-1", "\u212aate"):  # the Kelvin sign is no K
        with pytest.raises(Forbidden):
            find({"name": name}, **ignoring)


# --- Headers ----------------------------------------------------------------------------------

TOKEN = AccessToken(Secret("header.claims.signature"))
AUTHORIZED = Slot(PairCredential, CredentialLocation.HEADER, (AUTHORIZATION,))
PAIR = PairCredential("id", Secret("s"), AUTHORIZED)
QUERY_NAMES = ("client_id", "client_secret")
HALF = ("client_secret",)  # of a pair: no credential, and nobody else's business


def bearer(location: CredentialLocation, *names: str) -> BearerCredential:
    return BearerCredential(TOKEN.value, Slot(BearerCredential, location, names))


def pair(location: CredentialLocation, *names: str) -> PairCredential:
    return PairCredential("id", Secret("s"), Slot(PairCredential, location, names))


class Vouching:
    """An issuer whose keys never go."""

    version = 0


def announced(
    parameters: OpenIDConnect,
    presented: Credential = PAIR,
    claims: Mapping[str, Any] | None = None,
    consumer: Consumer | None = None,
    request: Request | None = None,
) -> Allow:
    identity = Identity(
        method="bearer",
        claims=Claims(claims or {}),
        issuer=Vouching(),
        issuer_version=0,
        client=None,
        token=TOKEN,
        expires_at=0,
    )
    headers = UpstreamHeaders(parameters, slots.every(parameters))
    return headers.announce(request or Request(), identity, consumer, presented)


@pytest.mark.parametrize(
    ("parameter", "name", "value"),
    [
        ("authorization:bearer", "authorization", "Bearer header.claims.signature"),
        ("Authorization:Bearer", "authorization", "Bearer header.claims.signature"),
        ("authorization:token", "authorization", "Token header.claims.signature"),
        ("authorization", "authorization", "header.claims.signature"),
        ("x-token", "x-token", "header.claims.signature"),
        ("X_Access_Token", "x-access-token", "header.claims.signature"),
        ("x-token:bearer", "x-token", "Bearer header.claims.signature"),
    ],
)
def test_the_access_token_goes_where_the_file_says(parameter: str, name: str, value: str) -> None:
    allow = announced(config(upstream_access_token_header=parameter))

    assert allow.headers == {name: value}
    assert name not in allow.headers_to_remove
    assert ("authorization" in allow.headers_to_remove) == (name != "authorization")


@pytest.mark.parametrize("parameter", [None, ""])
def test_the_access_token_may_stay_here(parameter: str | None) -> None:
    allow = announced(config(upstream_access_token_header=parameter))

    assert not allow.headers
    assert "" not in allow.headers_to_remove
    assert {AUTHORIZATION, *TOKENS} <= set(allow.headers_to_remove)


@pytest.mark.parametrize(
    ("credential", "hidden_headers", "hidden_arguments"),
    [
        pytest.param(PAIR, {"authorization"}, HALF, id="Basic"),
        pytest.param(
            bearer(CredentialLocation.HEADER, "authorization"),
            {"authorization"},
            HALF,
            id="a bearer token",
        ),
        pytest.param(
            bearer(CredentialLocation.HEADER, "x-access-token"),
            {"x-access-token"},
            HALF,
            id="X-Access-Token",
        ),
        pytest.param(
            pair(CredentialLocation.QUERY, *QUERY_NAMES),
            set(),
            QUERY_NAMES,
            id="a pair in the query",
        ),
        pytest.param(
            bearer(CredentialLocation.QUERY, "access_token"),
            set(),
            ("access_token", *HALF),
            id="a token",
        ),
        pytest.param(
            pair(CredentialLocation.BODY, *QUERY_NAMES),
            set(),
            HALF,
            id="body",
        ),
    ],
)
def test_a_credential_is_hidden_unless_the_file_says_otherwise(
    credential: Credential, hidden_headers: set[str], hidden_arguments: tuple[str, ...]
) -> None:
    def asked(*, hide: bool) -> tuple[set[str], tuple[str, ...]]:
        parameters = config(hide_credentials=hide, upstream_access_token_header="x-token")
        allow = announced(parameters, credential)
        return set(allow.headers_to_remove), allow.query_parameters_to_remove

    hidden, arguments = asked(hide=True)
    assert hidden >= spellings((AUTHORIZATION, *TOKENS))
    assert arguments == hidden_arguments

    left, arguments = asked(hide=False)
    assert hidden - left == hidden_headers  # where it stood, and no twin of that
    assert arguments == ()


def test_a_kept_authorization_gives_way_to_the_access_token() -> None:
    allow = announced(config(hide_credentials=False))

    assert allow.headers["authorization"] == "Bearer header.claims.signature"


def test_a_consumer_is_announced_by_all_that_it_has() -> None:
    allow = announced(config(), claims={"sub": "s-1"}, consumer=ALICE)

    assert allow.headers == {
        "authorization": "Bearer header.claims.signature",
        "x-consumer-id": ALICE.id,
        "x-consumer-username": "alice",
        "x-consumer-custom-id": "A-1",
        "x-credential-identifier": "s-1",
    }
    assert allow.metadata == {
        "consumer_id": ALICE.id,
        "consumer_username": "alice",
        "consumer_custom_id": "A-1",
    }


def test_HS_05_an_unprotected_route_guards_identities_and_leaves_authorization() -> None:
    allow = OPEN_ROUTE.nobody(Request())

    assert set(allow.headers_to_remove) == spellings(IDENTITY)
    assert not allow.headers
    assert (allow.reason, allow.metadata) == ("unprotected", {})


def test_HS_03_every_mixture_of_dash_and_underscore_is_a_spelling() -> None:
    assert spellings(["x-a_b"]) == {"x-a-b", "x-a_b", "x_a-b", "x_a_b"}
    assert spellings(["authorization"]) == {"authorization"}
    assert spellings([]) == set()


consumers = st.none() | st.sampled_from([ALICE, BOB, NAMELESS])
token_headers = st.none() | st.sampled_from(
    ["authorization:bearer", "x-token", "X_Token:bearer", "access-token", "x-access-token"]
)
positions = st.sampled_from(
    [
        PAIR,
        bearer(CredentialLocation.HEADER, "access-token"),
        bearer(CredentialLocation.QUERY, "access_token"),
    ]
)


@given(token_headers, st.booleans(), consumers, positions, st.sampled_from([{}, {"sub": "s"}]))
def test_HS_14_every_managed_name_is_set_or_removed_and_never_both(
    token_header: str | None,
    hide: bool,
    consumer: Consumer | None,
    credential: Credential,
    claims: dict[str, Any],
) -> None:
    parameters = config(upstream_access_token_header=token_header, hide_credentials=hide)

    allow = announced(parameters, credential, claims, consumer)

    removed, written = set(allow.headers_to_remove), set(allow.headers)
    slot = credential.slot
    kept = () if hide or slot.location is not CredentialLocation.HEADER else slot.names
    assert removed.isdisjoint(written)
    assert removed | written >= spellings((*IDENTITY, AUTHORIZATION, *TOKENS)) - set(kept)
    assert len(removed) == len(allow.headers_to_remove)


@pytest.mark.parametrize(
    ("required", "claims", "passes"),
    [
        (("admins", "ops staff"), {"groups": ["admins"]}, True),
        (("admins", "ops staff"), {"groups": ["staff", "ops"]}, True),
        (("admins", "ops staff"), {"groups": ["staff"]}, False),
        (("admins",), {"groups": "admins"}, True),
        (("admins",), {"groups": [["admins"]]}, False),
        (("admins",), {}, False),
    ],
)
def test_groups_are_required_as_scopes_are(
    required: tuple[str, ...], claims: dict[str, Any], passes: bool
) -> None:
    authorization = Authorization(config(groups_required=required))

    with contextlib.nullcontext() if passes else pytest.raises(Forbidden, match="group_missing"):
        authorization.check(Claims(claims))


def test_roles_are_required_where_keycloak_has_them() -> None:
    authorization = Authorization(
        config(roles_claim=("realm_access", "roles"), roles_required=("admin",))
    )

    authorization.check(Claims({"realm_access": {"roles": ["user", "admin"]}}))
    with pytest.raises(Forbidden, match="role_missing"):
        authorization.check(Claims({"realm_access": {"roles": ["user"]}, "roles": ["admin"]}))


def test_a_blank_requirement_is_met_by_nobody() -> None:
    authorization = Authorization(config(scopes_required=(" ",)))

    with pytest.raises(Forbidden, match="scope_missing"):
        authorization.check(Claims({"scope": "openid email"}))
