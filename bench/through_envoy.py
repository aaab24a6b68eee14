"""Through a real Envoy: what a Check costs the one who answers it, and what the caller waits.

Contenders take turns, a second each, round after round: the machine's speed drifts, and
drifts for all.  What a contender claims to do is looked at after each turn.
"""

from __future__ import annotations

import tempfile
import urllib.request
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from authz.demo.parts import LOOPBACK, PartFailedError
from bench import edge, load, rows
from bench.block import Block, Result, Turn
from bench.decisions import ready_answer
from bench.fixture import basic, deck
from bench.idp import running_idp
from bench.machine import cpu_seconds, resident_megabytes
from bench.rows import BASIC, BEARER, CACHED, FIRST, MISS, UNITS
from bench.servers import NATIVE, PEERS, Authz, NotBuiltError, Peer

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.demo.parts import Process
    from bench.edge import Listener
    from bench.idp import BenchIdp
    from bench.rows import Row

ROUNDS: Final = 5
CONNECTIONS: Final = (1, 16, 64)

POOL: Final = 1_000
"""Credentials that take turns where each is to be new; the caches then hold a tenth of them."""
FORGETFUL_ENTRIES: Final = POOL // 10
IDP_DELAY_SECONDS: Final = 0.02

_TRANSPORTS: Final = {rows.GRPCIO: "grpcio", rows.NATIVE: "native"}


@dataclass(frozen=True, slots=True)
class Contender:
    """A row in some units of work.  Without a process Envoy itself does the work."""

    row: Row
    listener: Listener
    process: Process | None = None


def measure() -> Iterator[Block]:
    """Measure block after block; some six minutes.

    Raises ``PartMissingError`` or ``PartFailedError``.
    """
    load.program()  # first of all: nothing goes without
    with ExitStack() as stack:
        idp = stack.enter_context(running_idp())
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="authz-bench-")))
        contest = _Contest(stack, idp, directory)
        for unit in UNITS:
            contest.prime(unit)
            for connections in CONNECTIONS:
                yield contest.block(unit, connections)


class _Contest:
    """Everything that takes part, started."""

    def __init__(self, stack: ExitStack, idp: BenchIdp, directory: Path) -> None:
        answer = directory / "answer"
        answer.write_bytes(ready_answer(idp))
        tokens = [idp.issue() for _ in range(POOL)]
        idp.lay_ready(tokens)
        idp.delay_s = IDP_DELAY_SECONDS
        values = {
            BASIC: [basic()],
            BEARER: [f"Bearer {tokens[0]}"],
            FIRST: [f"Bearer {token}" for token in tokens],
            MISS: [basic(f"secret-{number}") for number in range(POOL)],
        }
        self._credentials = {
            unit: load.Credentials(directory / f"{number}.txt", values[unit])
            for number, unit in enumerate(UNITS)
        }
        self._absent: dict[Row, str] = {}
        self._contenders = _units(
            _envoys_own(idp), self._peers(stack, answer), self._ours(stack, deck(idp.issuer))
        )
        everyone = {one.listener for unit in UNITS for one in self._contenders[unit]}
        self._edge = stack.enter_context(edge.ListenersEnvoy(everyone))

    def _peers(self, stack: ExitStack, answer: Path) -> list[Contender]:
        contenders: list[Contender] = []
        for row, program in PEERS.items():
            try:
                process = stack.enter_context(Peer(program(), answer))
            except NotBuiltError as error:
                self._absent[row] = str(error)
                continue
            name = f"peer-{len(contenders)}"
            contenders.append(Contender(row, edge.asking(name, process.port), process))
        return contenders

    def _ours(self, stack: ExitStack, text: str) -> dict[bool, list[Contender]]:
        """Start authz twice for each transport, with caches that hold all (true) and little."""
        if not NATIVE:
            self._absent[rows.NATIVE] = "not built: make native"
        contenders: dict[bool, list[Contender]] = {True: [], False: []}
        for remembers, those in contenders.items():
            options = () if remembers else ("--cache-entries", str(FORGETFUL_ENTRIES))
            for row, transport in _TRANSPORTS.items():
                if row in self._absent:
                    continue
                authz = Authz(text, *options, transport=transport)
                stack.enter_context(authz)
                listener = edge.asking(f"{transport}-{remembers}", authz.port)
                those.append(Contender(row, listener, authz))
        return contenders

    def prime(self, unit: str) -> None:
        """Have every cache filled and every connection made that a unit can do with."""
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for contender in self._contenders[unit]:
            url = f"http://{LOOPBACK}:{contender.listener.port}/0/get"
            header = {"authorization": self._credentials[unit].first}
            opener.open(urllib.request.Request(url, headers=header), timeout=10).close()

    def block(self, unit: str, connections: int) -> Block:
        """Measure one unit of work at one number of connections."""
        contenders = self._contenders[unit]
        turns: dict[Row, list[Turn]] = {contender.row: [] for contender in contenders}
        for number in range(ROUNDS):
            first = number % len(contenders)  # nobody always comes after the same one
            for contender in (*contenders[first:], *contenders[:first]):
                turns[contender.row].append(self._slot(contender, unit, connections))
        if rows.JWT_AUTHN in turns:
            pairs = zip(turns[rows.JWT_AUTHN], turns[rows.ALONE], strict=True)
            turns[rows.JWT_AUTHN] = [_added(turn, alone) for turn, alone in pairs]
        results = [Result(c.row, turns[c.row], _megabytes(c.process)) for c in contenders]
        return Block(unit, connections, results, self._absent)

    def _slot(self, contender: Contender, unit: str, connections: int) -> Turn:
        process = contender.process
        checks, worked_out = self._edge.checks(contender.listener), _worked_out(process)
        cpu, envoy_cpu = _cpu(process), _cpu(self._edge)
        seen = self._credentials[unit].send(contender.listener.port, connections)
        cpu, envoy_cpu = _cpu(process) - cpu, _cpu(self._edge) - envoy_cpu
        asked = self._edge.checks(contender.listener) - checks
        if process is not None and not seen.requests <= asked <= seen.requests + connections:
            raise PartFailedError(f"{unit}: {seen.requests} requests, but {asked} Checks")
        if isinstance(process, Authz):
            _hold_to(unit, asked, _worked_out(process) - worked_out, connections)
        requests = asked or seen.requests
        return Turn(cpu / requests * 1e6, envoy_cpu / requests * 1e6, seen)


