"""Files as people write them for Kong: what is written of them, and that Envoy takes it."""

from __future__ import annotations

import json
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from support.configuration import load
from support.decks import decks

from authz.envoy.bootstrap import BootstrapOptions, build, notices
from authz.errors import ConfigurationError

ENVOY = Path(os.environ.get("AUTHZ_ENVOY", Path(__file__).parents[2] / ".parts/bin/envoy"))
DECKS = decks()
OPTIONS = BootstrapOptions()

UNWRITTEN = {
    "key-auth": "key-auth decides who gets in and is not done here",
    "jwt": "jwt decides who gets in and is not done here",
    "acl": "acl decides who gets in and is not done here",
    "pre-function": "pre-function decides who gets in and is not done here",
    "path-handling-v1": "path_handling: v1 cannot be written for Envoy: use v0",
    "encoded-path": "nothing is written, for what can be said of this route takes requests of",
}
"""Of which nothing is written, and the words that say why."""

NAMED = {
    "workspace": ["tls_verify: is not said"],
    "https-service": ["tls_verify: is not said"],
    "rate-limits": ["rate-limiting is not written: Envoy counts otherwise"] * 2,
    "logging": ["http-log is not written", "file-log is not", "prometheus is not"],
    "transformers": ["request-transformer is not written", "response-transformer is not"],
    "correlation": ["correlation-id is not written"],
    "size-limit": ["request-size-limiting is not written"],
    "proxy-cache": ["proxy-cache is not written"],
    "consumer-limits": ["rate-limiting (for consumer at"] * 2,
    "left-out": ["the route is left out, and no other takes its requests"],
    "stand-in": ["503 route_not_written to what begins with /lab/"],
}
"""What is said of a file that is written; of all others nothing."""

BATCH = 16


def test_there_are_sixty_files_of_which_fifty_are_written() -> None:
    assert len(DECKS) >= 60
    assert len(DECKS) - len(UNWRITTEN) >= 50


@pytest.mark.parametrize(("name", "words"), UNWRITTEN.items())
def test_E6_a_file_that_is_not_written_says_why(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        build(load(DECKS[name]), OPTIONS)
    [problem] = caught.value.problems
    assert words in str(problem)


@pytest.mark.parametrize("name", sorted(DECKS.keys() - UNWRITTEN.keys()))
def test_E5_what_is_not_written_is_named(name: str) -> None:
    said = [str(notice) for notice in notices(load(DECKS[name]), OPTIONS)]
    assert len(said) == len(NAMED.get(name, ()))
    for notice, words in zip(said, NAMED.get(name, ()), strict=True):
        assert words in notice


# Envoy takes a second to start: several are validated at a time, as many as there are cores.
WRITTEN = sorted(DECKS.keys() - UNWRITTEN.keys())


@pytest.mark.parametrize("first", range(0, len(WRITTEN), BATCH))
def test_E6_envoy_takes_what_is_written(first: int, tmp_path: Path) -> None:
    def validated(name: str) -> str | None:
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(build(load(DECKS[name]), OPTIONS)))
        command = [str(ENVOY), "--mode", "validate", "--disable-hot-restart", "-c", str(path)]
        done = subprocess.run(  # noqa: S603 - the part under test
            command, capture_output=True, text=True, timeout=30, check=False
        )
        return f"{name}: {done.stderr}" if done.returncode else None

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        faults = list(filter(None, pool.map(validated, WRITTEN[first : first + BATCH])))
    assert not faults
