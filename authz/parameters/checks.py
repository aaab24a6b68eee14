"""What is wrong with the text of a parameter: one function a grammar.

Each returns None if nothing is.  They are pure, and those that may meet a secret do
not repeat what they were given.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from authz import header_names
from authz.net import is_loopback

MESSAGE_CHARS_MAX = 1_000
"""Of ``unauthorized_error_message`` and ``forbidden_error_message``."""

CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
HOST_OR_IP = "must be a host name or an IP address, without scheme, port or path"
_TOKEN_HEADER = re.compile(f"(?P<name>{header_names.TOKEN})(?::(?P<scheme>{header_names.TOKEN}))?")
# RFC 6749 section 3.3; one item may hold several scopes
_SCOPES = re.compile(r"[\x20\x21\x23-\x5b\x5d-\x7e]*")

# A header that frames the message or names its target is never a plugin's to
# set, nor is what Envoy says of the caller, which may be written after us; the identity
# headers have their own value, and one header has one value.
_RESERVED_HEADERS = frozenset(
    {
        "connection", "content-length", "host", "keep-alive", "proxy-connection", "te",
        "trailer", "transfer-encoding", "upgrade",
        *header_names.FORWARDED,
        *header_names.IDENTITY,
    }
)  # fmt: skip
# Of a request to a provider.
_WRITTEN_HERE = frozenset(
    {
        "accept", "accept-encoding", "authorization", "connection", "content-length",
        "content-type", "host", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade",
        "user-agent",
    }
)  # fmt: skip
# What concerns one connection alone (RFC 9110 section 7.6.1), or the other request's body.
_NEVER_FORWARDED = frozenset(
    {"expect", "http2-settings", "keep-alive", "proxy-authenticate", "proxy-authorization",
     "proxy-connection"}
)  # fmt: skip
_NEVER_FORWARDED_PREFIX = "content-"
# In no need of an escape (RFC 3986 section 2.3), so that a name has few other spellings.
_ARGUMENT_NAME = re.compile(r"[A-Za-z0-9._~-]+")
# n of them make 2**n spellings of one name, all removed from every request.
_SEPARATORS_MAX = 6
_RESERVED_PREFIXES = ("x-envoy-", "x-consumer-", "x-authenticated-")


# --- URLs ---------------------------------------------------------------------


def url(text: str) -> str | None:
    """Check an absolute http or https URL to send requests to (RFC 3986)."""
    return absolute_url(text, ("http", "https"))


def absolute_url(text: str, schemes: tuple[str, ...]) -> str | None:
    """Check an absolute URL that has one of these schemes."""
    if not _VISIBLE.fullmatch(text) or "\\" in text:
        return "must be a URL without spaces, control or non-ASCII characters"
    parts = _split(text)
    if parts is None or parts.scheme not in schemes:
        return "must be an absolute URL with a valid port, if any: http://… or https://…"
    if "@" in parts.netloc:
        return "must not hold a user name or a password"
    if "#" in text:
        return "must not hold a fragment (#…)"
    if host(parts.hostname or "") is not None:
        return "must hold a valid host name"
    return None


def resource(text: str) -> str | None:
    """Check the URL of a resource (RFC 9728 section 1.2), which challenges quote."""
    wrong = url(text)
    if wrong is None and ("?" in text or '"' in text):
        return "must hold no query (?…) and no quotation mark"
    return wrong


def metadata_endpoint(text: str) -> str | None:
    """Check where the metadata of a resource are: a path of the resource's host, or a URL."""
    return resource(f"http://host{text}" if text.startswith("/") else text)


def scope(text: str) -> str | None:
    """Check one scope (RFC 6749 section 3.3)."""
    return (
        None
        if _SCOPES.fullmatch(text) and text.strip() and " " not in text
        else ("must be one scope: visible ASCII without blanks, quotation marks and backslashes")
    )


