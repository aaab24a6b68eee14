"""`authz manifests --for kubernetes`: one kustomization that holds the configuration."""

from __future__ import annotations

from typing import Any

import pytest
import yaml
from support import tls
from support.configuration import FORMAT, load_files

from authz.envoy.bootstrap import BootstrapOptions, render
from authz.errors import ConfigurationError
from authz.kubernetes.kustomization import Options, write

PLAIN = FORMAT + "services: [{name: shop, host: shop.shop.svc, port: 80}]\n"
SECRET = (
    FORMAT
    + """\
plugins:
- name: openid-connect
  service: shop
  config:
    issuer: https://idp.example/realms/main
    auth_methods: [introspection]
    client_id: [shop]
    client_secret: [not-a-real-secret]
"""
)


def written(
    tmp_path: Any, files: dict[str, str], **options: Any
) -> tuple[dict[str, Any], list[str]]:
    paths = []
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        paths.append(path)
    gateway = load_files(*paths)
    sources = [(str(path), path.read_bytes()) for path in paths]
    made, notices = write(gateway, sources, "envoy: true\n", Options(**options))
    return made, [f"{notice.parameter}: {notice.message}" for notice in notices]


def literals(made: dict[str, Any], kind: str, name: str) -> dict[str, str]:
    [found] = [each for each in made.get(kind, ()) if each["name"] == name]
    return dict(text.split("=", 1) for text in found["literals"])


def test_the_configuration_stands_in_it_byte_for_byte(tmp_path: Any) -> None:
    made, _ = written(tmp_path, {"kong.yaml": PLAIN}, resources=("shop.yaml",))

    assert literals(made, "configMapGenerator", "authz-config") == {"kong.yaml": PLAIN}
    assert literals(made, "configMapGenerator", "authz-envoy") == {"envoy.yaml": "envoy: true\n"}
    assert made["resources"] == ["authz/deploy/kubernetes/base", "shop.yaml"]
    assert made["components"] == ["authz/deploy/kubernetes/components/sidecar"]


def test_a_file_with_a_secret_becomes_a_secret(tmp_path: Any) -> None:
    made, _ = written(tmp_path, {"kong.yaml": PLAIN, "plugins.yaml": SECRET})

    assert literals(made, "configMapGenerator", "authz-config") == {"kong.yaml": PLAIN}
    assert literals(made, "secretGenerator", "authz-secrets") == {"plugins.yaml": SECRET}


def with_certificate() -> str:
    """A file whose service is shown a certificate with its private key."""
    issued = tls.authority().issue_cert("shop.example")
    content = {
        "_format_version": "3.0",
        "certificates": [
            {
                "id": "7fc1a4a5-7b21-4c7f-9d3b-0d6ab9c7e0a1",
                "cert": issued.cert_chain_pems[0].bytes().decode(),
                "key": issued.private_key_pem.bytes().decode(),
            }
        ],
        "services": [
            {
                "name": "shop",
                "host": "127.0.0.1",
                "port": 8443,
                "protocol": "https",
                "tls_verify": False,
                "client_certificate": {"id": "7fc1a4a5-7b21-4c7f-9d3b-0d6ab9c7e0a1"},
                "routes": [{"name": "all", "paths": ["/"], "tags": ["authz-open"]}],
            }
        ],
    }
    return yaml.safe_dump(content, sort_keys=False)


def test_a_private_key_stands_in_secrets_alone(tmp_path: Any) -> None:
    path = tmp_path / "kong.yaml"
    path.write_text(with_certificate())
    gateway = load_files(path)
    envoy = render(gateway, BootstrapOptions())
    made, _ = write(gateway, [(str(path), path.read_bytes())], envoy, Options())

    assert "PRIVATE KEY" in envoy
    assert "PRIVATE KEY" not in str(made["configMapGenerator"])
    assert {each["name"] for each in made["secretGenerator"]} == {"authz-secrets", "authz-envoy"}
    [change] = [yaml.safe_load(each["patch"]) for each in made["patches"]]
    [volume] = change["spec"]["template"]["spec"]["volumes"]
    assert volume["secret"]["secretName"] == "authz-envoy"


