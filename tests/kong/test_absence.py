"""Null and emptiness anywhere in a file: it is refused, or what was guarded stays guarded."""

from __future__ import annotations

import copy
import json
from typing import TYPE_CHECKING, Any

import pytest

from authz.errors import ConfigurationError, RouteNotFound
from authz.kong import state
from authz.kong.files import Sources
from authz.kong.router import Router
from authz.methods import METHOD_NAMES
from authz.model import Request

if TYPE_CHECKING:
    from collections.abc import Iterator

OIDC = {"name": "openid-connect", "enabled": True, "protocols": ["http", "https"]}
ISSUER = "https://idp.example/realms/kong"
FILE: dict[str, Any] = {
    "_format_version": "3.0",
    "_info": {"defaults": {"route": {"protocols": ["https"]}, "service": {"retries": 2}}},
    "_plugin_configs": {"strict": {"issuer": ISSUER, "audience_required": ["strict"]}},
    "services": [
        {
            "name": "orders",
            "host": "orders.internal",
            "plugins": [{**OIDC, "config": {"issuer": ISSUER, "audience_required": ["orders"]}}],
            "routes": [
                {"name": "list", "paths": ["/orders"], "hosts": ["shop.example"]},
                {
                    "name": "admin",
                    "paths": ["~/orders/admin"],
                    "hosts": ["shop.example"],
                    "methods": ["GET"],
                    "headers": {"x-zone": ["inner"]},
                    "regex_priority": 7,
                    "plugins": [{**OIDC, "_config": "strict", "config": {"leeway": 1}}],
                },
            ],
        },
        {"name": "stopped", "host": "old.internal", "enabled": False},
    ],
    "routes": [
        {"name": "open", "paths": ["/open"], "protocols": ["http", "https"]},
        {"name": "billing", "paths": ["/billing"], "service": {"name": "orders"}},
        {"name": "stopped", "paths": ["/stopped"], "service": {"name": "stopped"}},
        {"name": "reports", "paths": ["/reports"], "snis": ["reports.example"]},
    ],
    "plugins": [
        {**OIDC, "route": "reports", "config": {"issuer": ISSUER, "audience_required": ["reports"]}}
    ],
    "consumers": [{"username": "kong_id", "id": "5f7fca37-1a8c-5b7e-9d5c-5a3f0b6f9b10"}],
}
WITNESSES = {
    "list": Request("POST", "https", "shop.example", "/orders/1"),
    "admin": Request("GET", "https", "shop.example", "/orders/admin", {"x-zone": "inner"}),
    "admin otherwise": Request("GET", "https", "shop.example", "/orders/admin"),
    "billing": Request("GET", "https", "any.example", "/billing"),
    "stopped": Request("GET", "https", "any.example", "/stopped"),
    "reports": Request("GET", "https", "r.example", "/reports", server_name="reports.example"),
    "plain": Request("GET", "http", "shop.example", "/orders/1"),
    "open": Request("GET", "http", "any.example", "/open"),
}
NOBODY = ("nobody passes",)
# Lists of entities: an empty one says that there is none, and means it.
SAID_BY_PRESENCE = {"services", "routes", "plugins"}


def guards(file: dict[str, Any]) -> dict[str, tuple[str, ...] | None]:
    """Return what each witness must have in its token; None: it passes without one."""
    gateway = state.parse(Sources((("kong.json", json.dumps(file).encode()),)), {}, METHOD_NAMES)
    router = Router(gateway)
    found: dict[str, tuple[str, ...] | None] = {}
    for name, request in WITNESSES.items():
        try:
            plugin = router.match(request).plugin
        except RouteNotFound:
            found[name] = NOBODY
        else:
            found[name] = None if plugin is None else plugin.config.access.audience_required
    return found


def positions(node: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Yield the way to each value, but for those in a plugin's config: null is a default there."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list) and key not in {"config", "_plugin_configs"}:
            yield from positions(value, (*path, key))


def changed(path: tuple[Any, ...], value: Any) -> dict[str, Any]:
    file = copy.deepcopy(FILE)
    node: Any = file
    for key in path[:-1]:
        node = node[key]
    node[path[-1]] = value
    return file


def nothings() -> Iterator[tuple[tuple[Any, ...], Any]]:
    for path in positions(FILE):
        yield path, None
        value: Any = FILE
        for key in path:
            value = value[key]
        if isinstance(value, dict | list | str) and path[-1] not in SAID_BY_PRESENCE:
            yield path, type(value)()


def test_the_file_guards_what_it_is_meant_to_guard() -> None:
    assert guards(FILE) == {
        "list": ("orders",),
        "admin": ("strict",),
        "admin otherwise": ("orders",),
        "billing": ("orders",),
        "stopped": NOBODY,
        "reports": ("reports",),
        "plain": NOBODY,
        "open": None,
    }


@pytest.mark.parametrize(
    ("path", "nothing"),
    list(nothings()),
    ids=[f"{'.'.join(map(str, path))}={json.dumps(nothing)}" for path, nothing in nothings()],
)
def test_D_05_nothing_in_the_place_of_a_value_opens_no_route(
    path: tuple[Any, ...], nothing: Any
) -> None:
    try:
        found = guards(changed(path, nothing))
    except ConfigurationError:
        return
    for name, before in guards(FILE).items():
        if before is not None:
            assert found[name] is not None, name
        if before not in {None, NOBODY}:
            assert found[name] in {before, NOBODY}, name
