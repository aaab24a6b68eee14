"""The rows of the table: who is measured, and what each does and does not do for a Check."""

from __future__ import annotations

from dataclasses import dataclass

BASIC, BEARER, FIRST, MISS = UNITS = (
    "Basic, cached",
    "Bearer, cached",
    "Bearer, first seen",
    "Basic, a miss with a 20 ms provider",
)
CACHED = (BASIC, BEARER)


@dataclass(frozen=True, slots=True)
class Row:
    """Who is measured, and what for."""

    name: str
    does: str
    does_not: str


_NOTHING = "gives one cached answer, of the same bytes as ours"
_NO_WORK = "read the request, know the caller, decide, expire, count"

ALONE = Row("Envoy, no authorization", "routes, and answers 200 itself", "ask anybody")
JWT_AUTHN = Row(
    "Envoy's jwt_authn",
    "verifies signature, issuer and expiry in Envoy's own thread; cached: remembers the token. "
    "Its CPU is what Envoy spends more than without it, 0 where that is lost in the noise",
    "Basic, exchange, consumers, identity headers, fetching keys (its configuration has them)",
)
GRPC_GO = Row("grpc-go no-op", _NOTHING, _NO_WORK)
TONIC = Row("tonic no-op", f"{_NOTHING}, on one thread", _NO_WORK)
GRPC_AIO = Row("grpc.aio no-op", f"{_NOTHING}, on uvloop", _NO_WORK)

_CACHED_WORK = (
    "cached: parses the request, digests the credential, looks it up, holds the answer against "
    "expiry, configuration and keys, counts; first seen: verifies signature and claims, finds the "
    "consumer, writes the headers, remembers; miss: exchanges at the provider besides"
)
_NOT_OURS = "log what it allows (the default)"
GRPCIO = Row(
    "authz, grpcio",
    f"{_CACHED_WORK}; gRPC's threads take turns (SCHED_BATCH), as no peer's do",
    _NOT_OURS,
)
NATIVE = Row("authz, native", "the same, behind the native transport", _NOT_OURS)

ROWS = (ALONE, JWT_AUTHN, GRPC_GO, TONIC, GRPC_AIO, GRPCIO, NATIVE)
