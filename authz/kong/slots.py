"""Which parts of a request each of a plugin's methods reads (Kong's ``*_param_type``)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz import header_names
from authz.model import BearerCredential, CredentialLocation, PairCredential, Slot
from authz.parameters import PARAMETERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from authz.model import OpenIDConnect

# By parameter: the kind of credential, and the arguments that it stands in elsewhere than
# in a header.
_READ: Final[Mapping[str, tuple[type[PairCredential | BearerCredential], tuple[str, ...]]]] = {
    "bearer_token_param_type": (BearerCredential, ("access_token",)),
    "password_param_type": (PairCredential, ("username", "password")),
    "client_credentials_param_type": (PairCredential, ("client_id", "client_secret")),
}
LOCATION_PARAMETERS: Final[Mapping[str, str]] = {
    method: parameter for parameter in _READ for method in PARAMETERS[parameter].used_by
}
"""By method: the parameter that says where its credentials may stand."""


def of(config: OpenIDConnect) -> Mapping[str, tuple[Slot, ...]]:
    """Return the slots of each method that the plugin uses, in the order in which they are read."""
    return {name: tuple(_slots(config, name)) for name in config.callers.auth_methods}


def _slots(config: OpenIDConnect, method: str) -> Iterator[Slot]:
    parameter = LOCATION_PARAMETERS[method]
    kind, arguments = _READ[parameter]
    for location in map(CredentialLocation, getattr(config.callers, parameter)):
        if location is not CredentialLocation.HEADER:
            yield Slot(kind, location, arguments)
            continue
        yield Slot(kind, location, (header_names.AUTHORIZATION,))
        if kind is BearerCredential:
            yield from (Slot(kind, location, (name,)) for name in header_names.TOKENS)


def every(config: OpenIDConnect) -> tuple[Slot, ...]:
    """Return all slots of a plugin, each once."""
    return tuple(dict.fromkeys(slot for slots in of(config).values() for slot in slots))
