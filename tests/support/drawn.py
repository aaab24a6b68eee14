"""decK files and requests drawn at random, biased to the edges at which two routers may part.

Everything follows from a seed.  A file says what ``authz envoy`` can write, and now
and then something that it refuses; a request begins as one that a route of the file
takes, and is then bent: its path, its host, its method, its headers.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import yaml
from support.running import KONG_ID, KONG_SECRET

from authz.credentials import basic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from random import Random

    from authz.model import Gateway

    Headers = Mapping[str, Sequence[str]]
    Bend = Callable[[Random, str, Sequence[str]], str]

ROUTES_MAX = 10
SERVICES_MAX = 5
BENDS_MAX = 3
LONG_CHARS = 17_000  # beyond the router's bound, within Envoy's

CASE = "x-case"
"""The header that carries a request's number to whoever sees the request."""

SPOOFED = "spoofed"
"""What a caller says of itself; no upstream may see it under a name of ours."""

# --- Files --------------------------------------------------------------------------------

SEGMENTS = ("a", "b", "ab", "abc", "admin", "Admin", "open", "v1", "a.b", "~u", "x-y")
ODD_SEGMENTS = (
    *("a;x", "a,b", "a:b", "@a", "a+b", "a!", "$a", "a'b", "(a)", "a*", "a&b=c", "..a", "a.."),
    "...",
)
# A file that holds one of these may be refused, by the reader or by ``authz envoy``.
REFUSED_SEGMENTS = (
    *("a%2Fb", "a%20b", "caf%C3%A9", "café", "a b", "a%41", "a%3Bx", "{a}", "a|b", "%2E%2E"),
)
HOSTS = ("h.test", "a.h.test", "b.a.h.test", "H.Test", "127.0.0.1", "x_y.test", "a", "b.a")
ENDINGS = ("*.test", "*.h.test", "*.a.h.test")
BEGINNINGS = ("h.*", "a.*", "a.h.*")
HOSTS_WITH_PORTS = (
    "h.test:8080",
    "h.test:80",
    "a.h.test:443",
    "*.h.test:80",
    "*.test:8080",
    "a.*:8443",
)
REFUSED_HOSTS = ("[::1]", "h.test.", "*.a.*")
HEADERS = ("x-version", "X-Mode")
HEADER_VALUES = {
    "v1": "v1",
    "v2": "v2",
    "desk": "desk",  # case folds s and k to letters beyond ASCII
    "a b": "a b",
    "~*^v[12]$": "v2",
    "~*v\\d": "xv7x",
    "~*^a|b$": "ax",
    "~*^.+-x$": "q-x",
    "~*(?:beta|dev)": "my-beta",
}
"""What a route asks of a header, and a value that it takes."""
# What ``authz envoy`` writes no route with.
REFUSED_HEADER_VALUES = ("~*a^b", "~*^[,;]$", "ö")
REGEXES = {
    r"~/{}/\d+$": "/{}/42",
    r"~/{}/[^/]+": "/{}/w",
    r"~/{}(/.*)?$": "/{}/y",
    r"~(?i)/{}": "/{}",
    r"~^/{}/(?:a|ab)/": "/{}/ab/",
    r"~/([a-z]+)/{}": "/abc/{}",
    r"~/{}/.+\.x$": "/{}/w.x",
    r"~/{}/(?:[^/]+/)*b": "/{}/w/y/b",
    r"~/.*/{}": "/w/{}",
}
"""Regexes of paths, and a path that each takes; with a segment in each of them."""
# What ``authz envoy`` writes no route with.
REFUSED_REGEXES = {
    r"~/.{{3}}/{}": "/abc/{}",
    r"~/\S+/{}": "/a/{}",
    r"~/{}/[^/]+\d": "/{}/x1",
    r"~/{}/.*?$": "/{}/x",
    r"~(?U)/{}.*": "/{}",
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "HEAD")
SERVICE_PATHS = (None, None, None, "/", "/base", "/base/", "/a")
NAMES = ("{}", "{}", "{}", "{}.x", "{}~x", "é{}", None)


def service_host(number: int) -> str:
    """Return the host of a file's service, by its number."""
    return f"s{number}.internal"


