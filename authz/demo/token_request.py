"""Reading a token request: the form, the client's authentication, the grant, the scope."""

from __future__ import annotations

import binascii
import hmac
import json
import re
from base64 import b64decode, urlsafe_b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote_to_bytes

from cryptography.exceptions import InvalidSignature

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.demo.keys import Key
    from authz.demo.script import Recorded

SCOPES = frozenset({"openid", "profile", "email", "address", "phone", "microprofile-jwt"})
BAD_CLIENT = "Invalid client or Invalid client credentials"
BAD_USER = "Invalid user credentials"
ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
ASSERTION_SECONDS_MAX = 60
_HASHES = {"HS256": "sha256", "HS384": "sha384", "HS512": "sha512"}


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


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of a provider: their secrets, and the public keys of those that have one.

    ``audience``: what an assertion must be for.  ``seen``: the ``jti`` of every one.
    """

    secrets: Mapping[str, str]
    keys: Mapping[str, Key]
    audience: str
    now: float
    seen: set[str]

    def authenticated(self, authorization: str | None, form: Mapping[str, str]) -> str:
        """Return the id of the client that one authentication proves (RFC 6749 section 2.3)."""
        if "client_assertion" in form:
            return self._by_assertion(authorization, form)
        client_id, secret = _id_and_secret(authorization, form)
        # Keycloak tells the two apart by the code and not by the text.
        if client_id not in self.secrets:
            raise OAuthError(401, "invalid_client", BAD_CLIENT)
        if self.secrets[client_id] != secret:
            raise OAuthError(401, "unauthorized_client", BAD_CLIENT)
        return client_id

    def _by_assertion(self, authorization: str | None, form: Mapping[str, str]) -> str:
        """Check an assertion as RFC 7523 section 3 has it: for us alone, short, and used once."""
        if authorization is not None or "client_secret" in form:
            raise OAuthError(400, "invalid_request", "more than one client authentication")
        if form.get("client_assertion_type") != ASSERTION_TYPE:
            raise OAuthError(400, "invalid_request", "another client_assertion_type")
        try:
            header, claims = self._verified(form["client_assertion"])
            client_id = claims["sub"]
            good = (
                claims["iss"] == client_id == form.get("client_id", client_id)
                and claims["aud"] == self.audience
                and self.now < claims["exp"] <= self.now + ASSERTION_SECONDS_MAX
                and claims["jti"] not in self.seen
                and header["typ"] == "JWT"
            )
        except (KeyError, ValueError, TypeError, InvalidSignature):
            raise OAuthError(401, "unauthorized_client", BAD_CLIENT) from None
        if not good:
            raise OAuthError(401, "unauthorized_client", BAD_CLIENT)
        self.seen.add(claims["jti"])
        return str(client_id)

    def _verified(self, assertion: str) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return header and claims of an assertion; raises for a signature that is not its own."""
        signed, _, signature = assertion.rpartition(".")
        header, claims = (json.loads(_base64url(part)) for part in signed.split("."))
        algorithm, client_id, made = header["alg"], claims["sub"], _base64url(signature)
        if algorithm in _HASHES:
            key = self.secrets[client_id].encode()
            if hmac.digest(key, signed.encode(), _HASHES[algorithm]) != made:
                raise InvalidSignature
        elif not self.keys[client_id].verifies(algorithm, header.get("kid"), signed, made):
            raise InvalidSignature
        return header, claims


def _base64url(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _id_and_secret(authorization: str | None, form: Mapping[str, str]) -> tuple[str, str]:
    """Return id and secret; Keycloak takes two of them, the RFC forbids it."""
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
