"""The commands, as a user types them."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import pytest
from click.testing import CliRunner, Result
from support import tls
from support.transports import NAMES

from authz import __version__
from authz.cli import known_variables, main
from authz.demo.idp import CLIENTS
from authz.settings.environment import OF_A_SERVICE, misspelt

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from support.idp import RunningIdp

WORKSHOP = str(Path(__file__).parents[2] / "examples" / "workshop.yaml")
ISSUER = "http://keycloak.keycloak:8080/realms/kong"
SECRET = CLIENTS["kong_id"]
ROUTE = "http://gateway.test/oidc-route/get?a=1"

START = "from authz.cli import main; main(prog_name='authz')"

BROKEN = """\
_format_version: "3.0"
plugins:
- name: openid-connect
  config:
    isuer: http://keycloak.test/realms/kong
"""


def authz(*arguments: str, env: Mapping[str, str] | None = None) -> Result:
    return CliRunner().invoke(main, arguments, env=env)


@pytest.fixture
def broken(tmp_path: Path) -> str:
    path = tmp_path / "kong.yaml"
    path.write_text(BROKEN)
    return str(path)


@pytest.fixture
def connect_to(idp: RunningIdp) -> str:
    """The workshop's provider, on this machine."""
    idp.issuer = ISSUER
    return f"keycloak.keycloak:8080:127.0.0.1:{idp.port}"


@contextmanager
def python(
    *arguments: str, env: Mapping[str, str] | None = None
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(  # noqa: S603 - our own interpreter and arguments
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(env or {})},
    ) as process:
        try:
            yield process
        finally:
            process.kill()


# --- the whole --------------------------------------------------------------------


def test_help_names_every_command() -> None:
    assert set(main.commands) == {
        "serve",
        "reload",
        "schema",
        "validate",
        "check",
        "envoy",
        "explain",
        "demo",
        "idp",
        "manifests",
        "health",
        "version",
    }
    assert authz("--help").exit_code == 0


def test_help_loads_nothing_heavy() -> None:
    heavy = {"grpc", "httpx", "uvicorn", "yaml", "jwt", "google.protobuf", "envoy_data_plane"}
    with python("-c", "import sys, authz.cli; print(*sys.modules)") as process:
        loaded = set(process.communicate()[0].split())

    assert "authz.cli" in loaded
    assert heavy.isdisjoint(loaded)


def test_every_flag_of_serve_has_a_variable_named_like_it() -> None:
    for option in main.commands["serve"].params:
        assert isinstance(option, click.Option)
        flag = next(name for name in option.opts if name.startswith("--"))
        assert option.envvar == "AUTHZ_" + flag[2:].upper().replace("-", "_")


@pytest.mark.parametrize(
    ("arguments", "env"),
    [(["--listen", "::1:9191"], {}), ([], {"AUTHZ_LISTEN": "127.0.0.1:1 ::1:9191"})],
    ids=["flag", "variable"],
)
def test_a_bad_value_is_a_usage_error_that_names_flag_and_variable(
    arguments: list[str], env: dict[str, str]
) -> None:
    result = authz("serve", "-c", "kong.yaml", *arguments, env=env)

    assert result.exit_code == 2
    assert "'--listen' (env var: 'AUTHZ_LISTEN')" in result.stderr
    assert "an IPv6 address stands in brackets" in result.stderr


def test_the_version_is_an_option_too() -> None:
    assert authz("--version").stdout == authz("version").stdout == f"authz {__version__}\n"


def test_C10_a_misspelt_variable_is_said_with_the_nearest_name() -> None:
    result = authz("version", env={"AUTHZ_LSTEN": "127.0.0.1:1", "AUTHZ_XYZZY": "secret"})

    assert result.exit_code == 0
    unknown = "is in the environment, and authz has no such variable"
    assert result.stderr.splitlines() == [
        f"warning: AUTHZ_LSTEN {unknown}: did you mean AUTHZ_LISTEN?",
        f"warning: AUTHZ_XYZZY {unknown}",
    ]


def test_C10_the_variables_of_every_command_are_known() -> None:
    known = dict.fromkeys(known_variables(), "")

    assert {"AUTHZ_LISTEN", "AUTHZ_IDP_ISSUER", "AUTHZ_CHECK_SECRET_FILE", "AUTHZ_ENVOY"} < set(
        known
    )
    assert authz("version", env={**known, "AUTHZ": "1", "PATH_AUTHZ_X": "1"}).stderr == ""


