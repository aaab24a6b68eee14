"""What stands in a slot of a request, and the exact grammar of a credential.

Pure functions of the request.  :func:`find` has three answers: a credential,
``None`` (the slot has none), or a :class:`~authz.errors.Refusal` (it has one, and it
is bad).

A stranger writes what is read here, so each part of a request is read once for all
slots, within a bound, and nothing is decoded that cannot be a credential's.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

from authz import strict_json
from authz.errors import MalformedRequest, Reason, Refusal, Unauthenticated
from authz.header_names import AUTHORIZATION
from authz.model import BearerCredential, CredentialLocation, PairCredential, Secret
from authz.net import B64TOKEN

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from authz.model import Credential, Request, Slot

AUTHORIZATION_BYTES_MAX: Final = 16_384
CLIENT_ID_BYTES_MAX: Final = 255
CLIENT_SECRET_BYTES_MAX: Final = 1_024
QUERY_BYTES_MAX: Final = 16_384
# Twice what `authz envoy` lets Envoy send: a form or a JSON object with a credential is short.
BODY_BYTES_MAX: Final = 16_384
# Of a value in a query or a form: as many as its longest good pair can need.
ESCAPES_MAX: Final = CLIENT_SECRET_BYTES_MAX
# As many as common servers read of a query or a form.
ARGUMENTS_MAX: Final = 1_000

ARGUMENTS: Final = ("client_id", "client_secret", "username", "password", "access_token")
"""Every argument of a query or a body that some slot reads."""

# A list of RFC 9110 section 5.6.1 with at most one element that is not blank.
_ONE_ELEMENT: Final = re.compile(r"[\s,]*+[^,]*+[\s,]*+")
# RFC 7617 section 2: no control characters; a leading BOM is no part of an id.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f\ufeff]")
_SCHEMES: Final = ("basic", "bearer")
# As the schemes are registered, or all small as some clients write them, and one space.
_COMMON_SPELLING: Final = re.compile(r"(?:[Bb]asic|[Bb]earer) (?! )")


# --- The parts of a request -------------------------------------------------------


class RequestParts:
    """The parts of one request in which a credential may stand, each read once at most."""

    def __init__(self, request: Request) -> None:
        self._request = request
        self.headers = request.headers
        """The headers, by lower-case name."""

    @cached_property
    def authorization(self) -> tuple[str, str] | None:
        """The Authorization header: its lower-case scheme and the rest.

        The scheme is case-insensitive and 1*SP follows it (RFC 9110 section 11.1).
        Envoy joins repeated headers with a comma, which neither of our grammars
        has: two credentials, so nobody can say whose request it is.
        """
        value = self.headers.get("authorization")
        if value is None:
            return None
        if len(value) > AUTHORIZATION_BYTES_MAX:
            raise Unauthenticated(
                Reason.CREDENTIAL_MALFORMED, "the Authorization header is too long"
            )
        scheme, _, rest = value.partition(" ")
        scheme = scheme.lower()
        if scheme in _SCHEMES and _ONE_ELEMENT.fullmatch(value) is None:
            raise MalformedRequest(Reason.CREDENTIAL_AMBIGUOUS, "several Authorization headers")
        return scheme, rest.lstrip(" ")

    @cached_property
    def query(self) -> Form:
        """What the query has under a credential's name."""
        _, _, query = self._request.path.partition("?")
        if len(query) > QUERY_BYTES_MAX:
            raise MalformedRequest(Reason.REQUEST_MALFORMED, "the query is too long")
        return Form.of(query)

    @cached_property
    def body(self) -> Form | Members:
        """What a form or a JSON object in the body has under a credential's name."""
        request = self._request
        if request.body and not body_is_incomplete(request):
            content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
            if content_type == "application/x-www-form-urlencoded":
                return Form.of(request.body.decode("latin-1"))
            if content_type == "application/json":
                return Members.of(request.body)
        return Members({})


# --- Slots ----------------------------------------------------------------------


def presented(slots: Iterable[Slot], request: Request) -> Credential:
    """Return the one credential that stands in any of the slots.

    Raises :class:`~authz.errors.Refusal` if there is none, a bad one, or more than one
    (RFC 6750 section 2).
    """
    parts = RequestParts(request)
    found = [credential for slot in slots if (credential := find(slot, parts)) is not None]
    if len(found) > 1:
        raise MalformedRequest(Reason.CREDENTIAL_AMBIGUOUS, "more than one credential")
    if not found:
        raise missing(request)
    return found[0]


