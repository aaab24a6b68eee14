"""A keeper with a provider that does what the test says, on the clock of the test."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import Reason, Unauthenticated
from authz.model import Claims, Secret
from authz.telemetry import Telemetry
from authz.tokens.guesses import Guess
from authz.tokens.keeper import Granted, Keeper, Occasion
from authz.tokens.memory import MemoryTier
from authz.tokens.terms import Terms

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.clock import Clock

    from authz.tokens.tier import Kept

LIFE_SECONDS = 300.0


class Provider:
    """Gives tokens that live for ``life_s``, or raises what the test has put into ``error``.

    ``hold``: it does not answer until :meth:`go`.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.life_s = LIFE_SECONDS
        self.expires_in: float | None = None
        self.error: Exception | None = None
        self.asked: list[Occasion] = []
        self.distrusted: set[str] = set()
        self._go = asyncio.Event()
        self._go.set()

    def hold(self) -> None:
        self._go.clear()

    def go(self) -> None:
        self._go.set()

    async def answer(self, occasion: Occasion) -> Granted:
        self.asked.append(occasion)
        number = len(self.asked)
        await self._go.wait()
        if self.error is not None:
            raise self.error
        expires_at = self._clock.now() + self.life_s
        return Granted(
            Secret(f"token-{number}"), Claims({"n": number}), expires_at, self.expires_in
        )


class GrantOf:
    """One caller's grant at a provider."""

    def __init__(
        self, provider: Provider, name: str = "one", source: str = "", **terms: Any
    ) -> None:
        self.provider = provider
        self.terms = Terms(**terms)
        self.guess = Guess(b"client", name.encode(), source)
        self.log_fields = {"client": name}

    async def obtain(self, occasion: Occasion, guess: Guess) -> Granted:
        assert guess is self.guess
        return await self.provider.answer(occasion)

    async def vouch(self, kept: Kept) -> None:
        if kept.token.reveal() in self.provider.distrusted:
            raise Unauthenticated(Reason.TOKEN_KEY_UNKNOWN)


@pytest.fixture
def provider(clock: Clock) -> Provider:
    return Provider(clock)


@pytest.fixture
def telemetry() -> Telemetry:
    return Telemetry()


@pytest.fixture
def make_keeper(clock: Clock, telemetry: Telemetry) -> Callable[..., Keeper]:
    """A maker of keepers whose lots are 0: everything happens as early as it may."""

    def make(*, entries_max: int = 100, lot: Callable[[], float] = lambda: 0.0) -> Keeper:
        return Keeper(
            MemoryTier(entries_max=entries_max, bytes_max=1_000_000, clock=clock),
            entries_max=entries_max,
            life_min_s=2,
            clock=clock,
            telemetry=telemetry,
            lot=lot,
        )

    return make


@pytest.fixture
def keeper(make_keeper: Callable[..., Keeper]) -> Keeper:
    return make_keeper()


@pytest.fixture
def count(telemetry: Telemetry) -> Callable[..., float]:
    """A reader of counters."""

    def read(name: str, **labels: str) -> float:
        return telemetry.registry.get_sample_value(name, labels) or 0.0

    return read
