"""``authz version``: of authz and of the parts that decide."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import click

from authz import __version__
from authz.cli import options


@click.command()
@options.output
def version(output: str) -> None:
    """Print the version, and with -o json those of the parts."""
    click.echo(f"authz {__version__}" if output == "text" else _versions_json(__version__))


def _versions_json(authz_version: str) -> str:
    import json
    import platform
    from importlib.metadata import version as version_of

    parts = ("cryptography", "grpcio", "httpx", "protobuf", "PyJWT")
    versions = {"authz": authz_version, "python": platform.python_version()}
    return json.dumps(versions | {part.lower(): version_of(part) for part in parts}, indent=2)
