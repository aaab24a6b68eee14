"""Every way in which authz says no.

::

    AuthzError
    ├── ConfigurationError      the file or a setting is wrong: nothing starts
    │   └── RouteOpened         it would let in what is kept out, and does not say so
    ├── ListenError             an address cannot be listened on (transport/)
    └── Refusal                 one request is turned away, with a stable reason
        ├── MalformedRequest    the request cannot mean what it says
        ├── Unauthenticated     nobody has proven who is calling
        ├── Forbidden           the caller is known and not permitted
        ├── RouteNotFound       the configuration has no such route
        ├── Terminated          the configuration answers in the upstream's place
        └── Retryable               not now
            ├── Throttled       too many wrong guesses
            ├── Overloaded      one of our own bounds is reached
            └── Unavailable     we cannot know: the identity provider or we failed
                └── IdpOutage   the provider is unreachable or says it is down

An error says what happened; ``decision.py`` alone says what it answers.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Self

    from authz.model import Diagnostic, Termination


class Reason(StrEnum):
    """The stable code of a refusal: log field, metric label, dynamic metadata.

    ``docs/reasons.md`` lists each with its cause and remedy.  A code is never
    renamed: alerts and dashboards match on it.
    """

    # MalformedRequest
    REQUEST_MALFORMED = "request_malformed"
    CREDENTIAL_AMBIGUOUS = "credential_ambiguous"
    CREDENTIAL_ENCODED = "credential_encoded"
    BODY_INCOMPLETE = "body_incomplete"
    ROUTE_AMBIGUOUS = "route_ambiguous"
    CONNECTION_HEADER_REFUSED = "connection_header_refused"

    # Unauthenticated
    CREDENTIAL_MISSING = "credential_missing"
    CREDENTIAL_MALFORMED = "credential_malformed"
    SCHEME_UNSUPPORTED = "scheme_unsupported"
    METHODS_FOR_BROWSERS = "methods_for_browsers"
    SECRET_REJECTED = "secret_rejected"
    TOKEN_MALFORMED = "token_malformed"
    TOKEN_UNSUPPORTED = "token_unsupported"
    TOKEN_KEY_UNKNOWN = "token_key_unknown"
    TOKEN_SIGNATURE_INVALID = "token_signature_invalid"
    TOKEN_CLAIM_INVALID = "token_claim_invalid"
    TOKEN_EXPIRED = "token_expired"
    TOKEN_NOT_YET_VALID = "token_not_yet_valid"
    TOKEN_ISSUER_REFUSED = "token_issuer_refused"
    TOKEN_AUDIENCE_REFUSED = "token_audience_refused"
    TOKEN_INACTIVE = "token_inactive"

    # Forbidden
    CLIENT_NOT_ALLOWED = "client_not_allowed"
    AUDIENCE_MISSING = "audience_missing"
    SCOPE_MISSING = "scope_missing"
    GROUP_MISSING = "group_missing"
    ROLE_MISSING = "role_missing"
    CONSUMER_CLAIM_MISSING = "consumer_claim_missing"
    CONSUMER_UNKNOWN = "consumer_unknown"
    HEADER_VALUE_REFUSED = "header_value_refused"

    # RouteNotFound
    ROUTE_UNKNOWN = "route_unknown"
    ROUTE_UNMATCHED = "route_unmatched"

    # Terminated
    REQUEST_TERMINATED = "request_terminated"
    RESOURCE_METADATA = "resource_metadata"

    # Throttled
    GUESSING_THROTTLED = "guessing_throttled"

    # Unavailable
    IDP_UNAVAILABLE = "idp_unavailable"
    IDP_THROTTLED = "idp_throttled"
    IDP_ANSWER_INVALID = "idp_answer_invalid"
    IDP_REQUEST_REFUSED = "idp_request_refused"
    OWN_CLIENT_REJECTED = "own_client_rejected"
    EXCHANGED_TOKEN_INVALID = "exchanged_token_invalid"
    IDENTITY_MISMATCH = "identity_mismatch"
    KEYS_UNAVAILABLE = "keys_unavailable"
    DEADLINE_EXCEEDED = "deadline_exceeded"
    SERVER_NAME_UNTOLD = "server_name_untold"
    ROUTE_METADATA_MISSING = "route_metadata_missing"
    REQUEST_UNREADABLE = "request_unreadable"
    OVERLOADED = "overloaded"
    INTERNAL_ERROR = "internal_error"


class AuthzError(Exception):
    """The root of all errors that authz raises itself."""


class ConfigurationError(AuthzError):
    """The configuration cannot be used; every problem found is listed.

    ``str()`` is one line a problem, ``file:line:col: parameter: message``.
    """

    def __init__(self, problems: Iterable[Diagnostic]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(map(str, self.problems)))


class RouteOpened(ConfigurationError):
    """The configuration would open what the one in force guards, and does not say so."""


class Refusal(AuthzError):
    """A request is turned away.

    ``reason`` is for machines, ``detail`` for the operator, and with
    ``display_errors`` for the caller: it never holds a secret, a token or text that
    the caller chose.  ``log_fields`` is for the log alone: what the provider said.
    """

    def __init__(
        self, reason: Reason, detail: str = "", *, log_fields: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(f"{reason}: {detail}" if detail else str(reason))
        self.reason = reason
        self.detail = detail
        self.log_fields = log_fields or {}

    def again(self) -> Self:
        """Return the same refusal for one more caller.

        An exception collects the frames of everybody to whom it is raised, and with them
        what they presented, for as long as it is kept.
        """
        return type(self)(self.reason, self.detail, log_fields=self.log_fields)


class MalformedRequest(Refusal):
    """The request contradicts itself, or the grammar of what it carries."""


class Unauthenticated(Refusal):
    """No credential, one that breaks its grammar, or one that was refused."""


class Forbidden(Refusal):
    """The caller is known and may not pass."""


class RouteNotFound(Refusal):
    """The configuration names no route for this request."""


class Terminated(Refusal):
    """The route is shut by ``request-termination``, whose answer the caller gets."""

    def __init__(self, termination: Termination) -> None:
        where = f"request-termination at {termination.position}"
        super().__init__(Reason.REQUEST_TERMINATED, where)
        self.termination = termination


class MetadataAsked(Refusal):
    """The caller asks for the resource's metadata, and gets them without a credential.

    ``body`` is the JSON document; ``None``: the method is not GET.
    """

    def __init__(self, body: str | None) -> None:
        detail = "" if body is not None else "only GET is answered"
        super().__init__(Reason.RESOURCE_METADATA, detail)
        self.body = body


class Retryable(Refusal):
    """Not now.  ``retry_after`` says when to try again, in seconds."""

    def __init__(
        self,
        reason: Reason,
        detail: str = "",
        *,
        retry_after: int = 1,
        log_fields: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(reason, detail, log_fields=log_fields)
        self.retry_after = retry_after

    def again(self) -> Self:
        """Return the same refusal for one more caller."""
        return type(self)(
            self.reason, self.detail, retry_after=self.retry_after, log_fields=self.log_fields
        )


class Throttled(Retryable):
    """Somebody is guessing at this client's secret."""


class Overloaded(Retryable):
    """One of authz's own bounds is reached; the provider has said nothing."""


class Unavailable(Retryable):
    """The answer cannot be known now."""


class IdpOutage(Unavailable):
    """The identity provider is unreachable, or answers 5xx or 429.

    While this lasts a cached token is served on, to its own expiry.
    """
