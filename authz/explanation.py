"""How a decision came about, step by step: for ``authz check`` and ``authz explain``.

Everything here reads what a decision has left in its trace, or asks the same pure rules
once more.  A decision that nobody explains pays nothing for it.  No secret and no token
is in a step.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authz import header_names
from authz.decision import Allow
from authz.errors import Refusal
from authz.kong.passed_over import passed_over
from authz.kong.rules import display_name
from authz.model import PairCredential
from authz.policy import possession
from authz.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from authz.authorizer import Outcome
    from authz.model import (
        Consumer,
        Credential,
        Gateway,
        Identity,
        Match,
        Request,
        Route,
        SourcePosition,
    )
    from authz.pipeline import Policy, Trace
    from authz.telemetry import IdpCall

    At = Callable[[str], SourcePosition | None]

QUOTED_CHARS_MAX = 100

NO_PLUGIN = "no openid-connect plugin applies here: whoever comes is let through"
EMPTY_CACHES = (
    "empty at the start: this is a process of its own, and what a running server remembers, "
    "such as tokens, refused secrets and keys, is not seen here"
)
TERMINATED = "request-termination answers in the place of the upstream"


@dataclass(frozen=True, slots=True)
class Step:
    """What was looked at, what came of it, where the file says so, and how long it took."""

    name: str
    """A word of a closed set: ``passed``, ``route``, ``plugin``, ``credential``, ``call``, ..."""
    detail: str
    position: SourcePosition | None = None
    seconds: float | None = None


class RecordingTelemetry(Telemetry):
    """Metrics that also note each look into a cache as a step."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[Step] = []

    def cache(self, name: str, event: str) -> None:
        """Note a look into a cache."""
        super().cache(name, event)
        self.steps.append(Step("cache", f"{name}: {event}"))


def passed(gateway: Gateway, request: Request) -> Iterator[Step]:
    """Yield the routes that go before the one that answers, the nearest first, and why not they."""
    found, count = passed_over(gateway, request)
    for each in found:
        route, differs = each.route, each.differs
        asked = ", ".join(getattr(route, differs))[:QUOTED_CHARS_MAX]
        yield Step(
            "passed",
            f"{display_name(route)}: goes before, but asks for {differs} {asked}",
            route.positions.get(differs, route.position),
        )
    if count > len(found):
        yield Step(
            "passed", f"{count - len(found):,} more that go before, but ask for other things"
        )


def called(call: IdpCall) -> Step:
    """Return the step that a call to a provider was, with how it ended and how long it took."""
    return Step("call", f"{call.where}: {call.outcome or 'under way'}", seconds=call.seconds)


def steps(
    outcome: Outcome, noted: Sequence[Step] = (), passed: Sequence[Step] = ()
) -> Iterator[Step]:
    """Yield how a decision came about, in the order of the pipeline.

    ``noted`` are the looks into caches and the calls that were made meanwhile, ``passed``
    the routes that were passed over.
    """
    trace = outcome.trace
    yield Step("caches", EMPTY_CACHES)
    yield from passed
    if trace.match is not None:
        yield from _met(trace.match)
        if trace.policy is not None:
            yield from _asked(trace, trace.match, trace.policy, noted)
    if isinstance(outcome.decision, Allow):
        yield from _changes(outcome.decision, trace)
    yield Step("answer", verdict(outcome))


def verdict(outcome: Outcome) -> str:
    """Return the decision in a line: ``allow``, or ``deny`` with status, reason and detail."""
    decision = outcome.decision
    if isinstance(decision, Allow):
        return "allow"
    return f"deny {decision.status}: {outcome.refusal or decision.reason}"


