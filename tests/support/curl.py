"""A caller with curl: one request, and the answer as it came."""

from __future__ import annotations

import base64
import http.client
import json
from contextlib import closing
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from authz.credentials import basic

if TYPE_CHECKING:
    from collections.abc import Iterable

TIMEOUT_SECONDS = 20

Headers = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Reply:
    """What the caller received; header names are lower-case, repeated ones stay apart."""

    status: int
    headers: Headers
    body: bytes = field(repr=False)

    @property
    def text(self) -> str:
        return self.body.decode()

    def header(self, name: str) -> list[str]:
        """Return every value of a header, in the order of arrival."""
        return [value for key, value in self.headers if key == name]

    @property
    def upstream(self) -> dict[str, str]:
        """The request's headers as httpbin received them, names in lower case."""
        received: dict[str, str] = json.loads(self.body)["headers"]
        return {name.lower(): value for name, value in received.items()}

    @property
    def token(self) -> Token:
        """The bearer token that the upstream received."""
        scheme, _, token = self.upstream["authorization"].partition(" ")
        assert scheme == "Bearer"
        return Token(token)


@dataclass(frozen=True, slots=True)
class Token:
    """A JWT, decoded and not verified: that is the business of what is tested."""

    value: str

    @property
    def header(self) -> dict[str, Any]:
        return self._part(0)

    @property
    def claims(self) -> dict[str, Any]:
        return self._part(1)

    def _part(self, number: int) -> dict[str, Any]:
        segment = self.value.split(".")[number]
        padded = segment + "=" * (-len(segment) % 4)
        part: dict[str, Any] = json.loads(base64.urlsafe_b64decode(padded))
        return part


def curl(
    port: int,
    path: str,
    *,
    method: str = "GET",
    user: tuple[str, str] | None = None,
    headers: Iterable[tuple[str, str]] = (),
    body: bytes = b"",
) -> Reply:
    """Make one request to a loopback port; ``user`` is curl's ``-u``.

    Headers are sent as they are given, repeated ones as lines of their own.
    """
    lines = [*headers, *([("Authorization", basic(*user))] if user else [])]
    if body:
        lines.append(("Content-Length", str(len(body))))
    named = {name.lower() for name, _ in lines}
    with closing(
        http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_SECONDS)
    ) as connection:
        connection.putrequest(method, path, skip_host="host" in named, skip_accept_encoding=True)
        for name, value in lines:
            connection.putheader(name, value)
        connection.endheaders(body or None)
        response = connection.getresponse()
        received = tuple((name.lower(), value) for name, value in response.getheaders())
        return Reply(response.status, received, response.read())
