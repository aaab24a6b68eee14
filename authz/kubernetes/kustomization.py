"""A kustomization for one configuration: what docs/kubernetes.md has a reader put together.

It is one file, and the configuration stands in it: a file with a secret in the Secret
``authz-secrets``, any other in the ConfigMap ``authz-config``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from authz import yaml_writer
from authz.errors import ConfigurationError
from authz.kubernetes.objects import Object, in_cluster
from authz.model import Diagnostic, SourcePosition
from authz.net import is_loopback
from authz.secret import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from authz.model import Gateway

Variant = Literal["sidecar", "shared"]

API = "kustomize.config.k8s.io/v1beta1"
SOCKET = "/run/authz/authz.sock"
LISTEN = ("0.0.0.0", 8000)  # noqa: S104 - of the pod, as the component's probes and ports have it

_SUFFIXES = (".yaml", ".yml", ".json")
_TEXT_BYTES_MAX = 1024 * 1024  # of a ConfigMap or a Secret
_FROM_ENVIRONMENT = re.compile(
    r"""\$\{\{\s*env\s+"?(?P<deck>DECK_\w+)|\{vault://env/(?P<vault>[\w-]+)"""
)


@dataclass(frozen=True, slots=True)
class Options:
    """What the files do not say.

    ``deploy``: where ``deploy/kubernetes`` of this repository is, seen from the kustomization.
    ``resources``: manifests of the application, with the label ``authz: sidecar``.
    ``image``: the name and the tag of authz's image.  ``route_metadata``: of ``authz serve``.
    ``connect_to``: where Envoy reaches a service's (host, port).
    """

    variant: Variant = "sidecar"
    namespace: str | None = None
    deploy: str = "authz/deploy/kubernetes"
    resources: tuple[str, ...] = ()
    image: tuple[str, str] | None = None
    route_metadata: str | None = None
    connect_to: Mapping[tuple[str, int], tuple[str, int]] = field(default_factory=dict)


def write(
    gateway: Gateway, files: Sequence[tuple[str, bytes]], envoy: str, options: Options
) -> tuple[Object, list[Diagnostic]]:
    """Return the kustomization, and what is left to do.

    ``files``: their names and bytes, in the order in which they are merged.  ``envoy``: what
    ``authz envoy`` writes; ``""`` for ``shared``.
    ConfigurationError: a file is too large for an object, or no text.
    """
    texts = _texts(files)
    secret = _files_with_secrets(gateway)
    plain = [f"{name}={text}" for path, name, text in texts if path not in secret]
    hidden = [f"{name}={text}" for path, name, text in texts if path in secret]
    notices = [*_environment(texts), *_application(gateway, options)]
    kustomization: Object = {"apiVersion": API, "kind": "Kustomization"}
    sidecar = options.variant == "sidecar"
    namespace = options.namespace or (None if sidecar else "authz")
    if namespace:
        kustomization["namespace"] = namespace
    base = f"{options.deploy}/{'base' if sidecar else 'overlays/shared'}"
    kustomization["resources"] = [base, *options.resources]
    if sidecar:
        kustomization["components"] = [f"{options.deploy}/components/sidecar"]
    if options.image is not None:
        name, tag = options.image
        kustomization["images"] = [{"name": "authz", "newName": name, "newTag": tag}]
    # A generator without a file would leave the base's: a README is no configuration.
    config = plain or ["README=The configuration is in the Secret authz-secrets.\n"]
    generated = [{"name": "authz-config", "behavior": "replace", "literals": config}]
    secrets = [{"name": "authz-secrets", "literals": hidden}] if hidden else []
    patches = [*_to_providers(gateway, notices), *_arguments(options)]
    if sidecar:
        # What Envoy shows to a service has a private key in it.
        has_key = any(_shows(gateway, envoy))
        told = {"name": "authz-envoy", "literals": [f"envoy.yaml={envoy}"]}
        (secrets if has_key else generated).append(told)
        if has_key:
            patches.append(_ENVOY_FROM_SECRET)
    kustomization["configMapGenerator"] = generated
    if secrets:
        kustomization["secretGenerator"] = secrets
    if patches:
        kustomization["patches"] = patches
    return kustomization, notices


def _texts(files: Sequence[tuple[str, bytes]]) -> list[tuple[str, str, str]]:
    """Return path, name and text of each file; the names sort as the files were given."""
    found, names = [], list[str]()
    for number, (path, data) in enumerate(files):
        name = PurePosixPath(path).name if path != "<stdin>" else "kong.yaml"
        if not name.lower().endswith(_SUFFIXES):
            name = f"{name}.yaml"
        name = re.sub(r"[^-._a-zA-Z0-9]", "-", name)
        if names and name <= names[-1]:
            name = f"{number:03}-{name}" if f"{number:03}-" > names[-1] else f"{names[-1]}-{name}"
        names.append(name)
        found.append((path, name, _literal(path, data)))
    return found


def _literal(path: str, data: bytes) -> str:
    """Return a file's text as kustomize's literals keep it: they lose quotes at either end."""
    place = SourcePosition(path, 1, 1)
    if len(data) > _TEXT_BYTES_MAX:
        message = f"has over {_TEXT_BYTES_MAX} bytes, and an object takes no more: split it"
        raise ConfigurationError([Diagnostic(place, "file", message)])
    text = data.decode()  # the file was read already, so it is UTF-8
    text = text if text.endswith("\n") else f"{text}\n"
    return f"\n{text}" if text.startswith(("'", '"')) else text


def _files_with_secrets(gateway: Gateway) -> set[str]:
    return {
        *(plugin.position.file for plugin in gateway.plugins if _holds_secret(plugin.config)),
        *(each.position.file for each in gateway.certificates if each.key is not None),
    }


def _shows(gateway: Gateway, envoy: str) -> Iterator[bool]:
    """Yield for each private key of the file whether it is in Envoy's configuration."""
    for each in gateway.certificates:
        if each.key is not None:
            lines = each.key.reveal().strip().splitlines()
            yield any(line in envoy for line in lines if not line.startswith("-----"))


_ENVOY_FROM_SECRET: Object = {
    "target": {"kind": "Deployment", "labelSelector": "authz=sidecar"},
    "patch": yaml_writer.write(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": "any"},
            "spec": {
                "template": {
                    "spec": {
                        "volumes": [
                            {
                                "name": "authz-envoy",
                                "configMap": None,
                                "secret": {"secretName": "authz-envoy", "defaultMode": 0o440},
                            }
                        ]
                    }
                }
            },
        }
    ),
}


