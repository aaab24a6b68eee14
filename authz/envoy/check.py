"""Bytes of Envoy's ext_authz messages to our values, and back.

The messages are those of ``protos/``, loaded from a compiled descriptor set into
a descriptor pool of our own: no generated modules, and no ``envoy`` package that
another distribution could overwrite.  Parsing and rendering are protobuf's upb.
"""

from __future__ import annotations

import operator
import re
import struct
from functools import lru_cache
from importlib import resources
from typing import TYPE_CHECKING, Any, Protocol

from google.protobuf import descriptor_pb2, message_factory
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError

from authz.decision import Allow, Deny
from authz.errors import Reason, Unavailable
from authz.header_names import TOKEN
from authz.model import Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from authz.decision import Decision, Respond

    Names = Callable[["Message"], Mapping[str, str]]

Message = Any
"""A message or field whose class upb makes at run time, or that class: unknown to mypy."""

# The names that we write come from the configuration, so they are few; those that we
# remove may be a caller's own.
NAMES_CHECKED_MAX = 1024
REMOVALS_MAX = 256
CONSUMERS_MAX = 1024

DECISION_ID_CHARS = 16
"""As many as the id of a span has (W3C Trace Context)."""


def _load_pool() -> DescriptorPool:
    """Return a pool with every file that the contract needs, dependencies first."""
    compiled = resources.files("authz.envoy").joinpath("ext_authz.binpb").read_bytes()
    pool = DescriptorPool()
    for file in descriptor_pb2.FileDescriptorSet.FromString(compiled).file:
        pool.Add(file)
    return pool


POOL = _load_pool()
"""The descriptors of the contract, for message classes and for server reflection."""


def _message(name: str) -> Message:
    return message_factory.GetMessageClass(POOL.FindMessageTypeByName(name))


_CheckRequest = _message("envoy.service.auth.v3.CheckRequest")
_CheckResponse = _message("envoy.service.auth.v3.CheckResponse")
_OkHttpResponse = _message("envoy.service.auth.v3.OkHttpResponse")
_Struct = _message("google.protobuf.Struct")
Metadata = _message("envoy.config.core.v3.Metadata")
"""Facts about a route, by the names of those who tell them."""


def _tag(field: str) -> bytes:
    """Return what stands before the length of a message in a CheckResponse."""
    return bytes([_CheckResponse.DESCRIPTOR.fields_by_name[field].number << 3 | 2])


_ALLOWED = _tag("status") + b"\0"  # an empty google.rpc.Status: its code is 0
_METADATA_TAG, _OK_RESPONSE_TAG = _tag("dynamic_metadata"), _tag("ok_response")
_read_request = _CheckRequest.FromString
_HeaderValueOption = _message("envoy.config.core.v3.HeaderValueOption")

# The enum's zero is "append", so a header whose action was forgotten would be
# added to the caller's own: `Authorization: <theirs>,Bearer <ours>`.
_OVERWRITE = _HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_APPEND = _HeaderValueOption.APPEND_IF_EXISTS_OR_ADD

_ERROR_STATUSES = range(400, 600)  # RFC 9110 sections 15.5 and 15.6
_FINAL_STATUSES = range(200, 600)  # RFC 9110 section 15.2: what is below ends no request

# In the lower case of HTTP/2 (RFC 9113 section 8.2.1).  The colon of a pseudo-header
# is in no token.
_NAME = re.compile(f"(?![^A-Z]*[A-Z]){TOKEN}")

# RFC 9110 section 5.5 without obs-text.  Envoy passes UTF-8 on and turns CR, LF
# and NUL into a 5xx of its own; neither is for a caller's claim to decide.
_VALUE = re.compile(r"[\t\x20-\x7e]*")


# --- CheckRequest -> Request --------------------------------------------------


context_extensions = operator.attrgetter("context_extensions")
"""Envoy's word as its own configuration writes it; see ``route_metadata`` for another."""


