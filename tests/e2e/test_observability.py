"""Prometheus' own tool reads the alerts and the board: each alert fires, and each is silent."""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.observability import BOARD, RULES, alerts, expressions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

JOB = 'instance="a:9192",job="authz"'
IDP = 'issuer="https://idp.example"'
HOUR_MINUTES = 60


@dataclass(frozen=True)
class Case:
    """Series at which an alert fires, and series at which it must not; one value a minute.

    Values in promtool's notation: ``0+5x20`` is 0, 5, 10 … twenty times.
    """

    fires: Mapping[str, str]
    silent: Mapping[str, str]
    minutes: int = 20


def denied(reason: str) -> str:
    return f'authz_checks_total{{{JOB},reason="{reason}",verdict="deny"}}'


ONCE = "0x9 1x20"
"""One event, ten minutes from the start."""

BUCKETS = {
    "authz_idp_request_duration_seconds": (f'{IDP},endpoint="token",outcome="ok",', "2.5", "5"),
    "authz_cached_check_duration_seconds": ("", "0.01", "0.1"),
}


def times(name: str, *, slow: int) -> dict[str, str]:
    """A histogram of 100 a minute, of which so many are above what the alert bears."""
    labels, below, above = BUCKETS[name]
    return {
        f'{name}_bucket{{{JOB},{labels}le="0.00001"}}': f"0+{100 - slow}x30",
        f'{name}_bucket{{{JOB},{labels}le="{below}"}}': f"0+{100 - slow}x30",
        f'{name}_bucket{{{JOB},{labels}le="{above}"}}': "0+100x30",
        f'{name}_bucket{{{JOB},{labels}le="+Inf"}}': "0+100x30",
    }


def two(reason: str, rate: int = 3) -> dict[str, str]:
    """The same trouble on two instances."""
    series = denied(reason)
    return {series: f"0+{rate}x30", series.replace("a:9192", "b:9192"): f"0+{rate}x30"}


UP = f'authz_build_info{{{JOB},version="1"}}'
CASES: Mapping[str, Case] = {
    "AuthzAbsent": Case({"up": "1x30"}, {UP: "1x30"}),
    "AuthzCallersTurnedAway": Case(two("keys_unavailable"), {denied("idp_unavailable"): ONCE}),
    "AuthzIdentityMismatch": Case(
        {denied("identity_mismatch"): ONCE}, {denied("identity_mismatch"): "7x30"}
    ),
    "AuthzInternalError": Case(
        {denied("internal_error"): ONCE}, {denied("secret_rejected"): "0+9x30"}
    ),
    "AuthzConfiguredApart": Case(
        {denied("route_unknown"): "0+1x30"},
        {denied("route_unmatched"): "0+9x30", denied("route_unknown"): ONCE},
    ),
    "AuthzOverloaded": Case({denied("overloaded"): "0+2x30"}, {denied("overloaded"): ONCE}),
    "AuthzGuessing": Case(
        {denied("guessing_throttled"): "0+60x30"}, {denied("guessing_throttled"): "0+2x30"}
    ),
    "AuthzRenewalsFail": Case(
        {f'authz_token_renewals_total{{{JOB},outcome="failed"}}': "0+1x30"},
        {
            f'authz_token_renewals_total{{{JOB},outcome="ok"}}': "0+9x30",
            f'authz_token_renewals_total{{{JOB},outcome="failed"}}': ONCE,
        },
    ),
    "AuthzRenewalsLate": Case(
        {f'authz_token_waits_total{{{JOB},kind="renewal"}}': "0+1x30"},
        {
            f'authz_token_waits_total{{{JOB},kind="first"}}': "0+9x30",
            f'authz_token_waits_total{{{JOB},kind="renewal"}}': ONCE,
        },
    ),
    "AuthzProviderSlow": Case(
        times("authz_idp_request_duration_seconds", slow=20),
        times("authz_idp_request_duration_seconds", slow=2),
    ),
    "AuthzCachedAnswersSlow": Case(
        times("authz_cached_check_duration_seconds", slow=5),
        times("authz_cached_check_duration_seconds", slow=0),
    ),
    "AuthzKeysMissing": Case(
        {f'authz_jwks_keys{{{JOB},{IDP},use="usable"}}': "2x9 0x20"},
        {
            f'authz_jwks_keys{{{JOB},{IDP},use="usable"}}': "2x30",
            f'authz_jwks_keys{{{JOB},{IDP},use="skipped"}}': "0x30",
        },
    ),
    "AuthzKeysOld": Case(
        {f"authz_jwks_fetched_timestamp_seconds{{{JOB},{IDP}}}": "0x300"},
        {f"authz_jwks_fetched_timestamp_seconds{{{JOB},{IDP}}}": "0x120 7200x180"},
        minutes=5 * HOUR_MINUTES,
    ),
    "AuthzClockAhead": Case(
        {f"authz_idp_clock_ahead_seconds{{{JOB},{IDP}}}": "4x30"},
        {f"authz_idp_clock_ahead_seconds{{{JOB},{IDP}}}": "0x9 4x5 0x20"},
    ),
    "AuthzReloadFailed": Case(
        {f"authz_config_last_reload_successful{{{JOB}}}": "1x9 0x20"},
        {f"authz_config_last_reload_successful{{{JOB}}}": "1x9 0x2 1x20"},
    ),
    "AuthzWorkersEnd": Case(
        {f"authz_worker_restarts_total{{{JOB}}}": "0x9 1 2 3 4 5x20"},
        {f"authz_worker_restarts_total{{{JOB}}}": ONCE},
    ),
    "AuthzWorkerHangs": Case(
        {f"authz_worker_reports_missed_total{{{JOB}}}": "0+1x30"},
        {f"authz_worker_reports_missed_total{{{JOB}}}": ONCE},
    ),
    "AuthzDescriptorsShort": Case(
        {
            UP: "1x30",
            f"process_open_fds{{{JOB}}}": "900x30",
            f"process_max_fds{{{JOB}}}": "1000x30",
        },
        {
            UP: "1x30",
            f"process_open_fds{{{JOB}}}": "700x30",
            f"process_max_fds{{{JOB}}}": "1000x30",
            # Another program of the same Prometheus.
            'process_open_fds{instance="c:1",job="other"}': "999x30",
            'process_max_fds{instance="c:1",job="other"}': "1000x30",
        },
    ),
}