def find(slot: Slot, parts: RequestParts) -> Credential | None:
    """Return the credential that stands in a slot, or ``None``."""
    match slot.location:
        case CredentialLocation.HEADER if slot.names == (AUTHORIZATION,):
            return _in_authorization(slot, parts)
        case CredentialLocation.HEADER:
            value = parts.headers.get(slot.names[0])
            return None if value is None else _bearer(value, slot)
        case CredentialLocation.QUERY:
            return _from_arguments(slot, parts.query.named(slot.names))
        case CredentialLocation.BODY:
            return _from_arguments(slot, parts.body.named(slot.names))


# --- The Authorization header --------------------------------------------------


def basic(client_id: str, secret: str) -> str:
    """Return the header by which a pair is presented, as ``curl -u`` does (RFC 7617).

    In UTF-8 and not form-encoded; raises ``UnicodeEncodeError`` for what UTF-8 cannot say.
    """
    pair = f"{client_id}:{secret}".encode()
    return f"Basic {base64.b64encode(pair).decode()}"


def is_commonly_spelled(authorization: str) -> bool:
    """Whether a good Authorization header is spelled as clients do.

    Case and spaces give a credential some hundreds of other spellings, which all are
    good and mean the same.  What is cached by the header's text is cached for these
    two alone.
    """
    return _COMMON_SPELLING.match(authorization) is not None


def _in_authorization(slot: Slot, parts: RequestParts) -> Credential | None:
    """Read ``Basic`` (RFC 7617) as curl sends it, raw and not form-encoded; or ``Bearer``."""
    match parts.authorization:
        case ("basic", encoded) if slot.kind is PairCredential:
            return _pair(*_user_pass(encoded), slot)
        case ("bearer", token) if slot.kind is BearerCredential:
            return _bearer(token, slot)
        case _:
            return None


def _user_pass(encoded: str) -> tuple[str, str]:
    try:
        text = _decode_base64(encoded).decode("utf-8")
    except (binascii.Error, UnicodeError):
        raise Unauthenticated(
            Reason.CREDENTIAL_MALFORMED, "Basic: not the canonical base64 of UTF-8 text"
        ) from None
    client_id, colon, client_secret = text.partition(":")
    if not colon:
        raise Unauthenticated(Reason.CREDENTIAL_MALFORMED, "Basic: no colon after the client id")
    return client_id, client_secret


def _decode_base64(encoded: str) -> bytes:
    """Decode canonical base64: the decoder alone lets stray padding and loose final bits pass."""
    raw = base64.b64decode(encoded.encode("ascii"), validate=True)
    if base64.b64encode(raw).decode("ascii") != encoded:
        raise binascii.Error
    return raw


def _pair(identifier: str, secret: str, slot: Slot) -> PairCredential:
    """Check a pair's own grammar; the provider is never asked about a broken one."""
    limits = (
        (identifier, CLIENT_ID_BYTES_MAX, "id"),
        (secret, CLIENT_SECRET_BYTES_MAX, "secret"),
    )
    for text, bytes_max, what in limits:
        if not text:
            raise Unauthenticated(Reason.CREDENTIAL_MALFORMED, f"the client {what} is empty")
        if len(text.encode("utf-8", "surrogatepass")) > bytes_max:
            raise Unauthenticated(Reason.CREDENTIAL_MALFORMED, f"the client {what} is too long")
        if _FORBIDDEN.search(text) or not _encodable(text):
            raise Unauthenticated(
                Reason.CREDENTIAL_MALFORMED, f"the client {what} holds a control character"
            )
    return PairCredential(identifier, Secret(secret), slot)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: legal in JSON, not in UTF-8
        return False
    return True


def _bearer(token: str, slot: Slot) -> BearerCredential:
    if len(token) > AUTHORIZATION_BYTES_MAX or B64TOKEN.fullmatch(token) is None:
        raise Unauthenticated(Reason.TOKEN_MALFORMED, "not a bearer token (RFC 6750 section 2.1)")
    return BearerCredential(Secret(token), slot)


# --- Query and body -------------------------------------------------------------


def _from_arguments(slot: Slot, found: Mapping[str, str]) -> Credential | None:
    """Make a credential of its arguments; one half of a pair without the other is none."""
    if len(found) < len(slot.names):
        return None
    first, *rest = (found[name] for name in slot.names)
    return _pair(first, rest[0], slot) if slot.kind is PairCredential else _bearer(first, slot)


def any_spelling(name: str) -> str:
    """Return a pattern for a name with any of its characters percent-encoded."""
    return "".join(f"(?:{re.escape(char)}|%(?i:{ord(char):02x}))" for char in name)


