"""Secrets and tokens stay where they belong: not in logs, metrics, answers or reprs."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import pickle
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from support.configuration import load
from support.idp import key
from support.running import KONG_ID, POSITION, RunningAuthz, check_request, gateway, read

from authz import logs
from authz.authorizer import Authorizer
from authz.clock import SystemClock
from authz.credentials import basic
from authz.deadline_hint import DeadlineHint
from authz.decision import Allow
from authz.demo.script import Answer as Scripted
from authz.errors import ConfigurationError
from authz.fast_path import CachedAnswers, FastPath
from authz.model import (
    AccessToken,
    BearerCredential,
    CredentialLocation,
    Gateway,
    OpenIDConnect,
    PairCredential,
    Plugin,
    Request,
    Secret,
    Slot,
)
from authz.pipeline import Pipeline, Trace
from authz.settings import Settings
from authz.telemetry import Telemetry
from authz.tokens.digest import Digester

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.idp import RunningIdp
    from support.running import Answer, MakeAuthz


CANARY = "canary-5f1d0c3a"
HOSTILE = 'a\nERROR fake=1 \x1b[31m"' + "x" * 4_000


@contextmanager
def lines() -> Iterator[Callable[[], list[dict[str, Any]]]]:
    """Log as the server does, and read back each line as the JSON that it must be."""
    stream = io.StringIO()
    log = logs.setup("debug", "json", stream)

    def written() -> list[dict[str, Any]]:
        log.close()  # writes what is queued
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    try:
        yield written
    finally:
        log.close()


# --- Logs ------------------------------------------------------------------------------


async def test_LG_01_all_that_happens_at_debug_is_told_without_a_secret(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(display_errors=True, settings={"log_decisions": "all"})
    stranger = idp.issue("stranger")

    # The fixture compares logs, metrics, bodies and metadata with all that was presented.
    await authz.basic()
    await authz.basic(client_secret=CANARY)
    await authz.bearer(idp.issue())
    await authz.bearer(stranger)
    await authz.bearer(stranger[:-8] + CANARY[:8])
    await authz.basic(client_secret=f"{CANARY}\n")
    idp.stop()
    await authz.basic("new", CANARY)

    statuses = [answer.status for answer in authz.answers]
    assert statuses == [200, 401, 200, 403, 401, 401, 503]


async def test_LG_01_the_fixture_finds_what_was_told(make_authz: MakeAuthz) -> None:
    authz = make_authz()
    await authz.basic(client_secret=CANARY)

    authz.check_nothing_leaked("all is well")
    encoded = base64.b64encode(CANARY.encode()).decode()
    for told in (CANARY, encoded):
        with pytest.raises(AssertionError):
            authz.check_nothing_leaked(f"authorization was {told}")


class Exploding(Pipeline):
    """A fault of ours that quotes what the caller sent."""

    def __init__(self) -> None:
        """No router, no policies: nothing is ever reached."""

    async def decide(self, trace: Trace) -> Allow:
        secret = trace.request.headers["authorization"]
        raise KeyError(secret)


async def test_LG_01_a_fault_of_ours_is_told_by_type_and_place_and_never_by_its_text() -> None:
    service = Authorizer(
        Exploding(),
        fast_path=FastPath(
            {}, CachedAnswers(entries_max=1, bytes_max=1), Digester(), SystemClock()
        ),
        clock=SystemClock(),
        telemetry=Telemetry(),
        hint=DeadlineHint(0),
    )
    with lines() as written:
        wire = await service.check(check_request({"authorization": CANARY}), None)
        log = written()

    answer = read(wire)
    assert (answer.status, answer.reason) == (503, "internal_error")
    assert answer.body == '{"message":"Service unavailable"}'
    error, denied = log
    assert error["type"] == "KeyError"
    assert error["frames"][-1].endswith(" decide")
    assert denied["reason"] == "internal_error"
    assert CANARY not in json.dumps(log) + repr(wire)


async def test_LG_04_what_the_caller_names_is_no_line_of_the_log(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    with lines() as written:
        await authz.ask({"authorization": basic(HOSTILE, "x"), "x-request-id": HOSTILE})
        await authz.ask(
            {"authorization": basic("a\u2028ERROR", "x"), "x-request-id": "a\x1b[31m"},
            path=f"/{HOSTILE}",
            host=HOSTILE,
            method=HOSTILE,
        )
        log = written()

    denied = [line for line in log if line["message"] == "denied"]
    assert [line["reason"] for line in denied] == ["credential_malformed", "secret_rejected"]
    assert denied[0]["request_id"].startswith("a\nERROR fake=1")  # escaped: it is one line
    assert len(denied[0]["request_id"]) <= 128
    theirs = ("request_id", "request", "presented_client")  # escaped, in fields of their own
    assert all(len(line.get(name, "")) <= 128 for line in denied for name in theirs)
    others = [{**line, **dict.fromkeys(theirs, "")} for line in log]
    assert "ERROR" not in json.dumps(others)


async def test_LG_09_a_name_is_logged_only_once_it_is_verified(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(
        gateway(idp, scopes_required=("admin", "openid")), settings={"log_decisions": "all"}
    )
    strict = make_authz(gateway(idp, scopes_required=("admin",)))
    with lines() as written:
        await authz.basic()
        await authz.basic()
        await authz.basic(client_secret="wrong")
        await authz.bearer(idp.issue(key=key(number=1)))
        await strict.basic()
        log = [line for line in written() if line["logger"] == "authz.decision"]

    assert [(line["message"], line["consumer"]) for line in log] == [
        ("allowed", KONG_ID),
        ("allowed", KONG_ID),
        ("denied", None),
        ("denied", None),
        ("denied", KONG_ID),
    ]


async def test_LG_09_a_tokens_id_is_not_logged(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    authz = make_authz(settings={"log_decisions": "all"})
    with lines() as written:
        await authz.bearer(idp.issue(jti=CANARY))
        await authz.bearer(idp.issue(jti=CANARY, exp=1))
        log = json.dumps(written())

    assert "token_expired" in log
    assert CANARY not in log


# --- Metrics ---------------------------------------------------------------------------


def series(authz: RunningAuthz) -> set[str]:
    """Names and labels of all that is measured, without values."""
    samples = (line for line in authz.metrics().splitlines() if not line.startswith("#"))
    return {sample.rpartition(" ")[0] for sample in samples}


async def test_LG_05_no_caller_adds_a_series(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    authz = make_authz()

    async def ask(new: str) -> None:
        await authz.basic(new, f"{new}\n")
        await authz.bearer(idp.issue(header={"kid": new}))
        await authz.bearer(idp.issue(client_id=new))
        await authz.ask(
            {"x-request-id": new, "user-agent": new},
            path=f"/{new}",
            method=new,
            host=new,
            context={"route": new},
        )

    await authz.basic()
    await authz.basic("stranger", CANARY)
    await ask("first-of-all")
    before = series(authz)
    for number in range(250):
        await ask(f"new-{number}")

    assert series(authz) == before


async def test_LG_05_labels_come_from_closed_sets(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    authz = make_authz()
    await authz.basic()
    await authz.basic("stranger", CANARY)

    labels = {label for line in series(authz) for label in re.findall(r'(\w+)="', line)}
    assert labels == {
        "cache",
        "differs",
        "endpoint",
        "event",
        "issuer",
        "kind",
        "le",
        "outcome",
        "plugin",
        "reason",
        "route",
        "use",
        "verdict",
        "version",
    }
    assert set(re.findall(r'issuer="([^"]*)"', authz.metrics())) == {idp.issuer}


# --- Values ----------------------------------------------------------------------------

SECRET = Secret(CANARY)
AUTHORIZED = CredentialLocation.HEADER, ("authorization",)
PAIR = PairCredential("id", SECRET, Slot(PairCredential, *AUTHORIZED))
TOKEN = BearerCredential(SECRET, Slot(BearerCredential, *AUTHORIZED))
CONFIG = OpenIDConnect.of(
    issuer="https://idp.test", client_secret=(SECRET,), cache_tokens_salt=Secret(CANARY)
)
REQUEST = Request(
    path=f"/?client_secret={CANARY}",
    headers={"authorization": f"Bearer {CANARY}"},
    body=CANARY.encode(),
)


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(SECRET, id="a secret"),
        pytest.param(PAIR, id="a pair"),
        pytest.param(TOKEN, id="a token"),
        pytest.param(AccessToken(SECRET, expires_in=1.0), id="an access token"),
        pytest.param(CONFIG, id="a plugin's parameters"),
        pytest.param(Gateway(plugins=(Plugin(POSITION, CONFIG),)), id="a gateway"),
        pytest.param(REQUEST, id="a request"),
        pytest.param(Trace(REQUEST, presented=TOKEN), id="a trace"),
        pytest.param(Allow(headers={"authorization": f"Bearer {CANARY}"}), id="an allow"),
        pytest.param(Settings(), id="the settings"),
    ],
)
def test_LG_06_nothing_that_holds_a_secret_prints_it(value: object) -> None:
    assert CANARY not in f"{value} {value!r} {[value]}"


def test_LG_06_a_secret_is_neither_copied_out_nor_serialised() -> None:
    with pytest.raises(TypeError, match="not serialised"):
        pickle.dumps(PAIR)
    with pytest.raises(TypeError, match="not serialised"):
        dataclasses.asdict(PAIR)


PLUGIN = """\
_format_version: "3.0"
plugins:
- name: openid-connect
  config:
    issuer: https://idp.test/realms/kong
