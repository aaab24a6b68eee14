"""The caller brings a user's name and password; Kong's ``password``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote_plus

import pytest
from support.methods import Subject
from support.running import KONG_ID, KONG_SECRET, POSITION, logged
from support.scenes import JSON, OTHER_ID, OTHER_SECRET, claims, says, verdict

from authz.credentials import basic
from authz.demo.idp import USERS
from authz.model import Consumer
from authz.secret import Secret
from authz.tokens.guesses import GUESSES_MAX

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock
    from support.idp import RunningIdp
    from support.running import RunningAuthz

    MakeAuthz = Callable[..., RunningAuthz]

USER, PASSWORD = next(iter(USERS.items()))
OUR_CLIENT = {"client_id": (OTHER_ID,), "client_secret": (Secret(OTHER_SECRET),)}
BOTH = ("password", "client_credentials")

SUBJECT = Subject(
    good=lambda _idp: {"authorization": basic(USER, PASSWORD)},
    bad=lambda _idp: {"authorization": basic(USER, "another password")},
    refused="secret_rejected",
    elsewhere=lambda _idp: {"path": f"/get?username={USER}&password={quote_plus(PASSWORD)}"},
    endpoint="token",
    parameters={
        "password_param_type": ("header", "query"),
        "consumer_claims": (("azp",),),
        "client_id": (KONG_ID,),
        "client_secret": (Secret(KONG_SECRET),),
    },
)


@pytest.fixture
def ask(idp: RunningIdp, make_authz: MakeAuthz, clock: Clock) -> Callable[..., RunningAuthz]:
    """Build an authz whose plugin takes passwords; two consumers, a user and a client."""
    idp.now = clock.now
    consumers = [
        Consumer("00000000-0000-0000-0000-00000000000a", USER, None, POSITION),
        Consumer("00000000-0000-0000-0000-00000000000b", f"service-account-{KONG_ID}", None,
                 POSITION),
    ]  # fmt: skip

    def build(**parameters: Any) -> RunningAuthz:
        given = {
            "auth_methods": ("password",),
            "password_param_type": ("header",),
            "consumer_claims": (("preferred_username",),),
            **OUR_CLIENT,
            **parameters,
        }
        return make_authz(clock=clock, consumers=consumers, **given)

    return build


def token_requests(idp: RunningIdp) -> list[str]:
    return [r.form["grant_type"] for r in idp.requests if r.endpoint == "token"]


# --- Alone -----------------------------------------------------------------------------------


async def test_a_password_is_asked_about_once_in_our_own_clients_name(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask()
    first = await authz.basic(USER, PASSWORD)
    assert first.allowed
    assert first.header("x-consumer-username") == USER
    assert claims(first)["preferred_username"] == USER
    assert (await authz.basic(USER, PASSWORD)).allowed

    (request,) = [r for r in idp.requests if r.endpoint == "token"]
    assert request.form == {
        "grant_type": "password",
        "username": USER,
        "password": PASSWORD,
        "scope": "openid",
    }
    assert (request.header("authorization") or "").startswith("Basic ")
    assert PASSWORD not in request.target


@pytest.mark.parametrize("location", ["header", "query", "body", "json body"])
async def test_a_password_stands_where_the_file_says(ask: MakeAuthz, location: str) -> None:
    pair = f"username={USER}&password={quote_plus(PASSWORD)}"
    authz = ask(
        password_param_type=(location.removeprefix("json "),),
        hide_credentials="body" not in location,
    )
    authz.canaries.add(PASSWORD)
    if location == "header":
        answer = await authz.basic(USER, PASSWORD)
    elif location == "query":
        answer = await authz.ask(path=f"/oidc-route/get?{pair}&x=1")
        assert answer.removed_query == ("username", "password")
    elif location == "body":
        form = {"content-type": "application/x-www-form-urlencoded"}
        answer = await authz.ask(form, method="POST", body=pair.encode())
    else:
        body = f'{{"username":"{USER}","password":"{PASSWORD}"}}'.encode()
        answer = await authz.ask(dict([JSON]), method="POST", body=body)

    assert answer.allowed
    assert answer.header("x-consumer-username") == USER


async def test_a_wrong_password_is_401_with_a_challenge(idp: RunningIdp, ask: MakeAuthz) -> None:
    answer = await ask().basic(USER, "wrong")

    assert verdict(answer) == "401 secret_rejected"
    assert any("Basic" in challenge for challenge in answer.headers["www-authenticate"])
    assert idp.counters["token"] == 1


async def test_A5_a_password_is_guessed_at_like_a_secret(idp: RunningIdp, ask: MakeAuthz) -> None:
    authz = ask()
    answers = [await authz.basic(USER.upper() if n % 2 else USER, f"guess {n}") for n in range(22)]

    assert {verdict(answer) for answer in answers[:20]} == {"401 secret_rejected"}
    assert {verdict(answer) for answer in answers[20:]} == {"429 guessing_throttled"}
    assert idp.counters["token"] == 20


@pytest.mark.parametrize(
    ("status", "body"),
    [(401, {"error": "invalid_client"}), (400, {"error": "unauthorized_client"}), (401, b"")],
)
async def test_A5_a_refused_client_of_ours_is_503_and_no_guess(
    idp: RunningIdp, ask: MakeAuthz, caplog: pytest.LogCaptureFixture, status: int, body: Any
) -> None:
    idp.token_answers.append(says(body, status, times=25))
    authz = ask()
    for number in range(25):
        assert verdict(await authz.basic(USER, f"p{number}")) == "503 own_client_rejected"

    assert logged(caplog.records).count("own_client_rejected: callers get 503") == 1
    assert [record.levelname for record in caplog.records].count("WARNING") == 1
    assert (await authz.basic(USER, PASSWORD)).allowed


async def test_a_token_of_another_client_than_ours_is_never_handed_on(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    idp.claims["azp"] = "somebody"

    assert verdict(await ask().basic(USER, PASSWORD)) == "503 identity_mismatch"


# --- Beside client_credentials -----------------------------------------------------------------


async def test_a_pair_is_tried_as_a_user_first_and_the_second_request_asks_nobody(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(auth_methods=BOTH)
    client = await authz.basic(KONG_ID, KONG_SECRET)
    assert client.allowed
    assert client.header("x-consumer-username") == f"service-account-{KONG_ID}"
    assert token_requests(idp) == ["password", "client_credentials"]
    assert (await authz.basic(KONG_ID, KONG_SECRET)).allowed
    assert len(token_requests(idp)) == 2

    user = await authz.basic(USER, PASSWORD)
    assert user.allowed
    assert user.header("x-consumer-username") == USER
    assert (await authz.basic(USER, PASSWORD)).allowed
    assert token_requests(idp)[2:] == ["password"]


async def test_the_method_that_succeeded_goes_first_when_a_token_has_ended(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock
) -> None:
    authz = ask(auth_methods=BOTH)
    await authz.basic(KONG_ID, KONG_SECRET)
    clock.advance(301)
    assert (await authz.basic(KONG_ID, KONG_SECRET)).allowed

    assert token_requests(idp) == ["password", "client_credentials", "client_credentials"]


async def test_G12_one_pair_is_one_guess_however_many_calls_it_makes(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(auth_methods=BOTH)
    answers = [await authz.basic(KONG_ID, f"guess {n}") for n in range(22)]

    assert {verdict(answer) for answer in answers[:20]} == {"401 secret_rejected"}
    assert {verdict(answer) for answer in answers[20:]} == {"429 guessing_throttled"}
    assert token_requests(idp) == ["password", "client_credentials"] * 20


async def test_G12_a_pair_that_is_no_users_but_a_clients_was_no_guess(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(auth_methods=BOTH)
    assert (await authz.basic(KONG_ID, KONG_SECRET)).allowed

    answers = [await authz.basic(KONG_ID, f"guess {n}") for n in range(GUESSES_MAX + 1)]
    assert {verdict(answer) for answer in answers[:GUESSES_MAX]} == {"401 secret_rejected"}
    assert verdict(answers[GUESSES_MAX]) == "429 guessing_throttled"
    asked = ["password", "client_credentials"]
    assert token_requests(idp) == asked + asked * GUESSES_MAX


async def test_a_client_passes_while_our_own_client_is_refused(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    authz = ask(auth_methods=BOTH)
    idp.clients[OTHER_ID] = "changed"

    assert (await authz.basic(KONG_ID, KONG_SECRET)).allowed
    # Whether it is a user's password cannot be known now.
    assert verdict(await authz.basic(USER, PASSWORD)) == "503 own_client_rejected"


async def test_a_user_and_a_client_of_one_name_share_no_token(
    idp: RunningIdp, ask: MakeAuthz
) -> None:
    idp.users[KONG_ID] = "the users"
    authz = ask(auth_methods=BOTH)

    assert claims(await authz.basic(KONG_ID, KONG_SECRET))["client_id"] == KONG_ID
    answer = await authz.basic(KONG_ID, "the users")
    assert verdict(answer) == "403 consumer_unknown"
    assert token_requests(idp) == ["password", "client_credentials", "password"]


async def test_two_pairs_in_one_request_are_400(ask: MakeAuthz) -> None:
    authz = ask(
        auth_methods=BOTH,
        password_param_type=("query",),
        client_credentials_param_type=("header",),
    )
    answer = await authz.basic(KONG_ID, KONG_SECRET, path="/x?username=a&password=b")

    assert verdict(answer) == "400 credential_ambiguous"


async def test_a_reload_forgets_no_method_that_is_remembered(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock
) -> None:
    authz = ask(auth_methods=BOTH)
    assert (await authz.basic(KONG_ID, KONG_SECRET)).allowed
    authz.reload(ask(auth_methods=BOTH, display_errors=True).configuration.gateway)
    clock.advance(6)  # the users' side has forgotten that it refused the pair
    idp.token_answers.append(says(b"", 503, times=None))

    # The provider is out: a client with a good token is not asked for again as a user.
    assert (await authz.basic(KONG_ID, KONG_SECRET)).allowed
    assert token_requests(idp) == ["password", "client_credentials"]


async def test_a_pair_that_its_remembered_method_refuses_is_asked_about_in_kongs_order_again(
    idp: RunningIdp, ask: MakeAuthz, clock: Clock
) -> None:
    authz = ask(auth_methods=BOTH, consumer_claims=(("azp",),), consumer_optional=True)
    assert (await authz.basic(KONG_ID, KONG_SECRET)).allowed
    del idp.clients[KONG_ID]
    idp.users[KONG_ID] = KONG_SECRET
    clock.advance(3_600)
    await authz.basic(KONG_ID, KONG_SECRET)
    clock.advance(6)

    assert (await authz.basic(KONG_ID, KONG_SECRET)).allowed
    assert token_requests(idp)[-1] == "password"


async def test_a_provider_that_quotes_the_form_back_tells_no_log_a_password(
    idp: RunningIdp, ask: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    secret = 'pass&word=100% / "ü"'
    spelled = quote_plus(secret)
    said = f"bad form: username={USER}&password={spelled}"
    idp.token_answers.append(says({"error": "invalid_grant", "error_description": said}, 400))
    authz = ask()
    assert verdict(await authz.basic(USER, secret)) == "401 secret_rejected"

    assert spelled not in logged(caplog.records)
