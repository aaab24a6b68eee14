"""``make audit``: green only if the databases were asked, and know of nothing."""

from __future__ import annotations

import json
import os
import subprocess
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
from support.locks import ROOT

from authz.demo.parts import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.timeout(300)

LOCKS = {"runtime.txt": "alpha==1.0 \\\n", "parts.txt": "alpha==2.0 \\\nbeta==1.0 \\\n"}

KNOWN = {
    "id": "PYSEC-2026-1",
    "aliases": ["CVE-2026-0001"],
    "summary": "a request of one byte is enough",
    "affected": [
        {
            "package": {"name": "alpha", "ecosystem": "PyPI"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "1.1"}]}],
        }
    ],
}

RUST_CLEAN: dict[str, Any] = {"vulnerabilities": {"list": []}}
RUST_KNOWN = {
    "vulnerabilities": {
        "list": [
            {
                "advisory": {"id": "RUSTSEC-2026-0001", "aliases": []},
                "package": {"name": "crate", "version": "0.1.0"},
                "versions": {"patched": [">=0.2.0"]},
            }
        ]
    }
}


class Osv(ThreadingHTTPServer):
    """Speaks OSV's interface: which advisories there are for one version of one package."""

    daemon_threads = True

    def __init__(self, known: dict[tuple[str, str], list[Any]]) -> None:
        super().__init__(("127.0.0.1", 0), _Query)
        self.known = known
        self.asked: set[tuple[str, str]] = set()


class _Query(BaseHTTPRequestHandler):
    server: Osv

    def do_POST(self) -> None:
        query = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        pin = query["package"]["name"], query["version"]
        self.server.asked.add(pin)
        found = self.server.known.get(pin)
        body = json.dumps({"vulns": found} if found else {}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def osv(**known: list[Any]) -> Iterator[Osv]:
    """A database that knows these of version 1.0 of packages."""
    with Osv({(name, "1.0"): each for name, each in known.items()}) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Two locks, a list that accepts nothing, and a cargo-audit that tells of nothing."""
    for name, text in LOCKS.items():
        (tmp_path / name).write_text(text)
    accept(tmp_path)
    rust(tmp_path, json.dumps(RUST_CLEAN))
    return tmp_path


def rust(directory: Path, says: str) -> None:
    """Put a cargo-audit there that writes this; the real one reads a database from far away."""
    (directory / "says").write_text(says)
    program = directory / "cargo-audit"
    program.write_text(f'#!/bin/sh\ncat "{directory}/says"\necho "no database" >&2\nexit 1\n')
    program.chmod(0o755)


def accept(directory: Path, *entries: tuple[str, str]) -> None:
    """Accept these advisories, each an id and a package."""
    lines = [
        f'{{id = "{id_}", package = "{name}", reason = "not called"}}' for id_, name in entries
    ]
    (directory / "advisories.toml").write_text(f"accepted = [{', '.join(lines)}]\n")


def audit(directory: Path, url: str) -> tuple[int, str]:
    done = subprocess.run(  # noqa: S603 - a list, and no shell
        [
            ROOT / ".audit" / "bin" / "python",
            ROOT / "requirements" / "audit.py",
            *("--locks", directory),
            *("--advisories", directory / "advisories.toml"),
            *("--osv-url", url),
            *("--cargo-audit", directory / "cargo-audit"),
        ],
        env={**os.environ, "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def asked(directory: Path, database: Osv) -> tuple[int, str]:
    return audit(directory, f"http://127.0.0.1:{database.server_port}/v1/query")


def test_G_20_all_asked_and_nothing_known_is_green(directory: Path) -> None:
    with osv() as database:
        code, said = asked(directory, database)

    assert code == 0, said
    # Every pin of every lock, two versions of one package among them.
    assert database.asked == {("alpha", "1.0"), ("alpha", "2.0"), ("beta", "1.0")}


def test_G_20_an_advisory_is_named_with_its_lock_and_its_fix(directory: Path) -> None:
    with osv(alpha=[KNOWN]) as database:
        code, said = asked(directory, database)

    assert code == 1
    assert "alpha 1.0 (runtime.txt): CVE-2026-0001, PYSEC-2026-1; fixed in 1.1" in said


def test_G_20_a_crates_advisory_is_named_with_its_lock_and_its_fix(directory: Path) -> None:
    rust(directory, json.dumps(RUST_KNOWN))
    with osv() as database:
        code, said = asked(directory, database)

    assert code == 1
    assert "crate 0.1.0 (native/Cargo.lock): RUSTSEC-2026-0001; fixed in >=0.2.0" in said


@pytest.mark.parametrize("name", ["PYSEC-2026-1", "CVE-2026-0001"])
def test_G_20_an_advisory_that_is_listed_with_a_reason_passes(directory: Path, name: str) -> None:
    accept(directory, (name, "alpha"))
    with osv(alpha=[KNOWN]) as database:
        code, said = asked(directory, database)

    assert code == 0, said
    assert "accepted: alpha 1.0" in said
    assert "not called" in said


def test_G_20_an_advisory_that_is_listed_for_another_package_does_not_pass(directory: Path) -> None:
    accept(directory, ("PYSEC-2026-1", "beta"))
    with osv(alpha=[KNOWN]) as database:
        code, _ = asked(directory, database)

    assert code == 1


def test_G_20_a_listed_advisory_that_is_found_no_more_is_named(directory: Path) -> None:
    accept(directory, ("PYSEC-2026-1", "alpha"))
    with osv() as database:
        code, said = asked(directory, database)

    assert code == 0, said
    assert "PYSEC-2026-1 of alpha is accepted and no longer found: take it out" in said


def test_G_20_a_database_out_of_reach_is_not_run_and_never_green(directory: Path) -> None:
    code, said = audit(directory, f"http://127.0.0.1:{free_port()}/v1/query")

    assert code == 2
    assert "Python: NOT RUN:" in said
    assert "Connection refused" in said


def test_G_20_a_cargo_audit_without_its_database_is_not_run_and_never_green(
    directory: Path,
) -> None:
    rust(directory, "")
    accept(directory, ("RUSTSEC-2026-0001", "crate"))
    with osv() as database:
        code, said = asked(directory, database)

    assert code == 2
    assert "Rust: NOT RUN: no database" in said
    assert "take it out" not in said  # nobody knows