"""


def problems(text: str) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load(text)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("config", "parameter"),
    [
        pytest.param(f"client_secret: {{a: {CANARY}}}", "client_secret", id="a mapping"),
        pytest.param(f"client_secret: [[{CANARY}]]", "client_secret", id="a list in a list"),
        pytest.param(f"cache_tokens_salt: [{CANARY}]", "cache_tokens_salt", id="a list"),
        pytest.param(f'cache_tokens_salt: "{CANARY}\\n"', "cache_tokens_salt", id="a line break"),
        pytest.param(f"client_secrets: [{CANARY}]", "client_secrets", id="an unknown key"),
        pytest.param(f'client_secret: ["{CANARY}', "file", id="no YAML"),
    ],
)
def test_LG_06_a_configuration_error_names_the_parameter_and_not_its_value(
    config: str, parameter: str
) -> None:
    found = problems(f"{PLUGIN}    {config}\n")

    assert any(f" {parameter}: " in problem for problem in found)
    assert CANARY not in "".join(found)


@pytest.mark.parametrize("name", ["issuer", "token_endpoint", "jwks_endpoint", "extra_jwks_uris"])
def test_LG_03_a_providers_url_with_a_password_is_refused_without_printing_it(name: str) -> None:
    url = f"https://user:{CANARY}@idp.test/realms/kong"
    value = f"[{url}]" if name == "extra_jwks_uris" else url
    file = PLUGIN if name != "issuer" else PLUGIN.rpartition("    issuer")[0]

    (found,) = (line for line in problems(f"{file}    {name}: {value}\n") if f" {name}: " in line)

    assert "must not hold a user name or a password" in found
    assert CANARY not in found


# --- Answers ---------------------------------------------------------------------------


async def test_LG_08_a_refused_caller_cannot_tell_why(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    disabled = b'{"error":"invalid_client","error_description":"Client disabled"}'
    good = idp.issue()

    async def scripted() -> Answer:
        idp.token_answers.append(Scripted(401, disabled))
        return await authz.basic("disabled", CANARY)

    answers = {
        "wrong secret": await authz.basic(client_secret=CANARY),
        "wrong secret, remembered": await authz.basic(client_secret=CANARY),
        "unknown client": await authz.basic("stranger", CANARY),
        "disabled client": await scripted(),
        "no pair": await authz.basic("", CANARY),
        "expired": await authz.bearer(idp.issue(exp=1)),
        "another key": await authz.bearer(idp.issue(key=key(number=1))),
        "another signature": await authz.bearer(good.rpartition(".")[0] + ".AAAA"),
        "another issuer": await authz.bearer(idp.issue(iss="https://elsewhere.test")),
        "no token": await authz.bearer("no-token"),
    }

    seen = {(a.status, a.body, json.dumps(a.headers)) for a in answers.values()}
    assert len(seen) == 1
    assert {(status, body) for status, body, _ in seen} == {(401, '{"message":"Unauthorized"}')}
    assert len({answer.reason for answer in answers.values()}) >= 6  # the operator can tell
