"""What the demo shows: requests through Envoy and the answers that are expected."""

from __future__ import annotations

import base64
import http.client
import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from authz.credentials import basic
from authz.demo.idp import CLIENTS
from authz.demo.parts import LOOPBACK
from authz.demo.stage import LATE_CLIENT

PATH = "/oidc-route/get"
TIMEOUT_SECONDS = 15

CLAIM_NAMES: Final = frozenset(
    {
        "acr",
        "allowed-origins",
        "aud",
        "azp",
        "clientAddress",
        "clientHost",
        "client_id",
        "email_verified",
        "exp",
        "iat",
        "iss",
        "jti",
        "preferred_username",
        "realm_access",
        "resource_access",
        "scope",
        "sub",
        "typ",
    }
)
"""The claims of the workshop's access token."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request as a caller makes it."""

    path: str = PATH
    user: tuple[str, str] | None = None
    headers: tuple[tuple[str, str], ...] = ()

    def curl(self, url: str) -> str:
        """Return the command line that makes this request."""
        words = ["curl", "-sX", "GET", f"{url}{self.path}"]
        words += ["-u", ":".join(self.user)] if self.user else []
        words += [word for name, value in self.headers for word in ("-H", f"{name}: {value}")]
        return shlex.join(words)

    def send(self, port: int) -> Reply:
        """Make the request to Envoy's listener."""
        connection = http.client.HTTPConnection(LOOPBACK, port, timeout=TIMEOUT_SECONDS)
        try:
            connection.request("GET", self.path, headers=self.headers_sent())
            response = connection.getresponse()
            return Reply(response.status, response.read())
        finally:
            connection.close()

    def headers_sent(self) -> dict[str, str]:
        """Return the headers that the caller sends, credentials included."""
        headers = dict(self.headers)
        if self.user:
            headers["authorization"] = basic(*self.user)
        return headers


@dataclass(frozen=True, slots=True)
class Reply:
    """The answer as it reached the caller."""

    status: int
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        """The body on one line."""
        return " ".join(self.body.decode(errors="replace").split())

    @property
    def upstream(self) -> dict[str, str]:
        """The headers that httpbin says it received; empty for any other answer."""
        try:
            headers: dict[str, str] = json.loads(self.body)["headers"]
        except (ValueError, KeyError, TypeError):
            return {}
        return headers

    @property
    def token(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        """Header and claims of the bearer token that the upstream received."""
        scheme, _, token = self.upstream.get("Authorization", "").partition(" ")
        try:
            header, claims, _signature = token.split(".")
            return (_decode(header), _decode(claims)) if scheme == "Bearer" else None
        except ValueError:
            return None


Check = Callable[[Reply], "str | None"]
"""What is wrong with a reply, ``None`` if nothing is."""


def kong_id_reached(reply: Reply) -> str | None:
    """Expect the verified token of kong_id and its consumer at the upstream."""
    token = reply.token
    if token is None:
        return "the upstream received no bearer token"
    _, claims = token
    if claims.keys() != CLAIM_NAMES:
        names = ", ".join(sorted(claims.keys() ^ CLAIM_NAMES))
        return f"the token's claims are not the workshop's: {names}"
    if claims["client_id"] != "kong_id":
        return f"the token is of {claims['client_id']}"
    consumer = reply.upstream.get("X-Consumer-Username")
    return None if consumer == "kong_id" else f"X-Consumer-Username is {consumer}"


def nothing_reached(reply: Reply) -> str | None:
    """Expect an answer that did not come from the upstream."""
    return "the request reached the upstream" if reply.upstream else None


@dataclass(frozen=True, slots=True)
class Step:
    """One request and what it must give; ``shows_token``: print the token in full."""

    title: str
    call: Call
    status: int
    check: Check = nothing_reached
    shows_token: bool = False

    def fault(self, reply: Reply) -> str | None:
        """Say what is not as expected, ``None`` if all is."""
        if reply.status != self.status:
            return f"expected {self.status}"
        return self.check(reply)


KONG_ID = ("kong_id", CLIENTS["kong_id"])
OTHER_ID = ("other_id", CLIENTS["other_id"])
SPOOFED = (("X-Consumer-Username", "admin"),)

WHILE_THE_PROVIDER_RUNS: Final = (
    Step(
        "The workshop's request",
        Call(user=KONG_ID),
        200,
        kong_id_reached,
        shows_token=True,
    ),
    Step("A wrong secret", Call(user=("kong_id", "wrong")), 401),
    Step("No credential", Call(), 401),
    Step("A client of the provider that is no consumer", Call(user=OTHER_ID), 403),
    Step(
        "A caller that claims to be somebody else: overwritten",
        Call(user=KONG_ID, headers=SPOOFED),
        200,
        kong_id_reached,
    ),
    Step("A path that no route has", Call(path="/nowhere", user=KONG_ID), 404),
)
WHILE_IT_IS_DOWN: Final = (
    Step("A caller that is known: served from the cache", Call(user=KONG_ID), 200, kong_id_reached),
    Step(
        "A caller seen for the first time: it cannot be checked, so 503",
        Call(user=LATE_CLIENT),
        503,
    ),
)


def _decode(segment: str) -> dict[str, Any]:
    padded = segment + "=" * (-len(segment) % 4)
    decoded: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded))
    return decoded
