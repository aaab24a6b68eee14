"""What belongs to the server and not to the gateway: addresses, bounds, logs.

A value comes from its flag, else from its ``AUTHZ_*`` variable, else from its default; ``cli``
does the looking.  Everything about a setting is declared here, once.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Literal, get_args

from authz.settings.addresses import (
    Address,
    ConnectTo,
    TcpAddress,
    UnixAddress,
    beyond_loopback,
    parse_address,
    parse_admin,
    parse_connect_to,
    parse_control,
    parse_tcp_address,
    resolve,
)
from authz.settings.declared import (
    FILE,
    HEADER_NAME,
    PATH,
    SWITCH,
    Kind,
    choice,
    seconds,
    setting,
    settings_of,
    whole,
)
from authz.settings.environment import secret

if TYPE_CHECKING:
    from typing import Self

__all__ = [
    "DECLARED",
    "Address",
    "ConnectTo",
    "LogDecisions",
    "LogFormat",
    "LogLevel",
    "RouteMetadata",
    "Settings",
    "TcpAddress",
    "TransportName",
    "UnixAddress",
    "beyond_loopback",
    "parse_address",
    "parse_connect_to",
    "parse_control",
    "parse_tcp_address",
    "resolve",
    "secret",
]

LogLevel = Literal["debug", "info", "warning", "error"]
LogFormat = Literal["auto", "json", "text"]
LogDecisions = Literal["none", "denied", "all"]
TransportName = Literal["auto", "native", "grpcio"]
RouteMetadata = Literal["envoy-gateway"]

WORKERS_MAX = 256
WAIT_SECONDS_MAX = 3600
CONNECTION_AGE_SECONDS_MAX = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewaySettings:
    """Which decK files the gateway is read from."""

    files: tuple[str, ...] = setting(
        "-c",
        "--config",
        kind=PATH,
        default=(),
        required=True,
        help="decK file or directory, several are merged; - is standard input.",
    )
    require_plugin: bool = setting(
        "--require-plugin",
        kind=SWITCH,
        default=False,
        help="Refuse routes without openid-connect that do not say that they are open.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerSettings:
    """Where and how Envoy reaches the server."""

    addresses: tuple[Address, ...] = setting(
        "--listen",
        kind=Kind("ADDRESS", parse_address),
        default=(TcpAddress("127.0.0.1", 9191),),
        help="Where Envoy calls: HOST:PORT or unix:/PATH.",
    )
    transport: TransportName = setting(
        "--transport",
        kind=choice(*get_args(TransportName)),
        default="auto",
        help="What carries the calls; auto takes native where it is installed, else grpcio.",
    )
    tls_cert: str | None = setting(
        "--tls-cert",
        kind=PATH,
        default=None,
        unset="no TLS",
        help="PEM chain for TLS on HOST:PORT, never on unix:/PATH; read anew when it changes, "
        "and on SIGHUP.",
    )
    tls_key: str | None = setting(
        "--tls-key", kind=PATH, default=None, help="PEM key of --tls-cert."
    )
    tls_client_ca: str | None = setting(
        "--tls-client-ca",
        kind=PATH,
        default=None,
        unset="anyone may connect",
        help="PEM certificates; only clients with a certificate signed by one may connect.",
    )
    allow_plaintext: bool = setting(
        "--allow-plaintext",
        kind=SWITCH,
        default=False,
        help="Listen beyond loopback without TLS: only on a network that encrypts by itself.",
    )
    client_address_header: str | None = setting(
        "--client-address-header",
        kind=HEADER_NAME,
        default=None,
        unset="the address of Envoy's peer",
        help="Header in which the edge Envoy writes the client's address, such as "
        "x-envoy-external-address: strangers take turns by it. No client may be able to set it.",
    )
    route_metadata: RouteMetadata | None = setting(
        "--route-metadata",
        kind=choice(*get_args(RouteMetadata)),
        default=None,
        unset="not read",
        help="Whose metadata name each request's route, as includeRouteMetadata of Envoy Gateway's "
        "SecurityPolicy has them told; a request without them is answered with 503.",
    )
    connection_age_seconds: float = setting(
        "--max-connection-age",
        kind=seconds(most=CONNECTION_AGE_SECONDS_MAX),
        default=1800,
        help="Age, a tenth more or less, at which callers are asked to connect anew; 0: never.",
    )
    hint_timeout_seconds: float = setting(
        "--hint-timeout",
        kind=seconds(most=WAIT_SECONDS_MAX),
        default=1,
        help="Log once that Envoy waits for less than this, so that an exchange may come too late; "
        "0: never.",
    )
    reflection: bool = setting(
        "--reflection", kind=SWITCH, default=True, help="Describe the services to grpcurl."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class OperationSettings:
    """How the server is watched, controlled and stopped."""

    admin: TcpAddress | None = setting(
        "--admin",
        kind=Kind("HOST:PORT", parse_admin),
        default=TcpAddress("127.0.0.1", 9192),
        help="Where /startupz, /livez, /readyz and /metrics are, which show nothing secret; "
        "off for nowhere.",
    )
    control: UnixAddress | None = setting(
        "--control",
        kind=Kind("unix:/PATH", parse_control),
        default=None,
        unset="off",
        help="Where authz reload reaches this server, for its owner only.",
    )
    workers: int = setting(
        "--workers",
        kind=whole("processes", least=1, most=WORKERS_MAX),
        default=1,
        help="How many processes serve, on the same ports; above 1 with a supervisor.",
    )
    drain_delay_seconds: float = setting(
        "--drain-delay",
        kind=seconds(most=WAIT_SECONDS_MAX),
        default=0,
        help="How long calls are still taken after a signal to stop, with health NOT_SERVING.",
    )
    grace_seconds: float = setting(
        "--grace",
        kind=seconds(most=WAIT_SECONDS_MAX),
        default=10,
        help="How long calls in flight get to end, once no new ones are taken.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class IdpConnectionSettings:
    """How identity providers are reached."""

    connect_to: tuple[ConnectTo, ...] = setting(
        "--connect-to",
        kind=Kind("HOST:PORT:HOST2:PORT2", parse_connect_to),
        default=(),
        help="Connect to HOST2:PORT2 for HOST:PORT, as curl does; the first that fits decides.",
    )
    ca_file: str | None = setting(
        "--idp-ca-file",
        kind=FILE,
        default=None,
        unset="the system's",
        help="PEM certificates to trust for the identity provider.",
    )
    concurrency: int = setting(
        "--idp-concurrency",
        kind=whole("requests", least=1),
        default=64,
        help="How many requests may be under way to one identity provider.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheSettings:
    """How much is remembered."""

    entries: int = setting(
        "--cache-entries",
        kind=whole("entries", least=1),
        default=10_000,
        help="How many entries each cache may have.",
    )
    bytes: int = setting(
        "--cache-bytes",
        kind=whole("bytes", least=1),
        default=64 * 1024 * 1024,
        help="How large each cache may be, keys and values together.",
    )
    token_life_min_seconds: float = setting(
        "--token-life-min",
        kind=seconds(most=WAIT_SECONDS_MAX),
        default=2,
        help="Life that a token handed on should have left; a tenth of its life, if that is less.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """What is logged, and how."""

    level: LogLevel = setting(
        "--log-level",
        kind=choice(*get_args(LogLevel)),
        default="info",
        help="The lowest level that is logged.",
    )
    format: LogFormat = setting(
        "--log-format",
        kind=choice(*get_args(LogFormat)),
        default="auto",
        help="Form of a log line; auto is text on a terminal, else json.",
    )
    decisions: LogDecisions = setting(
        "--log-decisions",
        kind=choice(*get_args(LogDecisions)),
        default="denied",
        help="Which decisions are logged.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How the server runs.  Frozen: what changes at run time is the gateway, by a reload."""

    gateway: GatewaySettings = field(default_factory=GatewaySettings)
    listener: ListenerSettings = field(default_factory=ListenerSettings)
    operation: OperationSettings = field(default_factory=OperationSettings)
    idp: IdpConnectionSettings = field(default_factory=IdpConnectionSettings)
    cache: CacheSettings = field(default_factory=CacheSettings)
    log: LogSettings = field(default_factory=LogSettings)

    @classmethod
    def of(cls, **values: Any) -> Self:  # noqa: ANN401 - each has the type of its field
        """Return the settings with these values, named as their flags: ``idp_ca_file``.

        Raises TypeError for a name that no setting has.
        """
        return cls().replace(**values)

    def replace(self, **values: Any) -> Self:  # noqa: ANN401 - as in ``of``
        """Return a copy in which these settings, named as in ``of``, have other values."""
        changed: dict[str, dict[str, Any]] = {}
        for name, value in values.items():
            if name not in _PLACES:
                raise TypeError(f"there is no setting {name!r}")
            group, attribute = _PLACES[name]
            changed.setdefault(group, {})[attribute] = value
        groups = {name: replace(getattr(self, name), **new) for name, new in changed.items()}
        return replace(self, **groups)


_GROUPS: dict[str, type] = {
    "gateway": GatewaySettings,
    "listener": ListenerSettings,
    "operation": OperationSettings,
    "idp": IdpConnectionSettings,
    "cache": CacheSettings,
    "log": LogSettings,
}
DECLARED = {one.name: one for group in _GROUPS.values() for one in settings_of(group).values()}
"""Every setting by the name of its flag, in the order of their declaration."""

_PLACES = {
    one.name: (name, attribute)
    for name, group in _GROUPS.items()
    for attribute, one in settings_of(group).items()
}
"""The group and the attribute of each setting, by the name of its flag."""
