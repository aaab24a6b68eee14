"""Many tokens before one authz: what it said to each, ready to compare."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from support.idp import RunningIdp
    from support.running import RunningAuthz

ALLOWED: Final = "200 allowed"
UNASKED: Final = {"token": 0, "discovery": 0, "certs": 0}
"""What an IdP has counted that nobody has asked."""


async def verdicts(authz: RunningAuthz, tokens: Mapping[str, str]) -> dict[str, str]:
    """Ask with each token; return ``<HTTP status> <reason>`` by the name of the case."""
    answers = {name: await authz.bearer(token) for name, token in tokens.items()}
    return {name: f"{answer.status} {answer.reason}" for name, answer in answers.items()}


def each(names: Iterable[str], verdict: str) -> dict[str, str]:
    """The same verdict for each case."""
    return dict.fromkeys(names, verdict)


def calls(idp: RunningIdp) -> dict[str, int]:
    """How often each endpoint was asked."""
    return dict(idp.counters)
