"""Where a caller's credential stands, and its exact grammar.

Pure functions of the request.  Each finder has three answers: a credential,
``None`` (there is none of this kind), or a :class:`~authz.errors.Refusal`
(there is one, and it is bad).

A stranger writes what is read here, so each place is read once for all finders,
within a bound, and nothing is decoded that cannot be a credential's.
"""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote_to_bytes

from authz import header_names, strict_json
from authz.errors import MalformedRequest, Reason, Refusal, Unauthenticated
from authz.model import BearerCredential, ClientCredential, CredentialLocation, Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from authz.model import Request

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

TOKEN_ARGUMENT: Final = "access_token"
CLIENT_ARGUMENTS: Final = ("client_id", "client_secret")
ARGUMENTS: Final = (*CLIENT_ARGUMENTS, TOKEN_ARGUMENT)

# RFC 6750 section 2.1: b64token.  Possessive, so that no text is looked at twice.
_B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]++=*+", re.ASCII)
# A list of RFC 9110 section 5.6.1 with at most one element that is not blank.
_ONE_ELEMENT: Final = re.compile(r"[\s,]*+[^,]*+[\s,]*+")
# RFC 7617 section 2: no control characters; a leading BOM is no part of an id.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f\ufeff]")
_SCHEMES: Final = ("basic", "bearer")
# As the schemes are registered, or all small as some clients write them, and one space.
_COMMON_SPELLING: Final = re.compile(r"(?:[Bb]asic|[Bb]earer) (?! )")

T = TypeVar("T")


# --- The places -----------------------------------------------------------------


class Places:
    """The places of one request where a credential may stand, each read once at most."""

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


# --- The Authorization header --------------------------------------------------


def is_commonly_spelled(authorization: str) -> bool:
    """Whether a good Authorization header is spelled as clients do.

    Case and spaces give a credential some hundreds of other spellings, which all are
    good and mean the same.  What is cached by the header's text is cached for these
    two alone.
    """
    return _COMMON_SPELLING.match(authorization) is not None


def basic(places: Places) -> ClientCredential | None:
    """Find ``Authorization: Basic`` (RFC 7617), read as curl sends it: raw, not form-encoded."""
    match places.authorization:
        case ("basic", encoded):
            return _client(*_user_pass(encoded), CredentialLocation.HEADER, ("authorization",))
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


def _client(
    client_id: str, client_secret: str, location: CredentialLocation, names: tuple[str, ...]
) -> ClientCredential:
    """Check a pair's own grammar; the provider is never asked about a broken one."""
    limits = (
        (client_id, CLIENT_ID_BYTES_MAX, "id"),
        (client_secret, CLIENT_SECRET_BYTES_MAX, "secret"),
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
    return ClientCredential(client_id, Secret(client_secret), location, names)


def _encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:  # a lone surrogate: legal in JSON, not in UTF-8
        return False
    return True


def bearer_headers(places: Places) -> BearerCredential | None:
    """Find a bearer token in Authorization, Access-Token or X-Access-Token."""
    found: list[BearerCredential] = []
    match places.authorization:
        case ("bearer", token):
            found.append(_bearer(token, CredentialLocation.HEADER, "authorization"))
    found += [
        _bearer(places.headers[name], CredentialLocation.HEADER, name)
        for name in header_names.TOKENS
        if name in places.headers
    ]
    return only(found)


def _bearer(token: str, location: CredentialLocation, name: str) -> BearerCredential:
    if len(token) > AUTHORIZATION_BYTES_MAX or _B64TOKEN.fullmatch(token) is None:
        raise Unauthenticated(Reason.TOKEN_MALFORMED, "not a bearer token (RFC 6750 section 2.1)")
    return BearerCredential(Secret(token), location, (name,))


# --- Query and body -------------------------------------------------------------


def client_query(places: Places) -> ClientCredential | None:
    """Find ``client_id`` and ``client_secret`` in the query; one without the other is none."""
    return _client_arguments(places.query.named(CLIENT_ARGUMENTS), CredentialLocation.QUERY)


def bearer_query(places: Places) -> BearerCredential | None:
    """Find ``access_token`` in the query (RFC 6750 section 2.3)."""
    return _bearer_argument(places.query.named((TOKEN_ARGUMENT,)), CredentialLocation.QUERY)


def client_body(places: Places) -> ClientCredential | None:
    """Find ``client_id`` and ``client_secret`` in a form or JSON body."""
    return _client_arguments(places.body.named(CLIENT_ARGUMENTS), CredentialLocation.BODY)


def bearer_body(places: Places) -> BearerCredential | None:
    """Find ``access_token`` in a form or JSON body (RFC 6750 section 2.2)."""
    return _bearer_argument(places.body.named((TOKEN_ARGUMENT,)), CredentialLocation.BODY)


def _client_arguments(
    found: Mapping[str, str], location: CredentialLocation
) -> ClientCredential | None:
    if len(found) < len(CLIENT_ARGUMENTS):
        return None
    return _client(found["client_id"], found["client_secret"], location, CLIENT_ARGUMENTS)


def _bearer_argument(
    found: Mapping[str, str], location: CredentialLocation
) -> BearerCredential | None:
    if TOKEN_ARGUMENT not in found:
        return None
    return _bearer(found[TOKEN_ARGUMENT], location, TOKEN_ARGUMENT)


def _any_spelling(name: str) -> str:
    """Return a pattern for a name with any of its characters percent-encoded."""
    return "".join(f"(?:{re.escape(char)}|%(?i:{ord(char):02x}))" for char in name)


# One group a name, in the order of ARGUMENTS.  All that decodes to a name is matched as
# it stands, so nothing is decoded to find one.
_NAME: Final = re.compile(
    f"&(?:{'|'.join(f'({_any_spelling(name)})' for name in ARGUMENTS)})(?=[=&])"
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


def only(found: list[T]) -> T | None:
    """Return the one credential found, or none; two are an error (RFC 6750 section 2)."""
    if len(found) > 1:
        raise MalformedRequest(Reason.CREDENTIAL_AMBIGUOUS, "more than one credential")
    return found[0] if found else None