@pytest.mark.parametrize(
    "name",
    [
        "SERVICE_HOST",
        "SERVICE_PORT",
        "SERVICE_PORT_GRPC",
        "PORT",
        "PORT_9191_TCP",
        "PORT_9191_TCP_ADDR",
        "ADMIN_SERVICE_HOST",
        "ADMIN_PORT_9192_TCP_PROTO",
    ],
)
def test_C10_what_kubernetes_says_of_a_service_named_authz_is_no_misspelling(name: str) -> None:
    assert list(misspelt([f"AUTHZ_{name}"], known_variables())) == []
    assert not OF_A_SERVICE.fullmatch("AUTHZ_LISTEN")


# --- validate ---------------------------------------------------------------------


def test_a_valid_file_is_told_with_its_notices() -> None:
    result = authz("validate", "-c", WORKSHOP)

    assert result.exit_code == 0
    assert result.stderr == ""
    *notices, last = result.stdout.splitlines()
    assert last.startswith("valid: 1 service, 1 route, 1 plugin, 1 consumer, ")
    assert all(re.match(r"notice: \S+workshop.yaml:\d+:\d+: \w+: ", line) for line in notices)


def test_an_invalid_file_is_told_by_place(broken: str) -> None:
    result = authz("validate", "-c", broken)

    assert result.exit_code == 1
    assert result.stdout == ""
    assert f"{broken}:5:5: " in result.stderr
    assert "issuer" in result.stderr
    assert result.stderr.splitlines()[-1].startswith("invalid: ")


def test_validate_tells_machines_the_same(broken: str) -> None:
    valid, invalid = (authz("validate", "-o", "json", "-c", c) for c in (WORKSHOP, broken))
    good, bad = json.loads(valid.stdout), json.loads(invalid.stdout)

    assert (valid.exit_code, good["valid"], good["errors"]) == (0, True, [])
    assert (invalid.exit_code, bad["valid"], bad["notices"]) == (1, False, [])
    assert {"file", "line", "column", "parameter", "message"} == set(bad["errors"][0])
    assert good["notices"]


def test_G_02_validate_can_require_plugins_as_serve_does(tmp_path: Path) -> None:
    path = tmp_path / "kong.yaml"
    path.write_text('_format_version: "3.0"\nroutes: [{name: open, paths: [/]}]\n')
    assert authz("validate", "-c", str(path)).exit_code == 0
    required = authz("validate", "-c", str(path), env={"AUTHZ_REQUIRE_PLUGIN": "true"})
    assert (required.exit_code, required.stdout) == (1, "")
    assert required.stderr.startswith(f"{path}:2:10: routes: open has no openid-connect plugin")


def test_reload_needs_to_know_where_and_reaches_unix_sockets_only(tmp_path: Path) -> None:
    assert authz("reload").exit_code == 2
    by_network = authz("reload", "--control", "127.0.0.1:9192")
    assert (by_network.exit_code, "is no Unix socket" in by_network.stderr) == (2, True)
    gone = authz("reload", env={"AUTHZ_CONTROL": f"unix:{tmp_path}/control.sock"})
    assert gone.exit_code == 2
    assert gone.stderr == (
        f"cannot ask the server at unix:{tmp_path}/control.sock: No such file or directory\n"
    )


def test_validate_without_a_file_is_a_usage_error() -> None:
    assert authz("validate").exit_code == 2


def test_files_come_from_the_variable_too() -> None:
    assert authz("validate", env={"AUTHZ_CONFIG": WORKSHOP}).exit_code == 0


# --- check ------------------------------------------------------------------------


def check(connect_to: str, *arguments: str, **options: Any) -> Result:
    given = ("-c", WORKSHOP, "--connect-to", connect_to)
    return authz("check", *given, *arguments, **options)


def test_check_allows_and_says_how(connect_to: str) -> None:
    result = check(connect_to, "-u", f"kong_id:{SECRET}", ROUTE)
    lines = result.stdout.splitlines()

    assert result.exit_code == 0
    assert lines[0] == "allow"
    assert f"route: oidc-route ({WORKSHOP}:12:5)" in lines
    assert f"plugin: openid-connect1 ({WORKSHOP}:16:7)" in lines
    assert f"consumer: kong_id ({WORKSHOP}:27:3)" in lines
    assert "sets header: x-consumer-username: kong_id" in lines
    assert any(line.startswith("removes headers: ") for line in lines)
    claims = json.loads(result.stdout.partition("claims:\n")[2])
    assert claims["client_id"] == "kong_id"


