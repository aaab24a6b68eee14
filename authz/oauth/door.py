"""The door to a provider: every call to it goes through here, and through nothing else.

What stands in the way of a call, in this order:

1. the pause that the provider has asked for (:mod:`authz.oauth.pause`);
2. the breaker, open while nothing answers (:mod:`authz.oauth.breaker`);
3. the bulkhead: a place among the calls under way (:mod:`authz.oauth.places`).

Pause and breaker belong to one origin (:mod:`authz.oauth.gate`): a key set that another
host serves says nothing of the token endpoint.  A call that fails on a connection that
had been idle is repeated once, out of a budget.  How each call ends is counted, logged,
and told to who observes.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections import defaultdict
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final, TypeVar

from authz.errors import IdpOutage, Reason, Refusal, Unavailable
from authz.oauth.deadline import Deadline, that_has_passed, waits_for
from authz.oauth.gate import Gate
from authz.oauth.http import Unanswered, origin_of
from authz.oauth.places import OURSELVES, Places, Priority

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from authz.clock import Clock
    from authz.oauth.connection import Origin
    from authz.oauth.endpoints import Endpoint
    from authz.oauth.http import HttpClient, Request, Response
    from authz.oauth.places import Asker
    from authz.telemetry import IdpCall, Telemetry

T = TypeVar("T")

# Calls that take no place: while an origin does not answer, one of each priority may find
# out whether it does again.
PROBES_MAX: Final = len(Priority)

# Of all calls one in ten may be repeated; and so many before any was made.
REPEATS_PER_CALL: Final = 0.1
REPEATS_MAX: Final = 10.0
# An idle connection that takes longer to answer than so many times the usual, and than
# so long, is taken for dead.
FIRST_BYTE_USUAL_TIMES: Final = 4
FIRST_BYTE_SECONDS_MIN: Final = 1.0
# The weight of the latest call in an endpoint's usual time.
_LATEST_WEIGHT: Final = 0.1

_observer: Final[ContextVar[list[IdpCall] | None]] = ContextVar("observer", default=None)


@contextlib.contextmanager
def observed() -> Iterator[list[IdpCall]]:
    """Collect the calls that are made inside, also in tasks that begin inside.

    A call stands in the list from its beginning; until it ends it has no outcome.
    """
    calls: list[IdpCall] = []
    token = _observer.set(calls)
    try:
        yield calls
    finally:
        _observer.reset(token)


class Door:
    """The only way to one provider.

    ``issuer`` is what metrics call the provider.  ``timeout_s`` bounds a call, the wait for
    its place included; a Deadline around several calls bounds them all.  ``lot`` draws a
    number from 0 to 1.
    """

    def __init__(
        self,
        http: HttpClient,
        *,
        issuer: str,
        places_max: int,
        timeout_s: float,
        clock: Clock,
        telemetry: Telemetry,
        lot: Callable[[], float] = random.random,
    ) -> None:
        self._http = http
        self._issuer = issuer
        self._places = Places(places_max)
        self._timeout_s = timeout_s
        self._clock = clock
        self._telemetry = telemetry
        # Origins come from the file and from the provider's own document: a few.
        self._gates: defaultdict[Origin, Gate] = defaultdict(lambda: Gate(clock, lot))
        self._repeats = REPEATS_MAX
        self._usual_s: dict[str, float] = {}

    async def ask(
        self,
        endpoint: Endpoint,
        request: Request,
        read: Callable[[Response], T],
        asker: Asker = OURSELVES,
    ) -> T:
        """Send a request, and return what ``read`` makes of the answer.

        ``read`` raises what an answer means that is no success: IdpOutage for an outage
        (with the reason ``idp_throttled`` it begins a pause), Unavailable for an answer
        that cannot be used, Unauthenticated for a verdict on the caller.  What it raises
        names the outcome in the metric, so all of the reading belongs into it.  An answer
        with status 429, 408 or 5xx is an outage whatever it says.

        Raises that; IdpOutage when there is no answer, or may be no call; Overloaded when
        no place becomes free.  The detail of an Unavailable begins with endpoint, host
        and port.
        """
        origin = origin_of(request.url)
        gate, where = self._gates[origin], f"{endpoint.title} at {origin.host}:{origin.port}"
        timed = self._telemetry.idp_call(self._issuer, endpoint.name, where, _observer.get())
        with gate.entered(where, asker.priority) as is_probe, timed as call:
            try:
                async with Deadline(self._timeout_s) as own:
                    waits_for(where)
                    # A probe takes no place: those may be held by calls that hang.
                    if not is_probe:
                        await self._places.take(asker)
                    try:
                        response = await self._answer(
                            gate, endpoint, request, own, asker.priority, is_probe=is_probe
                        )
                    finally:
                        if not is_probe:
                            self._places.give_back()
                return _read(gate, response, read, asker.priority)
            except Unavailable as error:
                told = _with_place(error, where)
                gate.warn(endpoint, told)
                raise told from error
            except asyncio.CancelledError:
                if (passed := that_has_passed()) is not None:
                    call.outcome = "unavailable"
                    late = IdpOutage(Reason.IDP_UNAVAILABLE, f"{where}: {passed.why}")
                    gate.warn(endpoint, late)
                raise

    async def _answer(
        self,
        gate: Gate,
        endpoint: Endpoint,
        request: Request,
        own: Deadline,
        priority: Priority,
        *,
        is_probe: bool,
    ) -> Response:
        """Send, and tell the gate whether there was an answer."""
        try:
            with gate.under_way(own, priority):
                response = await self._send(endpoint, request)
        except IdpOutage as outage:
            gate.unanswered(outage.detail, priority, probe=is_probe)
            raise
        except asyncio.CancelledError:
            passed = that_has_passed()
            if passed is not None and not passed.given_up:
                gate.unanswered(passed.why, priority, probe=is_probe)
            raise
        gate.answered(response, priority, probe=is_probe)
        return response

    # --- Sending, and once more ------------------------------------------------------

    async def _send(self, endpoint: Endpoint, request: Request) -> Response:
        """Send, and repeat once what a dead connection has swallowed (RFC 9112 section 9.3.1)."""
        may_repeat = request.repeatable and self._repeats >= 1
        self._repeats = min(REPEATS_MAX, self._repeats + REPEATS_PER_CALL)
        first_byte_s = self._first_byte_s(endpoint) if may_repeat else None
        try:
            return await self._timed(endpoint, request, first_byte_s=first_byte_s)
        except Unanswered as error:
            if not may_repeat or not error.was_idle:
                raise
        self._repeats -= 1
        again = request.signed_anew() if request.signed_anew else request
        return await self._timed(endpoint, again, fresh=True)

    async def _timed(
        self,
        endpoint: Endpoint,
        request: Request,
        *,
        fresh: bool = False,
        first_byte_s: float | None = None,
    ) -> Response:
        began = self._clock.monotonic()
        response = await self._http.send(
            request,
            accept=endpoint.accept,
            bytes_max=endpoint.answer_bytes_max,
            fresh=fresh,
            first_byte_s=first_byte_s,
        )
        took_s = self._clock.monotonic() - began
        usual_s = self._usual_s.get(endpoint.name, took_s)
        self._usual_s[endpoint.name] = usual_s + _LATEST_WEIGHT * (took_s - usual_s)
        return response

    def _first_byte_s(self, endpoint: Endpoint) -> float:
        usual_s = self._usual_s.get(endpoint.name, 0.0)
        return max(FIRST_BYTE_SECONDS_MIN, FIRST_BYTE_USUAL_TIMES * usual_s)

    async def aclose(self) -> None:
        """Close all connections."""
        await self._http.aclose()


def _read(gate: Gate, response: Response, read: Callable[[Response], T], priority: Priority) -> T:
    """Read an answer; one that is an outage is that, whatever else it says."""
    try:
        result = read(response)
    except Refusal as refusal:
        if (outage := gate.outage(response, refusal, priority)) is not None:
            raise outage from refusal
        gate.understood()
        raise
    if (outage := gate.outage(response, None, priority)) is not None:
        raise outage
    gate.understood()
    return result


def _with_place(error: Unavailable, where: str) -> Unavailable:
    """Return the error with endpoint, host and port before what it says."""
    if error.detail.startswith(where):
        return error
    kind = IdpOutage if isinstance(error, IdpOutage) else Unavailable
    detail = f"{where}: {error.detail}"
    return kind(error.reason, detail, retry_after=error.retry_after, log_fields=error.log_fields)
