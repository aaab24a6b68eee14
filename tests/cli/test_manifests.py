"""`authz manifests`, as a user types it."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner, Result

from authz.cli import main

WORKSHOP = str(Path(__file__).parents[2] / "examples" / "workshop.yaml")


def manifests(target: str, *arguments: str, config: str = WORKSHOP) -> Result:
    return CliRunner().invoke(main, ["manifests", "--for", target, "-c", config, *arguments])


def kinds(result: Result) -> list[str]:
    assert result.exit_code == 0, result.stderr
    return [each["kind"] for each in yaml.safe_load_all(result.stdout)]


@pytest.mark.parametrize(
    ("target", "found"),
    [
        ("envoy-gateway", {"Gateway", "HTTPRoute", "SecurityPolicy", "BackendTLSPolicy"}),
        ("istio", {"AuthorizationPolicy", "DestinationRule"}),
        ("kubernetes", {"Kustomization"}),
    ],
)
def test_standard_output_is_yaml_and_the_same_each_time(target: str, found: set[str]) -> None:
    first, second = manifests(target), manifests(target)

    assert found <= set(kinds(first))
    assert first.stdout == second.stdout


def test_what_is_not_said_is_named_on_standard_error_with_its_place() -> None:
    result = manifests("envoy-gateway")

    assert "notice:" not in result.stdout
    assert f"notice: {WORKSHOP}:12:5: preserve_host: Gateway API writes no port" in result.stderr


@pytest.mark.parametrize("target", ["envoy-gateway", "istio", "kubernetes"])
def test_a_plugin_whose_work_nothing_does_is_named(target: str, tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(
        '_format_version: "3.0"\n'
        "services:\n- name: a\n  host: a\n  routes:\n  - {name: r, paths: [/]}\n"
        "plugins:\n- {name: rate-limiting, config: {minute: 5}}\n"
    )

    result = manifests(target, config=str(file))

    assert f"notice: {file}:8:3: plugins: rate-limiting is not written" in result.stderr


def test_what_cannot_be_said_ends_it(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(
        '_format_version: "3.0"\n'
        "services:\n- name: a\n  host: a\n  routes:\n"
        "  - {name: r, methods: [PURGE], paths: [/a]}\n  - {name: all, paths: [/]}\n"
    )

    result = manifests("envoy-gateway", config=str(file))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"{file}:6:" in result.stderr
    assert "methods: Gateway API does not know PURGE" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--gateway", "public"], "write NAMESPACE/NAME"),
        (["--authz", "authz.example:9191"], "write NAME.NAMESPACE.svc:PORT"),
        (["--image", "registry.example:5000/authz"], "write registry.example/authz:TAG"),
    ],
)
def test_a_flag_that_cannot_be_meant_is_a_usage_error(arguments: list[str], words: str) -> None:
    result = manifests("envoy-gateway", *arguments)

    assert result.exit_code == 2
    assert words in result.stderr


def test_the_sidecars_envoy_is_the_one_of_authz_envoy() -> None:
    rule = "httpbin.kong.svc.cluster.local:8000:127.0.0.1:8080"
    result = manifests("kubernetes", "--connect-to", rule, "--resource", "httpbin.yaml")
    arguments = ["--authz", "unix:/run/authz/authz.sock", "--listen", "0.0.0.0:8000"]
    envoy = (
        CliRunner().invoke(main, ["envoy", "-c", WORKSHOP, *arguments, "--connect-to", rule]).stdout
    )

    made = yaml.safe_load(result.stdout)
    [_, generated] = made["configMapGenerator"]
    assert generated["literals"] == [f"envoy.yaml={envoy}"]
    assert made["resources"][1:] == ["httpbin.yaml"]


def test_the_shared_variant_needs_no_envoy() -> None:
    result = manifests("kubernetes", "--variant", "shared", "--route-metadata", "envoy-gateway")

    made = yaml.safe_load(result.stdout)
    assert [each["name"] for each in made["configMapGenerator"]] == ["authz-config"]
    assert "--route-metadata=envoy-gateway" in made["patches"][-1]["patch"]
