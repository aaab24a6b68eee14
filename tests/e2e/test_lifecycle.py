"""Signals to a running authz, seen from the caller's side of Envoy."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import TYPE_CHECKING

import pytest
from support.deployment import until

from authz.demo.parts import CHECKOUT
from authz.demo.script import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.deployment import Deployment, Edge
    from support.idp import RunningIdp

PATH = "/oidc-route/get"
WORKSHOP = CHECKOUT / "examples" / "workshop.yaml"
CALLERS = 20


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A copy of the workshop's file that the test may change."""
    copy = tmp_path / "kong.yaml"
    copy.write_text(WORKSHOP.read_text("utf-8"), "utf-8")
    return copy


@pytest.fixture
def authz(deploy: Callable[..., Deployment], file: Path) -> Iterator[Deployment]:
    with deploy(file) as running:
        yield running


@pytest.fixture
def envoy(authz: Deployment) -> Iterator[Edge]:
    with authz.edge() as running:
        yield running


def reload(authz: Deployment, *, outcome: str) -> None:
    """Send SIGHUP and return once the file has been read, with this outcome."""
    series = f'authz_config_reloads_total{{outcome="{outcome}"}}'
    before = count(authz, series)
    authz.authz.send_signal(signal.SIGHUP)
    until(lambda: count(authz, series) > before)


def count(authz: Deployment, series: str) -> float:
    try:
        return authz.metric(series)
    except LookupError:  # nothing was counted yet
        return 0


def test_RL_13_a_consumer_that_the_new_file_lacks_is_403_at_once(
    authz: Deployment, envoy: Edge, file: Path, kong_id: tuple[str, str]
) -> None:
    assert envoy.curl(PATH, user=kong_id).status == 200
    text = file.read_text("utf-8")
    file.write_text(text.replace("username: kong_id", "username: somebody_else"), "utf-8")
    assert envoy.curl(PATH, user=kong_id).status == 200

    reload(authz, outcome="ok")
    assert envoy.curl(PATH, user=kong_id).status == 403

    file.write_text(text, "utf-8")
    reload(authz, outcome="ok")
    assert envoy.curl(PATH, user=kong_id).status == 200


def test_RL_12_a_broken_file_changes_nothing_and_is_told(
    authz: Deployment, envoy: Edge, file: Path, kong_id: tuple[str, str]
) -> None:
    assert envoy.curl(PATH, user=kong_id).status == 200
    text = file.read_text("utf-8")
    file.write_text(text.replace("consumer_optional", "consumer_optinal"), "utf-8")

    reload(authz, outcome="failed")
    assert envoy.curl(PATH, user=kong_id).status == 200
    assert envoy.curl(PATH, user=("kong_id", "wrong")).status == 401
    until(lambda: "stays in force" in authz.authz.output())
    assert f"{file}:23:9: consumer_optinal" in authz.authz.output()
    assert "did you mean 'consumer_optional'?" in authz.authz.output()
    assert authz.metric("authz_config_last_reload_successful") == 0


def test_RL_10_sigterm_loses_nothing_that_was_accepted(
    authz: Deployment, envoy: Edge, provider: RunningIdp, kong_id: tuple[str, str]
) -> None:
    exchange = Event()
    provider.token_answers.append(Answer(hold=exchange))
    with ThreadPoolExecutor(CALLERS + 1) as callers:
        waiting = [callers.submit(envoy.curl, PATH, user=kong_id) for _ in range(CALLERS)]
        until(lambda: provider.counters["token"] == 1)
        until(lambda: pending(envoy) >= CALLERS)
        # It comes behind them on Envoy's connection: once it is answered, they have arrived.
        assert envoy.curl(PATH).status == 401
        authz.authz.send_signal(signal.SIGTERM)
        until(lambda: not authz.live or '"stopping"' in authz.authz.output())
        late = callers.submit(envoy.curl, PATH, user=kong_id)
        exchange.set()
        statuses = {future.result().status for future in waiting}
    assert statuses == {200}
    assert late.result().status in {200, 503}
    assert authz.authz.wait(15) == 0
    assert provider.counters["token"] == 1


def pending(envoy: Edge) -> int:
    """Return how many Checks Envoy waits for."""
    (line,) = (
        line
        for line in envoy.stats().splitlines()
        if line.startswith("cluster.authz.upstream_rq_active:")
    )
    return int(line.partition(": ")[2])


def test_RL_10_under_load_every_answer_is_200_or_envoys_503(
    authz: Deployment, envoy: Edge, kong_id: tuple[str, str]
) -> None:
    assert envoy.curl(PATH, user=kong_id).status == 200
    stopped = Event()

    def call_until_stopped() -> list[int]:
        statuses = []
        while not stopped.is_set():
            statuses.append(envoy.curl(PATH, user=kong_id).status)
        return statuses

    with ThreadPoolExecutor(4) as callers:
        loads = [callers.submit(call_until_stopped) for _ in range(4)]
        until(lambda: authz.metric(ALLOWED) > 100)
        authz.authz.send_signal(signal.SIGTERM)
        code = authz.authz.wait(15)
        stopped.set()
        statuses = [status for load in loads for status in load.result()]
    assert code == 0
    assert statuses.count(200) > 100
    assert set(statuses) <= {200, 503}


ALLOWED = 'authz_checks_total{reason="allowed",verdict="allow"}'
