"""``docs/parameters.md``: every parameter, its kind, its default, and what becomes of it."""

# ruff: noqa: E501 - a paragraph of the page is a line

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from authz.parameters import CHAPTERS
from authz.parameters.declaration import Parameter, Status
from authz.parameters.kinds import (
    Anything,
    Array,
    Boolean,
    Kind,
    MapOf,
    Number,
    Object,
    SecretText,
    Text,
    Whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_HEADINGS = {
    "callers": "Who may ask",
    "provider": "The provider",
    "reach": "How the provider is reached",
    "client": "Our own client",
    "exchange": "The token endpoint",
    "introspection": "Introspection",
    "userinfo": "Userinfo",
    "token": "The token",
    "access": "What a token must hold",
    "possession": "Proof of possession",
    "identity": "The consumer",
    "upstream": "The upstream",
    "memory": "Memory",
    "answers": "Answers",
    "login": "Logins",
    "session": "Sessions",
    "legacy": "Names of older versions",
}

_HEAD = """\
# Parameters

Every parameter of Kong's `openid-connect` plugin, of the versions 3.4 to 3.16.
`authz schema --parameters` prints this page; `authz schema` prints a JSON Schema for editors.

- *done*: it takes effect.
- *browser flow*: it is about logins and sessions; it is accepted with one notice, and changes nothing for machine callers.
- *no effect*: no answer depends on it; it is accepted with one notice, which says what is done instead.
- *refused*: ignoring it would change who gets in, or what the provider, the upstream or the caller gets.
  A value other than a default of Kong's is an error, unless only methods use it that the file does not name.

A default in brackets is the one of older versions. `here` is what stands for Kong's default, where that is narrower.
"""


def markdown() -> str:
    """Return the page."""
    return "\n".join([_HEAD, *_chapters()])


def _chapters() -> Iterator[str]:
    for chapter, parameters in CHAPTERS.items():
        yield f"## {_HEADINGS[chapter]}\n"
        yield "| parameter | kind | default | |"
        yield "|---|---|---|---|"
        for name, parameter in parameters.items():
            cells = (f"`{name}`", _kind(parameter.kind), _default(parameter), _outcome(parameter))
            yield f"| {' | '.join(cells)} |"
        yield ""


def _outcome(parameter: Parameter) -> str:
    outcome = parameter.becomes
    if outcome.status is Status.BROWSER:
        return "*browser flow*"
    about = f": {parameter.about}" if parameter.about else ""
    methods = ", ".join(f"`{method}`" for method in sorted(parameter.used_by))
    used_by = f". Used by {methods}" if methods else ""
    if outcome.status is Status.DONE:
        done = ", ".join(f"`{value}`" for value in outcome.values)
        only = f". Only {done}: without another, {outcome.without}" if done else ""
        return f"*done*{about}{only}{used_by}"
    if outcome.status is Status.NOTICED:
        return f"*no effect*{about}. Here {outcome.without}{used_by}"
    instead = f". Instead: {outcome.instead}" if outcome.instead else ""
    return f"*refused*{about}. Without it, {outcome.without}{instead}{used_by}"


def _default(parameter: Parameter) -> str:
    if parameter.required:
        return "required"
    said = _value(parameter.default)
    if parameter.also:
        said += f" ({', '.join(map(_value, parameter.also))})"
    return said if parameter.here is None else f"{said}; here {_value(parameter.here)}"


def _value(value: object) -> str:
    return "" if value is None else f"`{json.dumps(value)}`"


# --- Kinds --------------------------------------------------------------------------


def _kind(kind: Kind[Any]) -> str:
    return _NAMES[type(kind)](kind)


def _text(kind: Text) -> str:
    return "one of " + ", ".join(f"`{text}`" for text in kind.allowed) if kind.allowed else "string"


def _number(kind: Number | Whole) -> str:
    name = "whole number" if isinstance(kind, Whole) else "number"
    if isinstance(kind, Number) and kind.above is not None:
        name += f" above {kind.above}"
    elif kind.minimum is not None:
        name += f" from {kind.minimum}"
    return name if kind.maximum is None else f"{name} to {kind.maximum}"


_NAMES: Mapping[type, Callable[[Any], str]] = {
    Anything: lambda _: "anything",
    Array: lambda kind: f"list: {_kind(kind.of)}",
    Boolean: lambda _: "boolean",
    MapOf: lambda kind: f"mapping: {_kind(kind.of)}",
    Number: _number,
    Object: lambda kind: "object: " + ", ".join(f"`{name}`" for name in kind.fields),
    SecretText: lambda _: "secret",
    Text: _text,
    Whole: _number,
}
