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

    from authz.model import Gateway

INVALID, UNREACHABLE, DENIED, UNAVAILABLE = 1, 2, 3, 4
"""Exit codes; 0 is success and 2 a usage error, as click has it."""


def echo_problems(problems: Iterable[object]) -> None:
    """Print each problem on a line of standard error."""
    for problem in problems:
        click.echo(str(problem), err=True)


def load(config: tuple[str, ...]) -> Gateway:
    """Load the configuration, or print what is wrong with it and exit."""
    from authz.loading import load_gateway  # noqa: PLC0415 - loads everything

    try:
        return load_gateway(Settings.of(config=config), os.environ)
    except ConfigurationError as error:
        echo_problems(error.problems)
        sys.exit(INVALID)
