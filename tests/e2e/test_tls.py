"""TLS between Envoy and authz, with certificates on both sides, as the README shows it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support import tls

from authz.demo.parts import CHECKOUT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.deployment import Change, Deployment

PATH = "/oidc-route/get"


@pytest.fixture
def files(tmp_path: Path) -> tls.Files:
    """The listener's certificate, and the authority of Envoy's."""
    files = tls.Files(tmp_path / "authz")
    files.write(clients=tls.authority("clients"))
    return files


@pytest.fixture
def authz(deploy: Callable[..., Deployment], files: tls.Files) -> Iterator[Deployment]:
    pair = ("--tls-cert", files.chain, "--tls-key", files.key)
    with deploy(flags=(*pair, "--tls-client-ca", files.client_ca)) as running:
        yield running


def shown(directory: Path, *, signed_by: str) -> Change:
    """Give the cluster of authz the README's transport socket, with files of this test."""
    own = tls.Files(directory / signed_by)
    own.write(tls.authority(signed_by))
    paths = {
        "/etc/envoy/authz-ca.pem": str(tls.ca_file(directory)),
        "/etc/envoy/client.pem": own.chain,
        "/etc/envoy/client-key.pem": own.key,
    }
    readme = (CHECKOUT / "README.md").read_text("utf-8")
    [snippet] = re.findall(r"```yaml\n(transport_socket:.*?)```", readme, flags=re.DOTALL)
    for path, here in paths.items():
        assert path in snippet
        snippet = snippet.replace(path, here)

    def change(bootstrap: dict[str, Any]) -> None:
        clusters = bootstrap["static_resources"]["clusters"]
        (cluster,) = (each for each in clusters if each["name"] == "authz")
        cluster.update(yaml.safe_load(snippet))

    return change


def test_envoy_with_a_certificate_of_the_right_authority_is_answered(
    authz: Deployment, tmp_path: Path, kong_id: tuple[str, str]
) -> None:
    with authz.edge(shown(tmp_path, signed_by="clients")) as envoy:
        assert envoy.curl(PATH, user=kong_id).status == 200


def test_GR_11_envoy_with_another_certificate_gets_nothing_and_lets_nobody_in(
    authz: Deployment, tmp_path: Path, kong_id: tuple[str, str]
) -> None:
    with authz.edge(shown(tmp_path, signed_by="strangers")) as envoy:
        assert envoy.curl(PATH, user=kong_id).status == 503


def test_GR_11_envoy_without_tls_gets_nothing_and_lets_nobody_in(
    authz: Deployment, kong_id: tuple[str, str]
) -> None:
    with authz.edge() as envoy:
        assert envoy.curl(PATH, user=kong_id).status == 503
