"""What is generated from the declarations: the page of parameters and the JSON Schema."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner
from support.json_schema import is_valid

from authz.cli import main
from authz.kong.json_schema import json_schema
from authz.parameters import PARAMETERS

ROOT = Path(__file__).parents[2]
SCHEMA = json_schema()
READINGS = [
    case
    for path in sorted((ROOT / "tests/kong/readings").glob("*.yaml"))
    for case in yaml.safe_load(path.read_text("utf-8"))
]


def printed(*arguments: str) -> str:
    result = CliRunner().invoke(main, ["schema", *arguments])
    assert result.exit_code == 0
    return result.output


@pytest.mark.parametrize(
    ("file", "arguments"),
    [("docs/parameters.md", ["--parameters"]), ("docs/kong.schema.json", [])],
)
def test_what_is_generated_is_what_the_command_prints(file: str, arguments: list[str]) -> None:
    assert (ROOT / file).read_text("utf-8") == printed(*arguments), (
        f"write it anew: authz schema {' '.join(arguments)} > {file}"
    )


def test_the_page_has_a_row_for_every_parameter() -> None:
    rows = [line for line in printed("--parameters").splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(PARAMETERS)


def of(**config: Any) -> dict[str, Any]:
    plugin = {"name": "openid-connect", "config": {"issuer": "https://idp.example", **config}}
    return {"_format_version": "3.0", "plugins": [plugin]}


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.yaml")), ids=lambda p: p.name)
def test_the_examples_are_valid(path: Path) -> None:
    assert is_valid(yaml.safe_load(path.read_text("utf-8")), SCHEMA, SCHEMA)


@pytest.mark.parametrize(
    "case",
    [
        case
        for case in READINGS
        # A template that stands for more than one text is no YAML before it is filled in;
        # D2 and D3 are spellings that PyYAML reads in another way than decK.
        if "complains" not in case
        and isinstance(case.get("file"), str)
        and not re.search(r"\$\{\{|\{vault:", case["file"])
        and not case["says"].startswith(("D2 ", "D3 "))
    ],
    ids=lambda case: case["says"],
)
def test_what_the_reader_takes_is_valid(case: dict[str, Any]) -> None:
    try:
        file = yaml.safe_load(case["file"])
    except yaml.YAMLError:
        return  # decK's reader takes more
    if isinstance(file, dict):
        assert is_valid({"_format_version": "3.0", **file}, SCHEMA, SCHEMA)


@pytest.mark.parametrize(
    "file",
    [
        pytest.param({}, id="no version"),
        pytest.param({"_format_version": "2.1"}, id="an older version"),
        pytest.param({"_format_version": "3.0", "plugin": []}, id="an unknown section"),
        pytest.param(of(audiance="x"), id="an unknown parameter"),
        pytest.param(of(leeway=121), id="a number too large"),
        pytest.param(of(cache_ttl=0), id="a number too small"),
        pytest.param(of(timeout="10s"), id="a number with a unit"),
        pytest.param(of(auth_methods=["basic"]), id="a value that is not allowed"),
        pytest.param(of(redis={"hots": "x"}), id="an unknown name further in"),
        pytest.param(of(credential_claim=[]), id="an empty list"),
        pytest.param({"_format_version": "3.0", "plugins": None}, id="a section without lines"),
        pytest.param({"_format_version": "3.0", "plugins": [{}]}, id="a plugin without a name"),
        pytest.param(
            {"_format_version": "3.0", "services": [{"host": "h", "routes": [{"path": "/"}]}]},
            id="an unknown field of a route in a service",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_not_valid(file: dict[str, Any]) -> None:
    assert not is_valid(file, SCHEMA, SCHEMA)


def test_a_value_from_the_environment_stands_for_any_kind() -> None:
    template = '${{ env "DECK_X" }}'
    assert is_valid(of(leeway=template, ssl_verify=template, audience=template), SCHEMA, SCHEMA)


def test_the_config_of_other_plugins_is_theirs() -> None:
    plugin = {"name": "cors", "config": {"origins": ["*"]}}
    assert is_valid({"_format_version": "3.0", "plugins": [plugin]}, SCHEMA, SCHEMA)


def test_C_08_the_config_of_request_termination_is_known_too() -> None:
    def valid(**config: Any) -> bool:
        plugin = {"name": "request-termination", "config": config}
        return is_valid({"_format_version": "3.0", "plugins": [plugin]}, SCHEMA, SCHEMA)

    assert valid(status_code=410, message="gone")
    assert not valid(status_code=99)
    assert not valid(mesage="gone")


def test_every_reference_leads_somewhere() -> None:
    wanted = {part.split('"')[0] for part in json.dumps(SCHEMA).split('"$ref": "#/$defs/')[1:]}
    assert wanted <= SCHEMA["$defs"].keys()
