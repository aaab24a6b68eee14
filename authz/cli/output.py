"""What several commands print, and the codes with which they exit."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from authz.errors import ConfigurationError
from authz.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable

    from authz.kong.files import Sources
    from authz.model import Gateway

INVALID, UNREACHABLE, DENIED, UNAVAILABLE = 1, 2, 3, 4
"""Exit codes; 0 is success and 2 a usage error, as click has it."""


def echo_problems(problems: Iterable[object]) -> None:
    """Print each problem on a line of standard error."""
    for problem in problems:
        click.echo(str(problem), err=True)


def load(config: tuple[str, ...]) -> Gateway:
    """Load the configuration, or print what is wrong with it and exit."""
    return load_with_sources(config)[0]


def load_with_sources(config: tuple[str, ...]) -> tuple[Gateway, Sources]:
    """As ``load``, with the files and their bytes."""
    from authz.loading import load_files  # noqa: PLC0415 - loads everything

    try:
        loaded = load_files(Settings.of(config=config), os.environ)
    except ConfigurationError as error:
        echo_problems(error.problems)
        sys.exit(INVALID)
    return loaded.configuration.gateway, loaded.sources