# One group a name, in the order of ARGUMENTS.  All that decodes to a name is matched as
# it stands, so nothing is decoded to find one.
_NAME: Final = re.compile(
    f"&(?:{'|'.join(f'({any_spelling(name)})' for name in ARGUMENTS)})(?=[=&])"
)


@dataclass(frozen=True, slots=True)
class Form:
    """The arguments of a form-encoded text that have a credential's name.

    ``found``: name, whether it was spelled literally, and the value as it was sent.
    """

    found: tuple[tuple[str, bool, str], ...]

    @classmethod
    def of(cls, encoded: str) -> Form:
        """Search a text whose length has been bounded."""
        if not encoded:
            return _EMPTY_FORM
        if too_many_arguments(encoded):
            raise MalformedRequest(
                Reason.REQUEST_MALFORMED, f"more than {ARGUMENTS_MAX} arguments to search"
            )
        text = f"&{encoded}&"
        return cls(tuple(_argument(text, match) for match in _NAME.finditer(text)))

    def named(self, names: Iterable[str]) -> dict[str, str]:
        """Return the decoded values of these arguments.

        A name must be spelled literally: Envoy removes query parameters by their
        literal name, so an encoded spelling would carry the secret upstream.
        """
        values: dict[str, str] = {}
        for name, literal, value in self.found:
            if name not in names:
                continue
            if not literal:
                raise MalformedRequest(
                    Reason.CREDENTIAL_ENCODED, "a credential argument's name is percent-encoded"
                )
            if name in values:
                raise MalformedRequest(Reason.CREDENTIAL_AMBIGUOUS, f"{name} was sent twice")
            if value.count("%") > ESCAPES_MAX:
                raise Unauthenticated(Reason.CREDENTIAL_MALFORMED, f"{name} is too long")
            try:
                values[name] = unquote_to_bytes(value.replace("+", " ")).decode("utf-8")
            except UnicodeDecodeError:
                raise Unauthenticated(Reason.CREDENTIAL_MALFORMED, f"{name} is not UTF-8") from None
        return values


_EMPTY_FORM: Final = Form(())


def _argument(text: str, match: re.Match[str]) -> tuple[str, bool, str]:
    name = ARGUMENTS[(match.lastindex or 0) - 1]  # there is one: every alternative is a group
    spelled, end = match[0].removeprefix("&"), match.end()
    return name, spelled == name, text[end : text.index("&", end)].removeprefix("=")


def too_many_arguments(encoded: str) -> bool:
    """Whether a query or a form has more arguments than are searched."""
    return encoded.count("&") >= ARGUMENTS_MAX


@dataclass(frozen=True, slots=True)
class Members:
    """The members of a JSON object that have a credential's name; ``null`` is as good as absent."""

    found: Mapping[str, Any]

    @classmethod
    def of(cls, body: bytes) -> Members:
        """Read a text whose length has been bounded; what is no JSON object has no members."""
        try:
            document: Any = strict_json.loads(body)
        except strict_json.TooLargeJSONError as error:
            # It may be JSON all the same, to whoever reads it after us.
            raise MalformedRequest(Reason.REQUEST_MALFORMED, f"the body: {error}") from None
        except strict_json.InvalidJSONError:
            return cls({})
        if not isinstance(document, dict):
            return cls({})
        return cls({name: v for name in ARGUMENTS if (v := document.get(name)) is not None})

    def named(self, names: Iterable[str]) -> dict[str, str]:
        """Return the values of these members."""
        values = {name: self.found[name] for name in names if name in self.found}
        if any(not isinstance(value, str) for value in values.values()):
            raise Unauthenticated(
                Reason.CREDENTIAL_MALFORMED, "a credential in the body is no string"
            )
        return values


def body_is_incomplete(request: Request) -> bool:
    """Whether Envoy cut the body off, or should have; a credential in half a body is none."""
    cut_off = request.headers.get("x-envoy-auth-partial-body") == "true"
    return cut_off or len(request.body) > BODY_BYTES_MAX


def missing(request: Request) -> Refusal:
    """Say in which way there is no credential; the caller raises it."""
    if "authorization" in request.headers:
        return Unauthenticated(
            Reason.SCHEME_UNSUPPORTED, "no suitable authorization credentials were provided"
        )
    # The header alone proves nothing: where Envoy sends no bodies it is the caller's own.
    if request.body and body_is_incomplete(request):
        return MalformedRequest(Reason.BODY_INCOMPLETE, "the body is too large to search")
    return Unauthenticated(
        Reason.CREDENTIAL_MISSING, "no suitable authorization credentials were provided"
    )