def summary(outcome: Outcome) -> dict[str, Any]:
    """Return a decision as JSON has it: how it ended, where in the file, and what changes."""
    decision, refusal, trace = outcome.decision, outcome.refusal, outcome.trace
    match, consumer = trace.match, trace.consumer
    route, service, plugin = (match.route, match.service, match.plugin) if match else (None,) * 3
    ended = {
        "verdict": "allow" if isinstance(decision, Allow) else "deny",
        "status": None if isinstance(decision, Allow) else decision.status,
        "reason": str(decision.reason),
        "detail": None if refusal is None else refusal.detail,
        "route": route and _entity(route.name or route.id, route.position),
        "service": service and _entity(service.name or service.id, service.position),
        "plugin": plugin and _entity(plugin.instance_name, plugin.position),
        "consumer": consumer
        and _entity(consumer.username or consumer.custom_id or consumer.id, consumer.position),
        "claims": None if trace.identity is None else dict(trace.identity.claims),
    }
    if isinstance(decision, Allow):
        return ended | {
            "sets_headers": {n: shown_value(n, v) for n, v in sorted(decision.headers.items())},
            "removes_headers": removed_names(decision),
            "removes_from_query": sorted(decision.query_parameters_to_remove),
        }
    return ended | {"answer": {"headers": list(decision.headers), "body": decision.body}}


def as_json(step: Step) -> dict[str, Any]:
    """Return a step as JSON has it: what it has not, it does not name."""
    told: dict[str, Any] = {"step": step.name, "detail": step.detail}
    if step.position is not None:
        told["position"] = _position(step.position)
    if step.seconds is not None:
        told["milliseconds"] = round(step.seconds * 1000, 3)
    return told


def _entity(name: str | None, position: SourcePosition) -> dict[str, Any]:
    return {"name": name, "position": _position(position)}


def _position(position: SourcePosition) -> dict[str, Any]:
    return {"file": position.file, "line": position.line, "column": position.column}


# --- Route and plugin ----------------------------------------------------------------


def _met(match: Match) -> Iterator[Step]:
    route, service, plugin = match.route, match.service, match.plugin
    if route is not None:
        yield Step("route", f"{_name(route.name)}: {_why_route(route)}", route.position)
    if service is not None:
        yield Step("service", _name(service.name), service.position)
    if plugin is None and match.termination is None:
        yield Step("plugin", NO_PLUGIN)
    elif plugin is not None:
        of = [kind for kind in ("route", "service") if getattr(plugin, kind) is not None]
        scope = f"of the {' and the '.join(of)}" if of else "global"
        yield Step("plugin", f"{_name(plugin.instance_name)}: {scope}", plugin.position)
    if match.termination is not None:
        yield Step("termination", TERMINATED, match.termination.position)


def _why_route(route: Route) -> str:
    asked = {
        "hosts": route.hosts,
        "paths": route.paths,
        "methods": route.methods,
        "headers": tuple(route.headers),
        "snis": route.snis,
    }
    conditions = [f"{field} {', '.join(values)}" for field, values in asked.items() if values]
    return (
        f"the first in Kong's order that the request satisfies; it asks for "
        f"{'; '.join(conditions) or 'nothing'}"
    )


def _name(name: str | None) -> str:
    return name or "(no name)"


# --- Who is calling, and whether that is enough --------------------------------------


def _asked(trace: Trace, match: Match, policy: Policy, noted: Sequence[Step]) -> Iterator[Step]:
    at = _places(match)
    if policy.exempts(trace.request):
        yield Step("preflight", "passes unasked", at("run_on_preflight"))
        return
    if trace.presented is None:
        looked = "; ".join(
            f"{slot.location} {', '.join(slot.names)}" for slot in policy.authentication.slots
        )
        yield Step("credential", f"none that can be used; looked for in {looked}")
        return
    yield Step("credential", _shown(trace.presented))
    yield Step("method", policy.authentication.names(trace.presented), at("auth_methods"))
    yield from noted
    if trace.identity is not None:
        yield Step("identity", _vouched(trace.identity))
        yield from _rules(trace.identity, trace.presented, policy, at)