def promtool(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("promtool")
    assert program, "promtool is missing: apt-get install prometheus, or prometheus.io/download"
    return subprocess.run(  # noqa: S603 - a list, and no shell
        [program, *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def fired(alert: str) -> str:
    return f'count(ALERTS{{alertname="{alert}",alertstate="firing"}}) or vector(0)'


def scene(alert: str, series: Mapping[str, str], minutes: int, firing: int) -> dict[str, Any]:
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": [
            {
                "expr": fired(alert),
                "eval_time": f"{minute}m",
                "exp_samples": [{"labels": "{}", "value": firing}],
            }
            # An alert that must be silent is so all the time.
            for minute in ([minutes] if firing else range(0, minutes + 1, 1 + minutes // 40))
        ],
    }


def run(directory: Path, *tests: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    document = {"rule_files": [str(RULES)], "evaluation_interval": "1m", "tests": list(tests)}
    path = directory / "tests.yaml"
    path.write_text(yaml.safe_dump(document))
    return promtool("test", "rules", str(path))


def test_prometheus_takes_the_rules() -> None:
    done = promtool("check", "rules", str(RULES))

    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_a_case() -> None:
    assert CASES.keys() == {alert["alert"] for alert in alerts()}


@pytest.mark.parametrize("alert", CASES)
def test_an_alert_fires_when_it_should_and_only_then(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]

    done = run(
        tmp_path,
        scene(alert, case.fires, case.minutes, firing=1),
        scene(alert, case.silent, case.minutes, firing=0),
    )

    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alert", CASES)
def test_the_cases_can_fail(alert: str, tmp_path: Path) -> None:
    case = CASES[alert]

    done = run(tmp_path, scene(alert, case.silent, case.minutes, firing=1))

    assert done.returncode == 1
    assert "got: {} 0E+00" in done.stdout + done.stderr


def test_what_an_operator_reads_is_filled_in(tmp_path: Path) -> None:
    told = {
        "interval": "1m",
        "input_series": [
            {"series": name, "values": values} for name, values in two("idp_throttled").items()
        ],
        "alert_rule_test": [
            {
                "eval_time": "20m",
                "alertname": "AuthzCallersTurnedAway",
                "exp_alerts": [
                    {
                        "exp_labels": {
                            "severity": "critical",
                            "job": "authz",
                            "reason": "idp_throttled",
                        },
                        "exp_annotations": {
                            "summary": "Callers get 503 for no fault of theirs: idp_throttled.",
                            "description": "0.10 requests a second are refused because of the "
                            "identity provider, or of how it is asked.",
                            "runbook": "docs/reasons.md#authzcallersturnedaway",
                        },
                    }
                ],
            }
        ],
    }

    done = run(tmp_path, told)

    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_can_read_every_query_of_the_board(tmp_path: Path) -> None:
    queries = [
        {"record": f"query:{number}", "expr": query}
        for number, query in enumerate(expressions(json.loads(BOARD.read_text())))
    ]
    path = tmp_path / "board.yaml"
    path.write_text(yaml.safe_dump({"groups": [{"name": "board", "rules": queries}]}))

    done = promtool("check", "rules", str(path))

    assert len(queries) > 10
    assert done.returncode == 0, done.stdout + done.stderr
