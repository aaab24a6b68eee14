"""Values from outside the file: ``${{ env "DECK_X" }}`` and ``{vault://env/x}``.

decK runs its templates over the raw text, before YAML.  Here, too, they are found in
the raw text, because ``["${{ env "X" }}"]`` is no YAML.  Placeholders of the same length
replace them, and the values are filled into the parsed scalars.  So a value can never
become YAML, and lines and columns are those of the file.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from authz.model import SourcePosition

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.kong.problems import Problems

VALUES_CHARS_MAX = 32 * 1024 * 1024
"""Of all values that one file takes in, each counted at every use."""

# A placeholder is OPEN, the template's number, and PADs up to the template's
# length.  Both are private-use characters: YAML takes them plainly, and no text has them.
_OPEN, _PAD = "\ue000", "\ue001"
_PLACEHOLDER = re.compile(f"{_OPEN}([0-9]+){_PAD}+")
_RESERVED = re.compile(f"[{_OPEN}{_PAD}]")

# A template that does not close takes the rest of its line: its end is looked for once.
_TEMPLATE = re.compile(r"\$\{\{(?P<action>.*?)(?P<end>\}\}|$)")
_ACTION = re.compile(
    r"""\s* env \s+ (?: "(?P<quoted>[^"\\]*)" | `(?P<raw>[^`]*)` ) \s*
        (?P<pipes> (?: \| \s* (?: toInt | toBool | toFloat | indent \s+ [0-9]+ ) \s* )* )""",
    re.VERBOSE,
)
_PREFIX = "DECK_"
_USAGE = (
    'write ${{ env "DECK_NAME" }}, optionally with | toInt, toBool, toFloat or indent N. For the '
    "rest of decK's templates render it first: deck file render --populate-env-vars (the new file "
    "holds the values of the variables)"
)
_FOREIGN = (
    "a {{ … }} without $ is no template of decK's: render it first with the tool that it is for"
)

_INTEGER = re.compile(r"[-+]?[0-9]{1,19}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")
# What Go's strconv.ParseBool takes, which is behind decK's toBool.
_TRUE = frozenset({"1", "t", "T", "true", "TRUE", "True"})
_FALSE = frozenset({"0", "f", "F", "false", "FALSE", "False"})

_REFERENCE = re.compile(r"\{vault://(?P<vault>[^/{}]+)/(?P<name>[^/{}?]+)(?:/(?P<key>[^{}?]+))?\}")
REFERENCE_START = "{vault://"


@dataclass(frozen=True, slots=True)
class Filled:
    """A scalar's text with its values filled in; ``text`` is None if a value is missing.

    ``whole``: the scalar was a single template and nothing else.
    """

    text: str | None
    variables: tuple[str, ...] = ()
    values: tuple[str, ...] = field(default=(), repr=False)
    whole: bool = False


class Templates:
    """One text in which placeholders stand for the templates."""

    def __init__(self, text: str, values: list[tuple[str, str | None]]) -> None:
        self.text = text
        self._values = values

    def fill(self, text: str) -> Filled:
        """Put the values into ``text``, a scalar of the parsed document."""
        if _OPEN not in text:
            return Filled(text)
        used = [self._values[int(number)] for number in _PLACEHOLDER.findall(text)]
        variables = tuple(name for name, _ in used)
        values = tuple(value for _, value in used if value is not None)
        if len(values) < len(used):
            return Filled(None, variables)
        left = iter(values)
        # A function, not a string: the value may hold backslashes.
        filled = _PLACEHOLDER.sub(lambda _: next(left), text)
        return Filled(filled, variables, values, whole=bool(_PLACEHOLDER.fullmatch(text)))

    @property
    def is_broken(self) -> bool:
        """Whether a template was not understood; it has been reported."""
        return any(not name for name, _ in self._values)

    def foreign_hint(self, line: int) -> str:
        """Return what to do about a ``{{`` on this line: a template of another tool."""
        # The YAML parser notices some of them only a line later.
        lines = self.text.split("\n")[max(0, line - 2) : line]
        return f"; {_FOREIGN}" if any("{{" in text for text in lines) else ""


def extract(text: str, file: str, environ: Mapping[str, str], problems: Problems) -> Templates:
    """Replace the templates in ``text`` by placeholders; report those without a value.

    Templates in comment lines stay, as in decK.
    """
    for number, column in _find(_RESERVED, text):
        problems.error(
            SourcePosition(file, number, column), "file", "U+E000 and U+E001 cannot stand in a file"
        )
    if "${{" not in text:
        return Templates(text, [])
    values: list[tuple[str, str | None]] = []
    lines = text.split("\n")
    left = VALUES_CHARS_MAX
    for number, line in enumerate(lines):
        if "${{" not in line or line.lstrip().startswith("#"):
            continue

        def take(match: re.Match[str], number: int = number) -> str:
            position = SourcePosition(file, number + 1, match.start() + 1)
            action = match["action"] if match["end"] else None
            name, value = _evaluate(action, position, environ, problems)
            nonlocal left
            if 0 <= left < len(value or ""):
                message = f"the values grow beyond {VALUES_CHARS_MAX} characters here"
                problems.error(position, "env", message)
            left -= len(value or "")
            values.append((name, value if left >= 0 else None))
            return f"{_OPEN}{len(values) - 1}".ljust(len(match[0]), _PAD)

        lines[number] = _TEMPLATE.sub(take, line)
    return Templates("\n".join(lines), values)


def _find(pattern: re.Pattern[str], text: str) -> Iterator[tuple[int, int]]:
    for match in pattern.finditer(text):
        start = match.start()
        yield text.count("\n", 0, start) + 1, start - text.rfind("\n", 0, start)


def _evaluate(
    action: str | None, position: SourcePosition, environ: Mapping[str, str], problems: Problems
) -> tuple[str, str | None]:
    """Return the variable's name and its value; None if that has been reported."""
    match = _ACTION.fullmatch(action or "")
    if match is None:
        problems.error(position, "env", f"this template is not understood: {_USAGE}")
        return "", None
    name = match["quoted"] or match["raw"] or ""
    if not name.startswith(_PREFIX):
        problems.error(
            position,
            "env",
            f"'{name}' must start with {_PREFIX}, as decK wants it: {_PREFIX}{name}",
        )
        return name, None
    if name not in environ:
        problems.error(position, "env", f"the environment variable {name} is not set")
        return name, None
    value = environ[name]
    if not _is_text(value):
        problems.error(position, "env", f"the value of {name} is no UTF-8")
        return name, None
    for pipe in match["pipes"].split("|")[1:]:
        converted = _pipe(pipe.strip(), value)
        if converted is None:
            problems.error(position, "env", f"the value of {name} does not fit {pipe.strip()}")
            return name, None
        value = converted
    return name, value


def _is_text(value: str) -> bool:
    """Tell whether a value is text: Python gives bytes that are no UTF-8 as surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def _pipe(pipe: str, value: str) -> str | None:
    if pipe == "toInt":  # to base ten, whatever zeros it begins with
        return str(int(value)) if _INTEGER.fullmatch(value) else None
    if pipe == "toFloat":
        number = float(value) if _FLOAT.fullmatch(value) else math.inf
        return repr(number) if math.isfinite(number) else None
    if pipe == "toBool":
        return "true" if value in _TRUE else "false" if value in _FALSE else None
    # indent: decK pastes several lines into a block scalar, whose indentation YAML takes
    # away again.  Here the value is filled into the scalar, so there is nothing to do.
    return value


# --- References ---------------------------------------------------------------------


ENVIRONMENT_VAULT = "env"
"""The kind of vault that can be read here; a vault of this name needs no entry."""


@dataclass(frozen=True, slots=True)
class Vault:
    """An entry of ``vaults``: its kind, and the prefix of its variables' names.

    ``not_done``: settings that would change the value of a variable.
    """

    kind: str
    variable_prefix: str = ""
    not_done: tuple[str, ...] = ()


class Vaults:
    """The vaults that references can name, by prefix."""

    def __init__(
        self, environ: Mapping[str, str], declared: Mapping[str, Vault] | None = None
    ) -> None:
        self._environ = environ
        self._by_prefix = {ENVIRONMENT_VAULT: Vault(ENVIRONMENT_VAULT), **(declared or {})}

    def value(self, reference: str) -> tuple[str, str]:
        """Return the variable behind ``{vault://prefix/name[/key]}``, and the value.

        As in Kong's environment vault: ``my-secret`` is ``MY_SECRET``, after the
        vault's own ``config.prefix``; with a key, the variable holds a JSON object.
        LookupError: there is no such value; the message says why and quotes no value.
        """
        match = _REFERENCE.fullmatch(reference)
        if match is None:
            raise LookupError("write a reference as {vault://env/name} or {vault://env/name/key}")
        vault = self._by_prefix.get(match["vault"])
        if vault is None:
            raise LookupError(
                f"the vault '{match['vault']}' cannot be read here: only env, and what vaults "
                "declares with the name env"
            )
        if vault.kind != ENVIRONMENT_VAULT:
            raise LookupError(
                f"a vault of the kind '{vault.kind}' cannot be read here: put the value into the "
                "environment and write {vault://env/name}"
            )
        if vault.not_done:
            raise LookupError(
                f"the vault '{match['vault']}' sets {', '.join(vault.not_done)}, which is not done "
                "here: put the value itself into the environment"
            )
        variable = (vault.variable_prefix + match["name"]).replace("-", "_").upper()
        return variable, self._member(variable, match["key"])

    def _member(self, variable: str, key: str | None) -> str:
        if variable not in self._environ:
            raise LookupError(f"the environment variable {variable} is not set")
        value = self._environ[variable]
        if not _is_text(value):
            raise LookupError(f"the value of {variable} is no UTF-8")
        if key is None:
            return value
        try:
            document = json.loads(value)
        except (ValueError, RecursionError):
            document = None
        member = document.get(key) if isinstance(document, dict) else None
        if isinstance(member, str) and _is_text(member):  # JSON can spell a lone surrogate
            return member
        raise LookupError(f"{variable} must be a JSON object with the text '{key}' in it")
