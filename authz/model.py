"""The nouns: frozen values that every other room speaks in."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, NewType, Protocol

from authz.parameters import OpenIDConnect as OpenIDConnect  # noqa: PLC0414, TC001 - for others
from authz.secret import Secret as Secret  # noqa: PLC0414, TC001 - for others

if TYPE_CHECKING:
    from collections.abc import Mapping

# --- Places ----------------------------------------------------------------


@dataclass(frozen=True, slots=True, order=True)
class SourcePosition:
    """Where in a configuration file something stands; both counts start at 1."""

    file: str
    line: int
    column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Diagnostic:
    """One thing to say about the configuration: a problem or a notice."""

    position: SourcePosition
    parameter: str
    message: str

    def __str__(self) -> str:
        return f"{self.position}: {self.parameter}: {self.message}"


# --- The request and the credentials in it ----------------------------------


@dataclass(frozen=True, slots=True)
class Request:
    """What Envoy asks about: the caller's HTTP request, as Envoy saw it.

    ``headers`` has lower-case names; ``path`` is raw and includes the query, and
    with it perhaps a credential.
    A header that was sent several times arrives joined by commas.
    """

    method: str = ""
    scheme: str = ""
    host: str = ""
    path: str = field(default="", repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)
    context_extensions: Mapping[str, str] = field(default_factory=dict)
    server_name: str = ""  # TLS SNI
    source_address: str = ""

    @property
    def is_grpc(self) -> bool:
        """Whether the caller speaks gRPC and wants its errors that way."""
        content_type = self.headers.get("content-type", "").lower()
        return content_type == "application/grpc" or content_type.startswith(
            ("application/grpc+", "application/grpc;")
        )

    @property
    def is_websocket(self) -> bool:
        """Whether the caller wants to change to the WebSocket protocol (RFC 6455 section 4.1)."""
        return self.headers.get("upgrade", "").lower() == "websocket"


class CredentialLocation(StrEnum):
    """Where a credential stood in the request (Kong's ``*_param_type``)."""

    HEADER = "header"
    QUERY = "query"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Slot:
    """One part of a request in which one kind of credential may stand.

    A policy's slots follow from Kong's ``auth_methods`` and ``*_param_type``.
    ``names``: the lower-case name of the header, or the names of the arguments; a
    pair's arguments are the one of its id, then the one of its secret.
    """

    kind: type[PairCredential | BearerCredential]
    location: CredentialLocation
    names: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PairCredential:
    """An id and its secret: a client's (RFC 6749 section 2.3.1) or a user's (RFC 7617)."""

    id: str
    secret: Secret
    slot: Slot


@dataclass(frozen=True, slots=True)
class BearerCredential:
    """A bearer token (RFC 6750 section 2)."""

    token: Secret
    slot: Slot


Credential = PairCredential | BearerCredential

Claims = NewType("Claims", "Mapping[str, Any]")
"""The verified claims of an access token.  Never changed once made."""


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token to verify and to hand on.

    ``expires_in`` is what the provider said beside it, in seconds, if it did.
    """

    value: Secret
    expires_in: float | None = None


class Issuer(Protocol):
    """Who vouches for an identity."""

    @property
    def version(self) -> int:
        """A number that changes when what was vouched for has to be verified again."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a caller is, by whichever method it was learnt.

    ``issuer_version``: the issuer's ``version`` when it vouched.
    ``client``: the OAuth client that the claims name, if they name one.
    ``token``: what the upstream may get; ``None``: there is nothing to hand on.
    ``expires_at``: the end of the identity, in seconds since 1970; ``leeway_s``: how much
    of that may be the file's leeway, which only we grant.
    ``reusable_until``: until when the answer may be given again without asking the
    method, in monotonic seconds; 0: never.
    """

    method: str
    claims: Claims
    issuer: Issuer
    issuer_version: int
    client: str | None
    token: AccessToken | None
    expires_at: float
    reusable_until: float = 0.0
    leeway_s: float = 0.0


# --- Kong's entities ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Service:
    """Kong's service: an upstream.  Timeouts are in milliseconds, as in Kong."""

    id: str
    name: str | None
    position: SourcePosition
    host: str
    protocol: str = "http"
    port: int = 80
    path: str | None = None
    retries: int = 5
    connect_timeout: int = 60_000
    read_timeout: int = 60_000
    write_timeout: int = 60_000
    enabled: bool = True
    tls_verify: bool | None = None
    tls_verify_depth: int | None = None
    client_certificate: str | None = None
    ca_certificates: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Certificate:
    """Kong's certificate, or CA certificate: PEM; ``None``: what the file says cannot be read here.

    ``key`` is ``None`` for a CA's too.
    """

    id: str
    position: SourcePosition
    chain: str | None
    key: Secret | None


@dataclass(frozen=True, slots=True)
class Route:
    """Kong's route: what a request must look like to reach a service.

    ``places`` gives the place of each field that the file has, for messages.
    """

    id: str
    name: str | None
    position: SourcePosition
    service: Service | None
    protocols: tuple[str, ...] = ("http", "https")
    methods: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    headers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    snis: tuple[str, ...] = ()
    strip_path: bool = True
    preserve_host: bool = False
    regex_priority: int = 0
    path_handling: str = "v0"
    https_redirect_status_code: int = 426
    request_buffering: bool = True
    response_buffering: bool = True
    tags: tuple[str, ...] = ()
    positions: Mapping[str, SourcePosition] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Consumer:
    """Kong's consumer: who a caller is to the upstream."""

    id: str
    username: str | None
    custom_id: str | None
    position: SourcePosition


@dataclass(frozen=True, slots=True)
class Plugin:
    """One enabled ``openid-connect`` plugin and where it applies.

    Both scopes ``None``: global.  The most specific plugin that applies to a
    request replaces the others whole: route and service > route > service >
    global.  ``positions`` gives the place of each parameter that the file has, for messages.
    """

    name: ClassVar[str] = "openid-connect"

    position: SourcePosition
    config: OpenIDConnect
    service: Service | None = None
    route: Route | None = None
    instance_name: str | None = None
    positions: Mapping[str, SourcePosition] = field(default_factory=dict, repr=False, compare=False)

    @property
    def title(self) -> str:
        """What metrics call it: its ``instance_name``, else where it applies."""
        if self.instance_name:
            return self.instance_name
        scopes = (("service", self.service), ("route", self.route))
        named = [f"{kind} {one.name or one.id}" for kind, one in scopes if one is not None]
        return ", ".join(named) or "global"


@dataclass(frozen=True, slots=True)
class Termination:
    """One enabled ``request-termination`` plugin and where it applies.

    Its scopes are those of ``Plugin``.  Every request that would go on to the
    upstream gets this answer: ``body`` with its ``content_type``, else ``message`` as
    Kong's JSON, else a message for the HTTP ``status`` (200 to 599).
    """

    name: ClassVar[str] = "request-termination"

    position: SourcePosition
    status: int = 503
    message: str | None = None
    body: str | None = None
    content_type: str | None = None
    service: Service | None = None
    route: Route | None = None


@dataclass(frozen=True, slots=True)
class DisabledPlugin:
    """The entry of a plugin that guards, with ``enabled: false``, and where it does not apply.

    It guards nothing, and states that this is meant.  ``name`` is the plugin's.
    """

    position: SourcePosition
    name: str
    service: Service | None = None
    route: Route | None = None


@dataclass(frozen=True, slots=True)
class OtherPlugin:
    """One enabled plugin that does not decide who gets in, and where it applies.

    authz does nothing for it.  ``owner``: the consumer or group of consumers that it is
    for, if there is one.  ``settings``: what its ``config`` sets, of a plugin that ``authz
    envoy`` can write; ``faults``: what Kong would refuse of it.
    """

    position: SourcePosition
    name: str
    service: Service | None = None
    route: Route | None = None
    owner: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    faults: tuple[Diagnostic, ...] = ()


@dataclass(frozen=True, slots=True)
class Gateway:
    """A declarative configuration, read and checked: all that authz does follows from it."""

    services: tuple[Service, ...] = ()
    routes: tuple[Route, ...] = ()
    plugins: tuple[Plugin, ...] = ()
    consumers: tuple[Consumer, ...] = ()
    notices: tuple[Diagnostic, ...] = ()
    disabled: tuple[DisabledPlugin, ...] = ()
    terminations: tuple[Termination, ...] = ()
    certificates: tuple[Certificate, ...] = ()
    ca_certificates: tuple[Certificate, ...] = ()
    others: tuple[OtherPlugin, ...] = ()


@dataclass(frozen=True, slots=True)
class Match:
    """What a request met.

    ``plugin is None``: nobody asks who the caller is.  ``termination``: the answer that
    stands in the place of the upstream's; with a plugin it is for callers that may pass.
    ``policy``: what was built from the plugin, for whoever has built it.
    """

    route: Route | None
    service: Service | None
    plugin: Plugin | None
    termination: Termination | None = None
    policy: Any = field(default=None, repr=False, compare=False)

    @property
    def guards(self) -> tuple[Plugin | Termination, ...]:
        """What keeps callers without a credential out; nothing: the route stands open."""
        return tuple(guard for guard in (self.plugin, self.termination) if guard is not None)