def test_nothing_of_the_workshops_stays_where_all_files_are_secret(tmp_path: Any) -> None:
    made, _ = written(tmp_path, {"kong.yaml": PLAIN + SECRET.removeprefix(FORMAT)})

    assert set(literals(made, "configMapGenerator", "authz-config")) == {"README"}
    [config, _] = made["configMapGenerator"]
    assert config["behavior"] == "replace"


def test_files_are_merged_in_the_pod_in_the_order_in_which_they_were_given(tmp_path: Any) -> None:
    others = {"b/kong.yaml": FORMAT, "a.json": "{}", "b/a.json": "{}"}
    made, _ = written(tmp_path, {"b.yaml": PLAIN, **others})

    names = list(literals(made, "configMapGenerator", "authz-config"))
    assert names == sorted(names)
    assert len(set(names)) == 4
    assert names[0] == "b.yaml"


def test_a_text_that_begins_with_a_quote_keeps_it(tmp_path: Any) -> None:
    # kustomize takes quotes away at either end of a literal.
    made, _ = written(tmp_path, {"kong.yaml": '"_format_version": "3.0"'})

    text = literals(made, "configMapGenerator", "authz-config")["kong.yaml"]
    assert text == '\n"_format_version": "3.0"\n'


def test_what_is_left_to_do_is_named(tmp_path: Any) -> None:
    text = PLAIN.replace("shop.shop.svc", '${{ env "DECK_HOST" }}')
    path = tmp_path / "kong.yaml"
    path.write_text(text)
    gateway = load_files(path, environ={"DECK_HOST": "shop"})
    _, notices = write(gateway, [(str(path), text.encode())], "", Options())

    said = "\n".join(map(str, notices))
    assert "DECK_HOST" in said
    assert "--resource" in said
    assert "--connect-to shop:80:127.0.0.1:PORT" in said


@pytest.mark.parametrize(
    ("issuer", "egress"),
    [
        (
            "https://idp.auth.svc/realms/main",
            [
                {
                    "to": [
                        {
                            "namespaceSelector": {
                                "matchLabels": {"kubernetes.io/metadata.name": "auth"}
                            }
                        }
                    ]
                }
            ],
        ),
        ("https://idp.example/realms/main", [{"ports": [{"port": 443, "protocol": "TCP"}]}]),
        ("http://idp.example:8080/realms/main", [{"ports": [{"port": 8080, "protocol": "TCP"}]}]),
    ],
    ids=["in the cluster", "beyond it", "at a port"],
)
def test_authz_may_reach_the_providers_of_the_file(
    tmp_path: Any, issuer: str, egress: list[Any]
) -> None:
    text = SECRET.replace("https://idp.example/realms/main", issuer)
    files = {"kong.yaml": PLAIN, "plugins.yaml": text}
    made, notices = written(tmp_path, files, resources=("shop.yaml",))

    [patch] = made["patches"]
    [change] = yaml.safe_load(patch["patch"])
    assert (change["op"], change["path"], change["value"]) == ("replace", "/spec/egress", egress)
    assert any("narrow it" in notice for notice in notices) == ("ports" in egress[0])


def test_the_shared_variant_replaces_the_configuration_and_tells_the_flag(tmp_path: Any) -> None:
    made, _ = written(
        tmp_path,
        {"kong.yaml": PLAIN},
        variant="shared",
        route_metadata="envoy-gateway",
        image=("registry.example/authz", "1"),
    )

    assert made["namespace"] == "authz"
    assert made["resources"] == ["authz/deploy/kubernetes/overlays/shared"]
    assert "components" not in made
    assert made["images"] == [{"name": "authz", "newName": "registry.example/authz", "newTag": "1"}]
    [change] = yaml.safe_load(made["patches"][0]["patch"])
    assert change["value"] == "--route-metadata=envoy-gateway"


def test_a_file_that_no_object_takes_is_refused(tmp_path: Any) -> None:
    with pytest.raises(ConfigurationError, match="split it"):
        written(tmp_path, {"kong.yaml": PLAIN + "#" * 1024 * 1024})
