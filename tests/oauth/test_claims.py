"""What the claims of a well-signed token must say, and whose token that makes it."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.configuration import load
from support.running import KONG_CONSUMER, KONG_ID, POSITION, gateway, logged
from support.verdicts import ALLOWED, UNASKED, calls, each, verdicts

from authz.demo.idp import ABSENT
from authz.errors import ConfigurationError, Unauthenticated
from authz.methods.base import client_of
from authz.model import Claims, Consumer
from authz.oauth import jwt
from authz.oauth.issuers import Issuer, Issuers
from authz.tokens.keeper import REFUSED_SECONDS_MAX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.clock import Clock
    from support.idp import RunningIdp
    from support.running import MakeAuthz, RunningAuthz


CLAIM_INVALID: Final = "401 token_claim_invalid"
EXPIRED: Final = "401 token_expired"
NOT_YET_VALID: Final = "401 token_not_yet_valid"
ISSUER_REFUSED: Final = "401 token_issuer_refused"
AUDIENCE_REFUSED: Final = "401 token_audience_refused"
AUDIENCE_MISSING: Final = "403 audience_missing"
SCOPE_MISSING: Final = "403 scope_missing"
CLAIM_MISSING: Final = "403 consumer_claim_missing"
CONSUMER_UNKNOWN: Final = "403 consumer_unknown"
HEADER_REFUSED: Final = "403 header_value_refused"

LEEWAY_SECONDS: Final = 60

Tokens = dict[str, str]


@pytest.fixture
def now(idp: RunningIdp, clock: Clock) -> float:
    """The time at which authz and IdP stand still, in seconds since 1970."""
    idp.now = clock.now
    return clock.now()


def saying(idp: RunningIdp, name: str, values: Mapping[str, Any]) -> Tokens:
    """A token for each value of one claim; the keys name the cases."""
    return {case: idp.issue(**{name: value}) for case, value in values.items()}


def literally(idp: RunningIdp, name: str, numbers: Mapping[str, str]) -> Tokens:
    """As :func:`saying`, with values written as JSON that Python would not write."""
    claims = idp.access_claims(KONG_ID, "openid")
    claims.pop(name, None)
    members = json.dumps(claims)[1:-1]
    return {
        case: idp.sign({}, f'{{"{name}": {text}, {members}}}'.encode())
        for case, text in numbers.items()
    }


# --- Issuer --------------------------------------------------------------------------

ISSUER: Final = "https://idp.example/realms/kong"
OTHER_ISSUERS: Final[Mapping[str, Any]] = {
    "missing": ABSENT,
    "null": None,
    "empty": "",
    "slash": "/",
    "other realm": "https://idp.example/realms/other",
    "two slashes": f"{ISSUER}//",
    "upper-case host": "https://IDP.example/realms/kong",
    "upper-case scheme": "HTTPS://idp.example/realms/kong",
    "upper-case realm": "https://idp.example/realms/KONG",
    "http": "http://idp.example/realms/kong",
    "default port": "https://idp.example:443/realms/kong",
    "query": f"{ISSUER}?",
    "fragment": f"{ISSUER}#",
    "space behind": f"{ISSUER} ",
    "space in front": f" {ISSUER}",
    "list": [ISSUER],
    "object": {ISSUER: 1},
    "number": 5,
    "prefix": ISSUER[:-1],
    "suffix": ISSUER.removeprefix("https://"),
    "something behind": f"{ISSUER}.evil.example",
    "something in front": f"https://evil.example/{ISSUER}",
    "part": "idp.example",
    "letter like an ASCII one": ISSUER.replace("o", "\u043e"),
}


async def test_CL_01_the_issuer_is_compared_exactly(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    tokens = saying(idp, "iss", OTHER_ISSUERS)

    assert await verdicts(make_authz(issuers_allowed=(ISSUER,)), tokens) == each(
        tokens, ISSUER_REFUSED
    )
    # The issuer is looked at before any key.
    assert calls(idp) == UNASKED


async def test_CL_01_one_trailing_slash_is_forgiven_on_either_side(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = saying(idp, "iss", {"without": ISSUER, "with": f"{ISSUER}/"})

    for configured in (ISSUER, f"{ISSUER}/"):
        authz = make_authz(issuers_allowed=(configured,))
        assert await verdicts(authz, tokens) == each(tokens, ALLOWED)


async def test_CL_01_each_allowed_issuer_counts_and_the_discovered_one_only_by_default(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = saying(idp, "iss", {"discovered": idp.issuer, "first": ISSUER, "second": "urn:idp"})

    assert await verdicts(make_authz(), tokens) == {
        "discovered": ALLOWED,
        "first": ISSUER_REFUSED,
        "second": ISSUER_REFUSED,
    }
    assert await verdicts(make_authz(issuers_allowed=(ISSUER, "urn:idp")), tokens) == {
        "discovered": ISSUER_REFUSED,
        "first": ALLOWED,
        "second": ALLOWED,
    }


# --- Audience ------------------------------------------------------------------------


async def test_CL_02_the_audience_is_checked_only_where_the_file_says_so(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = saying(idp, "aud", {"missing": ABSENT, "Keycloak's default": "account", "odd": 5})

    assert await verdicts(make_authz(), tokens) == each(tokens, ALLOWED)
    strict = make_authz(audience=("api",))
    assert await verdicts(strict, tokens) == each(tokens, AUDIENCE_REFUSED)


AUDIENCES: Final[Mapping[str, tuple[Any, bool]]] = {
    "string": ("api", True),
    "list": (["x", "api"], True),
    "second of ours": ("other", True),
    "missing": (ABSENT, False),
    "null": (None, False),
    "empty list": ([], False),
    "empty string": ("", False),
    "list with a number": (["api", 1], False),
    "list in a list": ([["api"]], False),
    "object": ({"api": 1}, False),
    "upper case": ("API", False),
    "space behind": ("api ", False),
    "prefix": ("api-admin", False),
    "number": (1, False),
    "true": (True, False),
}


async def test_CL_03_one_audience_must_be_ours_exactly(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = saying(idp, "aud", {case: value for case, (value, _) in AUDIENCES.items()})
    # A spaced string is one audience, not two: aud is no list of words.
    tokens["words"] = idp.issue(aud="x api")

    assert await verdicts(make_authz(audience=("api", "other")), tokens) == {
        **{c: ALLOWED if good else AUDIENCE_REFUSED for c, (_, good) in AUDIENCES.items()},
        "words": AUDIENCE_REFUSED,
    }


async def test_CL_03_a_required_audience_that_is_missing_is_forbidden(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = saying(idp, "aud", {case: value for case, (value, _) in AUDIENCES.items()})

    assert await verdicts(make_authz(audience_required=("api", "other")), tokens) == {
        **{c: ALLOWED if good else AUDIENCE_MISSING for c, (_, good) in AUDIENCES.items()},
        # Kong reads what is required of a claim as words, whichever claim it is.
        "space behind": ALLOWED,
    }


async def test_CL_03_all_words_of_one_required_audience_are_needed(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = saying(idp, "aud", {"one": ["api"], "both": ["b", "api", "a"], "other": "other"})

    assert await verdicts(make_authz(audience_required=("api a", "other")), tokens) == {
        "one": AUDIENCE_MISSING,
        "both": ALLOWED,
        "other": ALLOWED,
    }


async def test_A16_the_audience_is_looked_for_in_the_claim_that_the_file_names(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(audience=("api",), audience_claim=("resource", "for"))
    tokens = {
        "there": idp.issue(resource={"for": ["x", "api"]}),
        "in aud alone": idp.issue(aud="api"),
        "in both": idp.issue(aud="other", resource={"for": "api"}),
        "no string": idp.issue(aud="api", resource={"for": {"api": 1}}),
    }

    assert await verdicts(authz, tokens) == {
        "there": ALLOWED,
        "in aud alone": AUDIENCE_REFUSED,
        "in both": ALLOWED,
        "no string": AUDIENCE_REFUSED,
    }


async def test_A15_cognitos_other_tokens_are_no_access_tokens(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = saying(idp, "token_use", {"id": "id", "refresh": "refresh", "access": "access"})

    assert await verdicts(make_authz(), tokens) == {
        "id": "401 token_unsupported",
        "refresh": "401 token_unsupported",
        "access": ALLOWED,
    }


# --- Times ---------------------------------------------------------------------------

NO_TIMES: Final[Mapping[str, Any]] = {
    "true": True,
    "digits": "1795288676",
    "digits with spaces": " 1 ",
    "digits with underscores": "9_999",
    "Arabic-Indic digits": "٩٩",
    "date": "2030-01-01T00:00:00Z",
    "list": [1_795_288_676],
    "object": {},
    "over 2^53": 2**53 + 2,
    "1e18": 10**18,
    "10^400": 10**400,
    "under -2^53": -(2**53) - 2,
}


@pytest.mark.parametrize("claim", ["exp", "nbf", "iat"])
async def test_CL_04_CL_06_CL_07_a_time_is_a_json_number_of_sane_size(
    idp: RunningIdp, make_authz: MakeAuthz, claim: str
) -> None:
    tokens = saying(idp, claim, NO_TIMES)
    authz = make_authz()

    assert await verdicts(authz, tokens) == each(tokens, CLAIM_INVALID)
    # An exp that is null is none at all; the others may be left out, and null leaves them out.
    null = await verdicts(authz, saying(idp, claim, {"null": None}))
    assert null == {"null": CLAIM_INVALID if claim == "exp" else ALLOWED}
    beyond = literally(idp, claim, {"1e400": "1e400", "NaN": "NaN", "Infinity": "Infinity"})
    assert await verdicts(authz, beyond) == each(beyond, "401 token_malformed")


async def test_CL_04_a_token_without_an_end_is_refused(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {"exp missing": idp.issue(exp=ABSENT)}

    assert await verdicts(make_authz(), tokens) == each(tokens, CLAIM_INVALID)


async def test_CL_05_a_token_ends_at_exp_plus_leeway(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float
) -> None:
    ends = {
        "now + 1": (now + 1, ALLOWED, ALLOWED),
        "now + half": (now + 0.5, ALLOWED, ALLOWED),
        "now": (now, EXPIRED, ALLOWED),
        "now - leeway + 1": (now - LEEWAY_SECONDS + 1, EXPIRED, ALLOWED),
        "now - leeway": (now - LEEWAY_SECONDS, EXPIRED, EXPIRED),
        "now - leeway - 1": (now - LEEWAY_SECONDS - 1, EXPIRED, EXPIRED),
        "1970": (0, EXPIRED, EXPIRED),
        "before": (-1, EXPIRED, EXPIRED),
    }
    tokens = saying(idp, "exp", {case: end for case, (end, _, _) in ends.items()})

    found = await verdicts(make_authz(clock=clock), tokens)
    assert found == {case: strict for case, (_, strict, _) in ends.items()}
    found = await verdicts(make_authz(clock=clock, leeway=LEEWAY_SECONDS), tokens)
    assert found == {case: lenient for case, (_, _, lenient) in ends.items()}


async def test_CL_05_the_latest_time_that_json_holds_exactly_is_a_time(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float
) -> None:
    authz = make_authz(clock=clock)
    tokens = saying(idp, "exp", {"2^53": 2**53}) | literally(idp, "exp", {"9e15": "9e15"})

    assert await verdicts(authz, tokens) == each(tokens, ALLOWED)
    # A second time: now from memory, whose lifetimes had to hold it too.
    assert await verdicts(authz, tokens) == each(tokens, ALLOWED)


async def test_CL_05_an_exchanged_token_may_last_for_ever(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float
) -> None:
    idp.claims["exp"] = 2**53
    idp.members["expires_in"] = 10**400
    authz = make_authz(clock=clock)

    assert (await authz.basic()).allowed
    assert (await authz.basic()).allowed
    assert idp.counters["token"] == 1


async def test_CL_05_a_remembered_token_ends_when_it_ends(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float
) -> None:
    authz = make_authz(clock=clock)
    token = idp.issue(exp=now + 10)

    assert (await authz.bearer(token)).allowed
    clock.advance(9)
    assert (await authz.bearer(token)).allowed
    clock.advance(1)
    assert (await authz.bearer(token)).reason == "token_expired"


async def test_A4_optional_claims_that_are_null_or_empty_are_absent(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    texts, values = ("sub", "jti", "typ", "scope"), ("iat", "nbf", "cnf", "events")
    null: dict[str, Any] = {f"{n} null": {n: None} for n in (*texts, *values)}
    empty: dict[str, Any] = {f"{n} empty": {n: ""} for n in texts}
    tokens = {case: idp.issue(**claims) for case, claims in (null | empty).items()}
    authz = make_authz()

    assert await verdicts(authz, tokens) == each(tokens, ALLOWED)
    answer = await authz.bearer(idp.issue(sub=""))
    assert answer.header("x-credential-identifier") is None
    # An empty object is a value, and what a token must have is never optional.
    others = {"cnf {}": idp.issue(cnf={}), "events {}": idp.issue(events={})}
    assert await verdicts(authz, others) == each(others, "401 token_unsupported")
    needed = {"exp null": idp.issue(exp=None), "iss null": idp.issue(iss=None)}
    assert await verdicts(authz, needed) == {"exp null": CLAIM_INVALID, "iss null": ISSUER_REFUSED}
    asked = await verdicts(make_authz(audience=("api",)), {"aud null": idp.issue(aud=None)})
    assert asked == {"aud null": AUDIENCE_REFUSED}


async def test_CL_06_a_token_begins_at_nbf_less_the_leeway(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float
) -> None:
    begins = {
        "missing": (ABSENT, ALLOWED, ALLOWED),
        "1970": (0, ALLOWED, ALLOWED),
        "now": (now, ALLOWED, ALLOWED),
        "now + 1": (now + 1, NOT_YET_VALID, ALLOWED),
        "now + leeway": (now + LEEWAY_SECONDS, NOT_YET_VALID, ALLOWED),
        "now + leeway + 1": (now + LEEWAY_SECONDS + 1, NOT_YET_VALID, NOT_YET_VALID),
    }
    tokens = saying(idp, "nbf", {case: begin for case, (begin, _, _) in begins.items()})

    found = await verdicts(make_authz(clock=clock), tokens)
    assert found == {case: strict for case, (_, strict, _) in begins.items()}
    found = await verdicts(make_authz(clock=clock, leeway=LEEWAY_SECONDS), tokens)
    assert found == {case: lenient for case, (_, _, lenient) in begins.items()}


async def test_CL_07_a_token_may_be_old_and_not_from_the_future(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float
) -> None:
    issued = {
        "missing": (ABSENT, ALLOWED),
        "now": (now, ALLOWED),
        "a year ago": (now - 31_536_000, ALLOWED),
        "1970": (1, ALLOWED),
        "before": (-1, ALLOWED),
        "now + leeway": (now + LEEWAY_SECONDS, ALLOWED),
        "now + leeway + 1": (now + LEEWAY_SECONDS + 1, NOT_YET_VALID),
    }
    tokens = saying(idp, "iat", {case: at for case, (at, _) in issued.items()})

    found = await verdicts(make_authz(clock=clock, leeway=LEEWAY_SECONDS), tokens)
    assert found == {case: verdict for case, (_, verdict) in issued.items()}


@pytest.mark.parametrize(("leeway", "starts"), [(0, True), (60, True), (120, True), (3600, False)])
def test_CL_08_a_leeway_above_two_minutes_is_refused_at_start(leeway: int, *, starts: bool) -> None:
    plugin = {"name": "openid-connect", "config": {"issuer": ISSUER, "leeway": leeway}}
    file = json.dumps({"_format_version": "3.0", "plugins": [plugin]}).encode()

    def read() -> float:
        found = load(file)
        return found.plugins[0].config.token.leeway

    if starts:
        assert read() == leeway
    else:
        with pytest.raises(ConfigurationError, match=r"leeway"):
            read()


# --- Subject, scope, roles -----------------------------------------------------------------


async def test_CL_09_subject_and_token_id_are_strings(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    wrong: Mapping[str, Any] = {"number": 5, "list": ["a"], "true": True}
    tokens = {
        f"{name} {case}": idp.issue(**{name: value})
        for name in ("sub", "jti")
        for case, value in wrong.items()
    }
    authz = make_authz()

    assert await verdicts(authz, tokens) == each(tokens, CLAIM_INVALID)
    nothing = {"absent": ABSENT, "null": None, "empty": ""}
    absent = saying(idp, "sub", nothing) | {
        f"jti {case}": token for case, token in saying(idp, "jti", nothing).items()
    }
    assert await verdicts(authz, absent) == each(absent, ALLOWED)


async def test_CL_09_a_subject_that_no_header_carries_is_forbidden(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    subjects = {
        "5 kB": "s" * 5_000,
        "line break": "a\r\nx-admin: 1",
        "NUL": "a\x00",
        "lone surrogate": "a\ud800",
        "beyond ASCII": "é",
        "space behind": "a ",
    }
    tokens = saying(idp, "sub", subjects)

    assert await verdicts(make_authz(), tokens) == each(tokens, HEADER_REFUSED)


SCOPES: Final[Mapping[str, tuple[Any, bool]]] = {
    "alone": ("admin", True),
    "first": ("admin read", True),
    "last": ("read admin", True),
    "two spaces": ("read  admin", True),
    "spaces around": (" admin ", True),
    "list": (["read", "admin"], True),
    "missing": (ABSENT, False),
    "null": (None, False),
    "empty": ("", False),
    "longer word": ("administrator", False),
    "part of a word": ("sysadmin", False),
    "upper case": ("ADMIN", False),
    "TAB": ("read\tadmin", False),
    "line break": ("read\nadmin", False),
    "no-break space": ("read\u00a0admin", False),
    "comma": ("read,admin", False),
    "NUL": ("admin\x00", False),
    "list of words": (["read admin"], False),
    "list with a number": (["admin", 1], False),
    "object": ({"admin": True}, False),
    "true": (True, False),
}


async def test_CL_09_CL_10_a_scope_is_a_whole_word(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    tokens = saying(idp, "scope", {case: scope for case, (scope, _) in SCOPES.items()})

    assert await verdicts(make_authz(scopes_required=("admin",)), tokens) == {
        case: ALLOWED if good else SCOPE_MISSING for case, (_, good) in SCOPES.items()
    }


async def test_CL_10_one_alternative_is_needed_with_all_its_words(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    scopes = {"both": "write read", "one": "read", "other": "admin", "none": "openid"}
    tokens = saying(idp, "scope", scopes)

    assert await verdicts(make_authz(scopes_required=("read write", "admin")), tokens) == {
        "both": ALLOWED,
        "one": SCOPE_MISSING,
        "other": ALLOWED,
        "none": SCOPE_MISSING,
    }


async def test_CL_10_the_caller_learns_that_its_scope_is_insufficient(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz(scopes_required=("admin",)).bearer(idp.issue())

    assert (answer.status, answer.reason) == (403, "scope_missing")
    assert (
        answer.header("www-authenticate") == 'Bearer realm="127.0.0.1", error="insufficient_scope"'
    )
    assert json.loads(answer.body) == {"message": "Forbidden"}


async def test_CL_10_roles_are_found_by_their_path_and_type(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    accesses: Mapping[str, Any] = {
        "there": {"roles": ["user", "admin"]},
        "string": {"roles": "admin"},
        "null": None,
        "list": ["admin"],
        "no roles": {},
        "roles null": {"roles": None},
        "numbers": {"roles": [1]},
        "longer word": {"roles": ["administrator"]},
        "longer string": {"roles": "administrator"},
        "object": {"roles": {"admin": 1}},
        "deeper": {"roles": [["admin"]]},
    }
    tokens = saying(idp, "realm_access", accesses)
    authz = make_authz(scopes_claim=("realm_access", "roles"), scopes_required=("admin",))

    # A string of words counts as in scope itself.
    assert await verdicts(authz, tokens) == {
        **each(tokens, SCOPE_MISSING),
        "there": ALLOWED,
        "string": ALLOWED,
    }


# --- Whose token it is -------------------------------------------------------------------

STRANGERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "client_id of another": {"client_id": "other"},
    "client_id of another, azp ours": {"client_id": "other", "azp": KONG_ID},
    "azp of another": {"client_id": ABSENT, "azp": "other"},
    "client_id null, azp of another": {"client_id": None, "azp": "other"},
    "clientId of another": {"client_id": ABSENT, "azp": ABSENT, "clientId": "other"},
    "cid of another": {"client_id": ABSENT, "azp": ABSENT, "cid": "other"},
    "appid of another": {"client_id": ABSENT, "azp": ABSENT, "appid": "other"},
    "upper case": {"client_id": KONG_ID.upper()},
    "space behind": {"client_id": f"{KONG_ID} "},
    "empty": {"client_id": ""},
    "list": {"client_id": [KONG_ID]},
    "number": {"client_id": 0},
    "false": {"client_id": False},
}
# A provider whose database ignores case, or spaces at the end, has checked the secret of
# the other spelling: a guess.
SPELT_OTHERWISE: Final = ("upper case", "space behind")


async def test_CL_11_an_exchanged_token_of_another_client_is_the_providers_fault(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float
) -> None:
    authz = make_authz(clock=clock)
    found = {}
    for case, claims in STRANGERS.items():
        idp.claims = dict(claims)
        answer = await authz.basic()
        found[case] = f"{answer.status} {answer.reason}"
        clock.advance(REFUSED_SECONDS_MAX)

    assert found == each(STRANGERS, "503 identity_mismatch") | each(
        SPELT_OTHERWISE, "401 secret_rejected"
    )
    # None of them was kept: each question was an exchange.
    assert idp.counters["token"] == len(STRANGERS)
    others = len(STRANGERS) - len(SPELT_OTHERWISE)
    assert f'reason="identity_mismatch",verdict="deny"}} {others}.0' in authz.metrics()

    idp.claims = {}
    assert (await authz.basic()).allowed


async def test_CL_11_an_exchanged_token_that_names_no_client_is_the_callers(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    idp.claims = {"client_id": ABSENT, "azp": ABSENT, "name": KONG_ID}
    authz = make_authz(consumer_claims=(("name",),))

    assert (await authz.basic()).allowed
    assert logged(caplog.records).count("do not say whose they are") == 1


async def test_CL_11_the_identity_of_a_given_token_is_its_own(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    tokens = {"two clients": idp.issue(client_id=KONG_ID, azp="other")}

    assert await verdicts(make_authz(), tokens) == each(tokens, ALLOWED)


# --- Which consumer it is ------------------------------------------------------------------

OTHER_CONSUMER: Final = Consumer(
    "b1c8d5a1-6a53-5f05-a7a8-3d2a9a3a4d11", "other", "kong_id", POSITION
)
ONE_CONSUMER: Final = Consumer("c2f1e6b0-9f0e-5c38-8f55-0c4f8a1f2e22", "1", None, POSITION)
E_ACUTE_CONSUMER: Final = Consumer(
    "d3a2f7c1-8e1d-5b47-9e66-1d5f9b203f33", "caf\u00e9", None, POSITION
)

NO_CONSUMERS: Final[Mapping[str, Any]] = {
    "unknown": "nobody",
    "upper case": "KONG_ID",
    "space behind": "kong_id ",
    "space in front": " kong_id",
    "NUL behind": "kong_id\x00",
    "decomposed": "cafe\u0301",
    "full width": "\uff4bong_id",
    "Kelvin sign": "\u212aong_id",
    "dunder": "__proto__",
    "empty": "",
    "number": 1,
    "true": True,
    "list": ["kong_id"],
    "object": {"kong_id": 1},
    "id": KONG_CONSUMER.id,
}


async def test_CL_12_a_consumer_is_found_by_an_exact_string_only(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    consumers = (KONG_CONSUMER, ONE_CONSUMER, E_ACUTE_CONSUMER)
    authz = make_authz(gateway(idp, consumers=consumers))
    tokens = saying(idp, "client_id", NO_CONSUMERS)
    absent = saying(idp, "client_id", {"absent": ABSENT, "null": None})

    assert await verdicts(authz, tokens) == each(tokens, CONSUMER_UNKNOWN)
    assert await verdicts(authz, absent) == each(absent, CLAIM_MISSING)
    assert await verdicts(authz, {"string": idp.issue(client_id="1")}) == {"string": ALLOWED}


async def test_CL_12_the_first_field_of_consumer_by_that_matches_decides(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    # "kong_id" is the username of one consumer and the custom_id of another.
    consumers = (OTHER_CONSUMER, KONG_CONSUMER)
    token = idp.issue()
    for consumer_by, username in (
        (("username", "custom_id"), "kong_id"),
        (("custom_id", "username"), "other"),
    ):
        authz = make_authz(gateway(idp, consumers=consumers, consumer_by=consumer_by))
        assert (await authz.bearer(token)).header("x-consumer-username") == username


async def test_CL_12_case_is_ignored_only_in_usernames_and_only_when_asked(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    spellings = {"upper": "KONG_ID", "mixed": "Kong_Id"}
    tokens = saying(idp, "client_id", spellings)

    assert await verdicts(make_authz(by_username_ignore_case=True), tokens) == each(tokens, ALLOWED)
    by_custom_id = gateway(
        idp,
        consumers=(OTHER_CONSUMER,),
        consumer_by=("custom_id",),
        by_username_ignore_case=True,
    )
    assert await verdicts(make_authz(by_custom_id), tokens) == each(tokens, CONSUMER_UNKNOWN)


async def test_CL_12_the_first_claim_that_a_token_has_decides(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(consumer_claims=(("client_id",), ("azp",)))
    tokens = {
        "first": idp.issue(azp="nobody"),
        "second": idp.issue(client_id=ABSENT),
        "second after null": idp.issue(client_id=None),
        "first unknown": idp.issue(client_id="nobody"),
        "first no string": idp.issue(client_id=5),
        "first empty": idp.issue(client_id=""),
        "neither": idp.issue(client_id=ABSENT, azp=ABSENT),
    }

    assert await verdicts(authz, tokens) == {
        "first": ALLOWED,
        "second": ALLOWED,
        "second after null": ALLOWED,
        "first unknown": CONSUMER_UNKNOWN,
        "first no string": CONSUMER_UNKNOWN,
        "first empty": CONSUMER_UNKNOWN,
        "neither": CLAIM_MISSING,
    }


async def test_CL_12_an_optional_consumer_that_is_not_found_is_not_announced(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    answer = await make_authz(consumer_optional=True).bearer(idp.issue("other_id"))

    assert answer.allowed
    assert answer.header("x-consumer-username") is None
    assert {"x-consumer-id", "x-consumer-username", "x-consumer-custom-id"} <= answer.removed


async def test_CL_13_a_dot_in_a_path_is_part_of_a_name(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(consumer_claims=(("resource_access", "my.client", "name"),))
    one_name: dict[str, Any] = {"resource_access.my.client.name": KONG_ID}
    tokens = {
        "there": idp.issue(resource_access={"my.client": {"name": KONG_ID}}),
        "dot taken apart": idp.issue(resource_access={"my": {"client": {"name": KONG_ID}}}),
        "one name": idp.issue(**one_name),
        "last missing": idp.issue(resource_access={"my.client": {}}),
        "middle missing": idp.issue(resource_access={}),
        "middle null": idp.issue(resource_access={"my.client": None}),
        "middle no object": idp.issue(resource_access={"my.client": KONG_ID}),
        "first missing": idp.issue(resource_access=ABSENT),
        "first a list": idp.issue(resource_access=[{"my.client": {"name": KONG_ID}}]),
    }

    assert await verdicts(authz, tokens) == {**each(tokens, CLAIM_MISSING), "there": ALLOWED}


async def test_CL_13_an_item_of_an_array_is_named_by_its_position(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    names = saying(idp, "names", {"ours second": ["x", KONG_ID], "ours first": [KONG_ID]})

    assert await verdicts(make_authz(consumer_claims=(("names", "2"),)), names) == {
        "ours second": ALLOWED,
        "ours first": CLAIM_MISSING,
    }


def user_token(idp: RunningIdp, **claims: Any) -> str:
    """A person's token by way of a client: Keycloak puts the client into azp only."""
    return idp.issue(client_id=ABSENT, **claims)


