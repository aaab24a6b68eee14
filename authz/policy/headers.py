"""The header firewall: what the upstream may believe about the caller.

Every name below is either set by us or removed, on every allow.  Envoy removes
exact names only, while CGI-style upstreams fold ``-`` and ``_`` into one, so
each name is guarded in every mixture of the two.
"""

from __future__ import annotations

import re
from itertools import product
from typing import TYPE_CHECKING, Final

from authz.decision import Allow
from authz.errors import Forbidden, Reason
from authz.model import Location
from authz.policy.claims import walk

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from authz.model import AccessToken, Claims, Consumer, Credential, OpenIDConnect

# Who the caller is: only we may say so.
IDENTITY_HEADERS: Final = (
    "x-anonymous-consumer",
    "x-authenticated-groups",
    "x-authenticated-scope",
    "x-authenticated-userid",
    "x-consumer-custom-id",
    "x-consumer-groups",
    "x-consumer-id",
    "x-consumer-username",
    "x-credential-identifier",
    # Envoy sets it when it lets a request pass unchecked; a caller's own copy passes through.
    "x-envoy-auth-failure-mode-allowed",
)
# Where a credential may stand.
CREDENTIAL_HEADERS: Final = ("authorization", "access-token", "x-access-token")

VALUE_BYTES_MAX: Final = 4_096
_VISIBLE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")


def spellings(names: Iterable[str]) -> frozenset[str]:
    """Return every name in every mixture of ``-`` and ``_``."""
    return frozenset(
        "".join(letters)
        for name in names
        for letters in product(*("-_" if letter in "-_" else letter for letter in name))
    )


UNPROTECTED: Final = Allow(
    headers_to_remove=tuple(sorted(spellings(IDENTITY_HEADERS))), metadata={"reason": "unprotected"}
)
"""The answer for a route without authentication: nobody is announced, Authorization is theirs."""


class UpstreamHeaders:
    """The headers that one plugin sends upstream."""

    def __init__(self, config: OpenIDConnect) -> None:
        name, _, scheme = (config.upstream_access_token_header or "").partition(":")
        self._token_header = name.lower().replace("_", "-")
        self._token_prefix = f"{scheme.capitalize()} " if scheme else ""
        self._credential_claim = config.credential_claim
        self._hide_credentials = config.hide_credentials
        # Half a pair is no credential, and may be somebody's secret all the same.
        reads_query = Location.QUERY in config.client_credentials_param_type
        self._half_pair = ("client_secret",) if reads_query and config.hide_credentials else ()
        managed = {*IDENTITY_HEADERS, *CREDENTIAL_HEADERS, self._token_header} - {""}
        self._managed = tuple(sorted(spellings(managed)))
        self.unasked = Allow(headers_to_remove=self._managed, metadata={"reason": "unprotected"})
        """The answer for a preflight that is not asked: whatever it presented, nobody checked."""

    def upstream(
        self, token: AccessToken, claims: Claims, consumer: Consumer | None, credential: Credential
    ) -> Allow:
        """Announce a verified caller.

        Raises :class:`~authz.errors.Forbidden` if a value fits in no header:
        dropping it silently would let an upstream see somebody else.
        """
        headers = dict(self._identity(claims, consumer))
        if self._token_header:
            headers[self._token_header] = self._token_prefix + token.value.reveal()
        stood_in_header = credential.location is Location.HEADER
        stood_in_query = credential.location is Location.QUERY
        kept = credential.names if stood_in_header and not self._hide_credentials else ()
        arguments = credential.names if stood_in_query and self._hide_credentials else ()
        return Allow(
            headers=headers,
            headers_to_remove=tuple(
                name for name in self._managed if name not in headers and name not in kept
            ),
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
        return {"reason": "allowed"}
    named = {"consumer_username": consumer.username, "consumer_custom_id": consumer.custom_id}
    return {
        "reason": "allowed",
        "consumer_id": consumer.id,
        **{name: value for name, value in named.items() if value is not None},
    }
