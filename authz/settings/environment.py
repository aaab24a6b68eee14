"""What is read from environment variables, and what looks as if it was meant to be."""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING

from authz.model import Secret
from authz.settings.declared import VARIABLE_PREFIX

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

SECRET_FILE_BYTES_MAX = 64 * 1024

# Kubernetes gives every container of a namespace these for a service named authz or authz-...:
# https://kubernetes.io/docs/concepts/services-networking/service/#environment-variables
OF_A_SERVICE = re.compile(
    r"AUTHZ_(\w+_)?(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_[A-Z]+(_PROTO|_PORT|_ADDR)?)?)"
)


def secret(environ: Mapping[str, str], name: str) -> Secret | None:
    """Read a secret from ``NAME``, or from the file that ``NAME_FILE`` names.

    One line end at the file's end is not part of the secret: editors add it.
    """
    path = environ.get(f"{name}_FILE")
    if path is None:
        value = environ.get(name)
        return None if value is None else Secret(value)
    if name in environ:
        raise ValueError(f"{name} and {name}_FILE are both set: keep one")
    try:
        with Path(path).open(encoding="utf-8", newline="") as file:
            value = file.read(SECRET_FILE_BYTES_MAX)
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise ValueError(f"{name}_FILE: {path}: {reason}") from error
    return Secret(value.removesuffix("\n").removesuffix("\r"))


def split_list(text: str) -> list[str]:
    """Split a variable that stands for a repeatable flag, at commas and white space."""
    return [part for part in re.split(r"[,\s]+", text) if part]


def misspelt(environ: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    """Say of each ``AUTHZ_*`` variable that is none of ``known`` what was probably meant.

    ``environ`` holds names.  The values are not looked at.
    """
    # Without what all have in common, or everything resembles everything.
    known_tails = sorted(name.removeprefix(VARIABLE_PREFIX) for name in known)
    for name in sorted(environ):
        tail = name.removeprefix(VARIABLE_PREFIX)
        if tail == name or tail in known_tails or OF_A_SERVICE.fullmatch(name):
            continue
        nearest = get_close_matches(tail, known_tails, n=1)
        hint = f": did you mean {VARIABLE_PREFIX}{nearest[0]}?" if nearest else ""
        yield f"{name[:64]} is in the environment, and authz has no such variable{hint}"


# In the spellings that curl and most clients know.
PROXY_VARIABLES = (
    "HTTPS_PROXY",
    "https_proxy",
    "HTTP_PROXY",
    "http_proxy",
    "ALL_PROXY",
    "all_proxy",
)


def unread_proxies(environ: Mapping[str, str]) -> Iterator[str]:
    """Say that a proxy is named for calls which do not go through it; the value is not shown."""
    found = [name for name in PROXY_VARIABLES if environ.get(name)]
    if found:
        yield (
            f"{', '.join(found)} in the environment: calls to identity providers do not use a"
            " proxy, they go there directly; --connect-to sends them elsewhere"
        )