async def test_CL_14_a_user_with_a_service_accounts_name_is_not_the_client(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    token = user_token(idp, azp="web", preferred_username=f"service-account-{KONG_ID}")

    assert await verdicts(make_authz(), {"user": token}) == {"user": CLAIM_MISSING}


async def test_CL_15_a_users_token_is_the_clients_only_if_the_file_maps_azp(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    token = {"user": user_token(idp, preferred_username="alice", sub="alice")}

    assert await verdicts(make_authz(), token) == {"user": CLAIM_MISSING}
    by_azp = make_authz(consumer_claims=(("azp",),))
    assert await verdicts(by_azp, token) == {"user": ALLOWED}


async def test_CL_16_a_consumer_that_is_gone_is_refused_at_once(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    token = idp.issue()
    assert (await authz.bearer(token)).allowed
    assert (await authz.basic()).allowed

    authz.reload(gateway(idp, consumers=()))

    assert (await authz.bearer(token)).reason == "consumer_unknown"
    answer = await authz.basic()
    assert (answer.status, answer.reason) == (403, "consumer_unknown")
    assert idp.counters["token"] == 1


# --- What claims are not for ------------------------------------------------------------------


async def test_CL_17_a_thousand_other_claims_are_read_past(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    many: dict[str, Any] = {f"{number:03x}": 1 for number in range(1_000)}
    token = idp.issue(**many, note="canary-of-a-claim")
    assert len(token) < jwt.TOKEN_BYTES_MAX
    authz = make_authz(settings={"log_decisions": "all"})

    answer = await authz.bearer(token)
    assert answer.allowed
    assert (await authz.bearer(token)).wire == answer.wire
    told = logged(caplog.records) + authz.metrics() + json.dumps(dict(answer.metadata))
    assert "canary-of-a-claim" not in told
    assert set(answer.headers) == {
        "authorization",
        "x-consumer-id",
        "x-consumer-username",
        "x-credential-identifier",
    }


async def test_CL_18_where_the_token_was_fetched_from_says_nothing_about_the_caller(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    # Keycloak puts the address of whoever asked into the token: that is us.
    idp.claims = {"clientAddress": "192.0.2.7", "clientHost": "192.0.2.7"}
    answer = await make_authz(consumer_claims=()).basic()

    assert answer.allowed
    others = {name: v for name, v in answer.headers.items() if name != "authorization"}
    assert "192.0.2.7" not in json.dumps(others)
    assert "x-consumer-username" in answer.removed


# --- Whatever the claims ----------------------------------------------------------------------

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KNOWN_NAMES = st.sampled_from(
    ("iss", "exp", "nbf", "iat", "aud", "sub", "jti", "typ", "cnf", "client_id", "azp")
)


@given(st.dictionaries(KNOWN_NAMES | st.text(), JSON_VALUES))
@example({"iss": ISSUER, "exp": 2, "typ": ["ID"]})
@example({"iss": ISSUER, "exp": 2, "aud": [[]]})
@example({"iss": ISSUER, "exp": float("nan")})
@example({"iss": ISSUER, "exp": -(10**400)})
def test_CL_05_whatever_the_claims_there_is_a_verdict(found: dict[str, Any]) -> None:
    claims = Claims(found)
    rules = jwt.ClaimRules(audience=frozenset(("api",)), leeway_s=1)
    accepted = Issuers([Issuer(ISSUER, ())])
    client_of(claims)
    for check in (rules, replace(rules, audience=frozenset())):
        try:
            check.check(claims, 1.0)
        except Unauthenticated:
            continue
        # What passes has an end.
        assert claims["exp"] > 0
    if accepted.find(claims.get("iss")) is not None:
        assert claims["iss"].rstrip("/") == ISSUER
    else:
        assert accepted.refusal(claims, trusted=True).detail.isascii()


@pytest.mark.parametrize("claim", ["iat", "nbf"])
async def test_CL_07_a_clock_that_is_a_fraction_of_a_second_ahead_is_no_future(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float, claim: str
) -> None:
    clock.set_wall(now + 0.6)
    tokens = saying(idp, claim, {"the second that we are in": now + 1, "the one after": now + 2})

    assert await verdicts(make_authz(clock=clock), tokens) == {
        "the second that we are in": ALLOWED,
        "the one after": NOT_YET_VALID,
    }


# --- What a refusal says ------------------------------------------------------------------------

FORGED: Final = "forged-by-the-caller"


async def detail(authz: RunningAuthz, token: str) -> str:
    """What a caller with this token is told, where the file lets it be told."""
    answer = await authz.bearer(token)
    assert not answer.allowed
    message: str = json.loads(answer.body)["message"]
    return message.partition(" (")[2].removesuffix(")")


async def test_C5_a_refusal_of_verified_claims_says_what_was_found_and_wanted(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(display_errors=True, audience=("api",))
    wanted = 'wanted one of ["api"] (the file\'s audience)'

    assert await detail(authz, idp.issue(aud="ot\ner")) == f'token: aud is "ot\\ner", {wanted}'
    assert await detail(authz, idp.issue(aud=ABSENT)) == f"token: aud is null, {wanted}"
    long = await detail(authz, idp.issue(aud=["x" * 500]))
    assert long == f'token: aud is ["{"x" * 95}..., {wanted}'
    assert (await detail(authz, idp.issue(aud="api", exp="soon"))) == (
        'token: exp is "soon", wanted a number of seconds since 1970'
    )
    assert 'claim typ is "ID"' in await detail(authz, idp.issue(aud="api", typ="ID"))
    assert 'token_use is "id"' in await detail(authz, idp.issue(aud="api", token_use="id"))


async def test_C5_of_a_callers_unverified_token_only_names_and_kinds_are_told(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(display_errors=True)
    authz.canaries.add(FORGED)
    issuer = json.dumps(idp.issuer)
    told = {
        "iss": await detail(authz, idp.issue(iss=FORGED)),
        "no iss": await detail(authz, idp.issue(iss=ABSENT)),
        "iss a list": await detail(authz, idp.issue(iss=[FORGED])),
        "alg": await detail(authz, idp.issue(header={"alg": FORGED})),
        "typ": await detail(authz, idp.issue(header={"typ": FORGED})),
        "kid": await detail(authz, idp.issue(header={"kid": FORGED})),
    }
    see = "see issuer and issuers_allowed"

    assert FORGED not in json.dumps(told)
    assert told["iss"] == f"token: iss is another string, wanted {issuer}; {see}"
    assert told["no iss"] == f"token: iss is absent, wanted {issuer}; {see}"
    assert told["iss a list"] == f"token: iss is an array, wanted {issuer}; {see}"
    assert told["alg"].startswith("token: alg is another string, wanted one of ES256, ")
    assert told["typ"] == "token: the header's typ is another string, wanted JWT or at+jwt"
    assert told["kid"].startswith(
        "token: no key of the issuer fits: kid is another string, alg RS256; its keys have the"
        f' kids ["{idp.keys[0].kid}"] and were fetched '
    )


async def test_C5_of_a_token_of_our_own_exchange_the_values_are_told(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    idp.claims["iss"] = "https://other.test"
    answer = await make_authz().basic()

    assert (answer.status, answer.reason) == (503, "exchanged_token_invalid")
    found = f'iss is "https://other.test", wanted {json.dumps(idp.issuer)}'
    assert found in logged(caplog.records)


async def test_C5_opaque_encrypted_and_long_tokens_are_three_sentences_with_a_way_out(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(display_errors=True)
    with pytest.raises(Unauthenticated) as long:
        jwt.parse("x" * (jwt.TOKEN_BYTES_MAX + 1))

    assert await detail(authz, "ya29.a0AfH6SMB") == (
        "token: opaque (2 segments; a signed JWT has three), so only its issuer can read it;"
        " let the issuer give out JWTs, or use introspection or userinfo"
    )
    assert await detail(authz, "a.b.c.d.e") == (
        "token: encrypted (five segments, a JWE), and authz has no key to open it; let the"
        " issuer sign access tokens without encrypting them, or use introspection or userinfo"
    )
    assert long.value.detail == (
        "token: too long: over 16384 characters; let the issuer put fewer claims into it"
    )


async def test_C12_a_clock_that_is_off_is_told_by_how_much(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float
) -> None:
    authz = make_authz(clock=clock, display_errors=True, leeway=LEEWAY_SECONDS)
    ahead = "in the future (allowed: 60 s); compare the issuer's clock with this one"

    assert await detail(authz, idp.issue(iat=now + 600)) == f"token: iat is 600 s {ahead}"
    assert await detail(authz, idp.issue(nbf=now + 3_600)) == f"token: nbf is 3,600 s {ahead}"
    assert await detail(authz, idp.issue(exp=now - 600)) == (
        "token: exp was 600 s ago (leeway 60 s); fetch a new token, or compare the clocks"
    )


# --- A provider whose clock is ahead -----------------------------------------------------------


@pytest.mark.parametrize("claim", ["iat", "nbf"])
async def test_H14_an_exchanged_token_from_a_clock_that_is_ahead_is_reported_and_passes(
    idp: RunningIdp,
    make_authz: MakeAuthz,
    clock: Clock,
    now: float,
    caplog: pytest.LogCaptureFixture,
    claim: str,
) -> None:
    authz = make_authz(clock=clock, cache_tokens=False)
    idp.claims[claim] = now + 60

    for _ in range(3):
        assert (await authz.basic()).allowed
    ahead = f'authz_idp_clock_ahead_seconds{{issuer="{idp.issuer}"}}'
    assert f"{ahead} 60.0" in authz.metrics()
    assert logged(caplog.records).count("the provider's clock is ahead of this one") == 1

    idp.claims[claim] = now
    assert (await authz.basic()).allowed
    assert f"{ahead} 0.0" in authz.metrics()
    idp.claims[claim] = now + 61
    answer = await authz.basic()
    assert (answer.status, answer.reason) == (503, "exchanged_token_invalid")


async def test_H14_a_callers_own_token_has_the_leeway_alone(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, now: float
) -> None:
    tokens = saying(idp, "iat", {"ahead": now + 2})

    assert await verdicts(make_authz(clock=clock), tokens) == {"ahead": NOT_YET_VALID}
    assert await verdicts(make_authz(clock=clock, leeway=2), tokens) == {"ahead": ALLOWED}