def draw_file(random: Random, issuer: str) -> str:
    """Return a file, in YAML; it may be one that is refused."""
    segments = [*random.sample(SEGMENTS, 4), random.choice(ODD_SEGMENTS)]
    if random.random() < 0.1:
        segments.append(random.choice(REFUSED_SEGMENTS))
    # Both kinds of wildcard: one host may fit an ending and a beginning.
    hosts = [*random.sample(HOSTS, 2), random.choice(ENDINGS), random.choice(BEGINNINGS)]
    if random.random() < 0.1:
        hosts.append(random.choice(REFUSED_HOSTS))
    if random.random() < 0.3:
        hosts += random.sample(HOSTS_WITH_PORTS, 2)
    services = [_service(random, number) for number in range(random.randint(1, SERVICES_MAX))]
    content: dict[str, Any] = {"_format_version": "3.0", "services": services}
    content["consumers"] = [{"username": KONG_ID}]
    content["plugins"] = []
    if random.random() < 0.3:
        content["plugins"].append(_plugin(random, issuer, "everything"))
    for number in range(random.randint(0 if random.random() < 0.1 else 2, ROUTES_MAX)):
        _put_route(random, content, number, segments, hosts, issuer)
    if random.random() < 0.3:
        _put_unwritable(random, content, segments, issuer)
    for service in services:
        if random.random() < 0.3:
            service["plugins"] = [_plugin(random, issuer, service["name"])]
    text: str = yaml.safe_dump(content, sort_keys=False, allow_unicode=True)
    return text


def _service(random: Random, number: int) -> dict[str, Any]:
    service: dict[str, Any] = {"name": f"s{number}", "host": service_host(number)}
    path = random.choice(SERVICE_PATHS)
    if path is not None:
        service["path"] = path
    if random.random() < 0.05:
        service["enabled"] = False
    service["routes"] = []
    return service


def _put_route(
    random: Random,
    content: dict[str, Any],
    number: int,
    segments: Sequence[str],
    hosts: Sequence[str],
    issuer: str,
) -> None:
    route = dict(_route(random, number, segments, hosts))
    service = random.choice(content["services"])
    if random.random() < 0.05:
        content.setdefault("routes", []).append(route)
        return
    service["routes"].append(route)
    if random.random() < 0.4:
        plugin = _plugin(random, issuer, f"r{number}")
        if "name" in route and random.random() < 0.2:
            scope = {"route": route["name"], "service": service["name"]}
            content["plugins"].append({**plugin, **scope})
        else:
            route["plugins"] = [plugin]


MISSING_METHOD = "PURGE"
"""The method of routes that cannot be written, where all others have methods of their own."""


def _put_unwritable(
    random: Random, content: dict[str, Any], segments: Sequence[str], issuer: str
) -> None:
    """Add routes that can be missing, for no other takes their requests."""
    others = [route for service in content["services"] for route in service["routes"]]
    others += content.get("routes", [])
    if any("grpc" in route.get("protocols", ()) for route in others):
        return  # it has no methods
    for route in others:
        route.setdefault("methods", random.sample(METHODS, 4))
    for number in range(random.randint(1, 2)):
        route = {"name": f"missing{number}", "methods": [MISSING_METHOD]}
        regex = random.choice([*REFUSED_REGEXES])
        route["paths"] = [regex.format(re.escape(random.choice(segments)))]
        if random.random() < 0.3:
            route["paths"].append("/" + random.choice(segments))
        if random.random() < 0.5:
            route["plugins"] = [_plugin(random, issuer, route["name"])]
        random.choice(content["services"])["routes"].append(route)


def _route(
    random: Random, number: int, segments: Sequence[str], hosts: Sequence[str]
) -> Iterator[tuple[str, Any]]:
    name = random.choice(NAMES)
    if name is not None:
        yield "name", name.format(f"r{number}")
    paths = [_path(random, segments) for _ in range(random.choice((0, 1, 1, 1, 2, 3)))]
    chosen = random.sample(hosts, random.choice((0, 0, 0, 1, 1, 2)))
    methods = random.sample(METHODS, random.choice((0, 0, 0, 0, 1, 2)))
    protocols = random.choice(([],) * 16 + (["http"], ["http"], ["grpc"], ["grpc", "grpcs"]))
    if "grpc" in protocols:
        methods = []
    if not (paths or chosen or methods):
        paths = ["/"]
    if random.random() < 0.2:
        yield "headers", _headers(random)
    wanted = {"paths": list(dict.fromkeys(paths)), "hosts": chosen, "methods": methods}
    if random.random() < 0.04:
        wanted["protocols"] = ["https"]
        yield "https_redirect_status_code", random.choice((426, 301, 302, 307, 308))
    else:
        wanted["protocols"] = protocols
    yield from ((field, values) for field, values in wanted.items() if values)
    if "grpc" not in protocols:
        yield "strip_path", random.random() < 0.5
    yield "preserve_host", random.random() < 0.5
    yield "regex_priority", random.randint(0, 3)