def test_LG_01_check_shows_neither_secret_nor_token(connect_to: str) -> None:
    result = check(connect_to, "-u", f"kong_id:{SECRET}", ROUTE)

    assert "sets header: authorization: Bearer ***" in result.output
    assert SECRET not in result.output
    assert "eyJ" not in result.output


def test_check_denies_with_the_reason(connect_to: str) -> None:
    result = check(connect_to, "-u", "kong_id:wrong", ROUTE)

    assert result.exit_code == 3
    assert result.stdout.startswith("deny 401: secret_rejected")
    assert 'body: {"message":"Unauthorized"}' in result.stdout


def test_check_denies_a_path_without_a_route(connect_to: str) -> None:
    result = check(connect_to, "http://gateway.test/elsewhere")

    assert result.exit_code == 3
    assert result.stdout.startswith("deny 404: route_unmatched")


def test_check_says_when_the_answer_cannot_be_known(connect_to: str, idp: RunningIdp) -> None:
    idp.stop()
    result = check(connect_to, "-u", f"kong_id:{SECRET}", ROUTE)

    assert result.exit_code == 4
    assert result.stdout.startswith("deny 503: idp_unavailable")
    assert result.stderr == ""


def test_check_takes_the_secret_from_the_environment(connect_to: str, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(f"{SECRET}\n")
    for env in (
        {"AUTHZ_CHECK_SECRET": SECRET},
        {"AUTHZ_CHECK_SECRET_FILE": str(tmp_path / "secret")},
    ):
        assert check(connect_to, "-u", "kong_id", ROUTE, env=env).exit_code == 0


def test_check_without_a_secret_says_where_it_can_come_from(connect_to: str) -> None:
    result = check(connect_to, "-u", "kong_id", ROUTE)

    assert result.exit_code == 2
    assert "AUTHZ_CHECK_SECRET" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-u", "a:b", "--bearer", "c", ROUTE], "two credentials"),
        (["http://a:b@gateway.test/"], "credentials go to -u"),
        (["gateway.test/get"], "write http://HOST[:PORT]/PATH"),
        (["-H", "nonsense", ROUTE], "write 'NAME: VALUE'"),
    ],
)
def test_check_refuses_what_is_no_request(arguments: list[str], message: str) -> None:
    result = authz("check", "-c", WORKSHOP, *arguments)

    assert result.exit_code == 2
    assert message in result.stderr


def test_check_sends_headers_joined_as_envoy_does(connect_to: str) -> None:
    twice = ("-H", "Authorization: Basic YTpi", "-H", "authorization: Bearer x")
    result = check(connect_to, *twice, ROUTE)

    assert result.exit_code == 3
    assert result.stdout.startswith("deny 400: credential_ambiguous")


def test_G_05_check_tells_the_server_name_that_a_client_would(tmp_path: Path) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text('_format_version: "3.0"\nroutes: [{snis: ["*.test"], paths: [/]}]\n')

    assert authz("check", "-c", str(file), "https://A.test:8443/").stdout.startswith("allow")
    for url, reason in (
        ("https://a.example/", "deny 404: route_unmatched"),
        ("https://10.0.0.1/", "deny 503: server_name_untold"),
        ("http://a.example/", "deny 503: server_name_untold"),
    ):
        assert authz("check", "-c", str(file), url).stdout.startswith(reason)


def test_check_says_what_is_wrong_with_the_file(broken: str) -> None:
    result = authz("check", "-c", broken, ROUTE)

    assert result.exit_code == 1
    assert f"{broken}:5:5: " in result.stderr


# --- envoy ------------------------------------------------------------------------


def test_envoy_prints_a_bootstrap() -> None:
    rule = "httpbin.kong.svc.cluster.local:8000:127.0.0.1:3001"
    result = authz("envoy", "-c", WORKSHOP, "--authz", "127.0.0.1:9199", "--connect-to", rule)

    assert result.exit_code == 0
    assert "port_value: 9199" in result.stdout
    assert "port_value: 3001" in result.stdout


