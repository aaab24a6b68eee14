"""The ``config`` of Kong's ``request-termination``: what its scope answers by itself.

Kong's schema gives the fields, their bounds and which exclude each other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from authz.kong.schema import read_fields
from authz.parameters.checks import carried_by_header, filled
from authz.parameters.kinds import Boolean, Field, Text, Whole

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.kong.document import MappingNode
    from authz.kong.problems import Problems

BODY_CHARS_MAX = 64 * 1024

_STATUS_DEFAULT = 503
# Kong's bounds are 100 and 599.  RFC 9110 section 15.2: a status below 200 ends no request.
_STATUS = Whole(minimum=200, maximum=599)


def _body(text: str) -> str | None:
    if len(text) > BODY_CHARS_MAX:
        return f"must not be longer than {BODY_CHARS_MAX} characters"
    return None


def _content_type(text: str) -> str | None:
    return filled(text) or (
        None if carried_by_header(text) else "must be visible ASCII, as every header"
    )


FIELDS: Mapping[str, Field] = {
    "status_code": Field(_STATUS, _STATUS_DEFAULT),
    "message": Field(Text(check=_body)),
    "body": Field(Text(check=_body)),
    "content_type": Field(Text(check=_content_type)),
    "echo": Field(Boolean(), default=False),
    "trigger": Field(Text()),
}


class Terms(NamedTuple):
    """What is answered: a status, and a body of its own or a message in Kong's JSON."""

    status: int
    message: str | None
    body: str | None
    content_type: str | None


def read(config: MappingNode, problems: Problems) -> Terms:
    """Read the plugin's ``config``; everything that is wrong with it is reported."""
    values = read_fields(config, FIELDS, problems)
    for name, message in _complaints(values):
        problems.error(config.position_of(name), name, message)
    return Terms(
        status=values.get("status_code", _STATUS_DEFAULT),
        message=values.get("message"),
        body=values.get("body"),
        content_type=values.get("content_type"),
    )


def _complaints(values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield what Kong's rules between the fields say, and what is not done here."""
    if "message" in values and "body" in values:
        yield "body", "excludes message: write one of them"
    if "content_type" in values and "body" not in values:
        yield "content_type", "is the type of body, which is not set: write body, or remove it"
    if values.get("echo"):
        yield "echo", _ECHO
    if values.get("trigger"):
        yield "trigger", _TRIGGER


_ECHO = (
    "answers with the caller's request, its headers included, and is not done here: without it "
    "the plugin answers with message or body"
)
_TRIGGER = (
    "lets every request pass that lacks this header or argument, and is not done here: without "
    "it the plugin answers every request of its scope"
)
