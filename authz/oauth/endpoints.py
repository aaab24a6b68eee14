"""The endpoints of a provider: one row each, so that a new one is one name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_JSON: Final = "application/json"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One endpoint.

    ``name`` is its label in metrics, ``title`` what messages call it, ``member`` where
    its URL stands in the metadata document (``None``: that document itself), ``accept``
    what is asked for (RFC 9110 section 12.5.1), ``answer_bytes_max`` the cap on its answer.
    """

    name: str
    title: str
    member: str | None
    accept: str = _JSON
    answer_bytes_max: int = 64 * 1024


DISCOVERY: Final = Endpoint("discovery", "discovery", None, answer_bytes_max=256 * 1024)
# RFC 7517 section 8.5.1; some servers have that media type only and answer 406 without.
JWKS: Final = Endpoint(
    "jwks", "key set", "jwks_uri", f"application/jwk-set+json, {_JSON}", 256 * 1024
)
TOKEN: Final = Endpoint("token", "token endpoint", "token_endpoint")
# RFC 7662 section 2.
INTROSPECTION: Final = Endpoint("introspection", "introspection endpoint", "introspection_endpoint")
# OpenID Connect Core section 5.3.
USERINFO: Final = Endpoint("userinfo", "userinfo endpoint", "userinfo_endpoint")

ENDPOINTS: Final = (DISCOVERY, JWKS, TOKEN, INTROSPECTION, USERINFO)
