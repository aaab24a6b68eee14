"""A whole authz behind its seam: ask as Envoy asks, read what Envoy reads.

Every question also asserts what must hold for every answer, whatever the case.
"""

from __future__ import annotations

import asyncio
import base64
import json
import re
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format
from prometheus_client import generate_latest

from authz.build import build
from authz.credentials import basic
from authz.demo.idp import CLIENTS
from authz.errors import Reason
from authz.header_names import AUTHORIZATION, IDENTITY, TOKENS, spellings
from authz.model import Consumer, Gateway, OpenIDConnect, Plugin, SourcePosition
from authz.runtime import Shared
from authz.settings import Settings
from authz.telemetry import Telemetry
from bench import messages

if TYPE_CHECKING:
    import logging
    from collections.abc import Mapping, Sequence
    from typing import Self

    from support.idp import RunningIdp

    from authz.clock import Clock

KONG_ID = "kong_id"
KONG_SECRET = CLIENTS[KONG_ID]
POSITION = SourcePosition("kong.yaml", 1, 1)
KONG_CONSUMER = Consumer("5f7fca37-1a8c-5b7e-9d5c-5a3f0b6f9b10", KONG_ID, None, POSITION)

ANSWER_SECONDS_MAX = 10.0
OVERWRITE = 2  # HeaderAppendAction.OVERWRITE_IF_EXISTS_OR_ADD

# An entry of a Struct: the key, and a value that is a string of 16 bytes.
_DECISION_ID = re.compile(rb"(decision_id\x12\x12\x1a\x10)[0-9a-f]{16}")
# Reasons for which the caller gets an answer that the file gives.
_ANSWERS = ("request_terminated", "resource_metadata")
_VISIBLE = re.compile(r"[\x20-\x7e\t]*")
_PROTECTED = spellings((*IDENTITY, AUTHORIZATION, *TOKENS))


def check_request(
    headers: Mapping[str, str] | None = None, *, path: str = "/oidc-route/get", **request: Any
) -> bytes:
    """Return a CheckRequest as Envoy sends it; see ``bench.messages``."""
    headers = {"x-request-id": "7d1c1b7e", "user-agent": "curl/8.5.0", **(headers or {})}
    wire: bytes = messages.check_request(headers, path=path, **request).SerializeToString()
    return wire


@dataclass(frozen=True)
class Answer:
    """A CheckResponse, read."""

    code: int
    status: int
    headers: Mapping[str, Sequence[str]]
    removed: frozenset[str]
    removed_query: tuple[str, ...]
    body: str
    metadata: Mapping[str, Any]
    wire: bytes = field(repr=False)
    """The bytes, without what is the decision's own: its id."""

    @property
    def reason(self) -> Any:
        return self.metadata["reason"]

    @property
    def allowed(self) -> bool:
        return self.code == 0

    def header(self, name: str) -> str | None:
        values = self.headers.get(name, ())
        return ", ".join(values) if values else None


def without_id(wire: bytes) -> bytes:
    """Return a CheckResponse whose decision has no id of its own, and is the same otherwise."""
    return _DECISION_ID.sub(rb"\g<1>" + b"0" * 16, wire)


def read(wire: bytes) -> Answer:
    """Read a CheckResponse and assert what holds for every one."""
    response = messages.CheckResponse.FromString(wire)
    which = response.WhichOneof("http_response")
    part = getattr(response, which)
    # I2: Envoy looks only at the code, so a denial with 0 would be an allow.
    assert (response.status.code == 0) == (which == "ok_response")
    headers = defaultdict(list)
    for option in part.headers:
        assert not option.HasField("append")
        assert option.append_action == OVERWRITE or which == "denied_response"
        headers[option.header.key].append(option.header.value)
        assert _VISIBLE.fullmatch(option.header.value)  # I6
    removed = frozenset(part.headers_to_remove) if which == "ok_response" else frozenset()
    if which == "ok_response":
        assert removed.isdisjoint(headers)
        names = spellings(IDENTITY)
        assert names <= removed | set(headers)
    else:
        reason = response.dynamic_metadata.fields["reason"].string_value
        assert (200 if reason in _ANSWERS else 400) <= part.status.code <= 599
        # I8: an answer to the caller says nothing about who it might have been.
        assert not _PROTECTED & set(headers)
    return Answer(
        code=response.status.code,
        status=part.status.code if which == "denied_response" else 200,
        headers=dict(headers),
        removed=removed,
        removed_query=tuple(getattr(part, "query_parameters_to_remove", ())),
        body=part.body if which == "denied_response" else "",
        metadata=json_format.MessageToDict(response.dynamic_metadata),
        wire=without_id(wire),
    )


