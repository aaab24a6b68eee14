"""What is wrong with a text of Kong's entities: one function a grammar.

Each returns None if nothing is.  ``parameters.checks`` has those of the plugin's parameters.
"""

from __future__ import annotations

import ipaddress
import re

from authz import header_names
from authz.kong.paths import abnormal, normal_prefix
from authz.kong.regexes import Pattern, unmet
from authz.parameters.checks import CONTROL, HOST, HOST_OR_IP, absolute_url, carried_by_header
from authz.parameters.common import PORT_MAX

# UTS 46 section 7: what IDNA 2003 makes of these, straße.test to strasse.test, is another
# name to callers who go by IDNA 2008.
_DEVIATIONS = re.compile("[\u00df\u1e9e\u03c2\u200c\u200d]")
_PORT_DIGITS_MAX = 6
_LONE_PERCENT = re.compile("%(?![0-9A-Fa-f]{2})")
_LONE = "holds a % that begins no percent-encoding: write %25"
HEADER_VALUE_BYTES_MAX = 8 * 1024
"""Of a request's header that a route asks for: regular expressions run over it."""


_NAME = re.compile(r"[A-Za-z0-9.\-_~\u0080-\U0010ffff]+")
_UUID = re.compile(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_HEADER_NAME = re.compile(header_names.TOKEN)

# --- URLs ---------------------------------------------------------------------


def service_url(text: str) -> str | None:
    """Check the shorthand for a service's protocol, host, port and path."""
    if "?" in text:
        return "must not hold a query (?…)"
    return absolute_url(text, ("http", "https", "grpc", "grpcs", "ws", "wss", "tcp", "tls", "udp"))


def header_name(text: str) -> str | None:
    """Check a header's name (RFC 9110 section 5.1)."""
    return None if _HEADER_NAME.fullmatch(text) else "must be a header name"


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
        if not 0 < int(port[:_PORT_DIGITS_MAX]) <= PORT_MAX or len(port) >= _PORT_DIGITS_MAX:
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
    if HOST.fullmatch(bare) and ".." not in f"{bare}.":
        return None
    if bare.isascii():
        return HOST_OR_IP
    # RFC 5890 section 2.3.2.1: Host and SNI carry the A-label.
    if _DEVIATIONS.search(bare):
        return (
            "must be in the form that requests carry: write the xn--… name that is registered, "
            "for with ß, ς or a joiner there are two"
        )
    try:
        ascii_form = bare.encode("idna").decode()
    except UnicodeError:
        return HOST_OR_IP
    return f"must be in the form that requests carry: write {text.replace(bare, ascii_form)}{port}"


def _ipv6_host(text: str) -> str | None:
    """Check an IPv6 address in brackets (RFC 9110 section 7.2, RFC 3986 section 3.2.2)."""
    address = text.strip("[]")
    if "%" in address or not _is_address(address):
        return HOST_OR_IP
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
    if CONTROL.search(normal):
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
