"""What authz knows of a provider, when it asks, and how it heals."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

import pytest
from support.idp import RunningIdp, key
from support.running import logged
from support.scenes import at, landed, says, verdict
from support.scripted import answer as sends
from support.scripted import read_request
from support.tls import ca_file, server_context

from authz.demo.idp import ABSENT
from authz.demo.script import Answer
from authz.oauth import jwt
from authz.oauth.http import Response
from authz.oauth.key_source import RETRY_SECONDS
from authz.oauth.provider import Provider
from authz.parameters.provider import ProviderParameters, ReachParameters
from authz.telemetry import Telemetry
from authz.tokens.memory import BoundedCache

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.clock import Clock
    from support.running import MakeAuthz
    from support.scripted import Serve

    from authz.oauth.endpoints import Endpoint
    from authz.oauth.http import Request
    from authz.oauth.issuers import SignedToken


HOUR = 3_600.0
DAY = 24 * HOUR
NOTICE = "notice: tokens must carry the issuer"


def notices(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.getMessage().startswith(NOTICE) for record in caplog.records)


# --- Discovery -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "suffix",
    ["", "/", "/.well-known/openid-configuration"],
    ids=["issuer", "trailing slash", "document"],
)
async def test_the_issuer_may_be_written_in_three_ways(
    idp: RunningIdp, make_authz: MakeAuthz, suffix: str
) -> None:
    authz = make_authz(at(idp.issuer + suffix))

    assert (await authz.basic()).allowed
    path = "/realms/kong/.well-known/openid-configuration"
    assert [one.target for one in idp.requests if one.endpoint == "discovery"] == [path]


# An address is judged where it is used: the other endpoint is asked.
JK_15_USES = pytest.mark.parametrize(
    ("member", "expected", "asked"),
    [
        ("jwks_uri", "503 keys_unavailable", {"discovery": 1, "token": 1, "certs": 0}),
        ("token_endpoint", "503 idp_answer_invalid", {"discovery": 1, "token": 0, "certs": 1}),
    ],
)


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("file:///etc/passwd", id="file"),
        pytest.param("ftp://127.0.0.1/keys", id="ftp"),
        pytest.param("data:application/json,{}", id="data"),
        pytest.param("http://user:secret@127.0.0.1/keys", id="userinfo"),
        pytest.param("http://127.0.0.1/keys#1", id="fragment"),
        pytest.param("http:///keys", id="no host"),
        pytest.param("http://127.0.0.1:0/keys", id="port 0"),
        pytest.param("http://127.0.0.1:99999/keys", id="port 99999"),
        pytest.param("http://[::1/keys", id="half a bracket"),
        pytest.param("//127.0.0.1/keys", id="no scheme"),
    ],
)
@JK_15_USES
async def test_JK_15_an_endpoint_that_is_no_sound_url_is_not_asked(
    idp: RunningIdp,
    make_authz: MakeAuthz,
    *,
    member: str,
    url: str,
    expected: str,
    asked: dict[str, int],
) -> None:
    idp.metadata[member] = url

    assert verdict(await make_authz().basic()) == expected
    assert dict(idp.counters) == asked


@pytest.mark.parametrize(
    "url",
    [
        pytest.param("http://127.0.0.1/\x00", id="NUL"),
        pytest.param("http://127.0.0.1/" + "x" * 70_000, id="70 kB"),
    ],
)
@JK_15_USES
async def test_JK_15_a_url_that_http_cannot_carry_is_not_asked(
    idp: RunningIdp,
    make_authz: MakeAuthz,
    *,
    member: str,
    url: str,
    expected: str,
    asked: dict[str, int],
) -> None:
    idp.metadata[member] = url

    assert verdict(await make_authz().basic()) == expected
    assert dict(idp.counters) == asked


@pytest.mark.parametrize(
    ("member", "reason"),
    [("jwks_uri", "keys_unavailable"), ("token_endpoint", "idp_answer_invalid")],
)
async def test_JK_15_an_issuer_on_https_names_no_endpoint_on_http(
    idp: RunningIdp, make_authz: MakeAuthz, tmp_path: Path, member: str, reason: str
) -> None:
    with RunningIdp(tls=server_context()) as secured:
        secured.metadata[member] = getattr(idp, member)
        settings = {"idp_ca_file": str(ca_file(tmp_path))}
        authz = make_authz(at(secured.issuer), settings=settings)

        assert verdict(await authz.basic()) == f"503 {reason}"
        assert dict(idp.counters) == {"token": 0, "discovery": 0, "certs": 0}


async def test_JK_16_the_discovered_issuer_is_what_tokens_must_carry(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    address = idp.issuer
    idp.metadata = {"token_endpoint": idp.token_endpoint, "jwks_uri": idp.jwks_uri}
    idp.issuer = "https://id.test/realms/kong"
    authz = make_authz(at(address))

    assert (await authz.basic()).allowed
    assert (await authz.bearer(idp.issue())).allowed
    assert verdict(await authz.bearer(idp.issue(iss=address))) == "401 token_issuer_refused"
    assert notices(caplog) == 1


async def test_JK_16_an_issuer_as_configured_is_not_worth_a_notice(
    idp: RunningIdp, make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    assert (await make_authz().basic()).allowed
    assert notices(caplog) == 0


async def test_JK_16_the_notice_comes_once(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    idp.now = clock.now
    idp.metadata["issuer"] = f"{idp.issuer}/other"
    authz = make_authz(clock=clock)
    await authz.bearer(idp.issue())
    clock.advance(HOUR)
    await authz.bearer(idp.issue(iss=f"{idp.issuer}/other"))
    await landed(authz)

    assert idp.counters["discovery"] == 2
    assert notices(caplog) == 1


async def test_JK_16_an_issuer_that_discovery_names_no_more_vouches_for_nothing(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now, idp.token_lifetime_s = clock.now, int(DAY)
    authz = make_authz(clock=clock)
    token = idp.issue()
    assert (await authz.bearer(token)).allowed
    idp.metadata["issuer"] = f"{idp.issuer}/other"
    clock.advance(HOUR)
    await landed(authz)

    assert verdict(await authz.bearer(token)) == "401 token_issuer_refused"
    assert (await authz.bearer(idp.issue(iss=f"{idp.issuer}/other"))).allowed


@pytest.mark.parametrize(
    "scripted",
    [
        pytest.param(says({"jwks_uri": "http://127.0.0.1/keys"}), id="no issuer"),
        pytest.param(says({"issuer": 7}), id="issuer a number"),
        pytest.param(says({"issuer": ""}), id="issuer empty"),
        pytest.param(says([]), id="array"),
        pytest.param(says(b"<html>"), id="HTML"),
        pytest.param(says(b'{"issuer":"a","issuer":"b"}'), id="name twice"),
        pytest.param(says(b" " * 300_000), id="300 kB"),
        pytest.param(says({"error": "Realm does not exist"}, 404), id="404"),
    ],
)
async def test_JK_16_a_document_that_cannot_be_used_leaves_the_house_not_ready(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Any
) -> None:
    idp.discovery_answers.append(scripted)
    authz = make_authz()

    assert verdict(await authz.basic()) == "503 idp_answer_invalid"
    assert not authz.configuration.ready
    assert (idp.counters["token"], idp.counters["certs"]) == (0, 0)


async def test_JK_16_discovery_follows_no_redirect(
    idp: RunningIdp, make_authz: MakeAuthz, scripted: Serve
) -> None:
    elsewhere = scripted([read_request, sends(b"{}")])
    idp.discovery_answers.append(says(b"", 302, ("location", elsewhere.url)))

    assert verdict(await make_authz().basic()) == "503 idp_answer_invalid"
    assert elsewhere.connections == []


@pytest.mark.parametrize(
    ("missing", "basic", "bearer"),
    [
        pytest.param("token_endpoint", "503 idp_answer_invalid", "200 allowed", id="token"),
        pytest.param("jwks_uri", "503 keys_unavailable", "503 keys_unavailable", id="keys"),
    ],
)
async def test_JK_16_a_missing_endpoint_stops_only_who_needs_it(
    idp: RunningIdp, make_authz: MakeAuthz, missing: str, basic: str, bearer: str
) -> None:
    idp.metadata[missing] = ABSENT
    authz = make_authz()

    assert verdict(await authz.bearer(idp.issue())) == bearer
    assert verdict(await authz.basic()) == basic


async def test_metadata_without_keys_are_said_once(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    idp.now, idp.metadata["jwks_uri"] = clock.now, ABSENT
    authz = make_authz(clock=clock)
    for _ in range(3):
        assert verdict(await authz.bearer(idp.issue())) == "503 keys_unavailable"
        clock.advance(RETRY_SECONDS)

    said = [r for r in caplog.records if r.levelname == "WARNING"]
    assert len(said) == 1
    assert "no jwks_uri" in logged(said)


NO_DISCOVERY = [
    pytest.param(says(b"", 500, times=None), id="500"),
    pytest.param(says(b"<html>", times=None), id="HTML"),
    pytest.param(says(b"", 404, times=None), id="404"),
]


@pytest.mark.parametrize("failing", NO_DISCOVERY)
async def test_keys_that_the_file_names_are_fetched_though_discovery_fails(
    idp: RunningIdp, make_authz: MakeAuthz, failing: Any
) -> None:
    idp.discovery_answers.append(failing)
    authz = make_authz(jwks_endpoint=idp.jwks_uri, issuers_allowed=(idp.issuer,))

    assert (await authz.bearer(idp.issue())).allowed
    assert authz.configuration.ready
    [status] = authz.configuration.status()
    assert "last call failed: discovery at" in status.detail


async def test_keys_without_an_issuer_do_not_make_ready(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.discovery_answers.append(says(b"<html>", times=None))
    authz = make_authz(jwks_endpoint=idp.jwks_uri)

    assert verdict(await authz.bearer(idp.issue())) == "503 idp_answer_invalid"
    assert not authz.configuration.ready


@pytest.mark.parametrize("failing", NO_DISCOVERY)
async def test_keys_are_renewed_where_they_were_though_discovery_fails(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock, failing: Any
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    assert (await authz.bearer(idp.issue())).allowed
    idp.discovery_answers.append(failing)
    idp.rotate(retire=True)
    clock.advance(HOUR)
    await landed(authz)

    assert (await authz.bearer(idp.issue())).allowed
    # Discovery is tried again as after any failure.
    before = idp.counters["discovery"]
    clock.advance(RETRY_SECONDS)
    await landed(authz)
    assert idp.counters["discovery"] == before + 1


async def test_configured_endpoints_stand_before_discovered_ones(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.metadata = {
        "token_endpoint": "http://127.0.0.1:1/token",
        "jwks_uri": "http://127.0.0.1:1/certs",
    }
    authz = make_authz(token_endpoint=idp.token_endpoint, jwks_endpoint=idp.jwks_uri)

    assert (await authz.basic()).allowed
    assert dict(idp.counters) == {"token": 1, "discovery": 1, "certs": 1}


async def test_a_pseudo_issuer_is_never_discovered(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    authz = make_authz(
        using_pseudo_issuer=True,
        token_endpoint=idp.token_endpoint,
        jwks_endpoint=idp.jwks_uri,
    )

    assert (await authz.basic()).allowed
    assert verdict(await authz.bearer(idp.issue(iss="https://other"))) == "401 token_issuer_refused"
    assert dict(idp.counters) == {"token": 1, "discovery": 0, "certs": 1}


# --- extra_jwks_uris -------------------------------------------------------------------

TWO = key("RS256", 2)


async def test_extra_keys_are_fetched_only_for_a_key_that_the_primary_set_lacks(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with RunningIdp(keys=[TWO]) as partner:
        authz = make_authz(extra_jwks_uris=(partner.jwks_uri,))

        assert (await authz.bearer(idp.issue())).allowed
        await landed(authz)
        assert partner.counters["certs"] == 0
        assert (await authz.bearer(idp.issue(key=TWO))).allowed
        assert (await authz.bearer(idp.issue(key=TWO))).allowed
        assert partner.counters["certs"] == 1


async def test_extra_keys_serve_while_the_primary_set_fails(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.certs_answers.append(says(b"", 500, times=None))
    with RunningIdp(keys=[TWO]) as partner:
        authz = make_authz(extra_jwks_uris=(partner.jwks_uri,))

        assert (await authz.bearer(idp.issue(key=TWO))).allowed
        assert not authz.configuration.ready  # extra keys are no part of readiness


async def test_extra_keys_age_like_the_others(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now, idp.token_lifetime_s = clock.now, int(DAY)
    with RunningIdp(keys=[TWO, key("RS256", 3)]) as partner:
        authz = make_authz(clock=clock, extra_jwks_uris=(partner.jwks_uri,))
        token = idp.issue(key=TWO)
        assert (await authz.bearer(token)).allowed

        partner.rotate(retire=True)
        clock.advance(HOUR)
        await authz.bearer(idp.issue())
        await landed(authz)
        assert verdict(await authz.bearer(token)) == "401 token_key_unknown"
        assert partner.counters["certs"] == 3  # at first, when they aged, and for a key unknown


async def test_a_dead_extra_endpoint_stops_nobody_else(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    with RunningIdp(keys=[TWO]) as partner:
        authz = make_authz(extra_jwks_uris=("http://127.0.0.1:1/certs", partner.jwks_uri))

        assert (await authz.bearer(idp.issue())).allowed
        assert (await authz.bearer(idp.issue(key=TWO))).allowed


# --- Silence ---------------------------------------------------------------------------


async def test_RL_05_keys_outlive_a_silent_provider_by_24_hours(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now, idp.token_lifetime_s = clock.now, int(3 * DAY)
    authz = make_authz(clock=clock)
    assert (await authz.bearer(idp.issue())).allowed
    idp.certs_answers.append(says(b"", 500, times=None))

    clock.advance(DAY)
    assert (await authz.bearer(idp.issue())).allowed
    await landed(authz)
    [status] = authz.configuration.status()
    where = f"key set at 127.0.0.1:{idp.port}"
    assert f"last call failed: {where}: HTTP status 500" in status.detail
    clock.advance(1)
    assert verdict(await authz.bearer(idp.issue())) == "503 keys_unavailable"


async def test_RL_05_a_remembered_signature_counts_no_longer_than_its_key(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now, idp.token_lifetime_s = clock.now, int(3 * DAY)
    authz = make_authz(clock=clock, cache_ttl_max=HOUR)
    token = idp.issue()
    assert (await authz.bearer(token)).allowed
    idp.certs_answers.append(says(b"", 500, times=None))

    clock.advance(DAY)
    assert (await authz.bearer(token)).allowed
    await landed(authz)
    clock.advance(HOUR)
    assert verdict(await authz.bearer(token)) == "503 keys_unavailable"


async def test_RL_05_keys_come_back_with_the_provider(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    assert (await authz.bearer(idp.issue())).allowed
    idp.certs_answers.append(says(b"", 500))
    clock.advance(DAY + 1)
    assert verdict(await authz.bearer(idp.issue())) == "503 keys_unavailable"

    clock.advance(5)
    assert (await authz.bearer(idp.issue())).allowed
    assert "failed" not in authz.configuration.status()[0].detail


# --- Start -----------------------------------------------------------------------------


async def test_RL_05_keys_that_an_exchange_has_asked_for_in_vain_are_asked_for_again(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock, timeout=300)
    idp.discovery_answers.append(Answer(None, hold=threading.Event()))
    assert verdict(await authz.basic()) == "503 idp_unavailable"
    await asyncio.wait_for(landed(authz), 5)

    clock.advance(RETRY_SECONDS)
    assert (await authz.basic()).allowed


async def test_RL_06_a_house_before_a_provider_that_is_down_heals_by_itself(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.stop()
    authz = make_authz()
    authz.configuration.start()
    await landed(authz)
    assert verdict(await authz.bearer(idp.issue())) == "503 idp_unavailable"
    assert not authz.configuration.ready
    [status] = authz.configuration.status()
    assert "the connection was refused: nothing listens there" in status.detail

    idp.start()
    async with asyncio.timeout(5):
        await authz.configuration.wait_ready()
    [status] = authz.configuration.status()
    assert status.ready
    assert (await authz.basic()).allowed


async def test_RL_06_while_the_provider_is_down_callers_ask_every_5_s_at_most(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    idp.discovery_answers.append(says(b"", 500, times=None))
    authz = make_authz(clock=clock)
    for _ in range(20):
        assert verdict(await authz.bearer(idp.issue())) == "503 idp_unavailable"
    assert idp.counters["discovery"] == 1

    clock.advance(5)
    idp.discovery_answers.clear()
    assert (await authz.bearer(idp.issue())).allowed


async def test_the_warm_up_fetches_metadata_and_keys_before_anybody_asks(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    authz.configuration.start()
    async with asyncio.timeout(5):
        await authz.configuration.wait_ready()

    assert dict(idp.counters) == {"token": 0, "discovery": 1, "certs": 1}
    assert (await authz.basic()).allowed
    assert dict(idp.counters) == {"token": 1, "discovery": 1, "certs": 1}
    [status] = authz.configuration.status()
    assert (status.issuer, status.ready) == (idp.issuer, True)
    assert status.detail.startswith("1 keys\n")


async def test_a_house_that_closes_ends_its_warm_up(idp: RunningIdp, make_authz: MakeAuthz) -> None:
    idp.discovery_answers.append(says(b"", 500, times=None))
    before = asyncio.all_tasks()
    authz = make_authz()
    authz.configuration.start()
    await idp.reached("discovery")
    await authz.shared.aclose()

    assert asyncio.all_tasks() == before


class BrokenDoor:
    """A door with a fault of its own: the first calls raise what nobody expects."""

    def __init__(self, idp: RunningIdp, faults: int) -> None:
        self.calls = 0
        self._idp = idp
        self._faults = faults

    async def ask(self, _: Endpoint, request: Request, read: Callable[[Response], Any]) -> Any:
        self.calls += 1
        if self.calls <= self._faults:
            raise RuntimeError("a fault of the program")
        document: dict[str, Any] = {"issuer": self._idp.issuer, "jwks_uri": self._idp.jwks_uri}
        if request.url == self._idp.jwks_uri:
            document = {"keys": [one.jwk for one in self._idp.keys]}
        return read(Response(200, {}, json.dumps(document).encode()))

    async def aclose(self) -> None:
        pass


def provider(idp: RunningIdp, clock: Clock, door: Any) -> Provider:
    config, reach = ProviderParameters(issuer=idp.issuer), ReachParameters(cache_ttl=HOUR)
    signatures: BoundedCache[SignedToken] = BoundedCache(
        entries_max=10, bytes_max=100_000, timer=clock.monotonic
    )
    return Provider(config, reach, door, clock=clock, signatures=signatures, telemetry=Telemetry())


async def test_JK_20_a_fault_of_ours_does_not_end_the_warm_up(
    idp: RunningIdp, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    door = BrokenDoor(idp, faults=1)
    faulty = provider(idp, clock, door)
    faulty.start()
    async with asyncio.timeout(5):
        await faulty.seen_keys.wait()

    assert door.calls == 3
    assert "internal error" in caplog.messages
    await faulty.aclose()


async def test_JK_20_a_fault_in_the_background_is_heard_and_waits_like_a_failure(
    idp: RunningIdp, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    door = BrokenDoor(idp, faults=0)
    faulty = provider(idp, clock, door)
    token = jwt.parse(idp.issue())
    issuer = (await faulty.issuers()).find(idp.issuer)
    assert issuer is not None
    await faulty.verify(token, issuer)
    door._faults = 100
    clock.advance(HOUR)
    for digest in (b"two", b"three", b"four"):
        assert faulty.remembered(digest) is None
        await faulty._single_flight.settled()

    assert door.calls == 3
    assert caplog.messages.count("internal error") == 1
    assert "a fault of authz (RuntimeError)" in faulty.status().detail
    await faulty.aclose()


async def test_a_pseudo_issuer_may_have_extra_keys_alone_and_becomes_ready(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz(
        using_pseudo_issuer=True,
        token_endpoint=idp.token_endpoint,
        extra_jwks_uris=(idp.jwks_uri,),
    )

    assert (await authz.basic()).allowed
    assert authz.configuration.ready
    assert idp.counters["discovery"] == 0
