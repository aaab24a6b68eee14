"""Why a provider cannot be connected to, in words that say whose fault it is."""

from __future__ import annotations

import errno
import socket
import ssl
from typing import Final

_WORDS: Final = {
    errno.ECONNREFUSED: "the connection was refused: nothing listens there",
    errno.ECONNRESET: "the connection was reset while it was made",
    errno.ENETUNREACH: "no route to that network",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ETIMEDOUT: "the host does not answer",
    errno.EACCES: "this process may not connect there",
    errno.EPERM: "this process may not connect there (a firewall rule of this machine?)",
    errno.EMFILE: "authz has no file descriptor left: raise its limit (ulimit -n)",
    errno.ENFILE: "this machine has no file descriptor left",
    errno.EADDRNOTAVAIL: "this machine has no local port left for that address",
}
_LOOKUP_WORDS: Final = {
    socket.EAI_NONAME: "the name is not known to DNS",
    socket.EAI_AGAIN: "DNS does not answer",
    socket.EAI_FAIL: "DNS has failed for the name",
}
# OpenSSL's X509_V_ERR_…
_CERTIFICATE_UNTRUSTED: Final = frozenset((2, 18, 19, 20, 21, 27))
_CERTIFICATE_EXPIRED: Final = 10
_CERTIFICATE_NOT_YET_VALID: Final = 9
_CERTIFICATE_OF_OTHERS: Final = frozenset((62, 64))  # host name, IP address


def of_connecting(error: OSError | UnicodeError) -> str:
    """Return what went wrong with DNS, TCP or TLS, and what to do where that is known."""
    match error:
        case socket.gaierror():
            words = _LOOKUP_WORDS.get(error.errno or 0, "the name cannot be looked up")
            return f"{words} ({error.strerror})"
        case ssl.SSLCertVerificationError():
            return _certificate(error)
        case ssl.SSLError():
            return f"no TLS connection ({error.reason or 'handshake failed'}): is that port https?"
        case UnicodeError():
            return "the host is no name that can be looked up"
        case TimeoutError():
            return _WORDS[errno.ETIMEDOUT]
    return _WORDS.get(error.errno or 0, f"no connection ({error.strerror or 'unknown error'})")


def _certificate(error: ssl.SSLCertVerificationError) -> str:
    code, said = error.verify_code, error.verify_message
    if code == _CERTIFICATE_EXPIRED:
        return f"its certificate has expired ({said}): renew it at the provider"
    if code == _CERTIFICATE_NOT_YET_VALID:
        return f"its certificate is not valid yet ({said}): compare the clocks"
    if code in _CERTIFICATE_OF_OTHERS:
        return f"its certificate is another host's ({said})"
    if code in _CERTIFICATE_UNTRUSTED:
        return f"its certificate is not trusted ({said}): name its authority with --idp-ca-file"
    # Python 3.13 holds authorities to RFC 5280 (VERIFY_X509_STRICT): such ones end here.
    return f"its certificate is refused ({said}): see the authority in --idp-ca-file"
