"""The one way from files to a configuration: for commands, at a start and at every reload."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

from authz.build import build
from authz.errors import ConfigurationError
from authz.kong import state
from authz.kong.files import LOOK_PAUSE_SECONDS, Reading, is_rereadable
from authz.kong.openings import refuse_openings, require_plugins
from authz.methods import METHOD_NAMES
from authz.model import Diagnostic, SourcePosition
from authz.runtime import Shared
from authz.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Collection, Mapping

    from authz.build import Configuration
    from authz.kong.files import Sources
    from authz.model import Gateway
    from authz.settings import Settings


def load_gateway(settings: Settings, environ: Mapping[str, str]) -> Gateway:
    """Return the configuration if ``serve`` would start with it, for a command.

    Raises ``ConfigurationError`` with all problems.  It runs an event loop of its own.
    """
    return load_files(settings, environ).configuration.gateway


def load_files(settings: Settings, environ: Mapping[str, str]) -> Loaded:
    """As ``load_gateway``, with the bytes of the files; the configuration is not to be used."""

    async def load() -> Loaded:
        async with Shared(settings, Telemetry()) as shared:
            return await Loader(shared, environ).load()

    return asyncio.run(load())


@dataclass(frozen=True, slots=True)
class Loaded:
    """A configuration, and the bytes that it was made of."""

    sources: Sources
    configuration: Configuration


class Loader:
    """Reads the files that the settings name, decides whether they may be put in force, and builds.

    The settings are those of ``shared``.  References to the environment are resolved from
    ``environ``, every time.
    """

    def __init__(
        self,
        shared: Shared,
        environ: Mapping[str, str],
        pause: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._shared = shared
        self._settings = shared.settings
        self._environ = environ
        self._pause = pause

    async def load(self, in_force: Gateway | None = None, may_open: Collection[str] = ()) -> Loaded:
        """Return what the files say, once they keep still.

        With a configuration ``in_force`` nothing that it guards is opened, unless the
        files say so or ``may_open`` names the route.  Raises ``ConfigurationError``;
        ``RouteOpened`` if that is why.
        """
        if in_force is not None and (once := self._read_once()):
            raise ConfigurationError(once)
        reading = Reading(self._settings.gateway.files)
        # In threads: a large file must not hold up the calls of a server that reloads.
        while (sources := await asyncio.to_thread(reading.look)) is None:
            await self._pause(LOOK_PAUSE_SECONDS)
        gateway = await asyncio.to_thread(self._checked, sources, in_force, may_open)
        return Loaded(sources, build(gateway, self._shared))

    async def accepted(self, sources: Sources) -> Configuration:
        """Return the configuration of bytes that :meth:`load` has accepted, in another process."""
        gateway = await asyncio.to_thread(self._parsed, sources)
        return build(gateway, self._shared)

    def _checked(
        self, sources: Sources, in_force: Gateway | None, may_open: Collection[str]
    ) -> Gateway:
        gateway = self._parsed(sources)
        if self._settings.gateway.require_plugin:
            require_plugins(gateway)
        if in_force is not None:
            refuse_openings(in_force, gateway, may_open)
        return gateway

    def _parsed(self, sources: Sources) -> Gateway:
        return state.parse(sources, self._environ, METHOD_NAMES)

    def _read_once(self) -> list[Diagnostic]:
        """Say which configuration cannot be read again: standard input, a pipe."""
        message = "was read at the start and is gone: use a file to reload"
        return [
            Diagnostic(SourcePosition(path, 1, 1), "configuration", message)
            for path in self._settings.gateway.files
            if not is_rereadable([path])
        ]
