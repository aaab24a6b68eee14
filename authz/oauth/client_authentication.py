"""How a client proves itself to an identity provider (RFC 6749 section 2.3, RFC 7523).

Each way is an object that signs a request: it returns the request with the proof in it.
"""

from __future__ import annotations

import base64
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Final, Protocol

from authz.oauth import form_encoding

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from authz.clock import Clock
    from authz.model import Secret
    from authz.oauth.assertion import Signer

# An assertion is used at once; one that leaks is of no use a minute later.
ASSERTION_SECONDS_MAX: Final = 60
ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
HINT_ENCODED: Final = (
    "the id or the secret has characters that client_secret_basic form-encodes (such as + / % :), "
    "and some providers do not decode them: try client_secret_post"
)

_JTI_BYTES: Final = 24


@dataclass(frozen=True, slots=True)
class FormRequest:
    """What is POSTed to an endpoint of a provider: a form, and headers beside it.

    ``secrets``: the texts in it that no log may show.  ``hint``: what to try if the
    provider refuses the client, empty if there is nothing.
    """

    form: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    secrets: tuple[str, ...] = field(default=(), repr=False)
    hint: str = ""

    def with_fields(self, fields: Iterable[tuple[str, str]], *secrets: str) -> FormRequest:
        """Return the request with more form fields, some of which hold ``secrets``."""
        form, held = (*self.form, *fields), (*self.secrets, *secrets)
        return FormRequest(form, self.headers, held, self.hint)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a request goes.

    ``issuer``: the name of the provider, empty where no metadata were asked for.
    ``auth_methods``: how it says that clients may prove themselves here.
    """

    url: str
    issuer: str = ""
    auth_methods: tuple[str, ...] = ()


class ClientAuthentication(Protocol):
    """One client's way to prove who it is.

    ``needs_metadata``: whether ``sign`` looks at more of the endpoint than its URL.
    """

    @property
    def needs_metadata(self) -> bool:
        """Whether the provider's metadata must be known before a request is signed."""

    def sign(self, request: FormRequest, endpoint: Endpoint) -> FormRequest:
        """Return the request with the client's proof for this endpoint in it."""


@dataclass(frozen=True, slots=True)
class ClientSecretBasic:
    """The id and the secret in an Authorization header (RFC 6749 section 2.3.1)."""

    client_id: str
    secret: Secret = field(repr=False)
    needs_metadata: ClassVar[bool] = False

    def sign(self, request: FormRequest, endpoint: Endpoint) -> FormRequest:
        """Put the pair into the header.

        Both halves are form-encoded first: a bare ``%`` or ``+`` would be decoded
        into another secret by a provider that follows the RFC.
        """
        del endpoint
        secret = self.secret.reveal()
        pair = f"{form_encoding.quoted(self.client_id)}:{form_encoding.quoted(secret)}"
        encoded = base64.b64encode(pair.encode()).decode()
        return FormRequest(
            request.form,
            headers={**request.headers, "authorization": f"Basic {encoded}"},
            secrets=(*request.secrets, secret, encoded),
            hint="" if pair == f"{self.client_id}:{secret}" else HINT_ENCODED,
        )


@dataclass(frozen=True, slots=True)
class ClientSecretPost:
    """The id and the secret in the form (RFC 6749 section 2.3.1)."""

    client_id: str
    secret: Secret = field(repr=False)
    needs_metadata: ClassVar[bool] = False

    def sign(self, request: FormRequest, endpoint: Endpoint) -> FormRequest:
        """Put the pair into the form."""
        del endpoint
        secret = self.secret.reveal()
        pair = (("client_id", self.client_id), ("client_secret", secret))
        return request.with_fields(pair, secret)


def _fresh_jti() -> str:
    return secrets.token_urlsafe(_JTI_BYTES)


@dataclass(frozen=True, slots=True)
class Assertion:
    """A signed assertion in the form: ``client_secret_jwt`` and ``private_key_jwt``.

    RFC 7523 section 3.  The audience is the issuer alone: an assertion for a token
    endpoint could be handed on by whoever runs another endpoint (CVE-2025-27370).
    """

    client_id: str
    signer: Signer = field(repr=False)
    clock: Clock = field(repr=False)
    fresh_jti: Callable[[], str] = field(default=_fresh_jti, repr=False)
    needs_metadata: ClassVar[bool] = True

    def sign(self, request: FormRequest, endpoint: Endpoint) -> FormRequest:
        """Put an assertion into the form that is good for a minute, and for one request."""
        now = int(self.clock.now())
        assertion = self.signer.compact(
            {
                "iss": self.client_id,
                "sub": self.client_id,
                "aud": endpoint.issuer,
                "jti": self.fresh_jti(),
                "iat": now,
                "exp": now + ASSERTION_SECONDS_MAX,
            }
        )
        proof = (
            ("client_id", self.client_id),
            ("client_assertion_type", ASSERTION_TYPE),
            ("client_assertion", assertion),
        )
        return request.with_fields(proof, assertion)


@dataclass(frozen=True, slots=True)
class AsProviderSays:
    """The first of the ways we have that the provider lists; if it lists none, the first.

    ``ways`` makes each of them by the name of its method, and one is made where it is used.
    RFC 8414 section 2: where the metadata say nothing, client_secret_basic is meant.
    """

    ways: Mapping[str, Callable[[], ClientAuthentication]]
    needs_metadata: ClassVar[bool] = True

    def sign(self, request: FormRequest, endpoint: Endpoint) -> FormRequest:
        """Sign the request in the way that the endpoint's provider lists."""
        first = next(iter(self.ways))
        chosen = next((name for name in self.ways if name in endpoint.auth_methods), first)
        return self.ways[chosen]().sign(request, endpoint)
