"""Several workers on one port, over real processes and sockets."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import grpc
import pytest
from click.testing import CliRunner, Result
from grpc_health.v1 import health_pb2
from support import tls
from support.deployment import until
from support.idp import RunningIdp
from support.running import check_request
from support.transports import NAMES
from support.workers import SECONDS, Callers, Served, answers

from authz.cli import main
from authz.credentials import basic
from authz.demo.idp import CLIENTS
from authz.demo.script import Answer

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKSHOP = Path(__file__).parents[2] / "examples" / "workshop.yaml"
ISSUER = "http://keycloak.keycloak:8080/realms/kong"
REQUEST = check_request({"authorization": basic("kong_id", CLIENTS["kong_id"])})
ANONYMOUS = check_request()
ALLOWED = 'authz_checks_total{reason="allowed",verdict="allow"}'
RELOADS = 'authz_config_reloads_total{outcome="%s"}'


@pytest.fixture(params=NAMES, autouse=True)
def transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every run serves with each transport that is installed."""
    monkeypatch.setenv("AUTHZ_TRANSPORT", request.param)


@pytest.fixture
def idp() -> Iterator[RunningIdp]:
    with RunningIdp(issuer=ISSUER) as running:
        yield running


def serve(
    idp: RunningIdp, config: Path | str, *arguments: str, stdin: str = "", workers: int = 2
) -> Served:
    connect_to = ("--connect-to", f"keycloak.keycloak:8080:127.0.0.1:{idp.port}")
    return Served("-c", str(config), *connect_to, *arguments, stdin=stdin, workers=workers)


def authz(*arguments: str) -> Result:
    return CliRunner().invoke(main, arguments)


@contextmanager
def held(idp: RunningIdp, exchanges: int = 2) -> Iterator[threading.Event]:
    """Keep token answers back until the event is set, at the latest at the end."""
    event = threading.Event()
    idp.token_answers.append(Answer(hold=event, times=exchanges))
    try:
        yield event
    finally:
        event.set()


def test_a_cold_herd_costs_one_token_request_a_worker_and_is_counted_once(idp: RunningIdp) -> None:
    with serve(idp, WORKSHOP) as served, Callers(served.serving().address) as callers:
        assert all(answer.allowed for answer in callers.ask(REQUEST))

        assert idp.counters["token"] == 2
        assert served.metric(ALLOWED) == 40
        assert served.metric('authz_cache_entries{cache="tokens"}') == 2
        assert served.metric("authz_workers") == 2
        assert served.metric("authz_config_last_reload_successful") == 1
        assert served.page("/livez") == (200, "ok\n")
        status, body = served.page("/readyz?verbose")
        assert (status, body.count(f"{ISSUER}: "), body.splitlines()[-1]) == (200, 1, "ready")
        # Once by the supervisor, not by each.
        notices = [line["pid"] for line in served.lines if line["message"].startswith("notice")]
        assert set(notices) == {served.process.pid}
        assert {line["pid"] for line in served.lines} == {served.process.pid, *served.pids}


def test_it_is_ready_when_all_workers_are_or_the_first_would_get_every_call(
    idp: RunningIdp,
) -> None:
    with serve(idp, WORKSHOP) as served:
        served.until("supervising")
        children = Path(f"/proc/{served.process.pid}/task/{served.process.pid}/children")
        until(lambda: len(children.read_text().split()) == 2)
        late = int(children.read_text().split()[0])
        os.kill(late, signal.SIGSTOP)
        assert served.until("serving")["pid"] != late
        assert served.page("/readyz") == (503, "not ready\n")
        assert served.page("/startupz") == (503, "starting\n")
        os.kill(late, signal.SIGCONT)

        assert served.until("serving")["pid"] == late
        assert served.page("/readyz") == (200, "ready\n")
        assert served.page("/startupz") == (200, "started\n")


