"""The architecture: its rules: imports point down, and each third party has one home."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from authz.methods import METHOD_NAMES
from authz.parameters.common import AUTH_METHODS

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "authz"

# From the top to its foundation: a room may use those below it.
ROOMS = (
    "__main__",
    "cli",
    "explanation",
    "demo",
    "workers",
    "server",
    "lifecycle",
    "descriptors",
    "admin",
    "control",
    "loading",
    "transport",
    "build",
    "runtime",
    "authorizer",
    "deadline_hint",
    "fast_path",
    "pipeline",
    "authentication",
    "methods",
    "oauth",
    "kubernetes",
    "envoy",
    "kong",
    "policy",
    "credentials",
    "tokens",
    "decision",
    "logs",
    "telemetry",
    "settings",
    "errors",
    "model",
    "parameters",
    "header_names",
    "secret",
    "clock",
    "net",
    "strict_json",
    "yaml_writer",
    "__init__",
)

# Files, or whole directories.
HOMES = {
    "authz_native": {"transport/native.py"},
    "betterproto2": {"envoy/bootstrap"},
    "cachetools": {"tokens/memory.py"},
    "click": {"cli"},
    "cryptography": {
        "oauth/jwks.py",
        "oauth/assertion.py",
        "demo/keys.py",
        "demo/token_request.py",
    },
    "envoy_data_plane": {"envoy/bootstrap"},
    "google": {
        "envoy/check.py",
        "transport/__init__.py",
        "transport/grpcio.py",
        "transport/native.py",
    },
    "grpc": {"transport/grpcio.py", "transport/probe.py"},
    "grpc_health": {"transport/grpcio.py", "transport/probe.py"},
    "grpc_reflection": {"transport/grpcio.py"},
    "httptools": {"oauth/connection.py"},
    "httpx": {"oauth/http.py"},
    "jwt": {"oauth/jwks.py", "oauth/assertion.py", "demo/keys.py"},
    "prometheus_client": {"telemetry", "admin.py", "workers/metrics.py"},
    "re2": {"kong/regexes.py"},
    "starlette": {"admin.py", "demo"},
    "uvicorn": {"admin.py", "demo"},
    "uvloop": {"lifecycle.py"},
    "yaml": {"kong/document.py", "yaml_writer.py"},
}

# Rooms that may name a method of Kong's.  Everywhere else the slots and the methods say it.
NAMERS = {"methods", "kong", "parameters", "demo"}

# The same words where they are others': an HTTP scheme, a token type, a grant, an option.
OTHER_WORDS = {
    "bearer": {
        "cli/asked.py",  # the option --bearer
        "credentials.py",  # the scheme (RFC 6750 section 2.1)
        "oauth/introspection.py",  # the type of a token (RFC 7662 section 2.2)
        "oauth/token_endpoint.py",  # the type of a token (RFC 6749 section 7.1)
        "oauth/token_kind.py",  # the claim typ of Keycloak's access tokens
    },
    "client_credentials": {"oauth/grants.py"},  # a grant (RFC 6749 section 4.4)
    "introspection": {"oauth/grants.py", "oauth/endpoints.py"},  # an endpoint (RFC 7662)
    "password": {
        "credentials.py",  # the argument of a query or a form
        "oauth/grants.py",  # a grant (RFC 6749 section 4.3)
    },
    "userinfo": {"oauth/endpoints.py"},  # an endpoint (OpenID Connect Core section 5.3)
}

FILES = sorted(PACKAGE.rglob("*.py"))
SOURCES = [
    path.relative_to(ROOT)
    for room in ("authz", "bench", "requirements", "tests")
    for path in sorted((ROOT / room).rglob("*.py"))
]


def room_of(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def imports(path: Path) -> Iterator[str]:
    """Every module that a file names, wherever the import stands."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import hides its room"
            assert node.module
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_point_down(path: Path) -> None:
    own = ROOMS.index(room_of(path))
    for name in imports(path):
        parts = name.split(".")
        if parts[0] == "authz" and len(parts) > 1 and parts[1] in ROOMS:
            assert ROOMS.index(parts[1]) >= own, (
                f"{room_of(path)} imports {name}, which is above it"
            )


