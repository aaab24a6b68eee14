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
from authz.oauth.places import Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.clock import Clock
    from authz.errors import Refusal, Unavailable
    from authz.oauth.deadline import Deadline
    from authz.oauth.endpoints import Endpoint
    from authz.oauth.http import Response

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
    """The pauses, the breakers and the warnings of one origin.

    Trouble that a call meets stops the calls of its own priority and of those below: a
    stranger can send what makes a provider answer 429, or a firewall cut the connection,
    and that is no reason to turn a known caller away.  An answer lets everybody through.

    ``lot`` draws a number from 0 to 1.
    """

    def __init__(self, clock: Clock, lot: Callable[[], float] = random.random) -> None:
        self._clock = clock
        self._pauses = tuple(Pause(clock, lot) for _ in Priority)
        self._breakers = tuple(Breaker(clock, lot) for _ in Priority)
        self._under_way: dict[Deadline, Priority] = {}
        self._hanging: set[Deadline] = set()
        self._told_at: dict[tuple[str, str, str], float] = {}

    @contextlib.contextmanager
    def entered(self, where: str, priority: Priority) -> Iterator[bool]:
        """Let a call through, and yield whether it is a probe; else raise IdpOutage."""
        self._check_pause(where, priority)
        if not any(breaker.is_open for breaker in self._breakers[: priority + 1]):
            yield False
            return
        with contextlib.ExitStack() as probing:
            is_probe = False
            for breaker in self._breakers[: priority + 1]:
                if not breaker.is_open:
                    continue
                if not breaker.probe(priority):
                    raise IdpOutage(
                        Reason.IDP_UNAVAILABLE,
                        f"{where}: not asked, as the last calls had no answer ({breaker.cause})",
                        retry_after=max(1, math.ceil(breaker.left_s)),
                    )
                probing.callback(breaker.probed, priority)
                is_probe = True
            yield is_probe

    def _check_pause(self, where: str, priority: Priority) -> None:
        left_s = max(pause.left_s for pause in self._pauses[: priority + 1])
        if left_s > 0:
            raise IdpOutage(
                Reason.IDP_THROTTLED,
                f"{where}: not asked, as the provider wants a pause",
                retry_after=math.ceil(left_s),
            )

    @contextlib.contextmanager
    def under_way(self, deadline: Deadline, priority: Priority) -> Iterator[None]:
        """Note that a call waits for its answer."""
        self._under_way[deadline] = priority
        try:
            yield
        finally:
            del self._under_way[deadline]

    # --- How a call ended --------------------------------------------------------------

    def unanswered(self, cause: str, priority: Priority, *, probe: bool) -> None:
        """Note a call without an answer; enough of them close the gate."""
        if self._breakers[priority].unanswered(cause, probe=probe):
            self._hanging |= {one for one, of in self._under_way.items() if of >= priority}

    def answered(self, response: Response, priority: Priority, *, probe: bool) -> None:
        """Note an answer, whatever it says."""
        if response.status in _GATEWAY_ERRORS:
            self.unanswered(f"HTTP status {response.status}", priority, probe=probe)
            return
        if sum(breaker.answered() for breaker in self._breakers):  # all of them hear of it
            _log.warning("the identity provider answers again")
            # They have waited since before the gate was closed: their connections are
            # dead, and they hold places that others could use.
            for hanging in self._hanging & self._under_way.keys():
                hanging.give_up("given up, as others are answered that began later")
            self._hanging.clear()

    def outage(
        self, response: Response, refusal: Refusal | None, priority: Priority
    ) -> IdpOutage | None:
        """Return the outage that an answer is by its status, or by what was read in it.

        A pause begins if the provider asks for one, whatever the status.
        """
        status = response.status
        said = refusal.log_fields if refusal else {}
        if status == _TOO_MANY_REQUESTS or (refusal and refusal.reason is Reason.IDP_THROTTLED):
            seconds = self._begin_pause(_TOO_MANY_REQUESTS, response, priority)
            detail = f"HTTP status {status}, overwhelmed: a pause of {seconds} s"
            return IdpOutage(
                Reason.IDP_THROTTLED, detail, retry_after=seconds or 1, log_fields=said
            )
        is_down = status == _REQUEST_TIMEOUT or status in _SERVER_ERRORS
        if is_down or isinstance(refusal, IdpOutage):
            asks = status if is_down else _REQUEST_TIMEOUT
            seconds = self._begin_pause(asks, response, priority)
            detail = refusal.detail if isinstance(refusal, IdpOutage) else f"HTTP status {status}"
            return IdpOutage(
                Reason.IDP_UNAVAILABLE, detail, retry_after=seconds or 1, log_fields=said
            )
        return None

    def _begin_pause(self, status: int, response: Response, priority: Priority) -> int | None:
        """Begin the pause that an answer asks for; return its length in seconds."""
        asked_s = pause.seconds_asked_for(status, response.headers, self._clock.now())
        if asked_s is None and status != _TOO_MANY_REQUESTS:
            return None
        return math.ceil(self._pauses[priority].begin(asked_s))

    def understood(self) -> None:
        """Note an answer that is no outage."""
        for one in self._pauses:
            one.end()

    def warn(self, endpoint: Endpoint, error: Unavailable) -> None:
        """Tell the operator of the provider's trouble: once per cause and minute.

        That it refuses our own client is said by who asks in its name (``OwnClientWatch``).
        """
        if error.reason is Reason.OWN_CLIENT_REJECTED:
            return
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
