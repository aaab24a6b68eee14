"""What a provider says of itself (OpenID Connect Discovery 1.0, RFC 8414)."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import SplitResult, urljoin, urlsplit

from authz import strict_json
from authz.errors import Reason, Unavailable
from authz.oauth import endpoints
from authz.oauth.http import HTTP_OK, Request

if TYPE_CHECKING:
    from collections.abc import Mapping

    from authz.oauth.door import Door
    from authz.oauth.endpoints import Endpoint
    from authz.oauth.http import Response

WELL_KNOWN: Final = "/.well-known/openid-configuration"
# RFC 8414 section 3.1 puts it between the host and the issuer's path.
_SUFFIXES: Final = (WELL_KNOWN, "/.well-known/oauth-authorization-server")
_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
_QUOTED_CHARS_MAX: Final = 100
_BYTE_ORDER_MARK: Final = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class ProviderMetadata:
    """What a provider says of itself: its issuer, and the other members as it writes them.

    ``configured_issuer`` is the URL under which the file names it.
    """

    issuer: str
    configured_issuer: str = ""
    members: Mapping[str, Any] = field(default_factory=dict, repr=False)

    def url_of(self, endpoint: Endpoint) -> str | None:
        """Return an endpoint's URL, ``None`` if the document has none.

        It is checked here, where it is about to be used: one that the file overrides may
        be whatever it is.  Raises Unavailable for a URL that may not be used.
        """
        name = endpoint.member or ""
        url = self.members.get(name)
        if url is None or url == "":
            return None
        if not isinstance(url, str):
            raise _unusable(f"{name} is no string")
        if (fault := _fault(url, self.configured_issuer)) is not None:
            raise _unusable(f"{name} {_quoted(url)} {fault}")
        return url

    def strings(self, name: str) -> tuple[str, ...]:
        """Return the strings of an array, none if there is no such array."""
        value = self.members.get(name)
        return tuple(v for v in value if isinstance(v, str)) if isinstance(value, list) else ()


def discovery_url(issuer: str) -> str:
    """Return where the document is; Kong's ``issuer`` may name it already."""
    url = urlsplit(issuer)
    if any(suffix in url.path for suffix in _SUFFIXES):
        return issuer
    return url._replace(path=url.path.rstrip("/") + WELL_KNOWN).geturl()


def issuer_url(issuer: str) -> str:
    """Return Kong's ``issuer`` without the name of the document, and without the document's query.

    An issuer has no query (RFC 8414 section 2): one is meant for the document alone, as
    the ``?appid=`` of Entra.
    """
    url = urlsplit(issuer)
    path = url.path
    for suffix in _SUFFIXES:
        path = path.replace(suffix, "", 1)
    return url._replace(path=path, query="").geturl()


async def discover(door: Door, issuer: str) -> ProviderMetadata:
    """Fetch and check a provider's metadata; ``issuer`` as configured.

    Raises :class:`~authz.errors.IdpOutage` when the provider fails to answer
    and :class:`~authz.errors.Unavailable` when its answer cannot be used.
    """
    asked = discovery_url(issuer)
    return await door.ask(
        endpoints.DISCOVERY, Request(asked), lambda response: _metadata(response, asked, issuer)
    )


def _metadata(response: Response, asked: str, issuer: str) -> ProviderMetadata:
    if response.status in _REDIRECTS:
        raise _unusable(_redirect(response, asked))
    document = json_object(response)
    found = document.get("issuer")
    if not isinstance(found, str) or not found:
        raise _unusable("the document has no issuer")
    return ProviderMetadata(found, issuer, document)


def _redirect(response: Response, asked: str) -> str:
    """Say where a redirect leads, if that is the same host by https: it is never followed."""
    status = f"HTTP status {response.status}, and redirects are not followed"
    try:
        here, there = (
            urlsplit(asked),
            urlsplit(urljoin(asked, response.headers.get("location", ""))),
        )
        same_host = (there.scheme, there.hostname) == ("https", here.hostname)
    except ValueError:
        return status
    if not same_host or there == here:
        return status
    return f"{status}; write {_quoted(issuer_url(there.geturl()))} as issuer, if that is it"


def json_object(response: Response) -> dict[str, Any]:
    """Return the JSON object of a successful answer."""
    if response.status != HTTP_OK:
        raise _unusable(f"HTTP status {response.status}")
    try:
        document = parsed(response.body)
    except strict_json.InvalidJSONError as error:
        raise _unusable(str(error)) from None
    if not isinstance(document, dict):
        raise _unusable("not a JSON object")
    return document


def parsed(body: bytes) -> Any:  # noqa: ANN401 - whatever the provider sends
    """Read a provider's JSON, behind a byte order mark if it has one.

    RFC 8259 section 8.1: none may be sent, and it may be ignored where it is.  Raises
    :class:`~authz.strict_json.InvalidJSONError`.
    """
    return strict_json.loads(body.removeprefix(_BYTE_ORDER_MARK))


@lru_cache(maxsize=64)  # a provider has few endpoints, and each is used many times
def _fault(url: str, issuer: str) -> str | None:
    """Say why an endpoint may not be used; it may if it is https, or as the issuer itself."""
    try:
        parts, own = urlsplit(url), urlsplit(issuer)
        sound = _is_sound(parts)
    except ValueError:
        return "is no URL"
    if parts.scheme == "http" and own.scheme == "https":
        return (
            "is no https URL, though the issuer is one: the provider takes itself to be reached"
            " by http; tell it its public address, or write the endpoint into the file"
        )
    if parts.scheme not in {"https", own.scheme}:
        return "is no https URL, nor one of the issuer's own scheme"
    return None if sound else "is no URL that may be asked"


def _is_sound(parts: SplitResult) -> bool:
    return (
        bool(parts.hostname)
        and parts.username is None
        and not parts.fragment
        and parts.port != 0  # reading the port checks it
    )


def _quoted(text: str) -> str:
    return json.dumps(text[:_QUOTED_CHARS_MAX])


def _unusable(detail: str) -> Unavailable:
    return Unavailable(Reason.IDP_ANSWER_INVALID, detail)
