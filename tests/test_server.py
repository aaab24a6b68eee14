"""The life of a server, on real sockets, around configurations that the test builds."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from support import tls
from support.checks import Echo, ask, channel, health, unary, watch

from authz.build import Configuration
from authz.control import ask_for_reload
from authz.errors import ConfigurationError, RouteOpened
from authz.fast_path import CachedAnswers
from authz.lifecycle import RELOADS_WAITING_MAX, STOPPING
from authz.model import Diagnostic, Gateway, OpenIDConnect, Route, SourcePosition
from authz.oauth.provider import ProviderStatus
from authz.runtime import Lease
from authz.server import Server
from authz.settings import Settings, TcpAddress, UnixAddress
from authz.telemetry import Telemetry
from authz.transport import ListenError
from bench.frames import CHECK

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from authz.settings import Address

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the case is that it is refused, or asked for
LOOPBACK = TcpAddress("127.0.0.1", 0)
SETTINGS = Settings.of(listen=(LOOPBACK,), admin=None, reflection=False)
HERE = SourcePosition("kong.yaml", 4, 2)
NOTICE = Diagnostic(HERE, "audience", "tokens for any audience are accepted")
GATEWAY = Gateway(routes=(Route("1", "orders", HERE, None),), notices=(NOTICE,))


@dataclass
class StubProvider:
    """An identity provider whose keys are there when the test says so."""

    seen_keys: asyncio.Event = field(default_factory=asyncio.Event)
    started: bool = False

    def start(self) -> None:
        self.started = True

    def status(self) -> ProviderStatus:
        ready = self.seen_keys.is_set()
        return ProviderStatus("http://keycloak.test", ready, "connection refused\naccepts iss: any")


class EchoConfiguration(Configuration):
    """A configuration that answers with what it was asked, and has one such provider."""

    authorizer: Any

    def __init__(self, name: bytes) -> None:
        provider: Any = StubProvider()
        self.provider: StubProvider = provider
        self.keys = self.provider.seen_keys
        self.ended = asyncio.Event()
        answers = CachedAnswers(entries_max=1, bytes_max=1)
        lease = Lease(answers, lambda _: provider, lambda _: self.ended.set())
        lease.provider(OpenIDConnect.of(issuer="http://keycloak.test"))
        authorizer: Any = Echo(name)
        super().__init__(GATEWAY, authorizer, lease)


def stub(name: bytes = b"", *, ready: bool = True) -> EchoConfiguration:
    made = EchoConfiguration(name)
    if ready:
        made.keys.set()
    return made


class Run:
    """A running server, its signals, and the configurations that its reloads will get."""

    def __init__(
        self, settings: Settings, first: EchoConfiguration, patience_seconds: float
    ) -> None:
        self.telemetry = Telemetry()
        self.signals: asyncio.Queue[signal.Signals] = asyncio.Queue()
        self.reloads: asyncio.Queue[EchoConfiguration | Exception] = asyncio.Queue()
        self.may_open: list[frozenset[str]] = []
        self.making = asyncio.Event()
        self.server = Server(
            settings, first, self._make, self.telemetry, patience_seconds=patience_seconds
        )
        self.ended = asyncio.create_task(self.server.run(self.signals))

    async def _make(self, _in_force: Gateway, may_open: frozenset[str]) -> EchoConfiguration:
        self.may_open.append(may_open)
        self.making.set()
        made = await self.reloads.get()
        if isinstance(made, Exception):
            raise made
        return made

    @property
    def address(self) -> Address:
        return self.server._transport.addresses[0]

    def send(self, number: signal.Signals) -> None:
        self.signals.put_nowait(number)

    def reload(self, outcome: EchoConfiguration | Exception) -> None:
        self.reloads.put_nowait(outcome)
        self.send(signal.SIGHUP)

    @property
    def last_reload_ok(self) -> float | None:
        registry = self.telemetry.registry
        return registry.get_sample_value("authz_config_last_reload_successful")

    def count(self, outcome: str) -> float | None:
        labels = {"outcome": outcome}
        return self.telemetry.registry.get_sample_value("authz_config_reloads_total", labels)


class Lines(logging.Handler):
    """Collects log lines, and tells when the next one has come."""

    def __init__(self) -> None:
        super().__init__()
        self.queue: asyncio.Queue[logging.LogRecord] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        self.queue.put_nowait(record)

    async def until(self, start: str) -> logging.LogRecord:
        async with asyncio.timeout(20):
            while not (record := await self.queue.get()).getMessage().startswith(start):
                pass
        return record


@pytest.fixture
async def lines() -> AsyncIterator[Lines]:
    handler = Lines()
    loggers = [logging.getLogger(f"authz.{room}") for room in ("server", "lifecycle")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.INFO)
        logger.addHandler(handler)
    yield handler
    for logger, level in zip(loggers, levels, strict=True):
        logger.removeHandler(handler)
        logger.setLevel(level)


@asynccontextmanager
async def running(
    lines: Lines,
    first: EchoConfiguration,
    settings: Settings = SETTINGS,
    *,
    patience_seconds: float = 20,
) -> AsyncIterator[Run]:
    run = Run(settings, first, patience_seconds)
    try:
        await lines.until("serving" if first.ready else "listening")
        yield run
    finally:
        if not run.ended.done():
            run.send(signal.SIGTERM)
            run.send(signal.SIGTERM)
        await asyncio.wait_for(run.ended, 20)


async def test_a_server_whose_keys_are_there_serves(lines: Lines) -> None:
    async with running(lines, stub(b"hello ")) as run:
        assert await health(run.address) == "SERVING"
        assert await ask(run.address, b"caller") == b"hello caller"
        assert run.server.ready


async def test_one_line_says_what_is_served_and_each_notice_has_its_own(lines: Lines) -> None:
    run = Run(SETTINGS, stub(), 20)
    notice = await lines.until("notice")
    serving = await lines.until("serving")
    run.send(signal.SIGTERM)
    await run.ended

    assert notice.getMessage() == f"notice: {NOTICE}"
    assert serving.__dict__["fields"] == {
        "transport": run.server._transport.name,
        "listen": [str(run.address)],
        "admin": "off",
        "routes": 1,
        "plugins": 0,
        "consumers": 0,
        "notices": 1,
    }


async def test_RL_06_a_server_without_keys_listens_says_why_and_heals(lines: Lines) -> None:
    first = stub(ready=False)
    run = Run(SETTINGS, first, 0)
    begun = run.server.started
    why = await lines.until("listening, not ready")
    status = await health(run.address)
    assert (begun, run.server.started, run.server.ready) == (False, True, False)
    first.keys.set()
    await lines.until("serving")
    healed = await health(run.address)
    run.send(signal.SIGTERM)
    await run.ended

    assert why.getMessage() == "listening, not ready: http://keycloak.test: connection refused"
    assert [status, healed] == ["NOT_SERVING", "SERVING"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_to_stop_ends_with_zero(lines: Lines, number: signal.Signals) -> None:
    async with running(lines, stub()) as run:
        run.send(number)
        assert await run.ended == 0


async def test_RL_10_a_drain_says_not_serving_before_it_refuses_calls(lines: Lines) -> None:
    settings = SETTINGS.replace(drain_delay=3600)
    async with running(lines, stub(), settings) as run, aclosing(watch(run.address)) as statuses:
        assert await anext(statuses) == "SERVING"
        run.send(signal.SIGTERM)

        assert await anext(statuses) == "NOT_SERVING"
        assert await ask(run.address, b"late") == b"late"
        assert not run.server.ready


async def test_RL_10_calls_in_flight_end_before_the_server_does(lines: Lines) -> None:
    first = stub(b"answered ")
    first.authorizer.hold()
    async with running(lines, first) as run, channel(run.address) as opened:
        call = unary(opened, CHECK)(b"call")
        await first.authorizer.arrived.wait()
        run.send(signal.SIGTERM)
        await lines.until("stopping")
        first.authorizer.release()

        assert await call == b"answered call"
        assert await run.ended == 0


async def test_RL_10_a_second_signal_ends_the_drain_at_once(lines: Lines) -> None:
    first = stub()
    first.authorizer.hold()
    settings = SETTINGS.replace(grace=3600)
    async with running(lines, first, settings) as run, channel(run.address) as opened:
        call = unary(opened, CHECK)(b"call")
        await first.authorizer.arrived.wait()
        run.send(signal.SIGTERM)
        await lines.until("stopping")
        run.send(signal.SIGHUP)  # is not one to stop
        run.send(signal.SIGINT)

        assert await asyncio.wait_for(run.ended, 20) == 1
        with pytest.raises(grpc.aio.AioRpcError):
            await call


async def test_RL_12_a_reload_puts_the_new_configuration_in_force_and_retires_the_old(
    lines: Lines,
) -> None:
    first, second = stub(b"old "), stub(b"new ")
    async with running(lines, first) as run:
        run.reload(second)
        await lines.until("reloaded")

        assert first.ended.is_set()
        assert await ask(run.address, b"") == b"new "
        assert second.provider.started
        assert not second.ended.is_set()


async def test_C10_a_reload_is_logged_as_one_with_what_is_in_force_now(lines: Lines) -> None:
    async with running(lines, stub()) as run:
        run.reload(stub())
        reloaded = await lines.until("reloaded")

        assert reloaded.__dict__["fields"]["routes"] == 1
        run.send(signal.SIGTERM)
        await run.ended
        said = [lines.queue.get_nowait().getMessage() for _ in range(lines.queue.qsize())]
    assert said == [f"notice: {NOTICE}", "stopping", "stopped"]  # it serves on: no word of that


async def test_RL_12_calls_in_the_old_configuration_end_there_before_it_is_ended(
    lines: Lines,
) -> None:
    first = stub(b"old ")
    first.authorizer.hold()
    async with running(lines, first) as run, channel(run.address) as opened:
        call = unary(opened, CHECK)(b"call")
        await first.authorizer.arrived.wait()
        run.reload(stub(b"new "))
        await lines.until("reloaded")

        assert await ask(run.address, b"") == b"new "
        assert not first.ended.is_set()
        first.authorizer.release()
        assert await call == b"old call"
        await asyncio.wait_for(first.ended.wait(), 20)


async def test_RL_12_a_cached_answer_of_the_old_configuration_is_not_given_after_a_reload(
    lines: Lines,
) -> None:
    first = stub(b"old ")
    first.authorizer.memory[b"known"] = b"old, remembered"
    async with running(lines, first) as run:
        assert await ask(run.address, b"known") == b"old, remembered"
        run.reload(stub(b"new "))
        await lines.until("reloaded")

        assert await ask(run.address, b"known") == b"new known"


@pytest.mark.parametrize(
    ("error", "said"),
    [
        pytest.param(
            ConfigurationError([Diagnostic(HERE, "issuer", "is no URL")]),
            "kong.yaml:4:2: issuer: is no URL",
            id="invalid",
        ),
        pytest.param(OSError("disk gone"), "unexpected error", id="unreadable"),
    ],
)
async def test_RL_12_a_reload_that_fails_keeps_the_old_configuration_and_says_why(
    lines: Lines, error: Exception, said: str
) -> None:
    first = stub(b"old ")
    async with running(lines, first) as run:
        run.reload(error)
        why = await lines.until("")
        await lines.until("the configuration of before stays in force")

        assert why.getMessage() == said
        assert await ask(run.address, b"") == b"old "
        assert await health(run.address) == "SERVING"
        assert not first.ended.is_set()

        run.reload(stub(b"new "))
        await lines.until("reloaded")
        assert await ask(run.address, b"") == b"new "


async def test_reloads_are_counted_by_outcome(lines: Lines) -> None:
    async with running(lines, stub()) as run:
        assert (run.count("ok"), run.count("failed")) == (0, 0)
        run.reload(OSError())
        await lines.until("the configuration of before")
        assert (run.count("ok"), run.count("failed")) == (0, 1)
        run.reload(stub())
        await lines.until("reloaded")
        assert (run.count("ok"), run.count("failed")) == (1, 1)


async def test_G_02_an_opening_is_counted_apart_and_told_until_the_next_reload(
    lines: Lines,
) -> None:
    opening = RouteOpened([Diagnostic(HERE, "routes", "orders would be opened")])
    async with running(lines, stub(b"old ")) as run:
        assert run.count("would_open") == 0
        run.reload(opening)
        why = await lines.until("kong.yaml")
        await lines.until("the configuration of before stays in force")

        assert why.getMessage() == "kong.yaml:4:2: routes: orders would be opened"
        assert run.count("would_open") == 1
        assert run.server.ready
        assert await health(run.address) == "SERVING"
        assert await ask(run.address, b"") == b"old "
        assert list(run.server.refused) == ["kong.yaml:4:2: routes: orders would be opened"]
        run.reload(stub(b"new "))
        await lines.until("reloaded")
        assert not run.server.refused


async def test_a_command_reloads_with_its_names_and_waits_for_the_outcome(
    lines: Lines, tmp_path: Path
) -> None:
    control = UnixAddress(str(tmp_path / "control.sock"))
    async with running(lines, stub(b"old "), SETTINGS.replace(control=control)) as run:

        async def command(*may_open: str) -> tuple[str, ...]:
            return await asyncio.to_thread(ask_for_reload, control, may_open, seconds=20)

        run.reloads.put_nowait(ConfigurationError([Diagnostic(HERE, "issuer", "is no URL")]))
        assert await command() == (
            "kong.yaml:4:2: issuer: is no URL",
            "the configuration of before stays in force",
        )
        run.reloads.put_nowait(stub(b"new "))
        assert await command("b", "a", "b") == ()
        assert await ask(run.address, b"") == b"new "
        assert run.may_open == [frozenset(), frozenset({"a", "b"})]
        assert (await asyncio.to_thread(os.stat, control.path)).st_mode & 0o777 == 0o600

    with pytest.raises(FileNotFoundError):
        await command()


async def test_reloads_wait_for_each_other_and_not_without_bound(
    lines: Lines, tmp_path: Path
) -> None:
    control = UnixAddress(str(tmp_path / "control.sock"))
    async with running(lines, stub(), SETTINGS.replace(control=control)) as run:
        reloads = run.server._reloads
        first = asyncio.create_task(reloads.ask(frozenset({"0"})))
        await run.making.wait()
        others = [
            asyncio.create_task(reloads.ask(frozenset({str(number)})))
            for number in range(1, RELOADS_WAITING_MAX + 1)
        ]
        await asyncio.sleep(0)
        run.send(signal.SIGHUP)
        run.send(signal.SIGHUP)
        assert await reloads.ask(frozenset()) == (
            f"{RELOADS_WAITING_MAX} reloads are waiting already",
        )
        others.pop().cancel()  # whose command has gone away
        for _ in range(RELOADS_WAITING_MAX + 2):
            run.reloads.put_nowait(stub())
        assert await asyncio.gather(first, *others) == [()] * RELOADS_WAITING_MAX


async def test_who_waits_for_a_reload_is_told_that_the_server_stops(
    lines: Lines, tmp_path: Path
) -> None:
    control = UnixAddress(str(tmp_path / "control.sock"))
    async with running(lines, stub(), SETTINGS.replace(control=control)) as run:
        asking = [
            asyncio.create_task(asyncio.to_thread(ask_for_reload, control, [], seconds=20))
            for _ in range(2)
        ]
        await run.making.wait()
        run.send(signal.SIGTERM)
        await run.ended
        outcomes = await asyncio.gather(*asking, return_exceptions=True)

    # Or it has not been heard any more.
    assert (STOPPING,) in [outcome for outcome in outcomes if isinstance(outcome, tuple)]


async def test_a_reload_to_a_provider_that_is_away_is_said_by_health_too(lines: Lines) -> None:
    async with running(lines, stub(), patience_seconds=0.001) as run:
        second = stub(ready=False)
        run.reload(second)
        await lines.until("listening, not ready")
        assert await health(run.address) == "NOT_SERVING"
        second.keys.set()
        await lines.until("serving")

        assert await health(run.address) == "SERVING"


@pytest.mark.parametrize("host", [EVERYWHERE, "::", "192.0.2.1"])
async def test_GR_10_plaintext_beyond_loopback_is_refused(host: str) -> None:
    settings = SETTINGS.replace(listen=(LOOPBACK, TcpAddress(host, 0)))
    with pytest.raises(ListenError, match="--allow-plaintext"):
        Run(settings, stub(), 0)


async def test_GR_10_plaintext_beyond_loopback_can_be_meant(lines: Lines) -> None:
    settings = SETTINGS.replace(listen=(TcpAddress(EVERYWHERE, 0),), allow_plaintext=True)
    async with running(lines, stub(), settings) as run:
        assert await health(run.address) == "SERVING"


async def test_GR_10_with_tls_it_may_listen_beyond_loopback(lines: Lines, tmp_path: Path) -> None:
    files = tls.Files(tmp_path)
    files.write()
    settings = SETTINGS.replace(
        listen=(TcpAddress(EVERYWHERE, 0),),
        tls_cert=files.chain,
        tls_key=files.key,
    )
    async with running(lines, stub(b"safe "), settings) as run:
        assert isinstance(run.address, TcpAddress)
        address = TcpAddress("127.0.0.1", run.address.port)
        assert await ask(address, b"call", tls=tls.client()) == b"safe call"


@pytest.mark.parametrize(
    "given",
    [{"tls_cert": "a.pem"}, {"tls_key": "a.pem"}, {"tls_client_ca": "a.pem"}],
    ids=["no key", "no certificate", "neither"],
)
async def test_CF_09_half_of_what_tls_needs_is_refused(given: dict[str, str]) -> None:
    with pytest.raises(ListenError, match="--tls-cert and --tls-key, both"):
        Run(SETTINGS.replace(**given), stub(), 0)


async def test_CF_09_a_certificate_that_cannot_be_read_is_refused_by_name(tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.pem")
    settings = SETTINGS.replace(tls_cert=missing, tls_key=missing)
    with pytest.raises(ListenError, match=r"missing\.pem: No such file"):
        Run(settings, stub(), 0)


async def test_a_reload_says_at_once_what_is_wrong_with_a_new_certificate(
    lines: Lines, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = tls.Files(tmp_path)
    files.write()
    settings = SETTINGS.replace(tls_cert=files.chain, tls_key=files.key)
    async with running(lines, stub(b"old "), settings) as run:
        files.empty()
        run.reload(stub(b"new "))
        await lines.until("reloaded")

        assert "the certificate of before stays in force" in caplog.text
        assert await ask(run.address, b"call", tls=tls.client()) == b"new call"


async def test_a_name_that_means_loopback_is_loopback(lines: Lines) -> None:
    settings = SETTINGS.replace(listen=(TcpAddress("localhost", 0),))
    async with running(lines, stub(), settings) as run:
        assert await health(run.address) == "SERVING"


async def test_a_name_that_means_nothing_is_refused() -> None:
    unresolvable = "a" * 64  # longer than a label may be: no resolver is asked
    settings = SETTINGS.replace(listen=(TcpAddress(unresolvable, 0),))
    with pytest.raises(ListenError, match=f"cannot resolve '{unresolvable}'"):
        Run(settings, stub(), 0)


async def test_a_port_in_use_ends_the_run(lines: Lines) -> None:
    async with running(lines, stub()) as run:
        twin = Run(SETTINGS.replace(listen=(run.address,)), stub(), 0)
        with pytest.raises(ListenError, match="Address already in use"):
            await twin.ended


async def test_the_operators_pages_are_served_and_end_with_the_server(lines: Lines) -> None:
    settings = SETTINGS.replace(admin=LOOPBACK)
    async with running(lines, stub(), settings) as run:
        admin = run.server._admin
        assert admin is not None
        reader, writer = await asyncio.open_connection(admin.address.host, admin.address.port)
        writer.write(b"GET /readyz?verbose HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
        page = await reader.read()
        writer.close()

        assert page.startswith(b"HTTP/1.1 200 OK")
        assert b"[+] http://keycloak.test" in page
        run.send(signal.SIGTERM)
        await run.ended
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(admin.address.host, admin.address.port)


async def test_RL_10_sigterm_ends_a_server_that_is_reading_its_files(lines: Lines) -> None:
    async with running(lines, stub()) as run:
        run.send(signal.SIGHUP)  # and nothing comes of it: the files are still being read
        run.send(signal.SIGTERM)

        assert await asyncio.wait_for(run.ended, 20) == 0


async def test_a_server_that_has_started_has_its_configuration(lines: Lines) -> None:
    async with running(lines, stub()) as run:
        assert run.last_reload_ok == 1
