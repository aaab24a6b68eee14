"""The verdict: Allow, Deny or Respond, and which error gets which answer.

The only file with HTTP numbers.
"""

from __future__ import annotations

import json
import string
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, urlsplit

from authz.errors import (
    Forbidden,
    MalformedRequest,
    Overloaded,
    Reason,
    Refusal,
    Retryable,
    RouteNotFound,
    Throttled,
    Unauthenticated,
    Unavailable,
)
from authz.model import CredentialLocation, PairCredential

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from authz.errors import MetadataAsked, Terminated
    from authz.model import OpenIDConnect, Slot


@dataclass(frozen=True, slots=True)
class Allow:
    """The request goes on to the upstream.

    ``headers`` overwrite what the caller sent; ``headers_to_remove`` are taken
    away; no name is in both (Envoy removes last, so it would be gone).
    ``reason`` and ``metadata`` are Envoy's dynamic metadata: why, and who; no secrets.
    So is ``expires_at``: until when the same request may be given this answer again, in
    whole seconds since 1970; 0: not once; ``None``: it is nobody's answer in particular.
    """

    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    headers_to_remove: tuple[str, ...] = ()
    query_parameters_to_remove: tuple[str, ...] = ()
    reason: str = "allowed"
    metadata: Mapping[str, str] = field(default_factory=dict)
    expires_at: int | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """The caller gets this answer and the upstream hears nothing.

    ``code`` is the google.rpc.Code of CheckResponse.status and never 0: Envoy
    looks only at that code, and 0 would let the request through.  ``headers``
    may repeat a name (two WWW-Authenticate lines).
    """

    code: int
    status: int
    headers: tuple[tuple[str, str], ...]
    body: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Respond:
    """The caller gets an answer that the file gives, and the upstream hears nothing.

    As ``Deny``, but ``status`` may be any from 200 to 599.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    body: str
    reason: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    code: int = 7  # PERMISSION_DENIED


Decision = Allow | Deny | Respond


class ErrorRow(NamedTuple):
    """One row of the table: HTTP status, google.rpc.Code, and Kong's message."""

    status: int
    code: int
    message: str


# Searched along the error's class hierarchy, as a reader would.
ERROR_ROWS: Final[Mapping[type[BaseException], ErrorRow]] = {
    MalformedRequest: ErrorRow(400, 3, "Bad request"),
    Unauthenticated: ErrorRow(401, 16, "Unauthorized"),
    Forbidden: ErrorRow(403, 7, "Forbidden"),
    RouteNotFound: ErrorRow(404, 5, "no Route matched with those values"),
    Throttled: ErrorRow(429, 8, "Too many requests"),
    Overloaded: ErrorRow(503, 14, "Service unavailable"),
    Unavailable: ErrorRow(503, 14, "Service unavailable"),
}


@dataclass(frozen=True, slots=True)
class Wording:
    """How one plugin words its refusals (Kong's ``*_error_message`` and friends).

    ``realm`` is the issuer's host, as in Kong's challenge.  ``basic``: the plugin reads
    Basic credentials, so a 401 also carries a Basic challenge.  ``resource``: what a 401
    says of the resource's metadata.
    """

    realm: str = ""
    basic: bool = False
    resource: str = ""
    messages: Mapping[int, str] = field(default_factory=dict)
    display_errors: bool = False
    expose_error_code: bool = True

    @classmethod
    def of(cls, config: OpenIDConnect, slots: Iterable[Slot], resource: str = "") -> Wording:
        """Take the wording from a plugin's parameters and slots, and its resource's metadata."""
        return cls(
            realm=urlsplit(config.provider.issuer).hostname or "",
            basic=any(
                slot.kind is PairCredential and slot.location is CredentialLocation.HEADER
                for slot in slots
            ),
            resource=resource,
            messages={
                401: config.answers.unauthorized_error_message,
                403: config.answers.forbidden_error_message,
            },
            display_errors=config.answers.display_errors,
            expose_error_code=config.answers.expose_error_code,
        )


_NO_METADATA: Final[Mapping[str, str]] = {}
_HEADERS: Final = (("cache-control", "no-store"), ("x-content-type-options", "nosniff"))
_JSON: Final = "application/json; charset=utf-8"
# gRPC over HTTP/2, "Responses": visible ASCII and spaces stand for themselves, but for "%".
_GRPC_MESSAGE_PLAIN: Final = " " + string.punctuation.replace("%", "")


