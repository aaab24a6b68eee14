"""What is asked of the provider's endpoints, and what a refusal there means.

The provider's verdict may be on the caller, on our own client, on the way in which we
asked, or no verdict at all: which of these depends on the grant, on whose client asked,
on the HTTP status and on the OAuth error code (RFC 6749 section 5.2).  A status that is an
outage whatever the code is (429, 408, 5xx) is the door's to see (:mod:`authz.oauth.gate`).
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, unquote_plus

from authz import strict_json
from authz.errors import Forbidden, IdpOutage, Reason, Unauthenticated, Unavailable
from authz.oauth import form_encoding
from authz.oauth.client_authentication import FormRequest
from authz.oauth.discovery import parsed
from authz.oauth.http import HTTP_OK, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from authz.errors import Refusal
    from authz.model import Secret
    from authz.oauth.http import Response

CLIENT_CREDENTIALS: Final = "client_credentials"
PASSWORD: Final = "password"
INTROSPECTION: Final = "introspection"
"""No grant, but what an introspection endpoint refuses is told apart in the same table."""

ERROR_CODE_CHARS_MAX: Final = 64
ERROR_DESCRIPTION_CHARS_MAX: Final = 100

# RFC 6749 section 5.2: %x20-21 / %x23-5B / %x5D-7E.
_ERROR_CODE: Final = re.compile(rf"[\x20-\x21\x23-\x5b\x5d-\x7e]{{1,{ERROR_CODE_CHARS_MAX}}}")

_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403

_OUTAGES: Final = frozenset(("temporarily_unavailable", "server_error"))
# About the client, whatever the status.  Keycloak says unauthorized_client for a wrong
# secret and invalid_client for an unknown client, both with 401.
_ABOUT_THE_CLIENT: Final = frozenset(("invalid_client", "unauthorized_client"))
# The client is who it says, and may not have this: Auth0 says access_denied with 403 to
# a client without a grant for the audience, and with 401 to a wrong secret.
_NOT_ALLOWED: Final = frozenset(("access_denied", "invalid_grant", "unauthorized_client"))
# About what we asked for, even with 401: no verdict on anybody's secret.
_ABOUT_THE_REQUEST: Final = frozenset(
    ("invalid_scope", "invalid_target", "unsupported_grant_type", "unsupported_token_type")
)


@dataclass(frozen=True, slots=True)
class Grant:
    """What a client asks the token endpoint for (RFC 6749 section 4)."""

    kind: str
    request: FormRequest


IN_ITS_OWN_NAME: Final = Grant(
    CLIENT_CREDENTIALS, FormRequest((("grant_type", CLIENT_CREDENTIALS),))
)
"""The grant of a client that asks for itself (RFC 6749 section 4.4)."""


def password(username: str, secret: Secret) -> Grant:
    """Return the grant of a user's name and password (RFC 6749 section 4.3)."""
    text = secret.reveal()
    form = (("grant_type", PASSWORD), ("username", username), ("password", text))
    return Grant(PASSWORD, FormRequest(form, secrets=(text,)))


def posted(url: str, asked: FormRequest, sign_anew: Callable[[], FormRequest]) -> Request:
    """Return a request as it is sent; if it is repeated, it is signed anew."""

    def again() -> Request:
        return posted(url, sign_anew(), sign_anew)

    return Request(
        url,
        form_encoding.encoded(asked.form).encode("ascii"),
        headers=asked.headers,
        signed_anew=again,
    )


@dataclass(frozen=True, slots=True)
class ProviderAnswer:
    """An answer of an endpoint, read as far as a verdict needs it.

    ``document``: its JSON object, empty if it has none.  ``error``: the OAuth error
    code, ``None`` if there is none that keeps to the grammar.  ``refused``: whether it
    is anything but a success; some providers answer errors with 200.
    """

    status: int
    document: Mapping[str, Any]
    error: str | None
    refused: bool
    log_fields: Mapping[str, str]


def read(answer: Response, asked: FormRequest) -> ProviderAnswer:
    """Read the answer to ``asked``.

    Raises :class:`~authz.errors.Unavailable` for a success that is no strict JSON object.
    """
    document = _document(answer)
    said = document.get("error")
    error = said if isinstance(said, str) and _ERROR_CODE.fullmatch(said) else None
    return ProviderAnswer(
        status=answer.status,
        document=document,
        error=error,
        # A member that is null or empty says nothing.
        refused=answer.status != HTTP_OK or said not in (None, ""),
        log_fields=_log_fields(error, document.get("error_description"), asked),
    )


