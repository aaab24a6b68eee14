"""Which consumer a token belongs to (Kong's ``consumer_claims`` and ``consumer_by``)."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING, Final

from authz.errors import Forbidden, Reason
from authz.policy.claims import walk

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from authz.model import Claims, Consumer, OpenIDConnect

Index = dict[str, "Consumer"]
Lookup = tuple["Callable[[str], str]", "Mapping[str, Consumer]"]

# ASCII only: Unicode's lower case would make the Kelvin sign a k, and with it a
# stranger somebody else.
_ASCII_LOWER: Final = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def _lower(name: str) -> str:
    return name.translate(_ASCII_LOWER)


class ConsumerDirectory:
    """All consumers of a configuration, by each field a plugin may look them up with.

    Built once for all plugins: finding one of 10,000 is a dict read.
    """

    def __init__(self, consumers: Iterable[Consumer]) -> None:
        by_id: Index = {}
        by_username: Index = {}
        by_lower_username: Index = {}
        by_custom_id: Index = {}
        for consumer in consumers:
            by_id[consumer.id] = consumer
            if consumer.username is not None:
                by_username[consumer.username] = consumer
                by_lower_username[_lower(consumer.username)] = consumer
            if consumer.custom_id is not None:
                by_custom_id[consumer.custom_id] = consumer
        self._by_lower_username = by_lower_username
        self._by: Mapping[str, Index] = {
            "id": by_id,
            "username": by_username,
            "custom_id": by_custom_id,
        }

    def lookups(self, config: OpenIDConnect) -> tuple[Lookup, ...]:
        """Return the plugin's lookups in its order, each with how it spells a name."""
        return tuple(
            (_lower, self._by_lower_username)
            if by == "username" and config.identity.by_username_ignore_case
            else (str, self._by[by])
            for by in config.identity.consumer_by
        )


class Consumers:
    """One plugin's mapping from claims to a consumer."""

    def __init__(self, config: OpenIDConnect, directory: ConsumerDirectory) -> None:
        self._paths = config.identity.consumer_claims
        self._optional = config.identity.consumer_optional
        self._lookups = directory.lookups(config)

    def find(self, claims: Claims) -> Consumer | None:
        """Return the consumer of these claims.

        ``None`` when the plugin maps no consumers, or when it need not find one.
        Raises :class:`~authz.errors.Forbidden` otherwise.  The first path that
        the token has decides: a later one must not turn a stranger into
        somebody else.
        """
        if not self._paths:
            return None
        name = next((value for p in self._paths if (value := walk(claims, p)) is not None), None)
        # Strings only, compared exactly: the number 1 is not the consumer "1".
        consumer = self._lookup(name) if isinstance(name, str) else None
        if consumer is not None or self._optional:
            return consumer
        if name is None:
            raise Forbidden(Reason.CONSUMER_CLAIM_MISSING, "the token has no consumer claim")
        raise Forbidden(Reason.CONSUMER_UNKNOWN, "no consumer has the name in the token")

    def _lookup(self, name: str) -> Consumer | None:
        for spell, index in self._lookups:
            consumer = index.get(spell(name))
            if consumer is not None:
                return consumer
        return None
