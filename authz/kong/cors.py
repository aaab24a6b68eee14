"""The ``config`` of Kong's ``cors``: to which pages of other origins a browser shows answers.

Kong's schema gives the fields and their bounds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from authz.parameters.kinds import Array, Boolean, Field, Text, Whole

if TYPE_CHECKING:
    from collections.abc import Mapping

NAME = "cors"

METHODS = ("GET", "HEAD", "PUT", "PATCH", "POST", "DELETE", "OPTIONS", "TRACE", "CONNECT")

FIELDS: Mapping[str, Field] = {
    "origins": Field(Array(Text())),
    "methods": Field(Array(Text(allowed=METHODS)), METHODS),
    "headers": Field(Array(Text())),
    "exposed_headers": Field(Array(Text())),
    "max_age": Field(Whole()),
    "credentials": Field(Boolean(), default=False),
    "private_network": Field(Boolean(), default=False),
    "preflight_continue": Field(Boolean(), default=False),
    "allow_origin_absent": Field(Boolean(), default=True),
}