def _document(answer: Response) -> Mapping[str, Any]:
    """Return the JSON object of an answer; an error answer need not have one."""
    try:
        document = parsed(answer.body)
    except strict_json.InvalidJSONError as error:
        document = str(error)
    if isinstance(document, dict):
        return document
    if answer.status == HTTP_OK:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "the answer is not a JSON object")
    return {}


def _log_fields(error: str | None, description: object, asked: FormRequest) -> dict[str, str]:
    """Return what the provider said, for the log: bounded, escaped, and none of our secrets."""
    if error is None and description is None:
        return {}
    said = {"idp_error": error, "idp_error_description": description}
    fields = {
        name: json.dumps(text)[1:-1][:ERROR_DESCRIPTION_CHARS_MAX]
        for name, text in said.items()
        if isinstance(text, str) and text and not _quotes(text, asked)
    }
    if error in _ABOUT_THE_CLIENT and asked.hint:
        fields["hint"] = asked.hint
    return fields


def _quotes(text: str, asked: FormRequest) -> bool:
    """Whether a text has one of the secrets that were sent, plain or as the form spells it."""
    read = (text, unquote(text), unquote_plus(text))
    return any(secret in one for one in read for secret in asked.secrets)


def verdict(answer: ProviderAnswer, kind: str, *, is_caller: bool) -> Refusal:
    """Return what a refusal means.

    ``kind``: the grant, or ``INTROSPECTION``.  ``is_caller``: whether the client that
    asked is the caller, so that a verdict on it is one on the caller's secret; else it
    is our own, and the caller did nothing wrong.
    """
    return (
        _outage(answer)
        or (_of_callers_client(answer) if is_caller else _of_own_client(answer, kind))
        or _of_the_request(answer)
    )


def trouble(answer: ProviderAnswer) -> Refusal:
    """Return what a refusal means that is no verdict on anybody."""
    return _outage(answer) or _of_the_request(answer)


def _outage(answer: ProviderAnswer) -> Refusal | None:
    """Return an outage, whatever the status; the door says for how long."""
    if answer.error == "slow_down":
        reason = Reason.IDP_THROTTLED
    elif answer.error in _OUTAGES:
        reason = Reason.IDP_UNAVAILABLE
    else:
        return None
    return IdpOutage(reason, _found(answer), log_fields=answer.log_fields)


def _of_callers_client(answer: ProviderAnswer) -> Refusal | None:
    """Return a verdict on the caller, who asked as the client; a wrong secret is a guess.

    A bare 401 may come from a proxy in between: no proof of a wrong secret.
    """
    code, said = answer.error, answer.log_fields
    if code is None or code in _ABOUT_THE_REQUEST:
        return None
    if code == "invalid_client" or answer.status == _UNAUTHORIZED:
        return Unauthenticated(
            Reason.SECRET_REJECTED, "the provider refused the client", log_fields=said
        )
    if code in _NOT_ALLOWED:
        return Forbidden(
            Reason.CLIENT_NOT_ALLOWED,
            "the provider knows the client and gives it no token",
            log_fields=said,
        )
    return None


def _of_own_client(answer: ProviderAnswer, kind: str) -> Refusal | None:
    """Return a verdict on the user whose password was asked about, or on our own client."""
    code, status, said = answer.error, answer.status, answer.log_fields
    if kind == PASSWORD and code == "invalid_grant":
        return Unauthenticated(
            Reason.SECRET_REJECTED, "the provider refused the user", log_fields=said
        )
    concerns_client = status == _UNAUTHORIZED or (kind == INTROSPECTION and status == _FORBIDDEN)
    if code in _ABOUT_THE_CLIENT or (concerns_client and code not in _ABOUT_THE_REQUEST):
        return Unavailable(
            Reason.OWN_CLIENT_REJECTED,
            f"the provider refused our own client ({_found(answer)}); see the "
            "plugin's client_id, client_secret and client_auth",
            log_fields=said,
        )
    return None


def _of_the_request(answer: ProviderAnswer) -> Refusal:
    """Return that the provider refused how we ask, or did not answer as OAuth has it."""
    detail = _found(answer)
    if answer.error == "invalid_scope":
        detail += "; see the plugin's scopes"
    reason = Reason.IDP_ANSWER_INVALID if answer.error is None else Reason.IDP_REQUEST_REFUSED
    return Unavailable(reason, detail, log_fields=answer.log_fields)


def _found(answer: ProviderAnswer) -> str:
    return f"HTTP status {answer.status}"
