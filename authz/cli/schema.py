"""``authz schema``: what may stand in the configuration."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import click


@click.command()
@click.option(
    "--parameters",
    is_flag=True,
    help="Print a table of the plugin's parameters instead (Markdown).",
)
def schema(*, parameters: bool) -> None:
    """Print a JSON Schema of the configuration, for editors."""
    if parameters:
        from authz.parameters.reference import markdown

        click.echo(markdown(), nl=False)
        return
    import json

    from authz.kong.json_schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