def _shown(presented: Credential) -> str:
    """Return where a credential stood, and of a pair the id; never the secret."""
    slot = presented.slot
    stood = f"{slot.location} {', '.join(slot.names)}"
    if isinstance(presented, PairCredential):
        return f"a pair with the id {_quoted(presented.id)}, in {stood}"
    return f"a bearer token, in {stood}"


def _vouched(identity: Identity) -> str:
    claims = identity.claims
    named = {"iss": claims.get("iss"), "sub": claims.get("sub"), "client": identity.client}
    told = ", ".join(
        f"{name} {_quoted(value)}" for name, value in named.items() if value is not None
    )
    return f"{identity.method} vouches for {told or 'somebody without a name'}"


def _rules(identity: Identity, presented: Credential, policy: Policy, at: At) -> Iterator[Step]:
    """Ask each rule once more, in the pipeline's order, up to the first that refuses."""
    claims = identity.claims
    try:
        possession.check(identity, presented)
    except Refusal as refusal:
        yield Step("possession", str(refusal))
        return
    try:
        yield from _consumer(policy.consumers.find(claims), policy, at)
    except Refusal as refusal:
        yield Step("consumer", str(refusal), at("consumer_claim"))
        return
    for requirement in policy.authorization.requirements:
        met = "met"
        try:
            requirement.check(claims)
        except Refusal as refusal:
            met = str(refusal)
        yield Step("rule", f"{requirement.parameter}: {met}", at(requirement.parameter))
        if met != "met":
            return


def _consumer(consumer: Consumer | None, policy: Policy, at: At) -> Iterator[Step]:
    paths = " or ".join(".".join(path) for path in policy.config.identity.consumer_claims)
    if consumer is not None:
        name = _name(consumer.username or consumer.custom_id)
        yield Step("consumer", f"{name} by the claim {paths}", consumer.position)
    elif paths:
        yield Step(
            "consumer", f"none by the claim {paths}, nor need there be", at("consumer_claim")
        )


def _places(match: Match | None) -> At:
    """Return what tells where the file sets a parameter of the plugin; nowhere: its default."""
    plugin = None if match is None else match.plugin
    return (lambda _: None) if plugin is None else plugin.positions.get


# --- What becomes of the request -----------------------------------------------------


def _changes(allow: Allow, trace: Trace) -> Iterator[Step]:
    at = _places(trace.match)
    for name, value in sorted(allow.headers.items()):
        source, parameter = _source(name, trace)
        yield Step("header", f"sets {name}: {shown_value(name, value)}, {source}", at(parameter))
    removed = removed_names(allow)
    if removed:
        yield Step("header", f"removes {', '.join(removed)}: only authz may set these")
    if allow.query_parameters_to_remove:
        names = ", ".join(sorted(allow.query_parameters_to_remove))
        yield Step("query", f"removes {names}: credentials", at("hide_credentials"))


def _source(name: str, trace: Trace) -> tuple[str, str]:
    """Return what the value of a header that is set comes from, and the parameter that says so."""
    if name.startswith("x-consumer-"):
        return "from the consumer", "consumer_claim"
    if name == "x-credential-identifier" and trace.policy is not None:
        claim = ".".join(trace.policy.config.identity.credential_claim)
        return f"from the claim {claim}", "credential_claim"
    return "the verified token", "upstream_access_token_header"


def removed_names(allow: Allow) -> list[str]:
    """Return the headers that are removed and not set.

    Each is removed in every mixture of ``-`` and ``_``; the one with ``-`` stands for all.
    """
    return sorted({name.replace("_", "-") for name in allow.headers_to_remove} - {*allow.headers})


def shown_value(name: str, value: str) -> str:
    """Return what may be shown of a header's value: an identity whole, a token's scheme."""
    if name.lower() in header_names.IDENTITY:
        return value
    scheme, space, _ = value.partition(" ")
    return f"{scheme} ***" if space else "***"


def _quoted(value: object) -> str:
    """Return a caller's text so that no terminal obeys it, and not too much of it."""
    return json.dumps(value, default=str)[:QUOTED_CHARS_MAX]
