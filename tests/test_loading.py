"""No reload opens a route by accident: half a file, half a directory, a file that lost its end."""

from __future__ import annotations

import asyncio
from itertools import permutations
from typing import TYPE_CHECKING, Any

import pytest
from support.configuration import load_files as parsed
from support.configuration import read

from authz.errors import ConfigurationError, RouteNotFound, RouteOpened
from authz.kong import state
from authz.kong.files import LOOKS_MAX
from authz.kong.router import Router
from authz.loading import Loader, load_gateway
from authz.methods import METHOD_NAMES
from authz.model import Request
from authz.runtime import Shared
from authz.settings import Settings
from authz.telemetry import Telemetry

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from authz.model import Gateway

CONFIG = "{issuer: 'https://idp.example', auth_methods: [bearer]}"

PLUGINS_LAST = f"""\
_format_version: "3.0"
services:
- name: orders
  host: orders.test
  routes:
  - name: orders
    paths: [/orders, "~/v[0-9]+/orders$"]
    methods: [GET, POST]
  - name: public
    paths: [/public]
    tags: [authz-open]
  - name: everything
    paths: [/]
    hosts: ["*.example"]
plugins:
- name: openid-connect
  service: orders
  config: {CONFIG}
consumers:
- username: kong_id
"""

PLUGINS_INSIDE = f"""\
_format_version: "3.0"
routes:
- name: open
  paths:
  - /
- name: admin
  hosts:
  - api.example
  - admin.example
  paths:
  - /admin
  - ~/internal/.*
  headers:
    x-version:
    - "1"
    - "~*^2"
  plugins:
  - name: openid-connect
    config: {CONFIG}
- name: users
  paths:
  - /users
  methods:
  - GET
  - DELETE
  plugins:
  - name: openid-connect
    config: {CONFIG}
"""

AS_JSON = (
    '{"_format_version": "3.0", "routes": [{"name": "a", "paths": ["/a"]}, {"name": "b",'
    ' "paths": ["/a/b"], "plugins": [{"name": "openid-connect", "config": {"issuer":'
    ' "https://idp.example", "auth_methods": ["bearer"]}}]}]}'
)

SERVICES = """\
_format_version: "3.0"
services:
- name: orders
  host: orders.test
  routes:
  - name: orders
    paths: [/orders]
"""
ROUTES = """\
_format_version: "3.0"
routes:
- name: all
  paths: [/]
"""
PLUGINS = f"""\
_format_version: "3.0"
plugins:
- name: openid-connect
  service: orders
  config: {CONFIG}
"""
GLOBAL = f"""\
_format_version: "3.0"
plugins:
- name: openid-connect
  config: {CONFIG}
"""
CONSUMERS = """\
_format_version: "3.0"
consumers: [{username: kong_id}]
"""

HOSTS = ("api.example", "admin.example", "other.test")
PATHS = (
    *("/", "/orders", "/orders/7", "/v1/orders", "/public", "/admin", "/admin/x", "/internal/x"),
    *("/users", "/users/7", "/a", "/a/b", "/a/b/c", "/nowhere"),
)
REQUESTS = tuple(
    Request(
        method=method,
        scheme="http",
        host=host,
        path=path,
        headers=headers,
        context_extensions=names,
    )
    for method in ("GET", "POST", "DELETE")
    for host in HOSTS
    for path in PATHS
    for headers in ({}, {"x-version": "1"}, {"x-version": "2.1"})
    for names in ({}, {"service": "orders"})
)
"""Written by hand, and so no witnesses: what a caller of these files might send."""


def loader(path: Path, pause: Callable[[float], object] | None = None, **settings: Any) -> Loader:
    async def paused(seconds: float) -> None:
        if pause is not None:
            pause(seconds)

    shared = Shared(Settings.of(config=(str(path),), **settings), Telemetry())
    return Loader(shared, {}, paused)


def protection(gateway: Gateway) -> dict[int, bool]:
    """Tell of each request by its number whether it is guarded; not found, it is left out."""
    router = Router(gateway)
    found = {}
    for number, request in enumerate(REQUESTS):
        try:
            match = router.match(request)
        except RouteNotFound:
            continue
        tagged = match.route is not None and "authz-open" in match.route.tags
        found[number] = match.plugin is not None or tagged
    return found


def opens(before: Mapping[int, bool], after: Mapping[int, bool]) -> list[Request]:
    return [REQUESTS[n] for n, guarded in before.items() if guarded and after.get(n) is False]


@pytest.mark.parametrize(
    "whole", [PLUGINS_LAST, PLUGINS_INSIDE, AS_JSON], ids=["last", "inside", "json"]
)
async def test_G_02_no_prefix_of_a_file_opens_what_the_whole_file_guards(
    tmp_path: Path, whole: str
) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(whole)
    in_force = parsed(file)
    guarded = protection(in_force)
    outcomes = {"valid": 0, "invalid": 0, "opening": 0}
    data = whole.encode()
    load = loader(file).load
    for length in range(len(data) + 1):
        file.write_bytes(data[:length])
        try:
            loaded = await load(in_force)
        except RouteOpened:
            outcomes["opening"] += 1
        except ConfigurationError:
            outcomes["invalid"] += 1
        else:
            outcomes["valid"] += 1
            assert opens(guarded, protection(loaded.configuration.gateway)) == [], data[:length]

    assert outcomes["valid"]
    assert outcomes["invalid"]
    assert bool(outcomes["opening"]) is (whole != AS_JSON)  # half an object is no JSON


