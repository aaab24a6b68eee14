"""The header firewall: what the upstream may believe about the caller.

Every managed name is either set by us or removed, on every allow.  Envoy removes
exact names only, while upstreams may fold names (``header_names``).  So each mixture
of ``-`` and ``_`` is always removed, sent or not, and so is every other spelling that
the request has.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from authz import header_names
from authz.decision import Allow
from authz.errors import Forbidden, MalformedRequest, Reason
from authz.header_names import Managed
from authz.model import BearerCredential, CredentialLocation, PairCredential
from authz.policy.claims import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from authz.model import (
        Claims,
        Consumer,
        Credential,
        Identity,
        OpenIDConnect,
        Request,
        Slot,
    )

VALUE_BYTES_MAX: Final = 4_096
_VISIBLE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
_TOKEN: Final = re.compile(header_names.TOKEN)


class Firewall:
    """The headers of one kind of routes, none of which a caller may speak for us."""

    def __init__(self, names: Iterable[str]) -> None:
        self._managed = Managed(names)
        # A policy writes or leaves few sets of names: what it removes is put together once.
        self._removed_beside: dict[frozenset[str], tuple[str, ...]] = {}

    def examine(self, request: Request) -> None:
        """Refuse a request whose headers would reach the upstream otherwise than we say.

        What ``Connection`` names, the next hop takes away (RFC 9110 section 7.6.1), and
        Envoy hands the header on with every upgrade.
        """
        connection = request.headers.get(header_names.CONNECTION, "")
        if len(connection) > header_names.CONNECTION_CHARS_MAX:
            raise MalformedRequest(
                Reason.CONNECTION_HEADER_REFUSED,
                f"the Connection header has {len(connection)} characters, more than the "
                f"{header_names.CONNECTION_CHARS_MAX} that are looked at",
            )
        named = self._managed.taken_away_by(connection)
        if named:
            raise MalformedRequest(
                Reason.CONNECTION_HEADER_REFUSED,
                f"the Connection header names {named}, which a next hop would take away",
            )
        if not all(map(_TOKEN.fullmatch, self._managed.twins(request.headers))):
            # No Envoy lets it pass, and none could remove it.
            raise MalformedRequest(
                Reason.REQUEST_MALFORMED, "a name that reads like a header of ours is no name"
            )

    def nobody(self, request: Request) -> Allow:
        """Let a request pass that is not asked who it is: nobody is announced."""
        self.examine(request)
        return Allow(headers_to_remove=self._removed(request, ()), reason="unprotected")

    def decided_by(self, name: str) -> bool:
        """Tell whether the answer depends on a header of this name, besides Authorization."""
        return (
            name == header_names.CONNECTION
            or (name in header_names.TOKENS and name in self._managed)
            or bool(self._managed.twins((name,)))
        )

    def _removed(self, request: Request, left: Iterable[str]) -> tuple[str, ...]:
        """Return the names to remove: all that are ours, but those that are set or left."""
        left = frozenset(left)
        removed = self._removed_beside.get(left)
        if removed is None:
            removed = tuple(name for name in self._managed.spellings if name not in left)
            self._removed_beside[left] = removed
        twins = self._managed.twins(request.headers)
        return (*removed, *(name for name in twins if name not in left)) if twins else removed


OPEN_ROUTE: Final = Firewall(header_names.IDENTITY)
"""For routes without authentication: nobody is announced, Authorization is theirs."""


class UpstreamHeaders(Firewall):
    """The headers that one plugin sends upstream."""

    def __init__(self, config: OpenIDConnect, slots: Iterable[Slot]) -> None:
        slots = tuple(slots)
        name, _, scheme = (config.upstream.upstream_access_token_header or "").partition(":")
        self._token_header = name.lower().replace("_", "-")
        self._token_prefix = f"{scheme.capitalize()} " if scheme else ""
        self._credential_claim = config.identity.credential_claim
        self._hide_credentials = config.upstream.hide_credentials
        # Half a pair is no credential, and may be somebody's secret all the same.
        self._half_pair = tuple(_secret_arguments(slots)) if self._hide_credentials else ()
        super().__init__(
            {
                *header_names.IDENTITY,
                header_names.AUTHORIZATION,
                *_token_headers(slots),
                self._token_header,
            }
            - {""}
        )

    def announce(
        self, request: Request, identity: Identity, consumer: Consumer | None, presented: Credential
    ) -> Allow:
        """Announce a verified caller.

        Raises :class:`~authz.errors.Forbidden` if a value fits in no header:
        dropping it silently would let an upstream see somebody else.
        """
        headers = dict(self._identity(identity.claims, consumer))
        if self._token_header and identity.token is not None:
            headers[self._token_header] = self._token_prefix + identity.token.value.reveal()
        slot, hidden = presented.slot, self._hide_credentials
        kept = () if hidden or slot.location is not CredentialLocation.HEADER else slot.names
        in_query = hidden and slot.location is CredentialLocation.QUERY
        arguments = slot.names if in_query else ()
        return Allow(
            headers=headers,
            headers_to_remove=self._removed(request, (*headers, *kept)),
            query_parameters_to_remove=tuple(dict.fromkeys((*arguments, *self._half_pair))),
            metadata=_announced(consumer),
        )

    def _identity(self, claims: Claims, consumer: Consumer | None) -> Iterable[tuple[str, str]]:
        if consumer is not None:
            yield "x-consumer-id", consumer.id
            if consumer.username is not None:
                yield "x-consumer-username", _visible(consumer.username, "consumer username")
            if consumer.custom_id is not None:
                yield "x-consumer-custom-id", _visible(consumer.custom_id, "consumer custom_id")
        identifier = walk(claims, self._credential_claim)
        if identifier is not None:
            yield "x-credential-identifier", _visible(identifier, "credential_claim")


def _secret_arguments(slots: Iterable[Slot]) -> Iterator[str]:
    """Yield the arguments of the query in which the secret of a pair may stand."""
    for slot in slots:
        if slot.kind is PairCredential and slot.location is CredentialLocation.QUERY:
            yield slot.names[1]


def _token_headers(slots: Iterable[Slot]) -> Iterator[str]:
    """Yield the headers that are read for tokens, besides ``Authorization``."""
    for slot in slots:
        if slot.kind is BearerCredential and slot.location is CredentialLocation.HEADER:
            yield from (name for name in slot.names if name != header_names.AUTHORIZATION)


def _visible(value: object, what: str) -> str:
    """Return a value that any header may carry: visible ASCII, spaces only inside."""
    if (
        not isinstance(value, str)
        or len(value) > VALUE_BYTES_MAX
        or _VISIBLE.fullmatch(value) is None
    ):
        raise Forbidden(Reason.HEADER_VALUE_REFUSED, f"the {what} fits in no header")
    return value


def _announced(consumer: Consumer | None) -> Mapping[str, str]:
    if consumer is None:
        return {}
    named = {"consumer_username": consumer.username, "consumer_custom_id": consumer.custom_id}
    return {
        "consumer_id": consumer.id,
        **{name: value for name, value in named.items() if value is not None},
    }
