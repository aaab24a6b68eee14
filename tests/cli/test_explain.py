"""What `authz check -o json` and `authz explain` say of a decision."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from authz.cli import main
from authz.demo.idp import CLIENTS

if TYPE_CHECKING:
    from support.idp import RunningIdp

WORKSHOP = str(Path(__file__).parents[2] / "examples" / "workshop.yaml")
ISSUER = "http://keycloak.keycloak:8080/realms/kong"
SECRET = CLIENTS["kong_id"]
ROUTE = "http://gateway.test/oidc-route/get?a=1"
OPEN = '_format_version: "3.0"\nroutes: [{name: open, paths: [/]}]\n'


class Asking:
    """A file, a provider and what the commands say of requests to them."""

    def __init__(self, idp: RunningIdp, file: Path) -> None:
        idp.issuer = ISSUER
        self.file = file
        self._connect_to = f"keycloak.keycloak:8080:127.0.0.1:{idp.port}"

    def json(self, command: str, *arguments: str) -> tuple[int, dict[str, Any]]:
        given = ("-c", str(self.file), "--connect-to", self._connect_to, "-o", "json")
        result = CliRunner().invoke(main, (command, *given, *arguments, ROUTE))
        return result.exit_code, json.loads(result.stdout)

    def steps(self, *arguments: str) -> list[tuple[str, str, int | None]]:
        """Each step with what it says and the line of the file."""
        _, told = self.json("explain", *arguments)
        return [(s["step"], s["detail"], s.get("position", {}).get("line")) for s in told["steps"]]

    def text(self, *arguments: str) -> list[str]:
        given = ("-c", str(self.file), "--connect-to", self._connect_to)
        return CliRunner().invoke(main, ("explain", *given, *arguments, ROUTE)).stdout.splitlines()

    def line(self, text: str) -> int:
        lines = self.file.read_text().splitlines()
        return next(n for n, line in enumerate(lines, 1) if text in line)

    def write(self, text: str) -> None:
        self.file.write_text(text)

    def replace(self, old: str, new: str) -> None:
        self.write(self.file.read_text().replace(old, new))


@pytest.fixture
def asking(idp: RunningIdp, tmp_path: Path) -> Asking:
    file = tmp_path / "kong.yaml"
    file.write_text(Path(WORKSHOP).read_text())
    return Asking(idp, file)


GOOD = ("-u", f"kong_id:{SECRET}")


def test_an_allow_is_explained_from_the_route_to_the_answer(asking: Asking) -> None:
    steps = asking.steps(*GOOD)
    named = dict.fromkeys(name for name, *_ in steps)

    assert list(named) == [
        "caches",
        "route",
        "service",
        "plugin",
        "credential",
        "method",
        "cache",
        "call",
        "identity",
        "consumer",
        "header",
        "query",
        "answer",
    ]
    assert steps[1][1].endswith("it asks for paths /oidc-route")
    assert ("credential", 'a pair with the id "kong_id", in header authorization', None) in steps
    assert ("method", "client_credentials", asking.line("auth_methods:")) in steps
    assert ("consumer", "kong_id by the claim client_id", asking.line("username: kong_id")) in steps
    by_claim = "sets x-consumer-username: kong_id, from the consumer"
    assert ("header", by_claim, asking.line("consumer_claim:")) in steps
    assert steps[-1] == ("answer", "allow", None)


def test_each_call_to_the_provider_is_told_with_its_duration(asking: Asking) -> None:
    _, told = asking.json("explain", *GOOD)
    calls = [step for step in told["steps"] if step["step"] == "call"]

    host = "keycloak.keycloak:8080"
    assert {call["detail"] for call in calls} == {
        f"{endpoint} at {host}: ok" for endpoint in ("discovery", "key set", "token endpoint")
    }
    assert all(call["milliseconds"] > 0 for call in calls)


def test_the_text_of_an_explanation_has_the_steps_of_its_json(asking: Asking) -> None:
    for line, (name, detail, position) in zip(
        asking.text("-u", "kong_id:wrong"), asking.steps("-u", "kong_id:wrong"), strict=True
    ):
        assert line.startswith(f"{name:<10} {detail}")
        assert (position is None) == (not line.endswith(")") or f"{asking.file}:" not in line)


def test_LG_01_an_explanation_shows_neither_secret_nor_token(asking: Asking) -> None:
    for arguments in (GOOD, ("-u", "kong_id:wr0ng"), ("--bearer", "eyJhbGciOiJub25lIn0.e30.")):
        shown = json.dumps([asking.json("explain", *arguments), asking.text(*arguments)])
        assert SECRET not in shown
        assert "wr0ng" not in shown
        assert "eyJ" not in shown


def test_a_rule_that_refuses_is_told_with_its_line_and_is_the_last(asking: Asking) -> None:
    required = "        scopes_required: [admin]\n        audience_required: [account]\n"
    asking.replace("        consumer_claim:", f"{required}        consumer_claim:")
    *_, audience, scopes, answer = asking.steps(*GOOD)

    assert audience == ("rule", "audience_required: met", asking.line("audience_required"))
    assert scopes[1].startswith("scopes_required: scope_missing: ")
    assert scopes[2] == asking.line("scopes_required")
    assert answer[1].startswith("deny 403: scope_missing: ")


def test_a_consumer_that_is_not_found_ends_the_explanation(asking: Asking) -> None:
    asking.replace("username: kong_id", "username: somebody")
    *_, consumer, answer = asking.steps(*GOOD)

    assert consumer[0] == "consumer"
    assert consumer[1].startswith("consumer_unknown: ")
    assert consumer[2] == asking.line("consumer_claim:")
    assert answer[1].startswith("deny 403: consumer_unknown: ")


def test_a_credential_that_is_missing_is_told_with_where_it_was_looked_for(asking: Asking) -> None:
    *_, credential, answer = asking.steps()

    assert credential[:2] == (
        "credential",
        "none that can be used; looked for in header authorization; query client_id, client_secret",
    )
    assert answer[1].startswith("deny 401: credential_missing: ")


def test_a_provider_that_is_out_is_told_by_the_call_that_failed(
    asking: Asking, idp: RunningIdp
) -> None:
    idp.stop()
    code, told = asking.json("explain", *GOOD)
    failed = [step for step in told["steps"] if step["step"] == "call"]

    assert (code, told["status"]) == (4, 503)
    assert failed
    assert all(step["detail"].endswith(": unavailable") for step in failed)


def test_an_explanation_says_that_it_sees_no_server_s_caches(asking: Asking) -> None:
    name, detail, _ = asking.steps(*GOOD)[0]

    assert (name, detail[:18]) == ("caches", "empty at the start")
    assert "what a running server remembers" in detail
    assert any("what a running server remembers" in line for line in asking.text(*GOOD))


PASSED = """\
_format_version: "3.0"
routes:
- {name: answers, paths: [/oidc-route]}
- {name: longer, paths: [/oidc-route/admin]}
- {name: elsewhere, hosts: [other.test], paths: [/oidc-route]}
- {name: later, paths: [/]}
"""


def test_the_routes_that_go_before_are_told_with_what_they_ask_for(asking: Asking) -> None:
    asking.write(PASSED)
    passed = [step for step in asking.steps() if step[0] == "passed"]

    assert passed == [
        ("passed", "longer: goes before, but asks for paths /oidc-route/admin", 4),
        ("passed", "elsewhere: goes before, but asks for hosts other.test", 5),
    ]
    shown = [line for line in asking.text() if line.startswith("passed ")]
    assert [line.split()[1] for line in shown] == ["longer:", "elsewhere:"]


def test_where_no_route_answers_all_of_them_are_told_within_a_bound(asking: Asking) -> None:
    routes = "".join(f"- {{name: r{n}, paths: [/other-{n:03}]}}\n" for n in range(25))
    asking.write(f'_format_version: "3.0"\nroutes:\n{routes}')
    steps = asking.steps()
    passed = [detail for name, detail, _ in steps if name == "passed"]

    assert len(passed) == 11
    assert passed[0] == "r24: goes before, but asks for paths /other-024"
    assert passed[-1] == "15 more that go before, but ask for other things"
    assert steps[-1][1].startswith("deny 404: route_unmatched")


def test_C11_an_open_route_is_said_to_be_open(asking: Asking) -> None:
    asking.write(OPEN)
    checked = CliRunner().invoke(main, ("check", "-c", str(asking.file), ROUTE)).stdout
    code, told = asking.json("explain")

    assert checked.splitlines()[:3] == [
        "allow",
        f"route: open ({asking.file}:2:10)",
        "no openid-connect plugin applies here: whoever comes is let through",
    ]
    assert (code, told["reason"], told["plugin"]) == (0, "unprotected", None)
    assert [step["step"] for step in told["steps"]] == [
        "caches",
        "route",
        "plugin",
        "header",
        "answer",
    ]


def test_C_08_a_route_that_is_shut_is_not_said_to_be_open(asking: Asking) -> None:
    asking.write(OPEN.replace("}]", ", plugins: [{name: request-termination}]}]"))
    checked = CliRunner().invoke(main, ("check", "-c", str(asking.file), ROUTE)).stdout
    code, told = asking.json("explain")

    assert checked.startswith("deny 503: request_terminated: request-termination at ")
    assert "let through" not in checked
    assert (code, told["reason"]) == (3, "request_terminated")
    assert [step["step"] for step in told["steps"]] == ["caches", "route", "termination", "answer"]


def test_check_tells_machines_how_it_ended_and_where_in_the_file(asking: Asking) -> None:
    code, allowed = asking.json("check", *GOOD)

    assert (code, allowed["verdict"], allowed["status"]) == (0, "allow", None)
    assert allowed["route"] == {
        "name": "oidc-route",
        "position": {"file": str(asking.file), "line": 12, "column": 5},
    }
    assert allowed["sets_headers"]["authorization"] == "Bearer ***"
    assert allowed["sets_headers"]["x-consumer-username"] == "kong_id"
    assert "x-consumer-groups" in allowed["removes_headers"]
    assert allowed["claims"]["client_id"] == "kong_id"
    assert "steps" not in allowed


def test_check_tells_machines_what_a_denied_caller_gets(asking: Asking) -> None:
    code, denied = asking.json("check", "-u", "kong_id:wrong")

    assert (code, denied["verdict"], denied["status"]) == (3, "deny", 401)
    assert denied["reason"] == "secret_rejected"
    assert json.loads(denied["answer"]["body"]) == {"message": "Unauthorized"}
    assert ["cache-control", "no-store"] in denied["answer"]["headers"]
    assert (denied["consumer"], denied["claims"]) == (None, None)
