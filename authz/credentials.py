"""Where a caller's credential stands, and its exact grammar.

Pure functions of the request.  Each finder has three answers: a credential,
``None`` (there is none of this kind), or a :class:`~authz.errors.Refusal`
(there is one, and it is bad).
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import unquote_plus, unquote_to_bytes

from authz import strict_json
from authz.errors import MalformedRequest, Reason, Refusal, Unauthenticated
from authz.model import BearerCredential, ClientCredential, Location, Secret

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from authz.model import Request

AUTHORIZATION_BYTES_MAX: Final = 16_384
CLIENT_ID_BYTES_MAX: Final = 255
CLIENT_SECRET_BYTES_MAX: Final = 1_024
QUERY_BYTES_MAX: Final = 16_384

# Kong reads a bearer token from these when `bearer_token_param_type` has `header`.
TOKEN_HEADERS: Final = ("access-token", "x-access-token")
TOKEN_ARGUMENT: Final = "access_token"
CLIENT_ARGUMENTS: Final = ("client_id", "client_secret")

# RFC 6750 section 2.1: b64token.
_B64TOKEN: Final = re.compile(r"[A-Za-z0-9\-._~+/]+=*", re.ASCII)
# RFC 7617 section 2: no control characters; a leading BOM is no part of an id.
_FORBIDDEN: Final = re.compile("[\x00-\x1f\x7f\ufeff]")
_SCHEMES: Final = ("basic", "bearer")

T = TypeVar("T")


# --- The Authorization header --------------------------------------------------


def authorization(request: Request) -> tuple[str, str] | None:
    """Split the Authorization header into its lower-case scheme and the rest.

    The scheme is case-insensitive and 1*SP follows it (RFC 9110 section 11.1).
    Envoy joins repeated headers with a comma, which neither of our grammars
    has: two credentials, so nobody can say whose request it is.
    """
    value = request.headers.get("authorization")
    if value is None:
        return None
    if len(value) > AUTHORIZATION_BYTES_MAX:
        raise Unauthenticated(Reason.CREDENTIAL_MALFORMED, "the Authorization header is too long")
    scheme, _, rest = value.partition(" ")
    scheme = scheme.lower()
    if scheme in _SCHEMES and sum(bool(part.strip()) for part in value.split(",")) > 1:
        raise MalformedRequest(Reason.CREDENTIAL_AMBIGUOUS, "several Authorization headers")
    return scheme, rest.lstrip(" ")


def basic(request: Request) -> ClientCredential | None:
    """Find ``Authorization: Basic`` (RFC 7617), read as curl sends it: raw, not form-encoded."""
    match authorization(request):
        case ("basic", encoded):
            return _client(*_user_pass(encoded), Location.HEADER, ("authorization",))
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
    client_id: str, client_secret: str, location: Location, names: tuple[str, ...]
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


def bearer_headers(request: Request) -> BearerCredential | None:
    """Find a bearer token in Authorization, Access-Token or X-Access-Token."""
    found: list[BearerCredential] = []
    match authorization(request):
        case ("bearer", token):
            found.append(_bearer(token, Location.HEADER, "authorization"))
    found += [
        _bearer(request.headers[name], Location.HEADER, name)
        for name in TOKEN_HEADERS
        if name in request.headers
    ]
    return only(found)


def _bearer(token: str, location: Location, name: str) -> BearerCredential:
    if len(token) > AUTHORIZATION_BYTES_MAX or _B64TOKEN.fullmatch(token) is None:
        raise Unauthenticated(Reason.TOKEN_MALFORMED, "not a bearer token (RFC 6750 section 2.1)")
    return BearerCredential(Secret(token), location, (name,))


# --- Query and body -------------------------------------------------------------


def client_query(request: Request) -> ClientCredential | None:
    """Find ``client_id`` and ``client_secret`` in the query; one without the other is none."""
    return _client_arguments(_query(request, CLIENT_ARGUMENTS), Location.QUERY)


def bearer_query(request: Request) -> BearerCredential | None:
    """Find ``access_token`` in the query (RFC 6750 section 2.3)."""
    return _bearer_argument(_query(request, (TOKEN_ARGUMENT,)), Location.QUERY)


def client_body(request: Request) -> ClientCredential | None:
    """Find ``client_id`` and ``client_secret`` in a form or JSON body."""
    return _client_arguments(_body(request, CLIENT_ARGUMENTS), Location.BODY)


def bearer_body(request: Request) -> BearerCredential | None:
    """Find ``access_token`` in a form or JSON body (RFC 6750 section 2.2)."""
    return _bearer_argument(_body(request, (TOKEN_ARGUMENT,)), Location.BODY)


def _client_arguments(found: Mapping[str, str], location: Location) -> ClientCredential | None:
    if len(found) < len(CLIENT_ARGUMENTS):
        return None
    return _client(found["client_id"], found["client_secret"], location, CLIENT_ARGUMENTS)


def _bearer_argument(found: Mapping[str, str], location: Location) -> BearerCredential | None:
    if TOKEN_ARGUMENT not in found:
        return None
    return _bearer(found[TOKEN_ARGUMENT], location, TOKEN_ARGUMENT)


def _query(request: Request, names: Iterable[str]) -> dict[str, str]:
    _, _, query = request.path.partition("?")
    if len(query) > QUERY_BYTES_MAX:
        raise MalformedRequest(Reason.REQUEST_MALFORMED, "the query is too long")
    return _arguments(query, frozenset(names))


def _arguments(encoded: str, names: frozenset[str]) -> dict[str, str]:
    """Collect the named arguments of a form-encoded text.

    A name must be spelled literally: Envoy removes query parameters by their
    literal name, so an encoded spelling would carry the secret upstream.
    """
    found: dict[str, str] = {}
    for name, value in _pairs(encoded):
        if name not in names:
            if unquote_plus(name) in names:
                raise MalformedRequest(
                    Reason.CREDENTIAL_ENCODED, "a credential argument's name is percent-encoded"
                )
            continue
        if name in found:
            raise MalformedRequest(Reason.CREDENTIAL_AMBIGUOUS, f"{name} was sent twice")
        try:
            found[name] = unquote_to_bytes(value.replace("+", " ")).decode("utf-8")
        except UnicodeDecodeError:
            raise Unauthenticated(Reason.CREDENTIAL_MALFORMED, f"{name} is not UTF-8") from None
    return found


def _pairs(encoded: str) -> Iterator[tuple[str, str]]:
    for part in encoded.split("&"):
        name, _, value = part.partition("=")
        yield name, value


def body_is_incomplete(request: Request) -> bool:
    """Whether Envoy cut the body off; a credential in half a body is none."""
    return request.headers.get("x-envoy-auth-partial-body") == "true"


def _body(request: Request, names: Iterable[str]) -> dict[str, str]:
    if not request.body or body_is_incomplete(request):
        return {}
    content_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if content_type == "application/x-www-form-urlencoded":
        return _arguments(request.body.decode("latin-1"), frozenset(names))
    if content_type == "application/json":
        return _members(request.body, frozenset(names))
    return {}


def _members(body: bytes, names: frozenset[str]) -> dict[str, str]:
    """Collect the named members of a JSON object; ``null`` is as good as absent."""
    try:
        document: Any = strict_json.loads(body)
    except strict_json.InvalidJSONError:
        return {}
    if not isinstance(document, dict):
        return {}
    found = {name: document[name] for name in names if document.get(name) is not None}
    if any(not isinstance(value, str) for value in found.values()):
        raise Unauthenticated(Reason.CREDENTIAL_MALFORMED, "a credential in the body is no string")
    return found


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
