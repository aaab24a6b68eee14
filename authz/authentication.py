"""Who is calling: a policy's slots, and the methods that take what stands in them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from authz import credentials
from authz.errors import IdpOutage, Reason, Unauthenticated, Unavailable
from authz.model import PairCredential

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from authz.methods.base import Method
    from authz.model import Credential, Identity, Request, Slot
    from authz.tokens.digest import Digester
    from authz.tokens.remembered import RememberedMethods


class Authentication:
    """The methods of one policy, in Kong's order, and the slots that each of them reads.

    Several methods may read one slot.  Which of them has authenticated a pair is
    remembered, so that the next request asks no other one, also after a reload.
    ``digest`` has all that a token of these methods depends on.
    """

    def __init__(
        self,
        methods: Sequence[tuple[Method, tuple[Slot, ...]]],
        digest: Digester,
        remembered: RememberedMethods,
    ) -> None:
        self.slots: Final = tuple(dict.fromkeys(slot for _, slots in methods for slot in slots))
        """Every slot, in the order in which they are read."""
        self._methods: Final[Mapping[Slot, tuple[Method, ...]]] = {
            wanted: tuple(method for method, slots in methods if wanted in slots)
            for wanted in self.slots
        }
        self._digest = digest
        self._remembered = remembered

    def presented(self, request: Request) -> Credential:
        """Return the one credential of a request; any other number is a Refusal."""
        if not self.slots:
            raise Unauthenticated(
                Reason.METHODS_FOR_BROWSERS, "auth_methods names only what browsers use"
            )
        return credentials.presented(self.slots, request)

    async def authenticate(self, presented: Credential, request: Request) -> Identity:
        """Return who presents this credential: the word of the first method that knows it.

        Raises the :class:`~authz.errors.Refusal` of the first method that finds it bad,
        or that of the last one if no method knows it.
        """
        methods = self._methods[presented.slot]
        if len(methods) == 1 or not isinstance(presented, PairCredential):
            return await _first_to_know(methods, presented, request)
        key = self._digest(presented.id, presented.secret.reveal())
        remembered = self._remembered.get(key)
        # Stable: the others keep Kong's order.
        methods = tuple(sorted(methods, key=lambda method: method.name != remembered))
        try:
            identity = await _first_to_know(methods, presented, request)
        except Unauthenticated:
            # What it was for is over; the pair may be another method's by now.
            self._remembered.drop(key)
            raise
        self._remembered.put(key, identity.method)
        return identity

    def names(self, presented: Credential) -> str:
        """Return the names of the methods that take this credential, for the log."""
        return ",".join(method.name for method in self._methods[presented.slot])


async def _first_to_know(
    methods: Sequence[Method], presented: Credential, request: Request
) -> Identity:
    """Ask the methods in turn.

    One that cannot tell, for a fault that is not the caller's, leaves the word to the
    others; if none of them knows the credential, it is still not known to be bad.  While
    the provider is out nobody else is asked: all of them ask that provider.
    """
    trouble: Unavailable | None = None
    for method in methods:
        try:
            identity = await method.authenticate(presented, request)
        except IdpOutage:
            raise
        except Unavailable as error:
            trouble = trouble or error
        except Unauthenticated as error:
            raise (trouble or error) from None
        else:
            if identity is not None:
                return identity
    raise trouble or methods[-1].unknown(presented)