def _split(text: str) -> SplitResult | None:
    try:
        parts = urlsplit(text)
        if parts.port == 0 or parts.netloc.endswith(":"):
            return None
    except ValueError:  # a port that is no number, brackets that do not close
        return None
    return parts


def plain_http_host(text: str) -> str | None:
    """Return the host that ``text`` reaches in plain text over a network, if it does."""
    parts = urlsplit(text)
    name = parts.hostname or ""
    return None if parts.scheme == "https" or is_loopback(name) else name


def host(text: str) -> str | None:
    """Check a host name or an IP address, as in Kong's ``service.host``."""
    if HOST.fullmatch(text) and ".." not in text:
        return None
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return HOST_OR_IP
    return None


# --- Headers and messages -------------------------------------------------------


def token_header(text: str) -> str | None:
    """Check Kong's ``name`` or ``name:scheme``, as in ``authorization:bearer``."""
    match = _TOKEN_HEADER.fullmatch(text) if text else None
    if text and match is None:
        return "must be a header name, or a name and a scheme as in authorization:bearer"
    # Reserved in every spelling that an upstream may take for the name.
    name = header_names.folded(match["name"].lower()) if match else ""
    if name.count("-") > _SEPARATORS_MAX:
        return f"must not hold more than {_SEPARATORS_MAX} of - and _: each spelling is guarded"
    if name in _RESERVED_HEADERS or name.startswith(_RESERVED_PREFIXES):
        return "names a header that belongs to Envoy or to authz; choose another"
    return None


def header_name(text: str) -> str | None:
    """Check the name of a header that a provider gets beside those that authz writes."""
    if not re.fullmatch(header_names.TOKEN, text):
        return "must be the name of a header"
    if text.lower() in _WRITTEN_HERE:
        return "names a header that authz itself writes; choose another"
    return None


def forwarded_header(text: str) -> str | None:
    """Check the name of a header that a provider gets as the caller sent it."""
    name = header_names.folded(text.lower())
    if name in _NEVER_FORWARDED | _WRITTEN_HERE or name.startswith(_NEVER_FORWARDED_PREFIX):
        return "names a header of the connection, the body or the credential: never passed on"
    return header_name(text)


def argument_name(text: str) -> str | None:
    """Check the name of an argument that a provider gets as the caller sent it."""
    if _ARGUMENT_NAME.fullmatch(text):
        return None
    return "must be letters, digits and -._~ alone"


def header_as_argument(text: str) -> str | None:
    """Check the name of a caller's header that a provider gets as an argument."""
    return forwarded_header(text) or argument_name(text)


def header_value(text: str) -> str | None:
    """Check the value of such a header (RFC 9110 section 5.5); it may be a secret."""
    return None if carried_by_header(text) else "must be visible ASCII, without blanks at its ends"


def message(text: str) -> str | None:
    """Check the text of an answer to a caller."""
    if CONTROL.search(text):
        return "must not hold control characters"
    if len(text) > MESSAGE_CHARS_MAX:
        return f"must not be longer than {MESSAGE_CHARS_MAX} characters"
    return None


def carried_by_header(text: str) -> bool:
    """Tell whether a header can hold ``text``: visible ASCII, spaces inside."""
    return text.isascii() and text.isprintable() and text == text.strip()


# --- OAuth ----------------------------------------------------------------------


def scopes(text: str) -> str | None:
    """Check one or several scopes, separated by spaces (RFC 6749 section 3.3)."""
    if text.isspace():
        return "must not be blank"
    return None if _SCOPES.fullmatch(text) else 'must be scopes of visible ASCII without " and \\'


def filled(text: str) -> str | None:
    """Check that there is something to see, and nothing invisible in it.

    Blanks alone would be a list of no words, which everybody has.
    """
    if not text.strip():
        return "must not be empty" if not text else "must not be blank"
    return "must not hold control characters" if CONTROL.search(text) else None