def _headers(random: Random) -> dict[str, list[str]]:
    values = [*HEADER_VALUES]
    if random.random() < 0.1:
        values = [random.choice(REFUSED_HEADER_VALUES), "v1"]
    names = random.sample(HEADERS, random.choice((1, 1, 2)))
    return {name: random.sample(values, random.randint(1, 2)) for name in names}


def _path(random: Random, segments: Sequence[str]) -> str:
    if random.random() < 0.12:
        regexes = REFUSED_REGEXES if random.random() < 0.1 else REGEXES
        return random.choice([*regexes]).format(re.escape(random.choice(segments)))
    depth = random.choice((0, 1, 1, 1, 2, 2, 3))
    chosen = [random.choice(segments) for _ in range(depth)]
    return "/" + "/".join(chosen) + ("/" if depth and random.random() < 0.25 else "")


def _plugin(random: Random, issuer: str, name: str) -> dict[str, Any]:
    plugin: dict[str, Any] = {
        "name": "openid-connect",
        "config": {
            "issuer": issuer,
            "auth_methods": ["client_credentials"],
            "client_credentials_param_type": ["header"],
            "consumer_claims": [["client_id"]],
            "unauthorized_error_message": f"guarded by {name}",
        },
    }
    if random.random() < 0.1:
        plugin["enabled"] = False
    return plugin


# --- Requests -----------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Asked:
    """A request in HTTP/1.1.  ``plain``: nothing was bent, no two parties may read it apart."""

    number: int
    method: str
    target: str
    host: str
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    has_credential: bool
    plain: bool

    @property
    def head(self) -> bytes:
        """The request as it is sent; it has no body."""
        lines = [f"{self.method} {self.target} HTTP/1.1", f"host: {self.host}"]
        lines += [f"{name}: {value}" for name, value in self.headers]
        return "\r\n".join([*lines, f"{CASE}: {self.number}", "", ""]).encode("latin-1")


GOOD = basic(KONG_ID, KONG_SECRET)
CREDENTIALS = (None, None, None, GOOD, GOOD, "Basic !", "Bearer x.y.z", "Basic Og==")

TWINS = ("X-Consumer-Username", "x_consumer_username", "X-Consumer_Id", "x-credential-identifier")
MISLEADING = (
    ("x-forwarded-proto", "https"),
    ("x-forwarded-host", "h.test"),
    ("x-forwarded-prefix", "/open"),
    ("x-original-url", "/open"),
    ("x-rewrite-url", "/open"),
    ("x-envoy-original-path", "/open"),
    ("x-envoy-decorator-operation", "open"),
    ("x-http-method-override", "GET"),
    ("content-type", "application/grpc"),
    ("content-type", "application/grpc+proto"),
    ("origin", "http://h.test"),
    ("transfer-encoding", "identity"),
    ("upgrade", "websocket"),
)


def draw_requests(random: Random, gateway: Gateway, count: int) -> list[Asked]:
    """Return requests for a file; the same seed and file, the same requests."""
    paths = [_taken(path) for route in gateway.routes for path in route.paths] or ["/"]
    hosts = [host for route in gateway.routes for host in route.hosts]
    headers = [route.headers for route in gateway.routes if route.headers]
    methods = [method for route in gateway.routes for method in route.methods] or ["GET"]
    return [_request(random, number, paths, hosts, headers, methods) for number in range(count)]


def _taken(path: str) -> str:
    """Return a path that a path of a route takes."""
    if not path.startswith("~"):
        return path
    for regex, taken in (REGEXES | REFUSED_REGEXES).items():
        before, _, behind = regex.replace("{{3}}", "{3}").partition("{}")
        if path.startswith(before) and path.endswith(behind):
            segment = path[len(before) : len(path) - len(behind)]
            return taken.format(re.sub(r"\\(.)", r"\1", segment))
    return "/"


