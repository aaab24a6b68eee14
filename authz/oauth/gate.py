"""Whether one origin of a provider may be asked now, and who is told why not."""

from __future__ import annotations

import contextlib
import logging
import math
import random
from typing import TYPE_CHECKING, Final

from authz.errors import IdpOutage, Reason
from authz.oauth import pause
from authz.oauth.breaker import Breaker
from authz.oauth.pause import Pause

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.clock import Clock
    from authz.errors import Refusal, Unavailable
    from authz.oauth.deadline import Deadline
    from authz.oauth.endpoints import Endpoint
    from authz.oauth.http import Response
    from authz.oauth.places import Priority

_log = logging.getLogger("authz.idp")

# The same trouble is told again after so long; and so many kinds of it are told apart.
REMINDER_SECONDS: Final = 60.0
TROUBLES_MAX: Final = 64

_TOO_MANY_REQUESTS: Final = 429
_REQUEST_TIMEOUT: Final = 408
_SERVER_ERRORS: Final = range(500, 600)
# What a gateway answers for a provider that does not.
_GATEWAY_ERRORS: Final = frozenset((502, 503, 504))


class Gate:
    """The pause, the breaker and the warnings of one origin.

    ``lot`` draws a number from 0 to 1.
    """

    def __init__(self, clock: Clock, lot: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._pause = Pause(clock, lot)
        self._breaker = Breaker(clock, lot)
        self._under_way: set[Deadline] = set()
        self._hanging: set[Deadline] = set()
        self._told_at: dict[tuple[str, str, str], float] = {}

    @contextlib.contextmanager
    def entered(self, where: str, priority: Priority) -> Iterator[bool]:
        """Let a call through, and yield whether it is a probe; else raise IdpOutage."""
        self._check_pause(where)
        if not self._breaker.is_open:
            yield False
            return
        if not self._breaker.probe(priority):
            raise IdpOutage(
                Reason.IDP_UNAVAILABLE,
                f"{where}: not asked, as the last calls had no answer ({self._breaker.cause})",
                retry_after=max(1, math.ceil(self._breaker.left_s)),
            )
        try:
            yield True
        finally:
            self._breaker.probed(priority)

    def _check_pause(self, where: str) -> None:
        left_s = self._pause.left_s
        if left_s > 0:
            raise IdpOutage(
                Reason.IDP_THROTTLED,
                f"{where}: not asked, as the provider wants a pause",
                retry_after=math.ceil(left_s),
            )

    @contextlib.contextmanager
    def under_way(self, deadline: Deadline) -> Iterator[None]:
        """Note that a call waits for its answer."""
        self._under_way.add(deadline)
        try:
            yield
        finally:
            self._under_way.discard(deadline)

    # --- How a call ended --------------------------------------------------------------

    def unanswered(self, cause: str, *, probe: bool) -> None:
        """Note a call without an answer; enough of them close the gate."""
        if self._breaker.unanswered(cause, probe=probe):
            self._hanging = set(self._under_way)

    def answered(self, response: Response, *, probe: bool) -> None:
        """Note an answer, whatever it says."""
        if response.status in _GATEWAY_ERRORS:
            self.unanswered(f"HTTP status {response.status}", probe=probe)
            return
        if self._breaker.answered():
            _log.warning("the identity provider answers again")
            # They have waited since before the gate was closed: their connections are
            # dead, and they hold places that others could use.
            for hanging in self._hanging & self._under_way:
                hanging.give_up("given up, as others are answered that began later")
            self._hanging.clear()

    def outage(self, response: Response, refusal: Refusal | None) -> IdpOutage | None:
        """Return the outage that an answer is by its status, or by what was read in it.

        A pause begins if the provider asks for one, whatever the status.
        """
        status = response.status
        said = refusal.log_fields if refusal else {}
        if status == _TOO_MANY_REQUESTS or (refusal and refusal.reason is Reason.IDP_THROTTLED):
            seconds = self._begin_pause(_TOO_MANY_REQUESTS, response)
            detail = f"HTTP status {status}, overwhelmed: a pause of {seconds} s"
            return IdpOutage(
                Reason.IDP_THROTTLED, detail, retry_after=seconds or 1, log_fields=said
            )
        is_down = status == _REQUEST_TIMEOUT or status in _SERVER_ERRORS
        if is_down or isinstance(refusal, IdpOutage):
            seconds = self._begin_pause(status if is_down else _REQUEST_TIMEOUT, response)
            detail = refusal.detail if isinstance(refusal, IdpOutage) else f"HTTP status {status}"
            return IdpOutage(
                Reason.IDP_UNAVAILABLE, detail, retry_after=seconds or 1, log_fields=said
            )
        return None

    def _begin_pause(self, status: int, response: Response) -> int | None:
        """Begin the pause that an answer asks for; return its length in seconds."""
        asked_s = pause.seconds_asked_for(status, response.headers, self._clock.now())
        if asked_s is None and status != _TOO_MANY_REQUESTS:
            return None
        return math.ceil(self._pause.begin(asked_s))

    def understood(self) -> None:
        """Note an answer that is no outage."""
        self._pause.end()

    def warn(self, endpoint: Endpoint, error: Unavailable) -> None:
        """Tell the operator of the provider's trouble: once per cause and minute."""
        trouble, now = (endpoint.name, error.reason.value, error.detail), self._clock.monotonic()
        told_at = self._told_at.get(trouble)
        if told_at is not None and now < told_at + REMINDER_SECONDS:
            return
        if len(self._told_at) >= TROUBLES_MAX:
            self._told_at.clear()
        self._told_at[trouble] = now
        _log.warning(
            "a call to the identity provider has failed",
            extra={
                "fields": {
                    "endpoint": endpoint.name,
                    "reason": error.reason.value,
                    "detail": error.detail,
                    **error.log_fields,
                }
            },
        )
