"""The development identity provider on a real loopback socket."""

from __future__ import annotations

import asyncio
from functools import cache
from typing import TYPE_CHECKING, Any

from authz.demo.background import BackgroundServer
from authz.demo.idp import DevelopmentIdp
from authz.demo.keys import Key

if TYPE_CHECKING:
    import ssl
    from collections.abc import Iterable
    from typing import Self

ARRIVAL_TIMEOUT_SECONDS = 5


@cache
def key(algorithm: str = "RS256", number: int = 0) -> Key:
    """A key made once a session; another ``number`` is another key."""
    return Key.generate(algorithm)


class RunningIdp(DevelopmentIdp):
    """A provider that listens on ``127.0.0.1`` from construction on, on a free port.

    Its issuer is its own address unless another is given.  Usable as a context manager.
    """

    def __init__(
        self,
        *,
        issuer: str | None = None,
        tls: ssl.SSLContext | None = None,
        keys: Iterable[Key] = (),
        **state: Any,
    ) -> None:
        self._server = BackgroundServer(tls=tls)
        super().__init__(
            issuer=issuer or f"{self._server.url}/realms/kong",
            keys=list(keys) or [key(), key("RSA-OAEP")],
            **state,
        )
        self.start()

    @property
    def url(self) -> str:
        """Where it listens, without a trailing slash and without the realm."""
        return self._server.url

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def token_endpoint(self) -> str:
        return f"{self.url}/realms/{self.realm}/protocol/openid-connect/token"

    @property
    def jwks_uri(self) -> str:
        return f"{self.url}/realms/{self.realm}/protocol/openid-connect/certs"

    def start(self) -> None:
        """Listen again, on the same port and with the same state."""
        self._server.start(self.app())

    def stop(self) -> None:
        """Refuse connections and cut those that are open, as a process that ended."""
        self._server.stop()

    def close(self) -> None:
        """End for good; does not wait for the thread."""
        self._server.close()

    async def reached(self, endpoint: str, count: int = 1) -> None:
        """Return once ``endpoint`` has received ``count`` requests in all."""
        async with asyncio.timeout(ARRIVAL_TIMEOUT_SECONDS):
            # Polled: the counter belongs to the thread of the server.
            while self.counters[endpoint] < count:  # noqa: ASYNC110 - as said
                await asyncio.sleep(0.001)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