def _request(
    random: Random,
    number: int,
    paths: Sequence[str],
    hosts: Sequence[str],
    conditions: Sequence[Headers],
    methods: Sequence[str],
) -> Asked:
    plain = random.random() < 0.3
    path = random.choice(paths) + random.choice(("", "", "/", "x", "/x", "/a/b", "?q=1"))
    path = path.replace("//", "/")
    host = _host(random, hosts)
    chance = random.random()
    method = random.choice(METHODS if chance < 0.3 else methods if chance < 0.5 else ["GET"])
    credential = random.choice(CREDENTIALS)
    headers = [] if credential is None else [("authorization", credential)]
    if conditions:
        headers += _lines(random, random.choice(conditions), plain=plain)
    if not plain:
        path, host, method = _bent(random, path, host, method, paths)
        if random.random() < 0.2:
            headers.append((random.choice(TWINS), SPOOFED))
        if random.random() < 0.2:
            headers.append(random.choice(MISLEADING))
    return Asked(number, method, path, host, tuple(headers), credential == GOOD, plain)


def _lines(random: Random, asked: Headers, *, plain: bool) -> Iterator[tuple[str, str]]:
    """Yield lines of the headers that routes ask for, more often than not as ``asked``."""
    for name in HEADERS:
        for _ in range(random.choice((0, 1, 1, 1) if plain else (0, 1, 1, 2))):
            values = asked.get(name) if random.random() < 0.8 else None
            value = HEADER_VALUES.get(random.choice(values or [*HEADER_VALUES]), "v1")
            yield name, value if plain else random.choice(HEADER_BENDS).format(value)


HEADER_BENDS = (
    "{}",
    "{}",
    "{},x",
    "x,{}",
    "x, {}",
    "V1",
    "V2,{}",
    "",
    ",",
    "{}x",
    "a,{},b",
    "DE\u017fK".encode().decode("latin-1"),
)


def _host(random: Random, hosts: Sequence[str]) -> str:
    if not hosts or random.random() < 0.3:
        return random.choice(("h.test", "other.test", "a.h.test", "b.a.h.test", "localhost", "a.b"))
    star = random.choice(("w", "a", "w.w", "h", "b.a"))
    return random.choice(hosts).replace("*", star)


def _bent(
    random: Random, path: str, host: str, method: str, paths: Sequence[str]
) -> tuple[str, str, str]:
    for _ in range(random.randint(1, BENDS_MAX)):
        chance = random.random()
        if chance < 0.7:
            path = random.choice(PATH_BENDS)(random, path, paths)
        elif chance < 0.95:
            host = random.choice(HOST_BENDS)(random, host, paths)
        else:
            method = random.choice((*METHODS, "get", "TRACE", "GETT", "PROPFIND"))
    if random.random() < 0.04:  # RFC 9112 section 3.2.2: the target's authority counts
        named = random.choice((host, "h.test", "a.h.test", "other.test"))
        path = f"{random.choice(('http', 'https', 'HTTP'))}://{named}{path}"
    return path.encode().decode("latin-1"), host, method


