"""Bytes in, bytes out: the seam that any transport calls.

``cached`` is the fast path: synchronous, without I/O, and certain or silent.
``check`` is the whole way, and always answers.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from authz import credentials
from authz.cache.decisions import CachedAnswer
from authz.decision import Allow, Deny, Wording, for_error
from authz.envoy import check as wire_format
from authz.errors import Reason, Refusal, Unavailable
from authz.logs import DECISIONS, log_internal_error
from authz.methods.base import client_of
from authz.model import CredentialLocation, Request
from authz.pipeline import Trace

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.cache.decisions import CachedAnswers
    from authz.cache.digest import Digester
    from authz.cache.names import FamiliarNames
    from authz.clock import Clock
    from authz.decision import Decision
    from authz.envoy.check import RequestView
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

FastPathKey = tuple[str | None, str | None]


@dataclass(frozen=True, slots=True)
class FastPath:
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
    def of(cls, digest: Digester, policy: Policy) -> FastPath | None:
        """Return the policy's lane; one that reads bodies has none.

        ``digest`` turns a credential into what its answer is remembered by: it must
        be another one for each lane.
        """
        config = policy.plugin.config
        positions = {
            "bearer": config.callers.bearer_token_param_type,
            "client_credentials": config.callers.client_credentials_param_type,
        }
        read = {
            (method.name, position)
            for method in policy.methods
            for position in positions[method.name]
        }
        if any(position == CredentialLocation.BODY for _, position in read):
            return None
        bearer_arguments = (credentials.TOKEN_ARGUMENT,) if ("bearer", "query") in read else ()
        client_arguments = (
            credentials.CLIENT_ARGUMENTS if ("client_credentials", "query") in read else ()
        )
        arguments = (*bearer_arguments, *client_arguments)
        return cls(digest, policy, policy.familiar, arguments, config.callers.run_on_preflight)

    def key(self, view: RequestView) -> bytes | None:
        """Return what a cached answer to this request is remembered by, if it may have one.

        It may if the policy asks for a credential at all, and Authorization is the
        only place where one can stand.
        """
        if not self.asks_preflights and view.method == "OPTIONS":
            return None
        headers = view.headers
        if not self.familiar.hold(headers):
            return None
        path = view.path
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
        fast_paths: Mapping[FastPathKey, FastPath],
        answers: CachedAnswers,
        clock: Clock,
        telemetry: Telemetry,
        log_allowed: bool = False,
        log_denied: bool = True,
        under_way_max: int = CHECKS_UNDER_WAY_MAX,
    ) -> None:
        self._pipeline = pipeline
        self._fast_paths = fast_paths
        self._answers = answers
        self._clock = clock
        self._telemetry = telemetry
        self._log_allowed = log_allowed
        self._log_denied = log_denied
        self._under_way = 0
        self._under_way_max = under_way_max

    # --- The fast path --------------------------------------------------------------

    def cached(self, wire: bytes) -> bytes | None:
        """Return the cached answer to a request, or ``None``: ask :meth:`check`.

        Reads, and counts; changes nothing else, so any thread may call it.
        Never raises.
        """
        try:
            key = self._key(wire)
            if key is None:
                return None
            fast_path, digest, view = key
            answer = self._answers.get(digest)
            if (
                answer is None
                or self._clock.now() >= answer.expires_at
                or self._clock.monotonic() >= answer.fresh_until
                or fast_path.policy.provider.version != answer.keys_version
            ):
                return None
            self._telemetry.allowed_from_cache()
            if self._log_allowed:
                self._log_decision("allowed", answer.log_fields, view.headers.get, 0.0)
        except Exception:  # noqa: BLE001 - whatever it is, the whole way will say
            return None
        return answer.wire

    def _key(self, wire: bytes) -> tuple[FastPath, bytes, RequestView] | None:
        """Return what a cached answer is remembered by, if this request may have one."""
        seen = wire_format.peek(wire)
        if seen is None:
            return None
        extensions, view = seen
        # Asking a map of upb's whether a key is there costs a fifth of its get().
        route = extensions["route"] if "route" in extensions else None  # noqa: SIM401 - as said
        service = extensions.get("service") if "service" in extensions else None
        fast_path = self._fast_paths.get((route, service))
        digest = None if fast_path is None else fast_path.key(view)
        return None if fast_path is None or digest is None else (fast_path, digest, view)

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
            outcome = self._refuse(Trace(Request()), error)
        else:
            outcome = await self.judge(request, deadline)
        try:
            answer = wire_format.render(outcome.decision)
        except ValueError as error:
            # Our own guard has found a value that no answer may carry.
            outcome = self._refuse(outcome.trace, _internal(error))
            answer = wire_format.render(outcome.decision)
        self._record(outcome, self._clock.monotonic() - started)
        self._remember(outcome, wire, answer)
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
        try:
            async with asyncio.timeout_at(_our_deadline(deadline)):
                return Outcome(await self._pipeline.decide(trace), trace)
        except Refusal as error:
            return self._refuse(trace, error)
        except TimeoutError:
            slow = Unavailable(Reason.DEADLINE_EXCEEDED, "no answer before Envoy's deadline")
            return self._refuse(trace, slow)
        except Exception as error:  # noqa: BLE001 - nothing escapes: Envoy would see its text
            return self._refuse(trace, _internal(error))

    def _refuse(self, trace: Trace, error: Refusal) -> Outcome:
        wording = trace.policy.wording if trace.policy else Wording()
        metadata = {"reason": str(error.reason)}
        if trace.consumer is not None:
            metadata["consumer_id"] = trace.consumer.id
        denial = for_error(error, wording, grpc=trace.request.is_grpc, metadata=metadata)
        return Outcome(denial, trace, error)

    def _remember(self, outcome: Outcome, wire: bytes, answer: bytes) -> None:
        """Keep the answer for the fast path, if the same request would get it again."""
        trace = outcome.trace
        if not isinstance(outcome.decision, Allow) or not (trace.token and trace.claims):
            return
        if trace.policy is None or trace.method is None:
            return
        if not credentials.is_commonly_spelled(trace.request.headers.get("authorization", "")):
            return  # else one credential could push all others out
        trace.policy.familiar.learn(trace.request.headers)
        key = self._key(wire)
        # Keys that are due serve on while they are asked for; expired keys vouch for nothing.
        fresh_until = min(trace.token.fresh_until, trace.policy.provider.expires_at)
        if key is None or fresh_until <= self._clock.monotonic():
            return
        self._answers.put(
            key[1],
            CachedAnswer(
                answer,
                expires_at=trace.method.valid_until(trace.claims),
                fresh_until=fresh_until,
                keys_version=trace.policy.provider.version,
                log_fields=_log_fields(trace),
            ),
        )

    # --- The record ------------------------------------------------------------------

    def _record(self, outcome: Outcome, seconds: float) -> None:
        refusal, header = outcome.refusal, outcome.trace.request.headers.get
        reason = str(refusal.reason) if refusal else outcome.decision.metadata["reason"]
        self._telemetry.decided("deny" if refusal else "allow", reason, seconds)
        if refusal is None:
            if self._log_allowed:
                self._log_decision("allowed", _log_fields(outcome.trace), header, seconds)
        elif self._log_denied:
            status = outcome.decision.status if isinstance(outcome.decision, Deny) else None
            said = {"reason": reason, "detail": refusal.detail, **refusal.log_fields}
            fields = {**said, "status": status}
            self._log_decision("denied", {**fields, **_log_fields(outcome.trace)}, header, seconds)

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
    log_internal_error(_log, error)
    return Unavailable(Reason.INTERNAL_ERROR, f"a fault of authz ({type(error).__name__})")


def _log_fields(trace: Trace) -> Mapping[str, Any]:
    """Return who and where: names from the configuration, who only once it is verified."""
    match, consumer = trace.match, trace.consumer
    route = match and match.route
    client = None if trace.claims is None else client_of(trace.claims)
    return {
        "route": route and (route.name or route.id),
        "plugin": str(match.plugin.position) if match and match.plugin else None,
        "method": trace.method and trace.method.name,
        "client": client if isinstance(client, str) else None,
        "consumer": consumer and (consumer.username or consumer.custom_id or consumer.id),
    }
