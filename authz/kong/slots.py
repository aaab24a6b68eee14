"""Which parts of a request each of a plugin's methods reads (Kong's ``*_param_type``)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from authz import header_names
from authz.model import BearerCredential, CredentialLocation, PairCredential, Slot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from authz.model import OpenIDConnect


@dataclass(frozen=True, slots=True)
class _Reading:
    """What one method looks for: a kind of credential, by these names of arguments."""

    kind: type[PairCredential | BearerCredential]
    arguments: tuple[str, ...]
    locations: Callable[[OpenIDConnect], tuple[str, ...]]

    def slots(self, config: OpenIDConnect) -> Iterator[Slot]:
        for location in map(CredentialLocation, self.locations(config)):
            if location is not CredentialLocation.HEADER:
                yield Slot(self.kind, location, self.arguments)
                continue
            yield Slot(self.kind, location, (header_names.AUTHORIZATION,))
            if self.kind is BearerCredential:
                yield from (Slot(self.kind, location, (name,)) for name in header_names.TOKENS)


_READINGS: Final[Mapping[str, _Reading]] = {
    "bearer": _Reading(
        BearerCredential, ("access_token",), lambda config: config.callers.bearer_token_param_type
    ),
    "introspection": _Reading(
        BearerCredential, ("access_token",), lambda config: config.callers.bearer_token_param_type
    ),
    "password": _Reading(
        PairCredential,
        ("username", "password"),
        lambda config: config.callers.password_param_type,
    ),
    "client_credentials": _Reading(
        PairCredential,
        ("client_id", "client_secret"),
        lambda config: config.callers.client_credentials_param_type,
    ),
}


def of(config: OpenIDConnect) -> Mapping[str, tuple[Slot, ...]]:
    """Return the slots of each method that the plugin uses, in the order in which they are read."""
    return {name: tuple(_READINGS[name].slots(config)) for name in config.callers.auth_methods}


def every(config: OpenIDConnect) -> tuple[Slot, ...]:
    """Return all slots of a plugin, each once."""
    return tuple(dict.fromkeys(slot for slots in of(config).values() for slot in slots))
