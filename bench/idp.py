"""A provider that costs next to nothing itself: any secret is right, and tokens lie ready."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from itertools import cycle
from typing import TYPE_CHECKING

from starlette.requests import Request
from starlette.responses import JSONResponse

from authz.demo.background import BackgroundServer
from authz.demo.idp import DevelopmentIdp
from authz.demo.keys import Key
from bench.fixture import CALLER

if TYPE_CHECKING:
    from collections.abc import Iterator

    from starlette.types import Receive, Scope, Send

TOKEN_LIFETIME_SECONDS = 3600  # no token ends, or is renewed, while it is measured


class BenchIdp:
    """The development provider, but for its token endpoint.

    That one answers after ``delay_s``, which stands for a provider's own work and the way
    to it, with the next of ``tokens``, or with one signed on the spot if there are none.
    """

    def __init__(self, url: str, *, algorithm: str = "RS256") -> None:
        self.provider = DevelopmentIdp(issuer=f"{url}/realms/kong", keys=[Key.generate(algorithm)])
        self.provider.token_lifetime_s = TOKEN_LIFETIME_SECONDS
        self.delay_s = 0.0
        self.exchanges = 0
        self._rest = self.provider.app()
        self._tokens = iter(self.provider.issue, "")

    @property
    def issuer(self) -> str:
        """What its tokens carry."""
        return self.provider.issuer

    def lay_ready(self, tokens: list[str]) -> None:
        """Hand out these tokens from now on, one after the other, over and over."""
        self._tokens = cycle(tokens)

    def issue(self) -> str:
        """Return a new token of the caller."""
        return self.provider.issue(CALLER)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as an ASGI application."""
        if not scope["path"].endswith("/token"):
            await self._rest(scope, receive, send)
            return
        await Request(scope, receive).body()
        self.exchanges += 1
        await asyncio.sleep(self.delay_s)
        answer = {"access_token": next(self._tokens), "token_type": "Bearer"}
        await JSONResponse({**answer, "expires_in": TOKEN_LIFETIME_SECONDS})(scope, receive, send)


@contextmanager
def running_idp(algorithm: str = "RS256") -> Iterator[BenchIdp]:
    """Run one on a free loopback port."""
    server = BackgroundServer()
    idp = BenchIdp(server.url, algorithm=algorithm)
    server.start(idp)
    try:
        yield idp
    finally:
        server.stop()
        server.close()
