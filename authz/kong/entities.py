"""Kong's services, routes and consumers: their fields, and the values made of them."""

from __future__ import annotations

import json
import re
import uuid
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from authz.kong import checks
from authz.kong.document import MappingNode, Scalar
from authz.kong.protocols import GRPC, PROTOCOLS, STREAMS, TLS
from authz.kong.schema import is_empty, read, read_fields, refuse_absence
from authz.model import Consumer, Route, Service
from authz.parameters.checks import filled, host
from authz.parameters.common import MILLISECONDS_MAX, PORT_MAX
from authz.parameters.declaration import param
from authz.parameters.kinds import Anything, Array, Boolean, Field, MapOf, Object, Text, Whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from authz.kong.document import Node
    from authz.kong.problems import Problems

NAMESPACE = uuid.UUID("6f1c2a0e-3f0b-5e55-9d0c-8a2b6f6a7d11")
"""Of the ids that the file does not give: version 5 UUIDs of ``kind:name``, or of
``kind:content`` where there is no name either.  Never changed: upstreams may keep
X-Consumer-ID, and an Envoy that is already running names routes by their ids."""

_RETRIES_MAX = 32_767
_DEPTH_MAX = 64

_PORT = Whole(minimum=1, maximum=PORT_MAX)
_MILLISECONDS = Whole(minimum=1, maximum=MILLISECONDS_MAX)
_TEXT = Text(check=filled)
_ANYTHING = Field(Anything())

FILTER_CHAINS = (
    "a filter may decide who gets in, and none is run here: move what it does into Envoy, and "
    "remove the chain once nothing depends on it"
)

_COMMON: Mapping[str, Field] = {
    "id": Field(Text(check=checks.uuid), absence="the id would be made from the name"),
    **dict.fromkeys(("tags", "created_at", "updated_at", "_comment", "_ignore"), _ANYTHING),
}

SERVICE: Mapping[str, Field] = {
    **_COMMON,
    "name": Field(Text(check=checks.name)),
    "url": Field(Text(check=checks.service_url)),
    "protocol": Field(
        Text(allowed=PROTOCOLS), "http", absence="the upstream would be asked by plain http"
    ),
    "host": Field(Text(check=host)),
    "port": Field(_PORT, 80),
    "path": Field(Text(check=checks.service_path)),
    "retries": Field(Whole(minimum=0, maximum=_RETRIES_MAX), 5),
    "connect_timeout": Field(_MILLISECONDS, 60_000),
    "read_timeout": Field(_MILLISECONDS, 60_000),
    "write_timeout": Field(_MILLISECONDS, 60_000),
    "enabled": Field(Boolean(), default=True, absence="the service would be enabled"),
    "tls_verify": Field(Boolean()),
    "tls_verify_depth": Field(Whole(minimum=0, maximum=_DEPTH_MAX)),
    "client_certificate": _ANYTHING,
    "ca_certificates": Field(Array(Text(check=checks.uuid))),
    **dict.fromkeys(("tls_sans", "routes", "plugins", "filter_chains"), _ANYTHING),
}


def _route_path(text: str) -> str | None:
    """Check a route's path, with a hint where a regular expression lacks its ``~``."""
    wrong = checks.route_path(text)
    if wrong and text.startswith("/") and re.search(r"[\\^?+*()\[\]{}|$]", text):
        return f"{wrong}; a regular expression begins with ~: write ~{text}"
    return wrong


@dataclass(frozen=True, slots=True)
class Address:
    """Where a stream comes from or goes to."""

    ip: str | None = param(_TEXT)
    port: int | None = param(_PORT)


_ADDRESS = Object(Address)

