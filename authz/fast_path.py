"""Answers that are given again: ``find`` reads what ``remember`` has kept, side by side.

The fast path answers only where the whole way would give the same bytes, but for an
``expires_at`` that may have become later since.  So the policy must be certain without
the router, the credential must stand in ``Authorization`` alone, and every header name
of the request must be known to decide nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from authz import credentials
from authz.envoy.check import context_extensions, peek
from authz.model import CredentialLocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from authz.clock import Clock
    from authz.envoy.check import Names, RequestView
    from authz.model import Identity, Issuer, Request
    from authz.pipeline import Policy
    from authz.tokens.digest import Digester

NAMES_MAX: Final = 1_024
NAME_CHARS_MAX: Final = 128

FastPathKey = tuple[str | None, str | None]
"""The route and the service that Envoy names."""


class FamiliarNames:
    """The names of headers that requests were allowed with, and that decide nothing.

    A name that ``decides`` something is never among them.
    """

    def __init__(self, decides: Callable[[str], bool]) -> None:
        self._decides = decides
        self._use(frozenset())

    def _use(self, names: frozenset[str]) -> None:
        self._names = names
        self.hold: Callable[[Iterable[str]], bool] = names.issuperset
        """Tell whether all names of a request are familiar; any thread may ask."""

    def learn(self, names: Iterable[str]) -> None:
        """Add the names of one request; for the loop.

        Beyond the bound all others are forgotten.  A caller that sends other names each
        time makes the requests of others take the whole way once more, and nothing worse.
        """
        sent = frozenset(names)
        unknown = sent - self._names
        new = frozenset(n for n in unknown if len(n) <= NAME_CHARS_MAX and not self._decides(n))
        if new and len(sent) <= NAMES_MAX:
            everything = self._names | new
            fits = len(everything) <= NAMES_MAX
            self._use(everything if fits else everything & sent)


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer that holds for the same credential on the same route.

    ``expires_at`` is wall time: the end of the identity.  ``fresh_until`` is monotonic
    time.  ``issuer_version`` is the issuer's ``version`` when it vouched.  ``count`` counts
    that it was given; any thread may call it.
    """

    wire: bytes = field(repr=False)
    expires_at: float
    fresh_until: float
    issuer: Issuer
    issuer_version: int
    log_fields: Mapping[str, Any]
    count: Callable[[], object]


class CachedAnswers:
    """A bounded map.  ``get`` is one dict read, safe from any thread; all else is for the loop."""

    def __init__(self, *, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._answers: dict[bytes, CachedAnswer] = {}
        self.get = self._answers.get

    def put(self, key: bytes, answer: CachedAnswer) -> None:
        """Remember an answer, unless it could never fit; the oldest ones make room for it.

        Oldest and not least recently used, so that reading changes nothing.  One
        that was pushed out comes back from the token cache at its next use.
        """
        self._drop(key)
        if len(answer.wire) > self._bytes_max:
            return
        self._answers[key] = answer
        self._bytes += len(answer.wire)
        while len(self._answers) > self._entries_max or self._bytes > self._bytes_max:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: bytes) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= len(answer.wire)

    def __len__(self) -> int:
        return len(self._answers)


class _Path:
    """The requests of one policy whose answer may be cached, and their keys.

    A request that uses an argument which the policy reads for credentials goes the
    whole way.  So does one with a header whose name is not familiar: a credential's,
    one that an upstream may take for ours, or one that was never sent before.
    """

    def __init__(self, digest: Digester, policy: Policy, familiar: FamiliarNames) -> None:
        slots = policy.authentication.slots
        in_query = (s.names for s in slots if s.location is CredentialLocation.QUERY)
        self._arguments = tuple(dict.fromkeys(name for names in in_query for name in names))
        self._metadata = policy.metadata
        self._asks_preflights = policy.config.callers.run_on_preflight
        self._digest = digest
        self._familiar = familiar

    def learn(self, request: Request) -> None:
        """Note that the names of this request's headers decide nothing, but for those that do."""
        self._familiar.learn(request.headers)

    def key(self, view: RequestView) -> bytes | None:
        """Return what an answer to this request is remembered by; ``None``: by nothing."""
        if not self._asks_preflights and view.method == "OPTIONS":
            return None
        headers = view.headers
        if not self._familiar.hold(headers):
            return None
        path = view.path
        if self._metadata is not None and self._metadata.are_at(path):
            return None
        if "?" in path and self._may_have_argument(path):
            return None
        return self._digest.last(headers["authorization"]) if "authorization" in headers else None

    def _may_have_argument(self, path: str) -> bool:
        if not self._arguments:
            return False
        query = path.partition("?")[2]
        if len(query) >= credentials.ARGUMENTS_MAX and (
            len(query) > credentials.QUERY_BYTES_MAX or credentials.too_many_arguments(query)
        ):
            return True
        # An encoded name has a percent sign; the whole way decides what it means.
        return "%" in query or any(name in query for name in self._arguments)


class FastPath:
    """The cached answers of one configuration."""

    def __init__(
        self,
        policies: Mapping[FastPathKey, Policy],
        answers: CachedAnswers,
        digest: Digester,
        clock: Clock,
        names: Names = context_extensions,
    ) -> None:
        """``policies``: for each name that Envoy may give, the policy that it means for certain.

        ``names`` finds the name in a CheckRequest.
        """
        familiar = {
            policy: FamiliarNames(policy.headers.decided_by) for policy in set(policies.values())
        }
        self._paths = {
            key: _Path(digest.after(repr(key)), policy, familiar[policy])
            for key, policy in policies.items()
            if not _reads_body(policy)
        }
        self._answers = answers
        self._clock = clock
        self._names = names

    def find(self, wire: bytes) -> tuple[CachedAnswer, RequestView] | None:
        """Return the cached answer to a CheckRequest, and the request; any thread may ask."""
        seen = peek(wire, self._names)
        if seen is None:
            return None
        extensions, view = seen
        # Asking a map of upb's whether a key is there costs a fifth of its get().
        route = extensions["route"] if "route" in extensions else None  # noqa: SIM401 - as said
        service = extensions.get("service") if "service" in extensions else None
        path = self._paths.get((route, service))
        key = None if path is None else path.key(view)
        answer = None if key is None else self._answers.get(key)
        if (
            answer is None
            or self._clock.now() >= answer.expires_at
            or self._clock.monotonic() >= answer.fresh_until
            or answer.issuer.version != answer.issuer_version
        ):
            return None
        return answer, view

    def remember(
        self,
        request: Request,
        identity: Identity,
        wire: bytes,
        log_fields: Mapping[str, Any],
        count: Callable[[], object],
    ) -> None:
        """Keep the answer ``wire`` if the same request would get it again; for the loop."""
        # A credential that is spelled otherwise would push all others out.
        if not credentials.is_commonly_spelled(request.headers.get("authorization", "")):
            return
        names = request.context_extensions
        path = self._paths.get((names.get("route"), names.get("service")))
        if path is None or identity.reusable_until <= self._clock.monotonic():
            return
        path.learn(request)
        key = path.key(request)
        if key is None:
            return
        answer = CachedAnswer(
            wire,
            expires_at=identity.expires_at,
            fresh_until=identity.reusable_until,
            issuer=identity.issuer,
            issuer_version=identity.issuer_version,
            log_fields=log_fields,
            count=count,
        )
        self._answers.put(key, answer)


def _reads_body(policy: Policy) -> bool:
    return any(s.location is CredentialLocation.BODY for s in policy.authentication.slots)
