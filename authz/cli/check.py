"""``authz check``: decide one request here, and say how it ended."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import click

from authz.cli import asked, options

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Unpack

    from authz.authorizer import Outcome
    from authz.decision import Decision
    from authz.model import SourcePosition


@click.command()
@asked.request
@options.output
def check(output: str, **given: Unpack[asked.Asked]) -> None:
    """Decide one request here, against the real identity provider, and say how it ended.

    A secret on the command line shows in the list of processes.  Leave it away
    and it is asked for, or read from AUTHZ_CHECK_SECRET; a token from
    AUTHZ_CHECK_BEARER.  Both also from the file that the variable with _FILE
    names.  Exits with 0 for allow, 3 for deny, 4 if it cannot be known.
    """
    from authz.explanation import summary

    outcome, _, _ = asked.decide(given)
    if output == "json":
        click.echo(json.dumps(summary(outcome), indent=2))
    else:
        click.echo("\n".join(_lines(outcome)))
    sys.exit(asked.exit_code(outcome))


def _lines(outcome: Outcome) -> Iterator[str]:
    """Say how a decision ended, without any secret or token."""
    from authz.explanation import NO_PLUGIN, TERMINATED, verdict

    yield verdict(outcome)
    trace = outcome.trace
    match, consumer = trace.match, trace.consumer
    if match is not None:
        if match.route is not None:
            yield _placed("route", match.route.name, match.route.position)
        if match.service is not None:
            yield _placed("service", match.service.name, match.service.position)
        if match.plugin is not None:
            yield _placed("plugin", match.plugin.instance_name, match.plugin.position)
        if match.termination is not None:
            yield f"{TERMINATED} ({match.termination.position})"
        elif match.plugin is None:
            yield NO_PLUGIN
    if consumer is not None:
        yield _placed("consumer", consumer.username or consumer.custom_id, consumer.position)
    yield from _changes(outcome.decision)
    if trace.identity is not None:
        yield "claims:"
        yield json.dumps(trace.identity.claims, indent=2)


def _placed(noun: str, name: str | None, position: SourcePosition) -> str:
    return f"{noun}: {name or '(no name)'} ({position})"


def _changes(decision: Decision) -> Iterator[str]:
    """Say what becomes of the request on its way to the upstream, or what the caller gets."""
    from authz.decision import Allow
    from authz.explanation import removed_names, shown_value

    if not isinstance(decision, Allow):
        yield f"body: {decision.body}"
        yield from (f"answer header: {name}: {value}" for name, value in decision.headers)
        return
    for name, value in sorted(decision.headers.items()):
        yield f"sets header: {name}: {shown_value(name, value)}"
    if decision.headers_to_remove:
        yield f"removes headers: {', '.join(removed_names(decision))}"
    if decision.query_parameters_to_remove:
        yield f"removes from the query: {', '.join(sorted(decision.query_parameters_to_remove))}"