ROUTE: Mapping[str, Field] = {
    **_COMMON,
    "name": Field(Text(check=checks.name)),
    "protocols": Field(
        Array(Text(allowed=PROTOCOLS), at_least=1),
        ("http", "https"),
        absence="the route would take http and https",
    ),
    "methods": Field(Array(Text(check=checks.method))),
    "hosts": Field(Array(Text(check=checks.route_host))),
    "paths": Field(Array(Text(check=_route_path))),
    "headers": Field(
        MapOf(Array(Text(check=checks.header_value), at_least=1), key=checks.header_name)
    ),
    "snis": Field(Array(Text(check=checks.sni))),
    "sources": Field(Array(_ADDRESS)),
    "destinations": Field(Array(_ADDRESS)),
    "strip_path": Field(Boolean(), default=True),
    "preserve_host": Field(Boolean(), default=False),
    "regex_priority": Field(
        Whole(),
        0,
        absence="the route would have the priority 0 among regular expressions",
    ),
    "path_handling": Field(Text(allowed=("v0", "v1")), "v0"),
    "https_redirect_status_code": Field(Whole(), 426),
    "request_buffering": Field(Boolean(), default=True),
    "response_buffering": Field(Boolean(), default=True),
    "tags": Field(Array(Text(check=filled))),
    **dict.fromkeys(("expression", "priority", "service", "plugins", "filter_chains"), _ANYTHING),
}

_ROUTE_ABSENCES: Mapping[str, str] = {
    "hosts": "the route would take every host",
    "paths": "the route would take every path",
    "methods": "the route would take every method",
    "headers": "the route would take requests with any headers",
    "snis": "the route would take every server name",
    "service": "the route would have no service, and no service's plugin would guard it",
}

CONSUMER: Mapping[str, Field] = {
    **_COMMON,
    "username": Field(_TEXT),
    "custom_id": Field(_TEXT),
    "groups": _ANYTHING,
    "plugins": _ANYTHING,
    # Credentials of plugins that are refused: they let nobody in here.
    **dict.fromkeys(
        (
            "acls", "basicauth_credentials", "hmacauth_credentials", "jwt_secrets",
            "keyauth_credentials", "keyauth_enc_credentials", "mtls_auth_credentials",
            "oauth2_credentials",
        ),
        _ANYTHING,
    ),
}  # fmt: skip

CONSUMER_GROUP: Mapping[str, Field] = {
    **_COMMON,
    "name": Field(_TEXT),
    "consumers": _ANYTHING,
    "plugins": _ANYTHING,
}


def derived_id(kind: str, name: str) -> str:
    """Return the id of an entity whose file gives none: the same on every replica."""
    return str(uuid.uuid5(NAMESPACE, f"{kind}:{name}"))


