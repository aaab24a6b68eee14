"""How a setting's text is read from an environment variable."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from authz.model import Secret

if TYPE_CHECKING:
    from collections.abc import Mapping

SECRET_FILE_BYTES_MAX = 64 * 1024


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