def test_half_of_what_tls_needs_is_refused_before_any_worker_starts(idp: RunningIdp) -> None:
    with serve(idp, WORKSHOP, "--tls-cert", "chain.pem") as served:
        [refusal] = served.rest()
        assert "--tls-cert and --tls-key, both" in refusal
        assert served.process.wait(SECONDS) == 1


def test_a_worker_that_hangs_is_left_out_and_what_it_has_counted_is_not(idp: RunningIdp) -> None:
    with serve(idp, WORKSHOP) as served, Callers(served.serving().address) as callers:
        callers.ask(REQUEST)
        assert served.metric(ALLOWED) == 40
        os.kill(served.pids[0], signal.SIGSTOP)
        try:
            # The other one has half a second to report: on a busy machine not each time.
            until(lambda: served.metric('authz_cache_entries{cache="tokens"}') == 1)
            until(lambda: served.page("/readyz")[0] == 200)
            assert served.metric(ALLOWED) == 40
            assert (served.metric("authz_worker_reports_missed_total") or 0) >= 1
        finally:
            os.kill(served.pids[0], signal.SIGCONT)

        served.process.terminate()
        assert served.process.wait(SECONDS) == 0


def test_a_crashed_worker_is_replaced_later_each_time_and_no_total_falls(idp: RunningIdp) -> None:
    # From standard input, which can be read once: the replacement gets what was read.
    with serve(idp, "-", stdin=WORKSHOP.read_text()) as served:
        with Callers(served.serving().address) as callers:
            callers.ask(REQUEST)
        assert served.metric(ALLOWED) == 40
        pauses = []
        for crashed in (0, 2):
            os.kill(served.pids[crashed], signal.SIGKILL)
            ended = served.until("a worker ended")
            assert (ended["worker"], ended["code"]) == (served.pids[crashed], -signal.SIGKILL)
            pauses.append(served.until("another worker follows")["in_seconds"])
            served.serving(1)

        assert pauses == [0.1, 0.2]
        assert len(set(served.pids)) == 4
        assert served.metric(ALLOWED) == 40
        assert served.metric("authz_worker_restarts_total") == 2
        with Callers(served.address) as callers:
            assert all(answer.allowed for answer in callers.ask(REQUEST))
        assert served.metric(ALLOWED) == 80

        served.process.send_signal(signal.SIGHUP)
        assert "was read at the start" in served.until("-:1:1")["message"]


def test_a_reload_is_taken_by_all_workers_or_by_none(idp: RunningIdp, tmp_path: Path) -> None:
    config = tmp_path / "kong.yaml"
    text = WORKSHOP.read_text()
    config.write_text(text)
    with serve(idp, config) as served, Callers(served.serving().address) as callers:
        config.write_text(text.replace("consumer_optional", "consumer_optinal"))
        served.process.send_signal(signal.SIGHUP)
        assert served.until("the configuration of before")["pid"] == served.process.pid
        assert {answer.status for answer in callers.ask(REQUEST)} == {200}
        assert served.metric("authz_config_last_reload_successful") == 0
        assert served.metric(RELOADS % "failed") == 1

        config.write_text(text.replace("username: kong_id", "username: somebody_else"))
        served.process.send_signal(signal.SIGHUP)
        assert {served.until("reloaded")["pid"] for _ in range(2)} == set(served.pids)
        assert {answer.status for answer in callers.ask(REQUEST)} == {403}
        assert served.metric("authz_config_last_reload_successful") == 1
        assert served.metric(RELOADS % "ok") == 1
        assert len(served.pids) == 2


@pytest.mark.parametrize("workers", [1, 2])
def test_a_refused_reload_reads_the_certificates_anew_in_every_process(
    idp: RunningIdp, tmp_path: Path, workers: int
) -> None:
    files = tls.Files(tmp_path / "tls")
    files.write()
    config = tmp_path / "kong.yaml"
    config.write_text(WORKSHOP.read_text())
    flags = ("--tls-cert", files.chain, "--tls-key", files.key)
    with serve(idp, config, *flags, workers=workers) as served:
        served.serving(workers)
        config.write_text("services: {")
        served.process.send_signal(signal.SIGHUP)

        read = [served.until("certificate read anew") for _ in range(workers)]
        assert {line.get("pid", served.process.pid) for line in read} == set(served.pids)


