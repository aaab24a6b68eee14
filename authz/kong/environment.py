"""Values from outside the file: ``${{ env "DECK_X" }}`` and ``{vault://env/x}``.

decK runs its templates over the raw text, before YAML.  Here they are found in
the raw text too, since ``["${{ env "X" }}"]`` is no YAML, but only placeholders
of the same length go through the parser: the value is filled into the parsed
scalar.  So a value can never become YAML, and lines and columns stay the file's.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.model import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.kong.problems import Problems

# A placeholder is OPEN, the template's number, and PADs up to the template's
# length.  Both are private-use characters: plain YAML, and in nobody's text.
_OPEN, _PAD = "\ue000", "\ue001"
_PLACEHOLDER = re.compile(f"{_OPEN}([0-9]+){_PAD}+")
_RESERVED = re.compile(f"[{_OPEN}{_PAD}]")

_TEMPLATE = re.compile(r"\$\{\{(?P<action>.*?)\}\}|\$\{\{")
_ACTION = re.compile(
    r"""\s* env \s+ (?: "(?P<quoted>[^"\\]*)" | `(?P<raw>[^`]*)` ) \s*
        (?P<pipes> (?: \| \s* (?: toInt | toBool | toFloat | indent \s+ [0-9]+ ) \s* )* )""",
    re.VERBOSE,
)
_PREFIX = "DECK_"
_USAGE = 'write ${{ env "DECK_NAME" }}, optionally with | toInt, toBool, toFloat or indent N'

_INTEGER = re.compile(r"[-+]?[0-9]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
# What Go's strconv.ParseBool takes, which is behind decK's toBool.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})

_REFERENCE = re.compile(r"\{vault://(?P<vault>[^/{}]+)/(?P<name>[^/{}?]+)(?:/(?P<key>[^{}?]+))?\}")
REFERENCE_START = "{vault://"


@dataclass(frozen=True, slots=True)
class Filled:
    """A scalar's text with its values in; ``text`` is None if one is not to be had."""

    text: str | None
    variables: tuple[str, ...]


class Templates:
    """One text whose templates have given way to placeholders."""

    def __init__(self, text: str, values: list[tuple[str, str | None]]) -> None:
        self.text = text
        self._values = values

    def fill(self, text: str) -> Filled:
        """Put the values into ``text``, a scalar of the parsed document."""
        if _OPEN not in text:
            return Filled(text, ())
        used = [self._values[int(number)] for number in _PLACEHOLDER.findall(text)]
        variables = tuple(name for name, _ in used)
        if any(value is None for _, value in used):
            return Filled(None, variables)
        values = iter(used)
        # A function, not a string: the value may hold backslashes.
        return Filled(_PLACEHOLDER.sub(lambda _: next(values)[1] or "", text), variables)


def extract(text: str, file: str, environ: Mapping[str, str], problems: Problems) -> Templates:
    """Take the templates out of ``text``, reporting those that cannot be filled in.

    Lines that are comments keep theirs, as in decK.
    """
    for number, column in _find(_RESERVED, text):
        problems.error(
            Place(file, number, column), "file", "U+E000 and U+E001 cannot stand in a file"
        )
    if "${{" not in text:
        return Templates(text, [])
    values: list[tuple[str, str | None]] = []
    lines = text.split("\n")
    for number, line in enumerate(lines):
        if "${{" not in line or line.lstrip().startswith("#"):
            continue

        def take(match: re.Match[str], number: int = number) -> str:
            place = Place(file, number + 1, match.start() + 1)
            values.append(_evaluate(match["action"], place, environ, problems))
            return f"{_OPEN}{len(values) - 1}".ljust(len(match[0]), _PAD)

        lines[number] = _TEMPLATE.sub(take, line)
    return Templates("\n".join(lines), values)


def _find(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        start = match.start()
        yield text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)


def _evaluate(
    action: str | None, place: Place, environ: Mapping[str, str], problems: Problems
) -> tuple[str, str | None]:
    """Return the variable's name and its value; None if that has been reported."""
    match = _ACTION.fullmatch(action or "")
    if match is None:
        problems.error(place, "env", f"this template is not understood: {_USAGE}")
        return "", None
    name = match["quoted"] or match["raw"] or ""
    if not name.startswith(_PREFIX):
        problems.error(
            place, "env", f"'{name}' must start with {_PREFIX}, as decK wants it: {_PREFIX}{name}"
        )
        return name, None
    if name not in environ:
        problems.error(place, "env", f"the environment variable {name} is not set")
        return name, None
    value = environ[name]
    if not _is_text(value):
        problems.error(place, "env", f"the value of {name} is no UTF-8")
        return name, None
    for pipe in match["pipes"].split("|")[1:]:
        converted = _pipe(pipe.strip(), value)
        if converted is None:
            problems.error(place, "env", f"the value of {name} does not fit {pipe.strip()}")
            return name, None
        value = converted
    return name, value


def _is_text(value: str) -> bool:
    """Tell whether a value can be written down: bytes that are no UTF-8 come in as surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pipe(pipe: str, value: str) -> str | None:
    if pipe == "toInt":
        return value if _INTEGER.fullmatch(value) else None
    if pipe == "toFloat":
        return value if _FLOAT.fullmatch(value) else None
    if pipe == "toBool":
        return "true" if value in _TRUE else "false" if value in _FALSE else None
    # indent: decK needs it to paste several lines into a block scalar, whose
    # indentation YAML takes away again.  Filled into the scalar, nothing is left to do.
    return value


def vault_value(reference: str, environ: Mapping[str, str]) -> tuple[str, str]:
    """Return the variable behind ``{vault://env/name[/key]}``, and the value.

    As in Kong's environment vault: ``my-secret`` is ``MY_SECRET``; with a key,
    the variable holds a JSON object.  Raise ``LookupError`` with what is wrong;
    the text never holds a value.
    """
    match = _REFERENCE.fullmatch(reference)
    if match is None:
        raise LookupError("write a reference as {vault://env/name} or {vault://env/name/key}")
    if match["vault"] != "env":
        raise LookupError(f"the vault '{match['vault']}' cannot be read here: only env")
    variable = match["name"].replace("-", "_").upper()
    if variable not in environ:
        raise LookupError(f"the environment variable {variable} is not set")
    if not _is_text(environ[variable]):
        raise LookupError(f"the value of {variable} is no UTF-8")
    if match["key"] is None:
        return variable, environ[variable]
    try:
        document = json.loads(environ[variable])
    except (ValueError, RecursionError):
        document = None
    value = document.get(match["key"]) if isinstance(document, dict) else None
    if isinstance(value, str) and _is_text(value):  # JSON can spell a lone surrogate
        return variable, value
    raise LookupError(f"{variable} must be a JSON object with the text '{match['key']}' in it")