def third_parties(path: Path) -> set[str]:
    return {name.split(".")[0] for name in imports(path)} - sys.stdlib_module_names - {"authz"}


def within(path: Path) -> set[str]:
    """Return the file and the directories in which it stands, as ``HOMES`` writes them."""
    where = path.relative_to(PACKAGE)
    return {where.as_posix(), *(parent.as_posix() for parent in where.parents)}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_each_third_party_has_one_home(path: Path) -> None:
    strays = {name for name in third_parties(path) if not HOMES.get(name, set()) & within(path)}
    assert not strays, f"these have another home, or none in HOMES: {strays}"


def test_every_home_uses_what_lives_there() -> None:
    used = {(name, home) for path in FILES for name in third_parties(path) for home in within(path)}
    assert {(name, home) for name, homes in HOMES.items() for home in homes} <= used


def test_a_methods_name_is_spelled_only_where_methods_are_made_read_and_declared() -> None:
    spelled = {
        (node.value, path.relative_to(PACKAGE).as_posix())
        for path in FILES
        if room_of(path) not in NAMERS
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Constant) and node.value in AUTH_METHODS
    }
    assert spelled == {(word, where) for word, places in OTHER_WORDS.items() for where in places}


def test_every_room_is_in_the_order() -> None:
    assert {room_of(path) for path in FILES} == set(ROOMS)


def test_the_page_of_the_architecture_has_each_room_once() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    table = page.partition("| room |")[2].partition("\n\n")[0]
    rooms = [
        name.removesuffix("/").removesuffix(".py")
        for row in table.splitlines()[2:]
        for name in re.findall(r"`([^`]+)`", row.split("|")[1])
    ]
    assert sorted(rooms) == sorted(set(ROOMS) - {"__init__", "__main__"})


def test_the_page_of_the_architecture_names_files_that_there_are() -> None:
    page = (ROOT / "docs/architecture.md").read_text("utf-8")
    named = set(re.findall(r"\b([a-z_]+/[a-z_/]+\.(?:py|md|rs))\b", page))
    assert named
    assert not {name for name in named if not any((r / name).exists() for r in (ROOT, PACKAGE))}


# What several methods share, in files that are no method's.
SHARED_BY_METHODS = {"__init__", "base", "asking", "exchange"}


def test_every_method_file_is_on_the_list() -> None:
    files = {p.stem for p in (PACKAGE / "methods").glob("*.py")} - SHARED_BY_METHODS

    assert set(METHOD_NAMES) == files


def test_the_manual_fits_in_twenty_lines() -> None:
    tree = ast.parse((PACKAGE / "pipeline.py").read_text("utf-8"))
    decide = next(
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.AsyncFunctionDef) and node.name == "decide"
    )

    assert decide.end_lineno is not None
    assert decide.end_lineno - decide.lineno < 20


# A bound is named after what it bounds: the thing, its unit, then MAX or MIN.
MISNAMED_BOUND = re.compile(
    r"_?(?:MAX|MIN|MOST|LEAST)_\w+|\w+_(?:MOST|LEAST|MAXIMUM|MINIMUM|LIMIT)|\w+_(?:S|MSECS|SECS)|"
    r"\w*CHARACTERS\w*"
)
# The names that others have given: an HTTP directive, an HTTP/2 setting (RFC 9113 6.5.2).
OTHERS_NAMES = {"_MAX_AGE", "MAX_CONCURRENT_STREAMS"}


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_a_bound_has_its_unit_before_max(path: Path) -> None:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    constants = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id.isupper()
    }
    assert not {name for name in constants - OTHERS_NAMES if MISNAMED_BOUND.fullmatch(name)}


def test_a_bound_of_the_native_transport_has_its_unit_before_max() -> None:
    text = "".join(path.read_text("utf-8") for path in (ROOT / "native/src").glob("*.rs"))
    constants = re.findall(r"\bconst ([A-Z_]+):", text)
    assert constants
    assert not [name for name in constants if MISNAMED_BOUND.fullmatch(name)]
