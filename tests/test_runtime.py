"""What outlives a configuration, and for how long."""

from __future__ import annotations

import asyncio
import threading
import traceback
from typing import TYPE_CHECKING

import pytest
from support.idp import RunningIdp
from support.running import POSITION, gateway, logged
from support.scenes import landed, says, verdict

from authz.build import build
from authz.demo.script import Answer
from authz.errors import ConfigurationError
from authz.model import Gateway, Route
from authz.runtime import Shared
from authz.settings import Settings
from authz.telemetry import Telemetry

if TYPE_CHECKING:
    from support.clock import Clock
    from support.running import MakeAuthz, RunningAuthz


def issuers(authz: RunningAuthz) -> set[str]:
    """Whose providers are open."""
    return {provider.issuer for provider, _ in authz.shared._providers}


async def reload(authz: RunningAuthz, of: Gateway) -> None:
    """Reload, and return once the keys are there: no request to a provider is left half-way."""
    authz.reload(of)
    await authz.configuration.wait_ready()


async def closed(authz: RunningAuthz) -> None:
    """Return once what nobody uses any more is closed."""
    await asyncio.gather(*authz.shared._closing)


# --- Providers --------------------------------------------------------------------------


async def test_a_provider_that_no_configuration_uses_is_closed(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    with RunningIdp() as other:
        await reload(authz, gateway(other))
        await closed(authz)

        assert issuers(authz) == {other.issuer}
        assert (await authz.basic()).allowed


async def test_calls_in_a_configuration_that_was_replaced_end_as_they_began(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    authz = make_authz()
    in_flight = asyncio.create_task(authz.basic())
    await idp.reached("token")
    with RunningIdp() as other, RunningIdp() as third:
        await reload(authz, gateway(other))
        await reload(authz, gateway(third))
        assert issuers(authz) == {idp.issuer, third.issuer}
        hold.set()

        assert (await in_flight).allowed
        await closed(authz)
        assert issuers(authz) == {third.issuer}
        assert (await authz.basic()).allowed


async def test_an_exchange_that_began_before_a_reload_serves_who_comes_after_it(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    authz = make_authz()
    leaving = asyncio.create_task(authz.basic())
    await idp.reached("token")
    # Another time to wait makes it another provider, and the same token.
    authz.reload(gateway(idp, timeout=9_000))
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    joining = asyncio.create_task(authz.basic())
    await asyncio.sleep(0)
    hold.set()

    assert (await joining).allowed
    assert idp.counters["token"] == 1
    await closed(authz)
    assert len(authz.shared._providers) == 1


async def test_a_configuration_that_retires_late_leaves_the_newest_ones_provider_alone(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    with RunningIdp() as other:
        authz = make_authz()
        in_flight = asyncio.create_task(authz.basic())
        await idp.reached("token")
        await reload(authz, gateway(other))
        authz.reload(gateway(idp, display_errors=True))
        hold.set()
        assert (await in_flight).allowed
        await closed(authz)

        assert issuers(authz) == {idp.issuer}
        assert (await authz.basic()).allowed


async def test_a_build_that_fails_leaves_nothing_behind(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    regex = Route("1", "broken", POSITION, None, paths=("~/(",))
    with RunningIdp() as other:
        broken = Gateway(routes=(regex,), plugins=gateway(other).plugins)
        with pytest.raises(ConfigurationError):
            build(broken, authz.shared)
        await closed(authz)

    assert issuers(authz) == {idp.issuer}
    assert len(authz.shared._leases) == 1


async def test_who_waits_is_told_that_authz_closes_and_no_task_is_left(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    before = asyncio.all_tasks()
    idp.token_answers.append(Answer(None, hold=threading.Event()))
    authz = make_authz()
    waiting = asyncio.create_task(authz.basic())
    await idp.reached("token")
    await authz.shared.aclose()

    assert verdict(await waiting) == "503 overloaded"
    assert asyncio.all_tasks() == before


async def test_authorities_that_cannot_be_read_are_refused_before_any_file_is() -> None:
    with pytest.raises(ConfigurationError, match=r"--idp-ca-file: cannot be read"):
        Shared(Settings.of(idp_ca_file="/nowhere/ca.pem"), Telemetry())


# --- Metrics ----------------------------------------------------------------------------


async def test_the_series_of_an_issuer_end_with_its_last_provider(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    assert (await authz.basic()).allowed
    authz.reload(gateway(idp, timeout=9_000))  # another provider of the same issuer
    await landed(authz)
    await closed(authz)
    assert f'authz_jwks_keys{{issuer="{idp.issuer}",use="usable"}} 1.0' in authz.metrics()
    with RunningIdp() as other:
        await reload(authz, gateway(other))
        await closed(authz)

        assert f'issuer="{idp.issuer}"' not in authz.metrics()
        assert f'issuer="{other.issuer}"' in authz.metrics()


async def test_cached_answers_are_counted_while_their_configuration_answers(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    assert (await authz.basic()).allowed
    assert 'authz_cache_entries{cache="answers"} 1.0' in authz.metrics()
    authz.reload(gateway(idp))
    assert 'authz_cache_entries{cache="answers"} 0.0' in authz.metrics()


# --- A9: keys are asked for anew ----------------------------------------------------------


async def test_A9_a_reload_fetches_the_keys_anew_and_a_withdrawn_one_counts_no_more(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz = make_authz()
    token = idp.issue()
    assert (await authz.bearer(token)).allowed
    idp.rotate(retire=True)
    assert (await authz.bearer(token)).allowed
    authz.reload(gateway(idp))
    await landed(authz)

    assert idp.counters["certs"] == 2
    assert verdict(await authz.bearer(token)) == "401 token_key_unknown"


async def test_A9_the_old_keys_serve_until_the_new_ones_are_there(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    hold = threading.Event()
    authz = make_authz()
    assert (await authz.basic()).allowed
    idp.certs_answers.append(Answer(None, hold=hold))
    authz.reload(gateway(idp))
    await idp.reached("certs")

    assert (await authz.basic()).allowed
    assert (await authz.bearer(idp.issue())).allowed
    hold.set()
    await landed(authz)
    assert authz.configuration.ready


async def test_A9_keys_that_do_not_come_at_a_reload_are_asked_for_again(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    token = idp.issue()
    assert (await authz.bearer(token)).allowed
    idp.rotate(retire=True)
    idp.certs_answers.append(says(b"", 500))
    authz.reload(gateway(idp))
    await landed(authz)
    assert (await authz.bearer(token)).allowed
    clock.advance(30)
    await idp.reached("certs", 3)  # without a request of anybody
    await landed(authz)

    assert verdict(await authz.bearer(token)) == "401 token_key_unknown"


async def test_a_call_that_ends_after_its_configuration_plans_no_renewal(
    idp: RunningIdp,
    make_authz: MakeAuthz,
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    idp.now = clock.now
    hold = threading.Event()
    idp.token_answers.append(Answer(None, hold=hold))
    authz = make_authz(clock=clock)
    leaving = asyncio.create_task(authz.basic())
    await idp.reached("token")
    leaving.cancel()
    await asyncio.gather(leaving, return_exceptions=True)
    authz.reload(Gateway())
    hold.set()
    await closed(authz)
    clock.advance(idp.token_lifetime_s - 20)
    authz.shared.keeper.renew_due()
    await authz.shared.keeper.settled()

    assert "internal error" not in logged(caplog.records)
    assert idp.counters["token"] == 1


async def test_a_failure_that_many_are_told_keeps_nothing_of_them(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    authz, token = make_authz(), idp.issue()
    idp.stop()
    for _ in range(20):
        assert (await authz.bearer(token)).status == 503
    (provider,) = authz.configuration.providers

    assert provider._failure is not None
    assert len(list(traceback.walk_tb(provider._failure.__traceback__))) < 20


async def test_A1_a_reload_that_changes_the_timeout_during_an_outage_hurts_no_known_caller(
    idp: RunningIdp, make_authz: MakeAuthz, clock: Clock
) -> None:
    idp.now = clock.now
    authz = make_authz(clock=clock)
    token = idp.issue()
    assert (await authz.basic()).allowed
    assert (await authz.bearer(token)).allowed
    idp.stop()
    authz.reload(gateway(idp, timeout=2_000))

    assert (await authz.basic()).allowed
    assert (await authz.bearer(token)).allowed