def for_error(
    error: Refusal, wording: Wording, *, grpc: bool, metadata: Mapping[str, str] = _NO_METADATA
) -> Deny:
    """Answer an error: status and body as Kong's, the reason only where it may be seen."""
    answer = next(ERROR_ROWS[kind] for kind in type(error).__mro__ if kind in ERROR_ROWS)
    message = wording.messages.get(answer.status, answer.message)
    if wording.display_errors and error.detail:
        message = f"{message} ({error.detail})"
    headers = [*_HEADERS, *_challenges(error, wording)]
    if isinstance(error, Retryable):
        headers.append(("retry-after", str(error.retry_after)))
    if grpc:
        headers += _grpc_headers(answer.code, message)
        return Deny(answer.code, answer.status, tuple(headers), "", error.reason, metadata)
    headers.append(("content-type", _JSON))
    body = _message_body(message)
    return Deny(answer.code, answer.status, tuple(headers), body, error.reason, metadata)


def _message_body(message: str) -> str:
    return json.dumps({"message": message}, separators=(",", ":"))


def _grpc_headers(code: int, message: str) -> list[tuple[str, str]]:
    """Return a gRPC status.  Envoy would put a body into grpc-message; with these it does not."""
    return [
        ("grpc-status", str(code)),
        ("grpc-message", quote(message, safe=_GRPC_MESSAGE_PLAIN)),
    ]


# RFC 9110 sections 15.3.5, 15.3.6 and 15.4.5: answers that have no content.
_BODILESS: Final = frozenset({204, 205, 304})
# gRPC's mapping of HTTP statuses; every other one is UNKNOWN.
_GRPC_CODES: Final = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}
_GRPC_UNKNOWN: Final = 2


def for_termination(
    error: Terminated, *, grpc: bool, metadata: Mapping[str, str] = _NO_METADATA
) -> Respond:
    """Answer as ``request-termination`` says: its body, or its message as Kong's JSON."""
    terms, headers = error.termination, list(_HEADERS)
    message = _phrase(terms.status) if terms.message is None else terms.message
    if grpc:
        headers += _grpc_headers(_GRPC_CODES.get(terms.status, _GRPC_UNKNOWN), message)
        return Respond(terms.status, tuple(headers), "", error.reason, metadata)
    body = terms.body
    if body is None:
        body = _message_body(message) if message else ""
    if terms.status in _BODILESS:
        body = ""
    if body:
        headers.append(("content-type", terms.content_type or _JSON))
    return Respond(terms.status, tuple(headers), body, error.reason, metadata)


def for_metadata(
    error: MetadataAsked, *, grpc: bool, metadata: Mapping[str, str] = _NO_METADATA
) -> Respond:
    """Answer with the metadata of a resource (RFC 9728 section 3.2), or 405 for another method."""
    if error.body is not None:
        told = (*_HEADERS, ("content-type", "application/json"))
        return Respond(200, told, error.body, error.reason, metadata)
    message, headers = _phrase(405), [*_HEADERS, ("allow", "GET")]
    if grpc:
        headers += _grpc_headers(_GRPC_UNKNOWN, message)
        return Respond(405, tuple(headers), "", error.reason, metadata)
    headers.append(("content-type", _JSON))
    return Respond(405, tuple(headers), _message_body(message), error.reason, metadata)


def _phrase(status: int) -> str:
    """Return the words of a registered status, spelled as Kong's: ``Service unavailable``."""
    try:
        return HTTPStatus(status).phrase.capitalize()
    except ValueError:
        return ""


# RFC 6750 section 3.1.  A request without a credential gets no error code.
_CREDENTIAL_ABSENT: Final = (
    Reason.CREDENTIAL_MISSING,
    Reason.SCHEME_UNSUPPORTED,
    Reason.METHODS_FOR_BROWSERS,
)


def _challenges(error: Refusal, wording: Wording) -> Iterator[tuple[str, str]]:
    """Yield WWW-Authenticate: Kong's Bearer first, then Basic where it is read."""
    if not wording.realm:
        return
    bearer = f'Bearer realm="{wording.realm}"'
    match error:
        case Unauthenticated():
            if wording.expose_error_code and error.reason not in _CREDENTIAL_ABSENT:
                bearer += ', error="invalid_token"'
            if wording.resource:
                bearer += f", {wording.resource}"
            yield "www-authenticate", bearer
            if wording.basic:
                yield "www-authenticate", f'Basic realm="{wording.realm}", charset="UTF-8"'
        case Forbidden():
            if wording.expose_error_code:
                bearer += ', error="insufficient_scope"'
            yield "www-authenticate", bearer
        case MalformedRequest():
            if wording.expose_error_code:
                yield "www-authenticate", f'{bearer}, error="invalid_request"'
        case _:
            return