LOST = (
    WORKSHOP.read_text()
    .replace("    plugins:\n", "    tags: [lost]\n")
    .partition("    - name: openid")[0]
)
"""The workshop's file, cut off where its plugin begins."""


@pytest.mark.parametrize("workers", [1, 2])
def test_G_02_a_file_that_lost_its_plugin_opens_nothing_in_any_process(
    idp: RunningIdp, tmp_path: Path, workers: int
) -> None:
    config, control = tmp_path / "kong.yaml", f"unix:{tmp_path}/control.sock"
    config.write_text(WORKSHOP.read_text())
    run = serve(idp, config, "--control", control, workers=workers)
    with run as served, Callers(served.serving(workers).address) as callers:
        config.write_text(LOST)
        served.process.send_signal(signal.SIGHUP)
        served.until("the configuration of before")
        why = served.lines[-2]["message"]
        assert why.startswith(f"{config}:12:5: routes: oidc-route would be opened: ")
        assert "tag authz-open" in why
        assert {answer.status for answer in callers.ask(ANONYMOUS)} == {401}
        assert served.metric(RELOADS % "would_open") == 1
        assert served.metric("authz_config_last_reload_successful") == 0
        status, body = served.page("/readyz?verbose")
        assert (status, body.splitlines()[-1]) == (200, "ready")
        assert f"[-] configuration: reload refused: {why}" in body
        if workers > 1:  # who comes later gets what was accepted, not what stands in the file
            os.kill(served.pids[0], signal.SIGKILL)
            served.serving(1)
            with Callers(served.address) as late:
                assert {answer.status for answer in late.ask(ANONYMOUS)} == {401}

        refused = authz("reload", "--control", control)
        assert (refused.exit_code, refused.stdout) == (1, "")
        assert refused.stderr.splitlines() == [why, "the configuration of before stays in force"]
        unknown = authz("reload", "--control", control, "--may-open", "oidc-rout")
        assert "did you mean 'oidc-route'?" in unknown.stderr

        allowed = authz("reload", "--control", control, "--may-open", "oidc-route")
        assert (allowed.exit_code, allowed.stdout) == (0, "reloaded\n")
        # At once, and in every process: the command has waited for them.
        with Callers(served.address) as now:
            assert {answer.status for answer in now.ask(ANONYMOUS)} == {200}
        assert served.metric("authz_config_last_reload_successful") == 1
        assert "configuration" not in served.page("/readyz?verbose")[1]

    gone = authz("reload", "--control", control)
    assert gone.exit_code == 2
    assert gone.stderr.startswith(f"cannot ask the server at {control}: ")


@pytest.mark.parametrize("workers", [1, 2])
def test_G_02_a_start_that_requires_plugins_starts_nothing_without(
    tmp_path: Path, workers: int
) -> None:
    (tmp_path / "kong.yaml").write_text(LOST)
    with Served("-c", f"{tmp_path}/kong.yaml", "--require-plugin", workers=workers) as served:
        assert served.process.wait(SECONDS) == 1
        [said] = served.rest()
    assert "oidc-route has no openid-connect plugin, and --require-plugin wants one" in said


def health(channel: grpc.Channel) -> Iterator[str]:
    """Tell what one worker's health says, whenever it changes."""
    watch = channel.unary_stream(
        "/grpc.health.v1.Health/Watch",
        health_pb2.HealthCheckRequest.SerializeToString,
        health_pb2.HealthCheckResponse.FromString,
    )
    for answer in watch(health_pb2.HealthCheckRequest(), timeout=SECONDS):
        yield health_pb2.HealthCheckResponse.ServingStatus.Name(answer.status)


