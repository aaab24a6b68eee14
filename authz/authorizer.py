"""Bytes in, bytes out: the seam that any transport calls.

``cached`` returns an answer only if ``check`` would return the same bytes, else
``None``; it is synchronous and does no I/O.  ``check`` always answers.  Two values may
differ: the ``expires_at`` of a cached answer is at most that of ``check``, and its
``decision_id`` is of the decision that it repeats.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from authz.decision import Allow, Wording, for_error, for_metadata, for_termination
from authz.envoy import check as wire_format
from authz.errors import MetadataAsked, Reason, Refusal, Terminated, Unavailable
from authz.logs import DECISIONS, log_internal_error
from authz.model import PairCredential, Request
from authz.oauth.deadline import watched
from authz.pipeline import Trace
from authz.telemetry.checks import NOWHERE, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.clock import Clock
    from authz.deadline_hint import DeadlineHint
    from authz.decision import Decision
    from authz.envoy.check import Names
    from authz.fast_path import FastPath
    from authz.model import Identity
    from authz.pipeline import Pipeline
    from authz.telemetry import Telemetry

_log = logging.getLogger(DECISIONS)

# Our answer must leave before Envoy stops waiting.
MARGIN_SECONDS_MAX: Final = 0.05
MARGIN_SHARE: Final = 0.25
# For a caller that names no deadline.
DEADLINE_SECONDS_DEFAULT: Final = 15.0

# Far above what a provider's outage piles up within its deadline.
CHECKS_UNDER_WAY_MAX: Final = 20_000

_REQUEST_ID_CHARS_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class Outcome:
    """A decision and how it came about."""

    decision: Decision
    trace: Trace
    refusal: Refusal | None = None


class Authorizer:
    """Everything that one configuration decides."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        fast_path: FastPath,
        clock: Clock,
        telemetry: Telemetry,
        hint: DeadlineHint,
        names: Names = wire_format.context_extensions,
        log_allowed: bool = False,
        log_denied: bool = True,
        under_way_max: int = CHECKS_UNDER_WAY_MAX,
    ) -> None:
        self._pipeline = pipeline
        self._fast_path = fast_path
        self._clock = clock
        self._telemetry = telemetry
        self._names = names
        self._hint = hint
        self._log_allowed = log_allowed
        self._log_denied = log_denied
        self._under_way = 0
        self._under_way_max = under_way_max

    # --- The fast path -------------------------------------------------------------

    def cached(self, wire: bytes, waited_s: float = 0.0) -> bytes | None:
        """Return the cached answer to a request, or ``None``: ask :meth:`check`.

        ``waited_s`` is how long ago the request arrived.  Reads, and counts; changes
        nothing else, so any thread may call it.  Never raises.
        """
        try:
            started = time.perf_counter()
            found = self._fast_path.find(wire)
            if found is None:
                return None
            answer, view = found
            answer.count()
            took_s = waited_s + time.perf_counter() - started
            self._telemetry.answered_from_cache(took_s)
            if self._log_allowed:
                self._log_decision("allowed", answer.log_fields, view.headers.get, took_s)
        except Exception:  # noqa: BLE001 - whatever it is, the whole way will say
            return None
        return answer.wire

    # --- The whole way ---------------------------------------------------------------

    async def check(self, wire: bytes, deadline: float | None, waited_s: float = 0.0) -> bytes:
        """Decide a request and return the CheckResponse.

        ``deadline`` is the caller's, in the event loop's time; ``None``: it has
        none.  ``waited_s`` is how long ago the request arrived.  Raises nothing but the
        caller's own cancellation.
        """
        if self._under_way >= self._under_way_max:
            return self.overloaded()
        self._under_way += 1
        try:
            return await self._check(wire, deadline, waited_s)
        except Exception as error:  # noqa: BLE001 - beside the decision itself: its record, its bytes
            return self.fault(error)
        finally:
            self._under_way -= 1

    async def _check(self, wire: bytes, deadline: float | None, waited_s: float) -> bytes:
        started = self._clock.monotonic() - waited_s
        try:
            request = wire_format.parse(wire, self._names)
        except Refusal as error:
            outcome = self._refuse(Trace(Request()), error)
        else:
            left_s = _left(deadline)
            outcome = self._dated(await self.judge(request, deadline))
            if outcome.trace.presented is not None and left_s is not None:
                self._hint.look(left_s + waited_s)
        decision_id = secrets.token_hex(wire_format.DECISION_ID_CHARS // 2)
        try:
            answer = wire_format.render(outcome.decision, decision_id)
        except ValueError as error:
            # Our own guard has found a value that no answer may carry.
            outcome = self._refuse(outcome.trace, _internal(error))
            answer = wire_format.render(outcome.decision, decision_id)
        trace = outcome.trace
        place = NOWHERE if trace.match is None else Place.of(trace.match)
        log_fields = {"decision_id": decision_id, **_log_fields(trace)}
        self._record(outcome, place, log_fields, self._clock.monotonic() - started)
        if outcome.refusal is None and trace.identity is not None:
            count = self._telemetry.at(place).allowed_from_cache
            self._fast_path.remember(trace.request, trace.identity, answer, log_fields, count)
        return answer

    def fault(self, error: Exception) -> bytes:
        """Return the answer to a call that ended in ``error``: the last net; any thread."""
        _internal(error)
        return _LAST_RESORT

    def overloaded(self) -> bytes:
        """Return the answer to a call that there is no room or no time for; any thread."""
        self._telemetry.decided("deny", str(Reason.OVERLOADED), 0.0)
        return _OVERLOADED

    async def judge(self, request: Request, deadline: float | None = None) -> Outcome:
        """Decide a request; a fault of ours is a refusal like any other."""
        trace = Trace(request)
        started = self._clock.monotonic()
        with watched() as waiting:
            try:
                async with asyncio.timeout_at(_our_deadline(deadline)):
                    return Outcome(await self._pipeline.decide(trace), trace)
            except Refusal as error:
                return self._refuse(trace, error)
            except TimeoutError:
                waited_s = self._clock.monotonic() - started
                return self._refuse(trace, _too_late(waiting.what, waited_s))
            except Exception as error:  # noqa: BLE001 - nothing escapes: Envoy would see its text
                return self._refuse(trace, _internal(error))

    def _dated(self, outcome: Outcome) -> Outcome:
        """Say in the allow of a caller until when it may be given again."""
        decision, identity = outcome.decision, outcome.trace.identity
        if identity is None or not isinstance(decision, Allow):
            return outcome
        ends_at = _reusable_to(identity, self._clock)
        return replace(outcome, decision=replace(decision, expires_at=ends_at))

    def _refuse(self, trace: Trace, error: Refusal) -> Outcome:
        wording = trace.policy.wording if trace.policy else Wording()
        consumer = trace.consumer
        metadata = {} if consumer is None else {"consumer_id": consumer.id}
        grpc = trace.request.is_grpc
        if isinstance(error, Terminated):
            return Outcome(for_termination(error, grpc=grpc, metadata=metadata), trace, error)
        if isinstance(error, MetadataAsked):
            return Outcome(for_metadata(error, grpc=grpc), trace, error)
        return Outcome(for_error(error, wording, grpc=grpc, metadata=metadata), trace, error)

    # --- The record ------------------------------------------------------------------

    def _record(
        self, outcome: Outcome, place: Place, log_fields: Mapping[str, Any], seconds: float
    ) -> None:
        refusal, header = outcome.refusal, outcome.trace.request.headers.get
        reason = str(outcome.decision.reason)
        self._telemetry.decided("deny" if refusal else "allow", reason, seconds, place)
        if refusal is None:
            if self._log_allowed:
                self._log_decision("allowed", log_fields, header, seconds)
        elif self._log_denied:
            status = None if isinstance(outcome.decision, Allow) else outcome.decision.status
            said = {"reason": reason, "detail": refusal.detail, **refusal.log_fields}
            fields = {**said, "status": status, **_asked(outcome.trace)}
            self._log_decision("denied", {**fields, **log_fields}, header, seconds)

    def _log_decision(
        self,
        outcome: str,
        fields: Mapping[str, Any],
        header: Callable[[str], str | None],
        seconds: float,
    ) -> None:
        request_id = (header("x-request-id") or "")[:_REQUEST_ID_CHARS_MAX]
        duration_ms = round(seconds * 1000, 3)
        extra = {**fields, "request_id": request_id, "duration_ms": duration_ms}
        _log.info(outcome, extra={"fields": extra})


def _unavailable(reason: Reason) -> bytes:
    """Return an answer that is ready for when there is no time or way to make one."""
    return wire_format.render(for_error(Unavailable(reason), Wording(), grpc=False))


_LAST_RESORT: Final = _unavailable(Reason.INTERNAL_ERROR)
_OVERLOADED: Final = _unavailable(Reason.OVERLOADED)


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else deadline - asyncio.get_running_loop().time()


def _our_deadline(theirs: float | None) -> float:
    now = asyncio.get_running_loop().time()
    if theirs is None:
        return now + DEADLINE_SECONDS_DEFAULT
    return theirs - min(MARGIN_SECONDS_MAX, MARGIN_SHARE * max(0.0, theirs - now))


def _reusable_to(identity: Identity, clock: Clock) -> int:
    """Return until when an answer may be given again, in whole seconds since 1970; 0: not once.

    The end of the token without leeway, or of what we remember ourselves if that is
    earlier: then a token is renewed, an introspection repeated, a key asked for.
    """
    left_s = identity.reusable_until - clock.monotonic()
    if left_s <= 0:
        return 0
    return math.floor(min(identity.expires_at - identity.leeway_s, clock.now() + left_s))


def _too_late(waited_for: str, seconds: float) -> Unavailable:
    """Return the refusal for a request that Envoy will not wait for any longer."""
    what = waited_for or "a call that another request has begun, or a place"
    return Unavailable(
        Reason.DEADLINE_EXCEEDED,
        f"no answer within {seconds:.3g} s, when Envoy stops waiting; waited for: {what}",
    )


def _internal(error: Exception) -> Unavailable:
    """Return the refusal for a fault of ours; logged with its frames, not with its text."""
    log_internal_error(_log, error)
    return Unavailable(Reason.INTERNAL_ERROR, f"a fault of authz ({type(error).__name__})")


def _log_fields(trace: Trace) -> Mapping[str, Any]:
    """Return who and where: names from the configuration, who only once it is verified."""
    match, consumer, identity = trace.match, trace.consumer, trace.identity
    route = match and match.route
    return {
        "route": route and (route.name or route.id),
        "plugin": str(match.plugin.position) if match and match.plugin else None,
        "method": identity.method if identity else _methods(trace),
        "client": identity and identity.client,
        "consumer": consumer and (consumer.username or consumer.custom_id or consumer.id),
    }


def _asked(trace: Trace) -> Mapping[str, str]:
    """Return what a refused request asked for, and the id that it presented, if it has one.

    Nobody has verified either.  The query may hold a secret, so it is left out.
    """
    request = trace.request
    path = request.path.partition("?")[0]
    asked = {"request": f"{request.method} {request.host}{path}"}
    if isinstance(trace.presented, PairCredential):
        asked["presented_client"] = trace.presented.id
    return asked


def _methods(trace: Trace) -> str | None:
    """Return the methods that were asked about a credential."""
    if trace.policy is None or trace.presented is None:
        return None
    return trace.policy.authentication.names(trace.presented)
