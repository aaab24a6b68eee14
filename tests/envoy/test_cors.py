"""Kong's ``cors`` for Envoy: what cannot be written is named."""

from __future__ import annotations

from textwrap import indent
from typing import Any

import pytest
from support.configuration import FORMAT, load

from authz.envoy.bootstrap import BootstrapOptions, build, notices

CORS = "envoy.filters.http.cors"


def told(config: str) -> tuple[str, list[str]]:
    """Return the bootstrap and the notices of a file whose one route has such a cors."""
    gateway = load(f"""{FORMAT}
services:
- name: s
  host: s.test
  routes: [{{name: r, paths: [/]}}]
plugins:
- name: cors
  config:
{indent(config, "    ")}
""")
    options = BootstrapOptions()
    return str(build(gateway, options)), [str(each) for each in notices(gateway, options)]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ("preflight_continue: true", "Envoy answers them itself"),
        ("credentials: true", "without headers Kong repeats those that are asked for"),
        ("origins: ['(?=x)']", "(?=x): RE2 says"),
        ("methods: [FETCH]", "methods must be"),
        ("colour: red", "colour is not known here"),
    ],
)
def test_E5_a_cors_that_envoy_cannot_do_is_named_and_not_written(config: str, reason: str) -> None:
    bootstrap, [notice] = told(config)
    assert CORS not in bootstrap
    assert notice.startswith("<stdin>:8:3: plugins: cors is not written")
    assert reason in notice


def test_E5_a_cors_that_envoy_can_do_is_written_without_a_word() -> None:
    bootstrap, said = told("origins: ['*']")
    assert CORS in bootstrap
    assert said == []


def test_E5_a_cors_of_a_consumer_is_not_written() -> None:
    gateway = load(f"""{FORMAT}
services: [{{name: s, host: s.test, routes: [{{name: r, paths: [/]}}]}}]
consumers: [{{username: kong, plugins: [{{name: cors}}]}}]
""")
    options = BootstrapOptions()
    found: Any = build(gateway, options)
    assert CORS not in str(found)
    [notice] = notices(gateway, options)
    assert "a preflight names nobody" in notice.message
