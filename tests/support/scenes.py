"""What several test files ask of a provider and of an authz before it."""

from __future__ import annotations

import asyncio
import base64
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from support.running import KONG_CONSUMER, plugin

from authz.demo.idp import CLIENTS
from authz.demo.script import Answer as Scripted
from authz.model import Gateway, Route, SourcePosition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from support.idp import RunningIdp
    from support.running import Answer, RunningAuthz

OTHER_ID = "other_id"
OTHER_SECRET = CLIENTS[OTHER_ID]
"""A client of the provider that no consumer stands for."""

JSON = ("content-type", "application/json")


def says(
    body: Any, status: int = 200, *headers: tuple[str, str], times: int | None = 1
) -> Scripted:
    """A scripted answer: bytes as they are, anything else as JSON."""
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Scripted(status, text, (JSON, *headers), times=times)


def verdict(answer: Answer) -> str:
    return f"{answer.status} {answer.reason}"


def claims(answer: Answer) -> dict[str, Any]:
    """The claims of the token that the upstream gets."""
    _, token = (answer.header("authorization") or "").split(" ")
    payload = token.split(".")[1]
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(payload + "=="))
    return decoded


async def landed(authz: RunningAuthz) -> None:
    """Return once nothing is under way to a provider, not even in the background."""
    await asyncio.sleep(0)  # timers whose time the clock has just told begin their calls
    await authz.shared.keeper.settled()
    for provider in authz.configuration.providers:
        await provider._single_flight.settled()


def at(issuer: str, **parameters: Any) -> Gateway:
    """A file without routes whose plugin spells the issuer this way."""
    return Gateway(plugins=(plugin(issuer, **parameters),), consumers=(KONG_CONSUMER,))


def routes(**plugins: tuple[RunningIdp, Mapping[str, Any]]) -> Gateway:
    """A file with one route a name; each has a plugin for this provider, with these parameters."""
    built = []
    for line, (name, (idp, parameters)) in enumerate(plugins.items(), start=10):
        position = SourcePosition("kong.yaml", line, 1)
        route = Route(f"id-{name}", name, position, None, paths=(f"/{name}",))
        built.append(replace(plugin(idp.issuer, **parameters), position=position, route=route))
    return Gateway(
        routes=tuple(one.route for one in built if one.route),
        plugins=tuple(built),
        consumers=(KONG_CONSUMER,),
    )


def on(name: str) -> dict[str, Any]:
    """What makes a request Envoy's for the route of this name."""
    return {"context": {"route": name}, "path": f"/{name}"}
