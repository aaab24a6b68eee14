"""``authz demo``: the workshop's request through a real Envoy, and what happens to others."""

from __future__ import annotations

import json
import os
import shlex
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TextIO

from authz.demo.parts import LOOPBACK, PartMissingError, find
from authz.demo.stage import WORKSHOP, staged
from authz.demo.story import KONG_ID, PATH, WHILE_IT_IS_DOWN, WHILE_THE_PROVIDER_RUNS, Call
from authz.errors import AuthzError
from authz.transport import AUTHORIZATION

if TYPE_CHECKING:
    from collections.abc import Iterator

    from authz.demo.stage import Stage
    from authz.demo.story import Reply, Step

WATCH_SECONDS = 0.5
LOG_TIMEOUT_SECONDS = 0.5
INTERRUPTED = 128 + signal.SIGINT


def run(*, once: bool, out: TextIO) -> int:
    """Run the demo and return the exit code: 0 only if every answer was the expected one.

    On a terminal, and not ``once``, everything stays up afterwards until Ctrl-C.
    """
    screen = Screen(out)
    started = time.monotonic()
    try:
        with _signals_interrupt(), staged(screen.line) as stage:
            screen.line(f"ready in {time.monotonic() - started:.1f} s")
            code = _tell(stage, screen)
            if out.isatty() and not once:
                code = _stay(stage, screen, code)
    except AuthzError as error:
        screen.bad(str(error))
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED
    return code


class Screen:
    """Plain lines; bold and colour only on a terminal and without ``NO_COLOR``."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._styled = out.isatty() and not os.environ.get("NO_COLOR")

    def line(self, text: str = "") -> None:
        """Print one line, at once."""
        print(text, file=self._out, flush=True)

    def title(self, text: str) -> None:
        """Print a heading after an empty line."""
        self.line()
        self.line(self._style("1", text))

    def good(self, text: str) -> None:
        """Print an answer that was expected."""
        self.line(self._style("32", text))

    def bad(self, text: str) -> None:
        """Print an answer that was not expected."""
        self.line(self._style("31", text))

    def _style(self, code: str, text: str) -> str:
        return f"\x1b[{code}m{text}\x1b[0m" if self._styled else text


def _tell(stage: Stage, screen: Screen) -> int:
    """Play every step; return 0 if all went as expected."""
    screen.line(f"configuration      {WORKSHOP}, the workshop's decK file as it stands")
    passed = [_play(step, stage, screen) for step in WHILE_THE_PROVIDER_RUNS]
    screen.title("=== The identity provider stops ===")
    stage.idp_server.stop()
    passed += [_play(step, stage, screen) for step in WHILE_IT_IS_DOWN]
    asked = ", ".join(f"{name} {count}" for name, count in sorted(stage.idp.counters.items()))
    screen.title("How often the identity provider was asked")
    screen.line(f"{asked}; callers asked {len(passed)} times")
    screen.line()
    if all(passed):
        screen.good(f"all {len(passed)} answers as expected")
        return 0
    screen.bad(f"{passed.count(False)} of {len(passed)} answers not as expected")
    return 1


def _play(step: Step, stage: Stage, screen: Screen) -> bool:
    """Make one step's request, show it, and return whether it went as expected."""
    screen.title(step.title)
    screen.line(f"$ {step.call.curl(stage.url)}")
    heard = len(stage.authz.output())
    try:
        reply = step.call.send(stage.envoy_port)
    except OSError as error:
        screen.bad(f"no answer from Envoy: {error}")
        return False
    fault = step.fault(reply)
    if fault is None:
        screen.good(f"{reply.status}, as expected")
    else:
        screen.bad(f"{reply.status}, but {fault}")
    _show(reply, screen, in_full=step.shows_token)
    if not reply.upstream:
        _show_reason(stage, heard, screen)
    return fault is None


def _show(reply: Reply, screen: Screen, *, in_full: bool) -> None:
    """Show the upstream's view, or the answer's body if the upstream never saw it."""
    if not reply.upstream:
        screen.line(f"body: {reply.text}")
        return
    consumer = reply.upstream.get("X-Consumer-Username")
    authorization = reply.upstream.get("Authorization", "")
    screen.line(f"upstream: X-Consumer-Username: {consumer}")
    screen.line(f"upstream: Authorization: {authorization[:24]}…")
    if in_full and reply.token is not None:
        for name, part in zip(("header", "claims"), reply.token, strict=True):
            screen.line(f"\nToken {name}\n------------")
            screen.line(json.dumps(part, indent=2, sort_keys=name == "claims"))


def _show_reason(stage: Stage, heard: int, screen: Screen) -> None:
    """Show the reason that authz logged for the operator, if it logged one."""
    deadline = time.monotonic() + LOG_TIMEOUT_SECONDS
    while time.monotonic() < deadline:
        for line in stage.authz.output()[heard:].splitlines():
            if (reason := _reason(line)) is not None:
                screen.line(f"log:  {reason}")
                return
        time.sleep(0.01)  # the line is written by another process


def _reason(line: str) -> str | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None
    return event.get("reason") if isinstance(event, dict) else None


def _stay(stage: Stage, screen: Screen, code: int) -> int:
    """Keep everything up until a signal, or until a part ends by itself."""
    stage.idp_server.start(stage.idp.app())
    screen.title("The provider is back and everything stays up until Ctrl-C.  To try:")
    for command in _commands(stage):
        screen.line(f"$ {command}")
    try:
        while all(process.running for process in stage.processes):
            time.sleep(WATCH_SECONDS)
    except KeyboardInterrupt:
        screen.line("\nstopping")
        return code
    for process in stage.processes:
        if not process.running:
            screen.bad(f"{process.name} ended:\n{process.output()}")
    return 1


def _commands(stage: Stage) -> list[str]:
    authz = f"{LOOPBACK}:{stage.authz_port}"
    grpcurl = f"{_grpcurl()} -plaintext"
    request = {"method": "GET", "path": PATH, "headers": Call(user=KONG_ID).headers_sent()}
    check = json.dumps(
        {
            "attributes": {
                "request": {"http": request},
                "contextExtensions": {"route": "oidc-route"},
            }
        }
    )
    return [
        Call(user=KONG_ID).curl(stage.url),
        Call(user=("kong_id", "wrong")).curl(f"{stage.url}").replace("-sX", "-isX"),
        f"{grpcurl} {authz} list",
        f"{grpcurl} -d {shlex.quote(check)} {authz} {AUTHORIZATION}/Check",
        f"curl -s 'http://{LOOPBACK}:{stage.admin_port}/readyz?verbose'",
        f"curl -s http://{LOOPBACK}:{stage.admin_port}/metrics",
        f"curl -s {stage.idp_server.url}/control",
    ]


def _grpcurl() -> str:
    """Return the path of grpcurl, or its name where it is not installed (as on arm64)."""
    try:
        return shlex.quote(find("grpcurl"))
    except PartMissingError:
        return "grpcurl"


@contextmanager
def _signals_interrupt() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the demo as Ctrl-C does, and ignore further ones meanwhile."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def interrupt(_number: int, _frame: object) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
