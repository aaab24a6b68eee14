"""Declarative configurations as tests write them: text in, gateway or complaints out."""

from __future__ import annotations

from textwrap import dedent
from typing import TYPE_CHECKING

from authz.errors import ConfigurationError
from authz.kong import state
from authz.kong.files import LOOK_PAUSE_SECONDS, Reading, read_stdin
from authz.methods import METHOD_NAMES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from authz.kong.files import Sources
    from authz.model import Gateway, OpenIDConnect

FORMAT = '_format_version: "3.0"\n'

PLUGIN = FORMAT + dedent("""\
    plugins:
    - name: openid-connect
      config:
        issuer: https://idp.example/realms/kong
        auth_methods: [client_credentials]
        client_credentials_param_type: [header]
        audience_required: [orders]
    """)
"""One plugin about which there is nothing to say; parameters are appended to it."""


def load(
    text: str | bytes,
    environ: Mapping[str, str] | None = None,
    methods: tuple[str, ...] = METHOD_NAMES,
) -> Gateway:
    data = text if isinstance(text, bytes) else text.encode()
    return state.parse(read(["-"], lambda: data), environ or {}, methods)


def load_files(*paths: str | Path, environ: Mapping[str, str] | None = None) -> Gateway:
    """Load files that nobody writes to."""
    return state.parse(read(paths), environ or {}, METHOD_NAMES)


def read(
    paths: Iterable[str | Path],
    stdin: Callable[[], bytes] = read_stdin,
    pause: Callable[[float], object] = lambda _: None,
) -> Sources:
    """Look at files until they keep still; ``pause`` is called between two looks."""
    reading = Reading(map(str, paths), stdin)
    while (sources := reading.look()) is None:
        pause(LOOK_PAUSE_SECONDS)
    return sources


def complaints(
    text: str | bytes,
    environ: Mapping[str, str] | None = None,
    methods: tuple[str, ...] = METHOD_NAMES,
) -> list[str]:
    """Return what is wrong, a line a problem as ``line:column: parameter: message``."""
    try:
        load(text, environ, methods)
    except ConfigurationError as error:
        return [str(problem).removeprefix("<stdin>:") for problem in error.problems]
    return []


def notices(text: str, environ: Mapping[str, str] | None = None) -> list[str]:
    return [str(notice).removeprefix("<stdin>:") for notice in load(text, environ).notices]


def with_parameters(*lines: str, instead_of: str = "") -> str:
    """Return the plugin with further parameters; those that start so give way."""
    kept = [
        line
        for line in PLUGIN.splitlines()
        if not instead_of or not line.strip().startswith(instead_of)
    ]
    return "\n".join([*kept, *(f"    {line}" for line in lines)]) + "\n"


def config(*lines: str, instead_of: str = "", **environ: str) -> OpenIDConnect:
    return load(with_parameters(*lines, instead_of=instead_of), environ).plugins[0].config
