"""The repository's envoy.yaml is what a user would get."""

from __future__ import annotations

from pathlib import Path

from support.configuration import load_files

from authz.envoy.bootstrap import BootstrapOptions, render

ROOT = Path(__file__).parents[2]


def test_envoy_yaml_is_the_output_for_the_workshop_file_under_a_comment_head() -> None:
    lines = (ROOT / "envoy.yaml").read_text().splitlines(keepends=True)
    body = "".join(line for line in lines if not line.startswith("#"))
    gateway = load_files(ROOT / "examples/workshop.yaml")

    assert body == render(gateway, BootstrapOptions())