def _units(
    own: Mapping[str, Contender], peers: list[Contender], ours: Mapping[bool, list[Contender]]
) -> dict[str, list[Contender]]:
    """Return who takes part in which unit of work, in the order of the table."""
    compared = [peer for peer in peers if peer.row is not rows.GRPC_AIO]
    return {
        BASIC: [own["alone"], *peers, *ours[True]],
        BEARER: [own["alone"], own["jwt-cached"], *compared, *ours[True]],
        FIRST: [own["alone"], own["jwt"], *compared, *ours[False]],
        MISS: [*compared, *ours[False]],
    }


def _envoys_own(idp: BenchIdp) -> dict[str, Contender]:
    keys = {"keys": [key.jwk for key in idp.provider.keys]}
    return {
        "alone": Contender(rows.ALONE, edge.unguarded("alone")),
        "jwt": Contender(rows.JWT_AUTHN, edge.verifying("jwt", idp.issuer, keys)),
        "jwt-cached": Contender(
            rows.JWT_AUTHN, edge.verifying("jwt-cached", idp.issuer, keys, remembers=True)
        ),
    }


def _added(turn: Turn, alone: Turn) -> Turn:
    """Return a turn of a filter of Envoy's: its CPU is what it adds, if that can be told."""
    return Turn(max(0.0, turn.envoy_us - alone.envoy_us), turn.envoy_us, turn.load)


def _cpu(process: Process | None) -> float:
    return 0.0 if process is None or process.pid is None else cpu_seconds(process.pid)


def _megabytes(process: Process | None) -> float | None:
    return None if process is None or process.pid is None else resident_megabytes(process.pid)


def _worked_out(process: Process | None) -> float:
    return process.worked_out() if isinstance(process, Authz) else 0.0


def _hold_to(unit: str, asked: int, worked_out: float, in_flight: int) -> None:
    """Refuse a turn whose answers did not come from where the unit says.

    Load ends in mid-flight: what was under way may be counted on one side alone.
    """
    least, most = (0, in_flight) if unit in CACHED else (asked - 2 * in_flight, asked + in_flight)
    if not least <= worked_out <= most:
        raise PartFailedError(f"{unit}: of {asked} Checks {worked_out:.0f} were worked out")