def test_envoy_names_the_place_of_what_it_cannot_do(tmp_path: Path) -> None:
    path = tmp_path / "kong.yaml"
    path.write_text(Path(WORKSHOP).read_text().replace("- /oidc-route", "- ~/oidc(?=-)"))
    result = authz("envoy", "-c", str(path))

    assert result.exit_code == 1
    assert result.stdout == ""
    assert re.match(rf"{path}:\d+:\d+: ", result.stderr)


def test_E5_envoy_names_each_plugin_that_it_does_not_write_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "kong.yaml"
    path.write_text("""\
_format_version: "3.0"
services:
- name: orders
  host: orders.test
  routes:
  - name: orders
    paths: [/orders]
    plugins:
    - name: rate-limiting
      config: {minute: 5, policy: local}
plugins:
- name: http-log
- name: jq
  enabled: false
consumers:
- username: kong
  plugins:
  - name: rate-limiting
""")
    result = authz("envoy", "-c", str(path))

    assert result.exit_code == 0
    assert result.stdout.startswith("static_resources:")
    places = re.findall(
        rf"^notice: {path}:(\d+):\d+: plugins: (.*) is not", result.stderr, re.MULTILINE
    )
    limit = "rate-limiting"
    assert places == [
        ("9", limit),
        ("12", "http-log"),
        ("18", f"{limit} (for consumer at {path}:18:5)"),
    ]


# --- serve, health, version -------------------------------------------------------


