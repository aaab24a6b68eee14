"""What a provider says of itself (OpenID Connect Discovery 1.0, RFC 8414)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from authz import strict_json
from authz.errors import IdpOutage, Reason, Unavailable
from authz.oauth.http import HTTP_OK

if TYPE_CHECKING:
    from authz.oauth.http import HttpClient, Response

METADATA_BYTES_MAX: Final = 256 * 1024
WELL_KNOWN: Final = "/.well-known/openid-configuration"
_SUFFIXES: Final = (WELL_KNOWN, "/.well-known/oauth-authorization-server")
_SERVER_ERRORS: Final = range(500, 600)


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """The members of the metadata document that we use."""

    issuer: str
    jwks_uri: str | None = None
    token_endpoint: str | None = None
    token_endpoint_auth_methods_supported: tuple[str, ...] = ()


def discovery_url(issuer: str) -> str:
    """Return where the document is; Kong's ``issuer`` may name it already."""
    return issuer if issuer.endswith(_SUFFIXES) else issuer.rstrip("/") + WELL_KNOWN


def issuer_url(issuer: str) -> str:
    """Return Kong's ``issuer`` without the name of the document."""
    for suffix in _SUFFIXES:
        issuer = issuer.removesuffix(suffix)
    return issuer


async def discover(http: HttpClient, issuer: str) -> ProviderMetadata:
    """Fetch and check a provider's metadata; ``issuer`` as configured.

    Raises :class:`~authz.errors.IdpOutage` when the provider fails to answer
    and :class:`~authz.errors.Unavailable` when its answer cannot be used.
    """
    answer = await http.get(discovery_url(issuer), bytes_max=METADATA_BYTES_MAX)
    document = json_object(answer, "discovery")
    found = ProviderMetadata(
        issuer=_string(document, "issuer") or "",
        jwks_uri=_string(document, "jwks_uri"),
        token_endpoint=_string(document, "token_endpoint"),
        token_endpoint_auth_methods_supported=_strings(
            document, "token_endpoint_auth_methods_supported"
        ),
    )
    if not found.issuer:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, "discovery: the document has no issuer")
    for name in ("jwks_uri", "token_endpoint"):
        url = getattr(found, name)
        if url is not None and not _trustworthy(url, issuer):
            raise Unavailable(
                Reason.IDP_ANSWER_INVALID,
                f"discovery: {name} is no https URL, nor one of the issuer's own scheme",
            )
    return found


def json_object(answer: Response, what: str) -> dict[str, Any]:
    """Return the JSON object of a successful answer; ``what`` names it in the error."""
    if answer.status in _SERVER_ERRORS:
        raise IdpOutage(Reason.IDP_UNAVAILABLE, f"{what}: HTTP status {answer.status}")
    if answer.status != HTTP_OK:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, f"{what}: HTTP status {answer.status}")
    try:
        document = strict_json.loads(answer.body)
    except strict_json.InvalidJSONError as error:
        raise Unavailable(Reason.IDP_ANSWER_INVALID, f"{what}: {error}") from None
    if not isinstance(document, dict):
        raise Unavailable(Reason.IDP_ANSWER_INVALID, f"{what}: not a JSON object")
    return document


def _trustworthy(url: str, issuer: str) -> bool:
    """Whether an endpoint may be used: https, or as the issuer itself; a URL of a host."""
    try:
        parts = urlsplit(url)
        return (
            parts.scheme in {"https", urlsplit(issuer).scheme}
            and bool(parts.hostname)
            and parts.username is None
            and not parts.fragment
            and parts.port != 0  # reading the port checks it
        )
    except ValueError:
        return False


def _string(document: dict[str, Any], name: str) -> str | None:
    value = document.get(name)
    return value if isinstance(value, str) and value else None


def _strings(document: dict[str, Any], name: str) -> tuple[str, ...]:
    value = document.get(name)
    return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()