class GeneratedNames:
    """Names for the entities of one file that have none, made from their content.

    Never from their place in the file: an Envoy that was configured yesterday would
    then name another route today, because one was inserted above.  Entities of equal
    content are counted; of routes that match the same the first one wins.
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def name(self, *content: object) -> str:
        """Return the name.  It holds brackets, so no file can give an equal one."""
        text = json.dumps(content)
        self._counts[text] += 1
        return f"{text}#{self._counts[text]}"


def _refuse_filters(mapping: MappingNode, problems: Problems) -> None:
    if not is_empty(mapping.get("filter_chains")):
        problems.error(mapping.key_position("filter_chains"), "filter_chains", FILTER_CHAINS)


# --- Services -------------------------------------------------------------------


def read_service(
    mapping: MappingNode, contents: GeneratedNames, problems: Problems
) -> Service | None:
    """Read a service; None if it has no host, which has been reported."""
    values = read_fields(mapping, SERVICE, problems)
    _refuse_filters(mapping, problems)
    certificate = mapping.get("client_certificate")
    if not is_empty(mapping.get("tls_sans")):
        problems.notice(
            mapping.position_of("tls_sans"),
            "tls_sans",
            "is read past: Envoy compares the service's host with the names in its certificate",
        )
    values = {**_from_url(values.pop("url", None)), **values}
    _check_service(mapping, values, problems)
    if "host" not in values:
        return None
    chosen = {name: values[name] for name in _SERVICE_VALUES if name in values}
    name = values.get("name")
    content = (chosen.get(field, SERVICE[field].default) for field in _SERVICE_CONTENT)
    return Service(
        **chosen,
        name=name,
        id=values.get("id") or derived_id("services", name or contents.name(*content)),
        position=mapping.position,
        client_certificate=None if certificate is None else _id_of(certificate, problems),
    )


_SERVICE_VALUES = (
    "host", "protocol", "port", "path", "retries", "connect_timeout", "read_timeout",
    "write_timeout", "enabled", "tls_verify", "tls_verify_depth", "ca_certificates",
)  # fmt: skip
_SERVICE_CONTENT = ("protocol", "host", "port", "path")
_TLS_PORT = 443


def _from_url(url: str | None) -> dict[str, Any]:
    """Take Kong's shorthand apart; without a port it is the scheme's."""
    if url is None:
        return {}
    parts = urlsplit(url)
    values: dict[str, Any] = {"protocol": parts.scheme, "host": parts.hostname}
    values["port"] = parts.port or (_TLS_PORT if parts.scheme in TLS else 80)
    if parts.path:
        values["path"] = parts.path
    return values


def _check_service(mapping: MappingNode, values: dict[str, Any], problems: Problems) -> None:
    if mapping.get("host") is None and mapping.get("url") is None:
        problems.error(mapping.position, "host", "is required, or url as a shorthand")
    if values.get("path") and values.get("protocol") in STREAMS:
        message = f"cannot be set for the protocol {values['protocol']}"
        problems.error(mapping.position_of("path"), "path", message)


def _id_of(node: Node, problems: Problems) -> str | None:
    """Read a reference by id: the id, or a mapping that holds it."""
    if isinstance(node, MappingNode):
        node = node.get("id") or node
    if isinstance(node, Scalar):
        return read(Text(check=checks.uuid), node, "client_certificate", problems)
    problems.error(node.position, "client_certificate", "must be the id of a certificate")
    return None


# --- Routes -----------------------------------------------------------------------


def read_route(
    mapping: MappingNode, service: Service | None, contents: GeneratedNames, problems: Problems
) -> Route:
    """Read a route of ``service``."""
    values = read_fields(mapping, ROUTE, problems)
    _refuse_filters(mapping, problems)
    protocols = values.get("protocols") or ("http", "https")
    _check_route(mapping, values, protocols, problems)
    chosen = {name: values[name] for name in _ROUTE_VALUES if name in values}
    if not {"http", "https", "ws", "wss"} & set(protocols):
        chosen["strip_path"] = False  # Kong's default for gRPC, where a path is a method
    name = values.get("name")
    content = (service and service.id, *_conditions(values, protocols))
    return Route(
        **chosen,
        name=name,
        id=values.get("id") or derived_id("routes", name or contents.name(*content)),
        position=mapping.position,
        service=service,
        positions={name: mapping.position_of(name) for name in mapping.entries},
    )


_ROUTE_VALUES = (
    "protocols", "methods", "hosts", "paths", "headers", "snis", "strip_path",
    "preserve_host", "regex_priority", "path_handling", "https_redirect_status_code",
    "request_buffering", "response_buffering", "tags",
)  # fmt: skip
_FAMILIES = (
    {"http", "https"}, {"grpc", "grpcs"}, {"ws", "wss"}, {"tcp", "tls", "udp"}, {"tls_passthrough"},
)  # fmt: skip
_OF_REQUESTS = ("methods", "hosts", "paths", "headers")
_OF_STREAMS = ("sources", "destinations")
_REDIRECTS = frozenset({301, 302, 307, 308, 426})


def _conditions(values: dict[str, Any], protocols: tuple[str, ...]) -> Iterator[object]:
    """Yield what decides which requests a route takes, in an order that is not the file's."""
    yield sorted(protocols)
    for field in ("hosts", "paths", "methods", "snis"):
        yield sorted(values.get(field) or ())
    headers = values.get("headers") or {}
    yield sorted((name.lower(), sorted(texts or ())) for name, texts in headers.items())
    yield values.get("regex_priority", 0)


