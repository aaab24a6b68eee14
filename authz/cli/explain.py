"""``authz explain``: decide one request here, and say every step of it."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from authz.cli import asked, options

if TYPE_CHECKING:
    from typing import Unpack

    from authz.explanation import Step


@click.command()
@asked.request
@options.output
def explain(output: str, **given: Unpack[asked.Asked]) -> None:
    """Decide one request here, as authz check does, and say every step of it.

    Which routes go before the one that answers and what each of them asks for instead
    (the nearest 10, those that differ least first), which route and plugin it meets, which
    credential and method, each look into a cache, each call to the identity provider with
    its duration, each rule, and each header that is set or removed with its reason; with
    the line of the file that says so.

    It decides in a process of its own, whose caches are empty at the start: what a running
    server remembers is not seen here.  Secrets and exit codes are those of authz check.
    """
    from authz.explanation import as_json, passed, steps, summary

    outcome, noted, gateway = asked.decide(given)
    told = list(steps(outcome, noted, list(passed(gateway, outcome.trace.request))))
    if output == "json":
        click.echo(json.dumps({**summary(outcome), "steps": list(map(as_json, told))}, indent=2))
    else:
        click.echo("\n".join(map(_line, told)))
    sys.exit(asked.exit_code(outcome))


def _line(step: Step) -> str:
    duration = "" if step.seconds is None else f", {step.seconds * 1000:.1f} ms"
    position = "" if step.position is None else f" ({step.position})"
    return f"{step.name:<10} {step.detail}{duration}{position}"
