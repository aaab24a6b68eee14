"""Envoy's own settings: its timeout, its failure mode, and an authz that is not there."""

from __future__ import annotations

import signal
from threading import Event
from typing import TYPE_CHECKING

import pytest
from support.deployment import assert_no_secret_in, ext_authz, until

from authz.demo.script import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.deployment import Deployment, Edge
    from support.idp import RunningIdp
    from support.upstream import Upstream

PATH = "/oidc-route/get"
EMPTY = (503, "")


@pytest.fixture
def authz(deploy: Callable[..., Deployment]) -> Iterator[Deployment]:
    with deploy() as running:
        yield running


@pytest.fixture
def exchange(provider: RunningIdp) -> Iterator[Event]:
    """Hold back the provider's next token until this event is set."""
    event = Event()
    provider.token_answers.append(Answer(hold=event))
    yield event
    event.set()


def test_DS_03_RL_03_a_cold_exchange_outlasts_envoys_timeout_and_the_retry_hits(
    authz: Deployment, provider: RunningIdp, exchange: Event, kong_id: tuple[str, str]
) -> None:
    with authz.edge(ext_authz(timeout="1s")) as envoy:
        slow = envoy.curl(PATH, user=kong_id)
        exchange.set()
        retried = envoy.curl(PATH, user=kong_id)
        known = envoy.curl(PATH, user=kong_id)
    # Ours, before Envoy's: with a reason, and when to come back.
    assert (slow.status, slow.text) == (503, '{"message":"Service unavailable"}')
    assert slow.header("retry-after") == ["1"]
    assert [retried.status, known.status] == [200, 200]
    assert provider.counters["token"] == 1
    until(authz.denials)
    assert authz.denials() == ["deadline_exceeded"]
    assert [line["reason"] for line in envoy.access_log()] == [
        "deadline_exceeded",
        "allowed",
        "allowed",
    ]


# --- failure_mode_allow: true, which the README forbids --------------------------------------


def test_our_denials_hold_even_where_envoy_may_let_failures_pass(
    authz: Deployment, provider: RunningIdp, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    with authz.edge(ext_authz(failure_mode_allow=True)) as envoy:
        refused = [
            envoy.curl(PATH),
            envoy.curl(PATH, user=("kong_id", "wrong")),
            envoy.curl(PATH, headers=[("Authorization", "Basic \xff")]),
        ]
        provider.stop()
        unknowable = envoy.curl(PATH, user=kong_id)
    assert [reply.status for reply in refused] == [401, 401, 401]
    assert unknowable.status == 503
    assert seen.requests == []


def test_our_timeout_holds_where_envoys_would_let_the_request_pass(
    authz: Deployment, exchange: Event, seen: Upstream, kong_id: tuple[str, str]
) -> None:
    with authz.edge(ext_authz(failure_mode_allow=True, timeout="0.4s")) as envoy:
        assert envoy.curl(PATH, user=kong_id).status == 503
    assert seen.requests == []


# --- An authz that is not there --------------------------------------------------------------


def test_RL_11_envoy_fails_closed_without_authz_and_heals_with_it(
    deploy: Callable[..., Deployment], seen: Upstream, kong_id: tuple[str, str]
) -> None:
    deployment = deploy()
    with deployment.edge() as envoy:  # started before authz
        assert told(envoy, kong_id) == EMPTY
        assert seen.requests == []
        with deployment:
            until(lambda: envoy.curl(PATH, user=kong_id).status == 200)
            seen.requests.clear()

            deployment.authz.send_signal(signal.SIGKILL)
            deployment.authz.wait(10)
            assert told(envoy, kong_id) == EMPTY
            assert told(envoy, None) == EMPTY
            assert seen.requests == []

        with deployment:  # a supervisor starts it again
            until(lambda: envoy.curl(PATH, user=kong_id).status == 200)
            assert envoy.curl(PATH).status == 401
    assert_no_secret_in(envoy.output(), [kong_id])


def told(envoy: Edge, user: tuple[str, str] | None) -> tuple[int, str]:
    reply = envoy.curl(PATH, user=user)
    return reply.status, reply.text