def _check_route(
    mapping: MappingNode, values: dict[str, Any], protocols: tuple[str, ...], problems: Problems
) -> None:
    named = set(protocols)
    if not any(named <= family for family in _FAMILIES):
        problems.error(
            mapping.position_of("protocols"),
            "protocols",
            "mixes HTTP, gRPC and streams; choose one",
        )
    for field in ("expression", "priority"):
        if mapping.get(field) is not None:
            message = (
                "routes by expression are not done here: write the same with paths, hosts, "
                "methods, headers, snis"
            )
            problems.error(mapping.key_position(field), field, message)
            return
    for field, message in _complaints(values, named):
        problems.error(mapping.position_of(field), field, message)
    if not refuse_absence(mapping, _ROUTE_ABSENCES, problems):
        _check_conditions(mapping, named, problems)


def _complaints(values: dict[str, Any], named: set[str]) -> list[tuple[str, str]]:
    """Return what Kong's rules between a route's fields refuse, by field."""
    found = []
    of_streams = named <= STREAMS
    if named <= GRPC:
        if values.get("strip_path"):
            found.append(("strip_path", "must be false for gRPC"))
        if values.get("methods"):
            found.append(("methods", "cannot be set for gRPC"))
    misplaced = _OF_REQUESTS if of_streams else _OF_STREAMS
    message = f"cannot be set for {', '.join(sorted(named))}"
    found.extend((field, message) for field in misplaced if values.get(field))
    if values.get("snis") and not named & TLS:
        found.append(("snis", "needs https, grpcs, wss or tls among the protocols"))
    if values.get("https_redirect_status_code", 426) not in _REDIRECTS:
        allowed = ", ".join(map(str, sorted(_REDIRECTS)))
        found.append(("https_redirect_status_code", f"must be one of {allowed}"))
    found.extend(_header_complaints(values.get("headers") or ()))
    return found


def _header_complaints(headers: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield what is wrong with the names of a route's headers, which have no case."""
    known: dict[str, str] = {}
    for name in headers:
        first = known.setdefault(name.lower(), name)
        if name.lower() == "host":
            yield "headers", "cannot hold host: write it under hosts"
        elif first != name:
            yield "headers", f"{name} and {first} are one header: write its values in one list"


def _check_conditions(mapping: MappingNode, named: set[str], problems: Problems) -> None:
    """Refuse a route without conditions, as Kong does: it would take every request."""
    if named <= STREAMS:
        fields = ["sources", "destinations", "snis"]
    else:
        fields = ["hosts", "headers", "paths"]
        fields += [] if named <= GRPC else ["methods"]
        fields += ["snis"] if named & TLS else []
    if all(is_empty(mapping.get(field)) for field in fields):
        problems.error(
            mapping.position, "paths", f"at least one is required of {', '.join(fields)}"
        )


# --- Consumers --------------------------------------------------------------------


def read_consumer(mapping: MappingNode, problems: Problems) -> Consumer | None:
    """Read a consumer; None if it has neither name nor custom_id, which has been reported."""
    values = read_fields(mapping, CONSUMER, problems)
    username, custom_id = values.get("username"), values.get("custom_id")
    if username is None and custom_id is None:
        written = {"username", "custom_id"} & mapping.entries.keys()
        if not written:
            problems.error(mapping.position, "username", "is required, or custom_id")
        for field in filter(lambda field: mapping.get(field) is None, written):
            message = "is null: nobody would be this consumer; write a value"
            problems.error(mapping.position_of(field), field, message)
        return None
    # By the name: what Kong draws by lot differs from replica to replica.
    kind, name = ("custom_ids", custom_id) if username is None else ("consumers", username)
    return Consumer(
        id=values.get("id") or derived_id(kind, name or ""),
        username=username,
        custom_id=custom_id,
        position=mapping.position,
    )
