"""What is wrong with a text: one function a grammar, ``None`` if nothing is.

Pure, and none of them that may meet a secret repeats what it was given.
"""

from __future__ import annotations

import ipaddress
import re
from urllib.parse import SplitResult, urlsplit

from authz import header_names
from authz.kong.paths import abnormal, normal_prefix
from authz.kong.regexes import Pattern, unmet

MESSAGE_CHARS_MAX = 1_000
"""Of ``unauthorized_error_message`` and ``forbidden_error_message``."""

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_HOST = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
# UTS 46 section 7: what IDNA 2003 makes of these, straße.test to strasse.test, is another
# name to callers who go by IDNA 2008.
_DEVIATIONS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")
_PORT_DIGITS_MAX = 6
_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_LONE = "holds a % that begins no percent-encoding: write %25"
HEADER_VALUE_BYTES_MAX = 8 * 1024
"""Of a request's header that a route asks for: regular expressions run over it."""

_HOST_OR_IP = "must be a host name or an IP address, without scheme, port or path"
_PORT_MAX = 65535

_NAME = re.compile(r"[A-Za-z0-9.\-_~\u0080-\U0010ffff]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEADER_NAME = re.compile(header_names.TOKEN)
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
# n of them make 2**n spellings of one name, all removed from every request.
_SEPARATORS_MAX = 6
_RESERVED_PREFIXES = ("x-envoy-", "x-consumer-", "x-authenticated-")


# --- URLs ---------------------------------------------------------------------


def url(text: str) -> str | None:
    """Check an absolute http or https URL to send requests to (RFC 3986)."""
    return _url(text, ("http", "https"))


def service_url(text: str) -> str | None:
    """Check the shorthand for a service's protocol, host, port and path."""
    if "?" in text:
        return "must not hold a query (?…)"
    return _url(text, ("http", "https", "grpc", "grpcs", "ws", "wss", "tcp", "tls", "udp"))


def _url(text: str, schemes: tuple[str, ...]) -> str | None:
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
    return None if parts.scheme == "https" or _is_loopback(name) else name


def _is_loopback(name: str) -> bool:
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 section 6.3
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def host(text: str) -> str | None:
    """Check a host name or an IP address, as in Kong's ``service.host``."""
    if _HOST.fullmatch(text) and ".." not in text:
        return None
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return _HOST_OR_IP
    return None


# --- Headers and messages -------------------------------------------------------


def header_name(text: str) -> str | None:
    """Check a header's name (RFC 9110 section 5.1)."""
    return None if _HEADER_NAME.fullmatch(text) else "must be a header name"


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


def message(text: str) -> str | None:
    """Check the text of an answer to a caller."""
    if _CONTROL.search(text):
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
    return "must not hold control characters" if _CONTROL.search(text) else None


# --- Kong's entities ------------------------------------------------------------


def name(text: str) -> str | None:
    """Check the name of a service or a route."""
    if _NAME.fullmatch(text):
        return None
    return "must consist of letters, digits and . - _ ~"


def uuid(text: str) -> str | None:
    """Check an id."""
    return None if _UUID.fullmatch(text) else "must be a UUID"


def method(text: str) -> str | None:
    """Check an HTTP method as Kong wants it."""
    return None if re.fullmatch("[A-Z]+", text) else "must be a method in upper case, as GET"


def route_host(text: str) -> str | None:
    """Check a route's host: a name or an IP address as a Host header spells it, or a wildcard.

    A wildcard has one ``*``, as its first or its last label.  A port may follow.
    """
    bare, port = text, ""
    if re.search(r":[0-9]+$", text) and (text.count(":") == 1 or "]:" in text):
        bare, _, port = text.rpartition(":")
        if not 0 < int(port[:_PORT_DIGITS_MAX]) <= _PORT_MAX or len(port) >= _PORT_DIGITS_MAX:
            return "must have a port between 1 and 65535"
        port = f":{port}"
    if ":" in bare:
        return _ipv6_host(bare)
    if bare.endswith("."):
        return f"must not end with a dot, for callers send none: write {bare.rstrip('.')}{port}"
    return _wildcard(bare, port)


def sni(text: str) -> str | None:
    """Check a server name: a host without a port, wildcards as in ``route_host``."""
    bare = text.removesuffix(".")
    if _is_address(bare.strip("[]")):
        return "must be a name: a server name is never an IP address (RFC 6066 section 3)"
    return _wildcard(bare)


def _wildcard(text: str, port: str = "") -> str | None:
    bare = text
    if "*" in text:
        if text.count("*") > 1 or not (text.startswith("*.") or text.endswith(".*")):
            return "may hold one *, and only as its first or its last label"
        bare = text.removeprefix("*.").removesuffix(".*")
    if _HOST.fullmatch(bare) and ".." not in f"{bare}.":
        return None
    if bare.isascii():
        return _HOST_OR_IP
    # RFC 5890 section 2.3.2.1: Host and SNI carry the A-label.
    if _DEVIATIONS.search(bare):
        return (
            "must be in the form that requests carry: write the xn--… name that is registered, "
            "for with ß, ς or a joiner there are two"
        )
    try:
        ascii_form = bare.encode("idna").decode()
    except UnicodeError:
        return _HOST_OR_IP
    return f"must be in the form that requests carry: write {text.replace(bare, ascii_form)}{port}"


def _ipv6_host(text: str) -> str | None:
    """Check an IPv6 address in brackets (RFC 9110 section 7.2, RFC 3986 section 3.2.2)."""
    address = text.strip("[]")
    if "%" in address or not _is_address(address):
        return _HOST_OR_IP
    wanted = f"[{address}]"
    return None if text == wanted else f"must stand in brackets, as callers send it: write {wanted}"


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def header_value(text: str) -> str | None:
    """Check one value that a route asks of a header: a text, or ``~*`` and a regular expression."""
    if text.startswith("~*"):
        return pattern(text[2:])
    if not text or not carried_by_header(text):
        return "must be visible ASCII, with blanks inside only: no header has another value"
    if len(text) > HEADER_VALUE_BYTES_MAX:
        return f"must not be longer than {HEADER_VALUE_BYTES_MAX} bytes, of which no more is read"
    return None


def service_path(text: str) -> str | None:
    """Check the path that a service puts before a request's."""
    if not text.startswith("/"):
        return "must start with /"
    if re.search(r"[\x00-\x20\x7f?#\\]", text):
        return "must not hold ?, #, \\, spaces or control characters"
    if "//" in text:
        return "must not hold empty segments (//)"
    if _LONE_PERCENT.search(text):
        return _LONE
    if re.search(r"/\.{1,2}(?:/|$)", text):
        return "must be in normal form: without . and .. segments"
    for triplet in re.findall("%([0-9A-Fa-f]{2})", text):
        if triplet != triplet.upper() or re.fullmatch("[A-Za-z0-9._~-]", chr(int(triplet, 16))):
            return f"must be in normal form: write %{triplet} as its character or in upper case"
    return None


def route_path(text: str) -> str | None:
    """Check a route's path: a prefix in normal form, or ``~`` and a regular expression.

    Requests are compared in that form alone (``paths.normalise``), so another
    spelling would meet none, and a weaker route would answer.
    """
    if text.startswith("~/"):
        return pattern(text[1:]) or unmet(text[1:])
    if not text.startswith("/"):
        return "must start with / (a prefix) or ~/ (a regular expression)"
    if _LONE_PERCENT.search(text):
        return _LONE
    normal = normal_prefix(text)
    if _CONTROL.search(normal):
        return "must not hold control characters"
    if "\\" in normal:
        return "must not hold a backslash"
    return None if normal == text else abnormal(normal)


def pattern(text: str) -> str | None:
    """Check a regular expression of a route."""
    try:
        Pattern(text)
    except ValueError as error:
        return f"is a regular expression that cannot be used here: {error}"
    return None