def parse(wire: bytes, names: Names = context_extensions) -> Request:
    """Return the request that Envoy asks about; ``names`` finds Envoy's word for the route.

    Whatever is absent is empty: an empty CheckRequest is an empty Request.
    Fields that the contract has gained since are ignored.

    Raises ``Unavailable`` (``request_unreadable``) for bytes that are no
    CheckRequest; text that is not UTF-8 counts as that.
    """
    try:
        attributes = _read_request(wire).attributes
    except DecodeError:
        # protobuf's message may quote the field, and with it the caller's text.
        raise Unavailable(Reason.REQUEST_UNREADABLE, "the bytes are no CheckRequest") from None
    http = attributes.request.http
    return Request(
        method=http.method,
        scheme=http.scheme,
        host=http.host,
        path=_path(http),
        headers=_headers(http),
        body=http.raw_body or http.body.encode(),
        context_extensions=dict(names(attributes)),
        server_name=attributes.tls_session.sni,
        source_address=attributes.source.address.socket_address.address,
    )


def _path(http: Message) -> str:
    """Return the path with its query, which Envoy never sends apart and others may."""
    path: str = http.path
    if http.query and "?" not in path:
        return f"{path}?{http.query}"
    return path


def _headers(http: Message) -> dict[str, str]:
    """Return the caller's headers, from whichever of the two fields Envoy filled.

    Envoy sends names in lower case, so a name that is not was not Envoy's to
    send: it is left out, rather than folded onto a name that Envoy checked.
    """
    if http.header_map.headers:
        return _joined((header.key, _text(header)) for header in http.header_map.headers)
    return {name: value for name, value in http.headers.items() if name == name.lower()}


def _text(header: Message) -> str:
    """Return a HeaderValue as text, one character a byte (RFC 9110 section 5.5).

    So a byte that is no ASCII survives to the grammar that refuses it.
    """
    raw: bytes = header.raw_value
    return raw.decode("latin-1") if raw else header.value


