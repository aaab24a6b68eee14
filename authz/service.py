"""Bytes in, bytes out: the seam that any transport calls.

``cached`` is the hot path: synchronous, without I/O, and certain or silent.
``check`` is the whole way, and always answers.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from authz import credentials
from authz.cache.decisions import ReadyAnswer
from authz.decision import Allow, Deny, Wording, for_error
from authz.envoy import check as wire_format
from authz.errors import Reason, Refusal, Unavailable
from authz.logs import DECISIONS
from authz.methods.base import client_of
from authz.model import Location, Request
from authz.pipeline import Trail

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.cache.decisions import ReadyAnswers
    from authz.cache.digest import Digester
    from authz.cache.names import FamiliarNames
    from authz.clock import Clock
    from authz.decision import Decision
    from authz.envoy.check import Glance
    from authz.pipeline import Pipeline, Policy
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

LaneName = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class Lane:
    """Requests whose policy is certain before the router is asked.

    Envoy named their route or service, or one policy covers everything.
    ``arguments`` are the places in the query that this policy reads for credentials:
    a request that uses one of them goes the whole way.  So does one with a header
    that is not ``familiar``: a credential, a twin of ours, or one never seen before.
    """

    digest: Digester
    policy: Policy
    familiar: FamiliarNames
    arguments: tuple[str, ...]
    asks_preflights: bool

    @classmethod
    def of(cls, digest: Digester, policy: Policy) -> Lane | None:
        """Return the policy's lane; one that reads bodies has none.

        ``digest`` turns a credential into what its answer is remembered by: it must
        be another one for each lane.
        """
        config = policy.plugin.config
        places = {
            "bearer": config.bearer_token_param_type,
            "client_credentials": config.client_credentials_param_type,
        }
        read = {(method.name, place) for method in policy.methods for place in places[method.name]}
        if any(place == Location.BODY for _, place in read):
            return None
        bearer_arguments = (credentials.TOKEN_ARGUMENT,) if ("bearer", "query") in read else ()
        client_arguments = (
            credentials.CLIENT_ARGUMENTS if ("client_credentials", "query") in read else ()
        )
        arguments = (*bearer_arguments, *client_arguments)
        return cls(digest, policy, policy.familiar, arguments, config.run_on_preflight)

    def key(self, glance: Glance) -> bytes | None:
        """Return what a ready answer to this request is remembered by, if it may have one.

        It may if the policy asks for a credential at all, and Authorization is the
        only place where one can stand.
        """
        if not self.asks_preflights and glance.method == "OPTIONS":
            return None
        headers = glance.headers
        if not self.familiar.hold(headers):
            return None
        path = glance.path
        if "?" in path and self._may_have_argument(path):
            return None
        return self.digest.last(headers["authorization"]) if "authorization" in headers else None

    def _may_have_argument(self, path: str) -> bool:
        if not self.arguments:
            return False
        query = path.partition("?")[2]
        if len(query) >= credentials.ARGUMENTS_MAX and (
            len(query) > credentials.QUERY_BYTES_MAX or credentials.too_many_arguments(query)
        ):
            return True
        # An encoded name has a percent sign; the whole way decides what it means.
        return "%" in query or any(name in query for name in self.arguments)


@dataclass(frozen=True, slots=True)
class Verdict:
    """A decision and how it came about."""

    decision: Decision
    trail: Trail
    refusal: Refusal | None = None


class Service:
    """Everything that one configuration decides."""

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        lanes: Mapping[LaneName, Lane],
        answers: ReadyAnswers,
        clock: Clock,
        telemetry: Telemetry,
        log_allowed: bool = False,
        log_denied: bool = True,
        under_way_max: int = CHECKS_UNDER_WAY_MAX,
    ) -> None:
        self._pipeline = pipeline
        self._lanes = lanes
        self._answers = answers
        self._clock = clock
        self._telemetry = telemetry
        self._log_allowed = log_allowed
        self._log_denied = log_denied
        self._under_way = 0
        self._under_way_max = under_way_max

    # --- The hot path --------------------------------------------------------------

    def cached(self, wire: bytes) -> bytes | None:
        """Return the ready answer to a request, or ``None``: ask :meth:`check`.

        Reads, and counts; changes nothing else, so any thread may call it.
        Never raises.
        """
        try:
            key = self._key(wire)
            if key is None:
                return None
            lane, digest, glance = key
            answer = self._answers.get(digest)
            if (
                answer is None
                or self._clock.now() >= answer.expires_at
                or self._clock.monotonic() >= answer.fresh_until
                or lane.policy.provider.version != answer.keys_version
            ):
                return None
            self._telemetry.allowed_from_cache()
            if self._log_allowed:
                self._log_decision("allowed", answer.log_fields, glance.headers.get, 0.0)
        except Exception:  # noqa: BLE001 - whatever it is, the whole way will say
            return None
        return answer.wire

    def _key(self, wire: bytes) -> tuple[Lane, bytes, Glance] | None:
        """Return what a ready answer is remembered by, if this request may have one."""
        seen = wire_format.glance(wire)
        if seen is None:
            return None
        extensions, glance = seen
        # Asking a map of upb's whether a key is there costs a fifth of its get().
        route = extensions["route"] if "route" in extensions else None  # noqa: SIM401 - as said
        service = extensions.get("service") if "service" in extensions else None
        lane = self._lanes.get((route, service))
        digest = None if lane is None else lane.key(glance)
        return None if lane is None or digest is None else (lane, digest, glance)

    # --- The whole way ---------------------------------------------------------------

    async def check(self, wire: bytes, deadline: float | None) -> bytes:
        """Decide a request and return the CheckResponse.

        ``deadline`` is the caller's, in the event loop's time; ``None``: it has
        none.  Raises nothing but the caller's own cancellation.
        """
        if self._under_way >= self._under_way_max:
            return self.overloaded()
        self._under_way += 1
        try:
            return await self._check(wire, deadline)
        except Exception as error:  # noqa: BLE001 - beside the decision itself: its record, its bytes
            return self.fault(error)
        finally:
            self._under_way -= 1

    async def _check(self, wire: bytes, deadline: float | None) -> bytes:
        started = self._clock.monotonic()
        try:
            request = wire_format.parse(wire)
        except Refusal as error:
            verdict = self._refuse(Trail(Request()), error)
        else:
            verdict = await self.judge(request, deadline)
        try:
            answer = wire_format.render(verdict.decision)
        except ValueError as error:
            # Our own guard has found a value that no answer may carry.
            verdict = self._refuse(verdict.trail, _internal(error))
            answer = wire_format.render(verdict.decision)
        self._record(verdict, self._clock.monotonic() - started)
        self._remember(verdict, wire, answer)
        return answer

    def fault(self, error: Exception) -> bytes:
        """Return the answer to a call that ended in ``error``: the last net; any thread."""
        _internal(error)
        return _LAST_RESORT

    def overloaded(self) -> bytes:
        """Return the answer to a call that there is no room or no time for; any thread."""
        self._telemetry.decided("deny", str(Reason.OVERLOADED), 0.0)
        return _OVERLOADED

    async def judge(self, request: Request, deadline: float | None = None) -> Verdict:
        """Decide a request; a fault of ours is a refusal like any other."""
        trail = Trail(request)
        try:
            async with asyncio.timeout_at(_our_deadline(deadline)):
                return Verdict(await self._pipeline.decide(trail), trail)
        except Refusal as error:
            return self._refuse(trail, error)
        except TimeoutError:
            slow = Unavailable(Reason.DEADLINE_EXCEEDED, "no answer before Envoy's deadline")
            return self._refuse(trail, slow)
        except Exception as error:  # noqa: BLE001 - nothing escapes: Envoy would see its text
            return self._refuse(trail, _internal(error))

    def _refuse(self, trail: Trail, error: Refusal) -> Verdict:
        wording = trail.policy.wording if trail.policy else Wording()
        metadata = {"reason": str(error.reason)}
        if trail.consumer is not None:
            metadata["consumer_id"] = trail.consumer.id
        denial = for_error(error, wording, grpc=trail.request.is_grpc, metadata=metadata)
        return Verdict(denial, trail, error)

    def _remember(self, verdict: Verdict, wire: bytes, answer: bytes) -> None:
        """Keep the answer for the hot path, if the same request would get it again."""
        trail = verdict.trail
        if not isinstance(verdict.decision, Allow) or not (trail.token and trail.claims):
            return
        if trail.policy is None or trail.method is None:
            return
        if not credentials.is_commonly_spelled(trail.request.headers.get("authorization", "")):
            return  # else one credential could push all others out
        trail.policy.familiar.learn(trail.request.headers)
        key = self._key(wire)
        # Keys age only where somebody looks: so does what they vouch for.
        fresh_until = min(trail.token.fresh_until, trail.policy.provider.settled_until)
        if key is None or fresh_until <= self._clock.monotonic():
            return
        self._answers.put(
            key[1],
            ReadyAnswer(
                answer,
                expires_at=trail.method.valid_until(trail.claims),
                fresh_until=fresh_until,
                keys_version=trail.policy.provider.version,
                log_fields=_log_fields(trail),
            ),
        )

    # --- The record ------------------------------------------------------------------

    def _record(self, verdict: Verdict, seconds: float) -> None:
        refusal, header = verdict.refusal, verdict.trail.request.headers.get
        reason = str(refusal.reason) if refusal else verdict.decision.metadata["reason"]
        self._telemetry.decided("deny" if refusal else "allow", reason, seconds)
        if refusal is None:
            if self._log_allowed:
                self._log_decision("allowed", _log_fields(verdict.trail), header, seconds)
        elif self._log_denied:
            status = verdict.decision.status if isinstance(verdict.decision, Deny) else None
            fields = {"reason": reason, "detail": refusal.detail, "status": status}
            self._log_decision("denied", {**fields, **_log_fields(verdict.trail)}, header, seconds)

    def _log_decision(
        self,
        verdict: str,
        fields: Mapping[str, Any],
        header: Callable[[str], str | None],
        seconds: float,
    ) -> None:
        request_id = (header("x-request-id") or "")[:_REQUEST_ID_CHARS_MAX]
        duration_ms = round(seconds * 1000, 3)
        extra = {**fields, "request_id": request_id, "duration_ms": duration_ms}
        _log.info(verdict, extra={"fields": extra})


def _unavailable(reason: Reason) -> bytes:
    """Return an answer that is ready for when there is no time or way to make one."""
    denial = for_error(
        Unavailable(reason), Wording(), grpc=False, metadata={"reason": reason.value}
    )
    return wire_format.render(denial)


_LAST_RESORT: Final = _unavailable(Reason.INTERNAL_ERROR)
_OVERLOADED: Final = _unavailable(Reason.OVERLOADED)


def _our_deadline(theirs: float | None) -> float:
    now = asyncio.get_running_loop().time()
    if theirs is None:
        return now + DEADLINE_SECONDS_DEFAULT
    return theirs - min(MARGIN_SECONDS_MAX, MARGIN_SHARE * max(0.0, theirs - now))


def _internal(error: Exception) -> Unavailable:
    """Return the refusal for a fault of ours; logged with its frames, not with its text."""
    frames = traceback.extract_tb(error.__traceback__)
    where = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    _log.error("internal error", extra={"fields": {"type": type(error).__name__, "frames": where}})
    return Unavailable(Reason.INTERNAL_ERROR, f"a fault of authz ({type(error).__name__})")


def _log_fields(trail: Trail) -> Mapping[str, Any]:
    """Return who and where: names from the configuration, who only once it is verified."""
    match, consumer = trail.match, trail.consumer
    route = match and match.route
    client = None if trail.claims is None else client_of(trail.claims)
    return {
        "route": route and (route.name or route.id),
        "plugin": str(match.plugin.place) if match and match.plugin else None,
        "method": trail.method and trail.method.name,
        "client": client if isinstance(client, str) else None,
        "consumer": consumer and (consumer.username or consumer.custom_id or consumer.id),
    }