@pytest.mark.parametrize(
    "files",
    [
        {"a.yaml": SERVICES, "b.yaml": PLUGINS, "c.yaml": CONSUMERS},
        {"a.yaml": ROUTES, "b.yaml": SERVICES, "c.yaml": GLOBAL},
        {"a.yaml": ROUTES, "b.yaml": SERVICES, "c.yaml": PLUGINS, "d.yaml": CONSUMERS},
    ],
    ids=["by service", "by all", "beside an open one"],
)
async def test_G_02_in_whatever_order_files_appear_nothing_is_opened(
    tmp_path: Path, files: dict[str, str]
) -> None:
    whole = tmp_path / "whole"
    whole.mkdir()
    for name, text in files.items():
        (whole / name).write_text(text)
    first = parsed(whole)
    for number, order in enumerate(permutations(files)):
        directory = tmp_path / str(number)
        directory.mkdir()
        in_force, load = first, loader(directory).load
        for name in order:
            (directory / name).write_text(files[name])
            try:
                loaded = await load(in_force)
            except ConfigurationError:
                continue
            assert opens(protection(in_force), protection(loaded.configuration.gateway)) == [], (
                order
            )
            in_force = loaded.configuration.gateway
        # In the end all of them are there, and what they say is in force.
        assert protection(in_force) == protection(first)


async def test_G_02_a_file_that_is_half_written_at_a_start_is_waited_for(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    end = PLUGINS_LAST.index("plugins:")
    file.write_text(PLUGINS_LAST[:end])
    writes = iter([PLUGINS_LAST[: end + 10], PLUGINS_LAST])

    def write(_: float) -> None:
        file.write_text(next(writes, PLUGINS_LAST))

    # Each pause ends with another writing, so it never keeps still …
    with pytest.raises(ConfigurationError, match="does not keep still"):
        await loader(file, write).load()

    def write_once(_: float) -> None:
        if text := next(rest, ""):
            file.write_text(text)

    rest: Iterator[str] = iter([PLUGINS_LAST])
    file.write_text(PLUGINS_LAST[:end])
    # … and here it does, once it is whole.
    loaded = await loader(file, write_once).load()
    assert len(loaded.configuration.gateway.plugins) == 1


async def test_G_02_it_is_waited_for_five_seconds_and_no_longer(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    pauses: list[float] = []

    def write(seconds: float) -> None:
        pauses.append(seconds)
        file.write_text(f"# {len(pauses)}")

    file.write_text("")
    with pytest.raises(ConfigurationError, match=rf"{file}:1:1: file: does not keep still"):
        await loader(file, write).load()
    assert sum(pauses) == 5
    assert len(pauses) == LOOKS_MAX - 1


async def test_G_02_the_file_or_the_operator_can_say_that_it_is_meant(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(PLUGINS_LAST)
    in_force = parsed(file)
    file.write_text(PLUGINS_LAST[: PLUGINS_LAST.index("plugins:")])
    load = loader(file).load

    with pytest.raises(RouteOpened) as refused:
        await load(in_force)
    assert len(refused.value.problems) == 2
    with pytest.raises(RouteOpened):
        await load(in_force, {"orders"})
    assert (await load(in_force, {"orders", "everything"})).configuration.gateway.plugins == ()


async def test_G_02_a_start_can_require_plugins(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(PLUGINS_INSIDE)
    load = loader(file, require_plugin=True).load
    with pytest.raises(ConfigurationError, match="open has no openid-connect plugin"):
        await load()
    file.write_text(PLUGINS_LAST)
    loaded = await load()
    file.write_text(PLUGINS_LAST[: PLUGINS_LAST.index("plugins:")])
    with pytest.raises(ConfigurationError, match="--require-plugin"):
        await load(loaded.configuration.gateway, {"orders", "everything"})


async def test_what_is_loaded_is_made_of_the_bytes_that_come_with_it(tmp_path: Path) -> None:
    (tmp_path / "kong.yaml").write_text(PLUGINS_LAST)
    loaded = await loader(tmp_path).load()

    accepted = await loader(tmp_path).accepted(loaded.sources)
    assert accepted.gateway == loaded.configuration.gateway
    assert loaded.sources.files == ((str(tmp_path / "kong.yaml"), PLUGINS_LAST.encode()),)


async def test_what_only_the_router_refuses_is_refused_wherever_a_file_is_judged(
    tmp_path: Path,
) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(PLUGINS_INSIDE)
    load = loader(file).load
    in_force = (await load()).configuration.gateway
    # Small enough as it is written, and too large once case means nothing, as in a header.
    file.write_text(PLUGINS_INSIDE.replace("~*^2", "~*" + "k" * 5_000))
    sources = read([file])
    assert state.parse(sources, {}, METHOD_NAMES).routes
    refused = r"kong\.yaml:\d+:\d+: headers: 'k+' cannot be read: RE2 says pattern too large"

    with pytest.raises(ConfigurationError, match=refused):
        await load()
    with pytest.raises(ConfigurationError, match=refused):
        await load(in_force)
    with pytest.raises(ConfigurationError, match=refused):
        await loader(file).accepted(sources)
    # As authz validate and authz envoy ask, with a loop of their own.
    with pytest.raises(ConfigurationError, match=refused):
        await asyncio.to_thread(load_gateway, Settings.of(config=(str(file),)), {})