def _joined(lines: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Join the lines of one name by commas (RFC 9110 section 5.2), as Envoy's map does."""
    headers: dict[str, list[str]] = {}
    for name, value in lines:
        if name == name.lower():
            headers.setdefault(name, []).append(value)
    return {name: ",".join(values) for name, values in headers.items()}


class RequestView(Protocol):
    """As much of an HTTP request as an answer from the cache depends on.

    ``headers`` is for lower-case names; others may be in it, which ``parse`` leaves
    out.  Each value is the one that ``parse`` gives.
    """

    @property
    def method(self) -> str:
        """The method."""

    @property
    def path(self) -> str:
        """The path, and the query if there is one."""

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers."""


def peek(
    wire: bytes, names: Names = context_extensions
) -> tuple[Mapping[str, str], RequestView] | None:
    """Return Envoy's word for the route and the request, or ``None``: leave it to ``parse``.

    What is returned is the parsed message itself: each value that is taken out of it
    has its price.  ``None`` for bytes that are no CheckRequest, for headers that came
    as raw lines (``header_map``) and for a query apart from its path.  Never raises.
    """
    try:
        attributes = _read_request(wire).attributes
    except DecodeError:
        return None
    http = attributes.request.http
    if http.query or http.HasField("header_map"):
        return None
    return names(attributes), http


# --- Decision -> CheckResponse ------------------------------------------------


def render(decision: Decision, decision_id: str = "") -> bytes:
    """Return the CheckResponse that carries the decision out; equal arguments, equal bytes.

    ``decision_id``: what the log calls the decision, of ``DECISION_ID_CHARS``; empty: nothing.
    Raises ``ValueError`` for a decision that Envoy would carry out otherwise than
    it reads: an answer with code 0, a denial with an HTTP status that is no error, a header
    that is both set and removed, a name or value outside the grammar.
    """
    metadata = tuple({**decision.metadata, "reason": str(decision.reason)}.items())
    if isinstance(decision, Allow):
        told = _told(metadata) + _expiry(decision.expires_at) + _id(decision_id)
        return _ALLOWED + _METADATA_TAG + _varint(len(told)) + told + _ok_response(decision)
    response = _CheckResponse()
    _put_metadata(response.dynamic_metadata, metadata)
    if decision_id:
        _put_metadata(response.dynamic_metadata, [("decision_id", decision_id)])
    _deny(response, decision)
    return _wire(response)


@lru_cache(maxsize=CONSUMERS_MAX)
def _told(metadata: tuple[tuple[str, str], ...]) -> bytes:
    """Return the part of an allow's metadata that is a consumer's own."""
    told = _Struct()
    _put_metadata(told, metadata)
    return _wire(told)


def _expiry(expires_at: int | None) -> bytes:
    """Return the part of an allow's metadata that is one token's own: no cache would help."""
    return b"" if expires_at is None else _EXPIRY_TAG + struct.pack("<d", expires_at)


def _id(decision_id: str) -> bytes:
    """Return the part of an allow's metadata that is one decision's own."""
    if not decision_id:
        return b""
    if len(decision_id) != DECISION_ID_CHARS or not decision_id.isascii():
        raise ValueError(f"a decision's id has {DECISION_ID_CHARS} characters of ASCII")
    return _ID_TAG + decision_id.encode()


def _wire(message: Message) -> bytes:
    # "Deterministic" settles the order of map entries: those of the metadata's Struct.
    wire: bytes = message.SerializeToString(deterministic=True)
    return wire


def _expiry_tag() -> bytes:
    """Return all of ``expires_at`` in a Struct that stands before its eight bytes."""
    told = _Struct()
    told.fields["expires_at"].number_value = 0
    return _wire(told)[: -struct.calcsize("<d")]


_EXPIRY_TAG = _expiry_tag()


def _id_tag() -> bytes:
    """Return all of ``decision_id`` in a Struct that stands before its characters."""
    told = _Struct()
    told.fields["decision_id"].string_value = "0" * DECISION_ID_CHARS
    return _wire(told)[:-DECISION_ID_CHARS]


_ID_TAG = _id_tag()


def _ok_response(decision: Allow) -> bytes:
    """Return the field ``ok_response``; fields may come in any order."""
    removed, wire = _removals(decision.headers_to_remove)
    # Envoy removes after it sets: a name in both would reach the upstream in neither form.
    if not removed.isdisjoint(decision.headers):
        both = removed.intersection(decision.headers)
        raise ValueError(f"set and removed at once: {', '.join(sorted(both))}")
    ok = _OkHttpResponse()
    for name, value in decision.headers.items():
        _put_header(ok.headers, name, value, _OVERWRITE)
    ok.query_parameters_to_remove.extend(decision.query_parameters_to_remove)
    whole = _wire(ok) + wire
    return _OK_RESPONSE_TAG + _varint(len(whole)) + whole


@lru_cache(maxsize=REMOVALS_MAX)
def _removals(names: tuple[str, ...]) -> tuple[frozenset[str], bytes]:
    """Return the names, checked, and the part of an OkHttpResponse that removes them.

    Each policy has a few such lists, of some 80 names.
    """
    for name in names:
        _check_name(name)
    return frozenset(names), _wire(_OkHttpResponse(headers_to_remove=names))


def _varint(number: int) -> bytes:
    """Return a length as protobuf writes it: seven bits a byte, the lowest first."""
    wire = bytearray()
    while number > 0x7F:  # noqa: PLR2004 - as said
        wire.append(number & 0x7F | 0x80)
        number >>= 7
    wire.append(number)
    return bytes(wire)


def _deny(response: Message, decision: Deny | Respond) -> None:
    if decision.code == 0:
        raise ValueError("a denial with status code 0 is an allow: Envoy looks only there")
    statuses = _ERROR_STATUSES if isinstance(decision, Deny) else _FINAL_STATUSES
    if decision.status not in statuses:
        raise ValueError(f"HTTP {decision.status} is not from {statuses[0]} to {statuses[-1]}")
    response.status.code = decision.code
    denied = response.denied_response
    denied.status.code = decision.status
    denied.body = decision.body
    seen: set[str] = set()
    for name, value in decision.headers:
        # Envoy 1.40 writes every line of a denial, whatever its action (observed: two
        # "overwrite" lines both arrive).  The second WWW-Authenticate says "append"
        # all the same: it is what is meant, should an Envoy come to honour it.
        _put_header(denied.headers, name, value, _APPEND if name in seen else _OVERWRITE)
        seen.add(name)


def _put_header(headers: Message, name: str, value: str, action: int) -> None:
    _check_name(name)
    if not _VALUE.fullmatch(value):
        # The value may be a token or a claim, so the message names the header alone.
        raise ValueError(f"the value of {name} is not visible ASCII")
    option = headers.add(append_action=action)
    option.header.key = name
    option.header.value = value


@lru_cache(maxsize=NAMES_CHECKED_MAX)
def _check_name(name: str) -> None:
    """Refuse what is no field name, and ``host``: Envoy would rewrite it, and ``:path``, for us."""
    if name == "host" or not _NAME.fullmatch(name):
        raise ValueError(f"not a header to write or remove: {name!r}")


def _put_metadata(told: Message, metadata: Iterable[tuple[str, str]]) -> None:
    for key, value in metadata:
        told.fields[key].string_value = value