def test_RL_10_a_signal_to_the_whole_group_drains_every_worker_once(idp: RunningIdp) -> None:
    """A terminal's Ctrl-C and systemd's stop reach each process: that is no second signal."""
    with (
        serve(idp, WORKSHOP) as served,
        Callers(served.serving().address) as callers,
        Callers(served.address, 10) as watchers,
        held(idp) as release,
    ):
        statuses = [health(channel) for channel in watchers.channels]
        assert {next(status) for status in statuses} == {"SERVING"}
        callers.ask(ANONYMOUS)  # all are connected now
        calls = callers.send(REQUEST)
        callers.ask(ANONYMOUS)  # and what was sent before on the same connection is accepted
        os.killpg(served.process.pid, signal.SIGINT)
        assert {next(status) for status in statuses} == {"NOT_SERVING"}
        release.set()

        assert all(answer.allowed for answer in answers(calls))
        assert served.process.wait(SECONDS) == 0
        assert "stopping at once: calls in flight are lost" not in served.rest()


def test_RL_10_a_second_signal_ends_the_drain_of_all_at_once(idp: RunningIdp) -> None:
    with (
        serve(idp, WORKSHOP, "--grace", "3600") as served,
        Callers(served.serving().address) as callers,
        held(idp),
    ):
        callers.ask(ANONYMOUS)  # all are connected now
        calls = callers.send(REQUEST)
        asyncio.run(idp.reached("token", 2))
        served.process.send_signal(signal.SIGTERM)
        for _ in range(3):
            served.until("stopping")
        served.process.send_signal(signal.SIGTERM)

        assert served.process.wait(SECONDS) == 1
        assert served.rest().count("stopping at once: calls in flight are lost") == 3
        assert all(isinstance(call.exception(), grpc.RpcError) for call in calls)


def test_workers_do_not_outlive_a_supervisor_that_was_killed(idp: RunningIdp) -> None:
    with serve(idp, WORKSHOP) as served:
        address = served.serving().address
        served.process.kill()
        assert served.rest().count("stopped") == 2  # and at its end, nobody holds the pipe

    host, _, port = address.rpartition(":")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection((host, int(port)))


def refused(*arguments: str, workers: int = 2) -> list[str]:
    """Return what is said by a start that fails, at the level of errors."""
    quiet = ("-c", str(WORKSHOP), "--log-level", "error")
    with Served(*quiet, *arguments, workers=workers) as served:
        assert served.process.wait(SECONDS) == 1
        return served.rest()


@pytest.mark.parametrize("reuse_port", [False, True])
def test_GR_18_a_strangers_port_is_not_shared(*, reuse_port: bool) -> None:
    with socket.create_server(("127.0.0.1", 0), reuse_port=reuse_port) as stranger:
        address = f"127.0.0.1:{stranger.getsockname()[1]}"
        said = refused("--listen", address)

    assert said == [f"cannot listen on {address}: Address already in use"]


def test_a_unix_socket_is_refused_for_several_workers(tmp_path: Path) -> None:
    [said] = refused("--listen", f"unix:{tmp_path}/authz.sock")

    assert "a Unix socket belongs to one process" in said
    assert "--workers 1" in said


def test_a_file_that_is_wrong_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "kong.yaml").write_text("_format_version: '1.0'\n")
    with Served("-c", str(tmp_path / "kong.yaml")) as served:
        assert served.process.wait(SECONDS) == 1
        assert "_format_version" in served.rest()[0]
        assert {line["pid"] for line in served.lines} == {served.process.pid}


def test_workers_that_cannot_start_are_not_tried_again_and_again(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("no certificate")
    said = refused("--idp-ca-file", f"{tmp_path}/ca.pem")

    assert any(line.startswith(f"{tmp_path}/ca.pem:1:1: --idp-ca-file: ") for line in said)
    assert "another worker follows" not in said
