"""Exchanged tokens, credentials refused or known to be good, and the exchanges under way."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz.cache.flight import SingleFlight
from authz.cache.guesses import GuessLimiter
from authz.cache.memory import BoundedCache

if TYPE_CHECKING:
    from collections.abc import Callable

    from authz.errors import Reason
    from authz.model import AccessToken

# A secret may have been set at the provider a moment after it was refused.
REFUSED_SECONDS_MAX: Final = 5.0
REFUSED_ENTRIES_MAX: Final = 10_000
GRANTS_MAX: Final = 4_096
# A credential that was good need not take its place among the guesses.
KNOWN_SECONDS_MAX: Final = 24 * 3_600.0
KNOWN_ENTRIES_MAX: Final = 10_000

_DIGEST_BYTES: Final = 32


class Acquaintance:
    """Who guesses, and which credentials were good, through all configurations.

    It lets nobody in.  Without it a reload in the middle of an attack would lock out the
    client that is attacked, and give the attacker turns anew.
    """

    def __init__(self, *, timer: Callable[[], float]) -> None:
        self.guesses = GuessLimiter(timer=timer)
        self.known: BoundedCache[bool] = BoundedCache(
            entries_max=KNOWN_ENTRIES_MAX,
            bytes_max=KNOWN_ENTRIES_MAX * _DIGEST_BYTES,
            timer=timer,
        )


class TokenStore:
    """What is known of callers' credentials, by digest of everything that an exchange depends on.

    Refusals have a cache of their own: a flood of wrong secrets pushes out no
    good token.  So have the good credentials: they are known without their tokens.
    """

    def __init__(
        self,
        acquaintance: Acquaintance,
        *,
        entries_max: int,
        bytes_max: int,
        timer: Callable[[], float],
    ) -> None:
        self.guesses = acquaintance.guesses
        self._known = acquaintance.known
        self.exchanges: SingleFlight[AccessToken] = SingleFlight(calls_max=GRANTS_MAX)
        self._tokens: BoundedCache[AccessToken] = BoundedCache(
            entries_max=entries_max, bytes_max=bytes_max, timer=timer
        )
        self._refused: BoundedCache[Reason] = BoundedCache(
            entries_max=REFUSED_ENTRIES_MAX,
            bytes_max=REFUSED_ENTRIES_MAX * _DIGEST_BYTES,
            timer=timer,
        )

    def token(self, key: bytes) -> AccessToken | None:
        """Return the token that was exchanged for this credential."""
        return self._tokens.get(key)

    def keep(self, key: bytes, token: AccessToken, *, lifetime_s: float) -> None:
        """Remember a verified token for at most ``lifetime_s`` seconds."""
        self._tokens.put(
            key, token, lifetime_s=lifetime_s, size_bytes=len(token.value.reveal()) + _DIGEST_BYTES
        )

    def forget(self, key: bytes) -> None:
        """Forget a token that is no longer good."""
        self._tokens.drop(key)

    def is_known(self, key: bytes) -> bool:
        """Whether the provider has accepted this credential, and not refused it since."""
        return self._known.get(key) is not None

    def accept(self, key: bytes) -> None:
        """Remember that the provider accepted this credential."""
        self._known.put(key, value=True, lifetime_s=KNOWN_SECONDS_MAX, size_bytes=_DIGEST_BYTES)

    def refusal(self, key: bytes) -> Reason | None:
        """Return why exactly this credential was refused a moment ago, if it was."""
        return self._refused.get(key)

    def refuse(
        self, key: bytes, reason: Reason, *, lifetime_s: float, ends_token: bool = True
    ) -> None:
        """Remember that this credential was refused.

        ``ends_token``: the credential itself is bad, so nothing good of it is remembered.
        """
        if ends_token:
            self._tokens.drop(key)
            self._known.drop(key)
        self._refused.put(
            key,
            reason,
            lifetime_s=min(lifetime_s, REFUSED_SECONDS_MAX),
            size_bytes=_DIGEST_BYTES,
        )

    async def settled(self) -> None:
        """Return once the exchanges that are under way now have ended."""
        await self.exchanges.settled()

    async def aclose(self) -> None:
        """End what is under way."""
        await self.exchanges.aclose()

    def tokens_held(self) -> int:
        """Return the number of tokens."""
        return len(self._tokens)

    def refusals_held(self) -> int:
        """Return the number of refusals."""
        return len(self._refused)