def _holds_secret(value: object) -> bool:
    if isinstance(value, Secret):
        return True
    if is_dataclass(value):
        return any(_holds_secret(getattr(value, each.name)) for each in fields(value))
    return isinstance(value, tuple) and any(map(_holds_secret, value))


def _environment(texts: Sequence[tuple[str, str, str]]) -> Iterator[Diagnostic]:
    for path, _, text in texts:
        names = sorted({m["deck"] or m["vault"] for m in _FROM_ENVIRONMENT.finditer(text)})
        if names:
            message = (
                f"reads {', '.join(names)} from the environment: give them to the container authz, "
                "by a patch with env or envFrom"
            )
            yield Diagnostic(SourcePosition(path, 1, 1), "file", message)


def _application(gateway: Gateway, options: Options) -> Iterator[Diagnostic]:
    """Say what of the application is missing beside the sidecar."""
    if options.variant == "shared":
        return
    reached = [
        options.connect_to.get((each.host, each.port), (each.host, each.port))
        for each in gateway.services
    ]
    if gateway.services and not any(is_loopback(host) for host, _ in reached):
        service = gateway.services[0]
        message = (
            f"no service is reached in the pod itself: for the application beside Envoy give "
            f"--connect-to {service.host}:{service.port}:127.0.0.1:PORT"
        )
        yield Diagnostic(service.position, "host", message)
    if not options.resources:
        message = (
            "names no manifests of the application: add them to resources (--resource), with the "
            "label `authz: sidecar` on the Deployment"
        )
        yield Diagnostic(SourcePosition("kustomization.yaml", 1, 1), "resources", message)


def _to_providers(gateway: Gateway, notices: list[Diagnostic]) -> Iterator[Object]:
    """Let authz reach the identity providers of the file, and note what is wide of them."""
    namespaces, ports = set[str](), set[int]()
    for plugin in gateway.plugins:
        url = urlsplit(plugin.config.provider.issuer)
        found = in_cluster(url.hostname or "")
        if found is not None and found[1]:
            namespaces.add(found[1])
            continue
        port = url.port or (443 if url.scheme == "https" else 80)
        if port not in ports:
            message = (
                f"{url.hostname} may have any address, so the NetworkPolicy "
                f"authz-to-identity-provider lets authz reach port {port} everywhere: narrow it"
            )
            notices.append(Diagnostic(plugin.position, "issuer", message))
        ports.add(port)
    egress: list[Object] = [
        {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": namespace}}}]}
        for namespace in sorted(namespaces)
    ]
    if ports:
        egress.append({"ports": [{"port": port, "protocol": "TCP"} for port in sorted(ports)]})
    if egress:
        yield {
            "target": {"kind": "NetworkPolicy", "name": "authz-to-identity-provider"},
            "patch": _patch("replace", "/spec/egress", egress),
        }


def _arguments(options: Options) -> Iterator[Object]:
    if options.variant == "shared" and options.route_metadata:
        argument = f"--route-metadata={options.route_metadata}"
        yield {
            "target": {"kind": "Deployment", "name": "authz"},
            "patch": _patch("add", "/spec/template/spec/containers/0/args/-", argument),
        }


def _patch(operation: str, path: str, value: object) -> str:
    return yaml_writer.write([{"op": operation, "path": path, "value": value}])