class RunningAuthz:
    """A configuration built from a gateway, over real sockets to its provider."""

    def __init__(self, gateway: Gateway, *, clock: Clock | None = None, **settings: Any) -> None:
        self.telemetry = Telemetry()
        self.shared = Shared(Settings.of(**settings), self.telemetry, clock)
        self.configuration = build(gateway, self.shared)
        self.canaries: set[str] = {KONG_SECRET}
        self.answers: list[Answer] = []

    @property
    def authorizer(self) -> Any:
        return self.configuration.authorizer

    def reload(self, gateway: Gateway) -> None:
        """Put another configuration in the place of this one, as SIGHUP does."""
        before, self.configuration = self.configuration, build(gateway, self.shared)
        before.retire()
        self.configuration.start()

    async def ask(
        self,
        headers: Mapping[str, str] | None = None,
        *,
        seconds: float | None = None,
        **request: Any,
    ) -> Answer:
        """Ask the whole service once, the fast path first, as a transport does."""
        wire = check_request(headers, **request)
        return await self.ask_wire(wire, seconds=seconds)

    async def ask_wire(self, wire: bytes, *, seconds: float | None = None) -> Answer:
        """As :meth:`ask`, with the bytes of the CheckRequest."""
        loop = asyncio.get_running_loop()
        deadline = None if seconds is None else loop.time() + seconds
        async with asyncio.timeout(ANSWER_SECONDS_MAX if seconds is None else seconds):  # I7
            # I1, I5: whatever happens inside, an answer comes and no exception does.
            answer = self.authorizer.cached(wire)
            if answer is None:
                answer = await self.configuration.check(wire, deadline)
        read_answer = read(answer)
        if not read_answer.allowed:
            assert read_answer.reason in set(Reason)
        self.answers.append(read_answer)
        return read_answer

    async def basic(
        self, client_id: str = KONG_ID, client_secret: str = KONG_SECRET, **request: Any
    ) -> Answer:
        """Ask with the client's id and secret, as curl -u does."""
        self.canaries.add(client_secret)
        return await self.ask({"authorization": basic(client_id, client_secret)}, **request)

    async def bearer(self, token: str, **request: Any) -> Answer:
        """Ask with a bearer token."""
        self.canaries.add(token.rpartition(".")[2])
        return await self.ask({"authorization": f"Bearer {token}"}, **request)

    def metrics(self) -> str:
        """Return what /metrics shows."""
        return generate_latest(self.telemetry.registry).decode()

    def check_nothing_leaked(self, logged: str) -> None:
        """I3: no secret and no token in logs, metrics, bodies or metadata."""
        told = [logged, self.metrics()]
        for answer in self.answers:
            told += [answer.body, json.dumps(answer.metadata)]
            if not answer.allowed:
                told.append(json.dumps(dict(answer.headers)))
        for canary in self.canaries - {""}:
            spelt = {canary, base64.b64encode(canary.encode(errors="replace")).decode()}
            leaks = [s for s in spelt if len(s) >= 4 and any(s in text for text in told)]
            assert not leaks, "a secret or a token was told"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.shared.aclose()


MakeAuthz = Callable[..., RunningAuthz]
"""The fixture ``make_authz``."""


def plugin(issuer: str, **parameters: Any) -> Plugin:
    """A global plugin as the workshop's: one claim, one consumer."""
    config: dict[str, Any] = {
        "issuer": issuer,
        "consumer_claims": (("client_id",),),
        "consumer_by": ("username",),
        "client_credentials_param_type": ("header",),
        "bearer_token_param_type": ("header",),
        **parameters,
    }
    return Plugin(POSITION, OpenIDConnect.of(**config))


def gateway(
    idp: RunningIdp, *, consumers: Sequence[Consumer] = (KONG_CONSUMER,), **parameters: Any
) -> Gateway:
    """A file without routes: one global plugin for everything."""
    return Gateway(plugins=(plugin(idp.issuer, **parameters),), consumers=tuple(consumers))


def logged(records: Sequence[logging.LogRecord]) -> str:
    """Everything that was logged, fields and tracebacks included."""
    return "\n".join(
        f"{r.name} {r.getMessage()} {getattr(r, 'fields', '')} {r.exc_text or ''}" for r in records
    )