def served(*arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
    return python("-m", "authz", "serve", "--admin", "off", *arguments)


def events(process: subprocess.Popen[str], until: str) -> list[dict[str, Any]]:
    """Read log lines up to the one whose message begins so."""
    assert process.stderr is not None
    read = []
    for line in process.stderr:
        read.append(json.loads(line))
        if read[-1]["message"].startswith(until):
            return read
    raise AssertionError(f"ended before {until!r}: {read}")


def test_RL_10_serve_answers_reloads_and_ends_with_zero(connect_to: str, tmp_path: Path) -> None:
    config = tmp_path / "kong.yaml"
    config.write_text(Path(WORKSHOP).read_text())
    listen = ("--listen", "127.0.0.1:0")
    with served("-c", str(config), "--connect-to", connect_to, *listen) as process:
        serving = events(process, "serving")[-1]
        [address] = serving["listen"]
        assert authz("health", "--address", address).stdout == f"{address} SERVING\n"

        config.write_text(BROKEN)
        process.send_signal(signal.SIGHUP)
        kept = events(process, "the configuration of before stays in force")
        assert any(event["message"].startswith(f"{config}:5:5: ") for event in kept)
        assert authz("health", "--address", address).exit_code == 0

        process.send_signal(signal.SIGTERM)
        events(process, "stopped")
        assert process.wait(20) == 0

    assert authz("health", "--address", address).exit_code == 1


@pytest.mark.parametrize("transport", NAMES)
def test_serve_and_health_speak_tls_over_the_transport_that_is_asked_for(
    connect_to: str, tmp_path: Path, transport: str
) -> None:
    files = tls.Files(tmp_path / "server")
    files.write(clients=tls.authority("clients"))
    own = tls.Files(tmp_path / "client")
    own.write(tls.authority("clients"))
    asked = ("--listen", "127.0.0.1:0", "--transport", transport)
    with_tls = ("--tls-cert", files.chain, "--tls-key", files.key, "--tls-client-ca")
    start = ("-c", WORKSHOP, "--connect-to", connect_to, *asked, *with_tls, files.client_ca)
    with served(*start) as process:
        serving = events(process, "serving")[-1]
        [address] = serving["listen"]
        question = ("health", "--address", address)
        trust = ("--tls-ca", str(tls.ca_file(tmp_path)))
        show = ("--tls-cert", own.chain, "--tls-key", own.key)

        assert serving["transport"] == transport
        assert authz(*question, *trust, *show).stdout == f"{address} SERVING\n"
        assert authz(*question, *trust).exit_code == 1
        assert authz(*question).exit_code == 1
    usage = authz(*question, *show)
    assert (usage.exit_code, "--tls-ca" in usage.stderr) == (2, True)
    half = authz(*question, *trust, *show[:2])
    assert (half.exit_code, "belong together" in half.stderr) == (2, True)


@pytest.mark.parametrize("flag", ["--max-connection-age", "--grace", "--drain-delay"])
@pytest.mark.parametrize("seconds", ["nan", "inf", "1e30", "-1"])
def test_seconds_that_no_clock_counts_are_refused(flag: str, seconds: str) -> None:
    done = authz("serve", "-c", WORKSHOP, flag, seconds)

    assert (done.exit_code, flag in done.stderr) == (2, True)


def test_RL_06_serve_starts_without_its_provider_and_says_why(
    connect_to: str, idp: RunningIdp
) -> None:
    idp.stop()
    listen = ("--listen", "127.0.0.1:0")
    with served("-c", WORKSHOP, "--connect-to", connect_to, *listen) as process:
        why = events(process, "listening, not ready")[-1]["message"]
        assert ISSUER in why
        process.send_signal(signal.SIGINT)
        events(process, "stopped")
        assert process.wait(20) == 0


def test_a_configuration_from_standard_input_cannot_be_reloaded(connect_to: str) -> None:
    listen = ("--listen", "127.0.0.1:0")
    with served("-c", "-", "--connect-to", connect_to, *listen) as process:
        assert process.stdin is not None
        process.stdin.write(Path(WORKSHOP).read_text())
        process.stdin.close()
        events(process, "serving")
        process.send_signal(signal.SIGHUP)
        reason, _ = events(process, "the configuration of before stays in force")
        assert "was read at the start" in reason["message"]


def test_CF_16_serve_with_a_broken_file_listens_nowhere_and_says_what_validate_says(
    broken: str,
) -> None:
    validated = authz("validate", "-c", broken)
    with served("-c", broken) as process:
        assert process.wait(20) == validated.exit_code == 1
        assert process.stderr is not None
        messages = [json.loads(line)["message"] for line in process.stderr]

    complaints = [line for line in validated.stderr.splitlines() if line.startswith(broken)]
    assert complaints
    assert [message for message in messages if message.startswith(broken)] == complaints


def test_GR_18_serve_on_a_port_in_use_says_so_in_one_line_and_fails() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with served("-c", WORKSHOP, "--log-level", "error", "--listen", address) as process:
            assert process.wait(20) == 1
            assert process.stderr is not None
            [line] = process.stderr

    assert json.loads(line)["message"] == f"cannot listen on {address}: Address already in use"


def test_C10_H10_serve_logs_a_misspelt_variable_and_a_low_limit_of_files_first(
    connect_to: str,
) -> None:
    arguments = ("serve", "-c", WORKSHOP, "--connect-to", connect_to, "--listen", "127.0.0.1:0")
    limited = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, (200, 200)); {START}"
    environ = {"AUTHZ_LSTEN": "127.0.0.1:1", "AUTHZ_ADMIN": "off", "HTTPS_PROXY": "http://x.test"}
    with python("-c", limited, *arguments, env=environ) as process:
        spelling, proxy, files = (e for e in events(process, "serving") if e["level"] == "warning")

    assert spelling["message"].endswith("did you mean AUTHZ_LISTEN?")
    assert proxy["message"].startswith("HTTPS_PROXY in the environment: ")  # B4
    assert files["message"].startswith("the process may have 200 files open (ulimit -n), and its")
    assert "16384 connections of callers" in files["message"]


def test_H10_the_limit_of_files_is_raised_as_far_as_the_bounds_need_and_it_may_be() -> None:
    raised = (
        "import resource as r; from authz.descriptors import allow_enough; "
        "from authz.settings import Settings; r.setrlimit(r.RLIMIT_NOFILE, (200, 18_000)); "
        "print(allow_enough(Settings()), *r.getrlimit(r.RLIMIT_NOFILE)); "
        "print(allow_enough(Settings()), *r.getrlimit(r.RLIMIT_NOFILE))"
    )
    with python("-c", raised) as process:
        assert process.communicate()[0] == "None 16640 18000\n" * 2


def test_the_development_provider_listens_on_loopback_only() -> None:
    result = authz("idp", "--listen", "192.0.2.1:0")

    assert result.exit_code == 2
    assert "for development" in result.output


def test_version_is_the_packages() -> None:
    assert authz("version").stdout == f"authz {__version__}\n"
    assert json.loads(authz("version", "-o", "json").stdout)["authz"] == __version__
