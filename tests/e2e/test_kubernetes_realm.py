"""The Keycloak of deploy/kubernetes: its realm and its arguments, in a real Keycloak."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

import yaml
from support.deployment import authz_check
from support.derived import KUBERNETES
from support.keycloak import Keycloak
from support.pages import Page

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

DIRECTORY = KUBERNETES / "overlays" / "dev" / "keycloak"


class AsInTheManifest(Keycloak):
    """Keycloak with the manifest's arguments, and on a loopback port."""

    def command(self, directory: Path) -> list[str]:
        program, *_ = super().command(directory)
        here = ["--http-host=127.0.0.1", f"--http-port={self.port}"]
        return [program, *container()["args"], *here]

    def environment(self, directory: Path) -> dict[str, str]:
        pairs = {each["name"]: each["value"] for each in container()["env"]}
        return super().environment(directory) | pairs


def container() -> dict[str, Any]:
    each = yaml.safe_load_all((DIRECTORY / "keycloak.yaml").read_text())
    [deployment] = [one for one in each if one["kind"] == "Deployment"]
    [only] = deployment["spec"]["template"]["spec"]["containers"]
    found: dict[str, Any] = only
    return found


def test_the_pages_caller_gets_a_token_from_the_realm(say: Callable[[str], None]) -> None:
    [request] = [one for one in Page("kubernetes.md").commands if one.startswith("curl")]
    words = shlex.split(request)
    client, _, secret = words[words.index("-u") + 1].partition(":")
    say("starting the Keycloak of deploy/kubernetes: 30 to 120 s")

    with AsInTheManifest(DIRECTORY / "realm.json") as keycloak:
        code, lines = authz_check(
            KUBERNETES / "base" / "kong.yaml",
            keycloak.port,
            (client, secret),
            "http://httpbin.kong:8000/oidc-route/get",
        )

    assert code == 0, lines
