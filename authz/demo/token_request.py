"""Reading a token request: the form, the client's authentication, the scope."""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.demo.script import Recorded

SCOPES = frozenset({"openid", "profile", "email", "address", "phone", "microprofile-jwt"})
BAD_CLIENT = "Invalid client or Invalid client credentials"


class OAuthError(Exception):
    """A refusal of the token endpoint (RFC 6749 section 5.2)."""

    def __init__(self, status: int, error: str, description: str) -> None:
        super().__init__(description)
        self.status = status
        self.body = {"error": error, "error_description": description}


def read_form(request: Recorded) -> dict[str, str]:
    """Return the form; parameters must not be repeated (RFC 6749 section 3.2)."""
    content_type = (request.header("content-type") or "").partition(";")[0].strip().lower()
    if content_type != "application/x-www-form-urlencoded":
        return {}
    pairs = parse_qsl(request.body.decode(errors="replace"), keep_blank_values=True)
    form = dict(pairs)
    if len(form) != len(pairs):
        raise OAuthError(400, "invalid_request", "duplicated parameter")
    return form


def client_credentials(authorization: str | None, form: Mapping[str, str]) -> tuple[str, str]:
    """Return id and secret of the one client authentication (RFC 6749 section 2.3).

    Keycloak takes two and lets the form's ``client_id`` win; the RFC forbids it.
    """
    posted = "client_id" in form or "client_secret" in form
    if authorization is not None and posted:
        raise OAuthError(400, "invalid_request", "more than one client authentication")
    if authorization is not None:
        return _basic(authorization)
    if "client_id" not in form:
        raise OAuthError(401, "invalid_client", BAD_CLIENT)
    return form["client_id"], form.get("client_secret", "")


def _basic(authorization: str) -> tuple[str, str]:
    """Return the pair of ``client_secret_basic``: each half is form-encoded (section 2.3.1)."""
    scheme, _, blob = authorization.partition(" ")
    try:
        pair = b64decode(blob, validate=True).decode() if scheme.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        pair = ""
    if ":" not in pair:
        raise OAuthError(401, "invalid_client", BAD_CLIENT)
    client_id, _, secret = pair.partition(":")
    return _form_decode(client_id), _form_decode(secret)


def _form_decode(text: str) -> str:
    if re.search("%(?![0-9A-Fa-f]{2})", text):
        # Java's URLDecoder throws here, and this is what Keycloak makes of it.
        description = "Unexpected error when authenticating client"
        raise OAuthError(400, "unauthorized_client", description)
    return unquote_to_bytes(text.replace("+", " ")).decode(errors="replace")


def granted_scope(requested: str) -> str:
    """Return the scope that is granted: what was asked for and the realm's default."""
    asked = requested.split()
    if not SCOPES.issuperset(asked):
        raise OAuthError(400, "invalid_scope", f"Invalid scopes: {requested}")
    optional = [scope for scope in asked if scope not in {"openid", "email", "profile"}]
    openid = ["openid"] if "openid" in asked else []
    return " ".join([*openid, *optional, "email", "profile"])