BEFORE_A_SLASH = (
    *("/", "//", "/.", "/..", "/x/..", "/%2e", "/%2E%2e", "/x/%2e.", ";x", "\\", "/;", "/..;"),
)
WAYS_UP = (
    *("/..", "/../..", "//..", "/%2e%2e", "/.%2E", "\\..", "%2f..", "%2F%2e%2e", "%5c.."),
    *(
        "/..;",
        "/..;x=1",
        "/.;/..",
        "/x/../..",
        "/.//..",
        "/...",
        "%252f..",
        "/..%2f..",
        "/%2e%2e%5C",
    ),
)
BEHIND_A_PATH = ("..", "..;", "..;x=1", ".;x", ".", "%2e%2e", "..\\", "../..", "..%2f", ";/..")
SLASHES = ("%2F", "%2f", "%5C", "%5c", "\\", "%252F")
ENDS = (
    *(
        "/",
        "//",
        "/.",
        "/..",
        ".",
        "..",
        ";",
        ";x=1",
        "\\",
        "/%2e",
        "%2F",
        "%20",
        "%00",
        "%",
        "%zz",
    ),
    *("?", "?/../x", "?a=/..", "/..?x", "#x", "#/../x", "é", "\x7f", "{", "|", '"', "^", "%7B"),
    *(
        "%C3%A9",
        "%0A",
        "%0a/y.x",
        "/%7Bb",
        "/%0b",
        "%ff",
        "%23",
        "%3F",
        "/" * 30,
        "/a" * 60,
        "/.." * 20,
        "/a" * (LONG_CHARS // 2),
    ),
)
WHOLE = ("*", "/", "//", "/.", "/..", "/%2F", "/%2e%2e/a", "//a/b", "/\\", "a", "?")


def _inserted(random: Random, path: str, paths: Sequence[str]) -> str:
    """Put something before one of the slashes."""
    positions = [at for at, letter in enumerate(path) if letter == "/"]
    at = random.choice(positions or [0])
    return path[:at] + random.choice(BEFORE_A_SLASH) + path[at:]


def _climbed(random: Random, path: str, paths: Sequence[str]) -> str:
    """Reach the path from under another one."""
    return random.choice(paths) + random.choice(WAYS_UP) + path


def _glued(random: Random, path: str, paths: Sequence[str]) -> str:
    """Make dots of what is left when ``strip_path`` takes a route's path away."""
    return f"{random.choice(paths)}{random.choice(BEHIND_A_PATH)}/b"


def _slashes_spelt(random: Random, path: str, paths: Sequence[str]) -> str:
    """Spell one slash otherwise; the first one stays, or it would be no path."""
    positions = [at for at, letter in enumerate(path) if letter == "/" and at]
    if not positions:
        return path
    at = random.choice(positions)
    return path[:at] + random.choice(SLASHES) + path[at + 1 :]


def _encoded(random: Random, path: str, paths: Sequence[str]) -> str:
    """Percent-encode one character, in either case of digits."""
    if len(path) < 2:
        return path
    at = random.randrange(1, len(path))
    spelt = "".join(f"%{octet:02X}" for octet in path[at].encode())
    return path[:at] + (spelt if random.random() < 0.5 else spelt.lower()) + path[at + 1 :]


def _cased(random: Random, path: str, paths: Sequence[str]) -> str:
    at = random.randrange(len(path)) if path else 0
    return random.choice((path.upper(), path.swapcase(), path[:at] + path[at:].capitalize()))


def _ended(random: Random, path: str, paths: Sequence[str]) -> str:
    return path + random.choice(ENDS)


def _replaced(random: Random, path: str, paths: Sequence[str]) -> str:
    return random.choice(WHOLE)


PATH_BENDS: tuple[Bend, ...] = (
    *(_inserted, _inserted, _climbed, _climbed, _glued, _slashes_spelt, _encoded, _encoded),
    *(_cased, _ended, _ended, _replaced),
)


def _host_cased(random: Random, host: str, paths: Sequence[str]) -> str:
    return random.choice((host.upper(), host.swapcase(), host.title()))


PORTS = ("80", "443", "8080", "0", "080", "00080", "99999", "123456", "", "http", "80:80", "-1")
HOST_ENDS = (".", "..", ".x", "x", ".test", ".h.test", ",h.test", "/a", "%2e")
HOST_BEGINNINGS = (".", "w.", "a.h.", "a", "u@", "*.", "w.w.w.", "-")
WHOLE_HOSTS = ("", "[::1]", "[::1]:80", "::1", "127.0.0.1:80", "*", ".", ":80", "h", "test")


def _host_with_port(random: Random, host: str, paths: Sequence[str]) -> str:
    return f"{host}:{random.choice(PORTS)}"


def _host_ended(random: Random, host: str, paths: Sequence[str]) -> str:
    return host + random.choice(HOST_ENDS)


def _host_begun(random: Random, host: str, paths: Sequence[str]) -> str:
    return random.choice(HOST_BEGINNINGS) + host


def _host_replaced(random: Random, host: str, paths: Sequence[str]) -> str:
    return random.choice(WHOLE_HOSTS)


HOST_BENDS: tuple[Bend, ...] = (
    *(_host_cased, _host_with_port, _host_with_port, _host_ended, _host_begun, _host_replaced),
)
