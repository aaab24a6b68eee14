"""``authz manifests``: print what belongs to the configuration in Kubernetes."""
# ruff: noqa: PLC0415 - heavy imports stand inside the command

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from authz.cli import options
from authz.cli.envoy import TRUSTED_HOPS_MAX, redirected
from authz.cli.output import INVALID, echo_problems, load_with_sources
from authz.errors import ConfigurationError
from authz.settings.declared import SWITCH, Kind, choice, whole

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from authz.kong.files import Sources
    from authz.model import Diagnostic, Gateway
    from authz.settings import ConnectTo, TcpAddress

TARGETS = ("kubernetes", "envoy-gateway", "istio")
VARIANTS = ("sidecar", "shared")


def _object(text: str) -> tuple[str, str]:
    namespace, slash, name = text.partition("/")
    if not (namespace and slash and name):
        raise ValueError(f"{text!r} names no object: write NAMESPACE/NAME")
    return namespace, name


def _image(text: str) -> tuple[str, str]:
    name, colon, tag = text.rpartition(":")
    if not (name and colon and tag) or "/" in tag:
        raise ValueError(f"{text!r} names no image: write registry.example/authz:TAG")
    return name, tag


OBJECT = Kind("NAMESPACE/NAME", _object)
IMAGE = Kind("NAME:TAG", _image)
TEXT = Kind("NAME")
PATH = Kind("PATH")


@click.command()
@options.setting("config")
@options.option(
    "--for",
    "target",
    variable="MANIFESTS_FOR",
    kind=choice(*TARGETS),
    required=True,
    show_default=False,
    help="kubernetes: a kustomization; the others: what they need to ask authz.",
)
@options.option(
    "--namespace",
    variable="MANIFESTS_NAMESPACE",
    kind=TEXT,
    help="Where the objects are; default for envoy-gateway.",
)
@options.option(
    "--authz",
    variable="MANIFESTS_AUTHZ",
    kind=options.TCP_ADDRESS,
    default="authz.authz.svc:9191",
    help="The Service of authz, for envoy-gateway and istio.",
)
@options.option(
    "--authz-plaintext",
    variable="MANIFESTS_AUTHZ_PLAINTEXT",
    kind=SWITCH,
    help="authz speaks no TLS; without this its CA is the ConfigMap authz-ca (istio: a Secret).",
)
@options.option(
    "--gateway",
    variable="MANIFESTS_GATEWAY",
    kind=OBJECT,
    help="A Gateway that is there; without it envoy-gateway gets one, and istio takes its own.",
)
@options.option(
    "--gateway-class",
    variable="MANIFESTS_GATEWAY_CLASS",
    kind=TEXT,
    default="eg",
    help="The class of the Gateway that is written for envoy-gateway.",
)
@options.option(
    "--tls-secret",
    variable="MANIFESTS_TLS_SECRET",
    kind=TEXT,
    help="The Secret with the certificate of the Gateway that is written.",
)
@options.option(
    "--variant",
    variable="MANIFESTS_VARIANT",
    kind=choice(*VARIANTS),
    default="sidecar",
    help="For kubernetes: authz and Envoy in each pod, or one authz for the Envoys of a cluster.",
)
@options.option(
    "--resource",
    "resources",
    variable="MANIFESTS_RESOURCE",
    kind=PATH,
    multiple=True,
    help="For kubernetes: manifests of the application.  Repeatable.",
)
@options.option(
    "--deploy",
    variable="MANIFESTS_DEPLOY",
    kind=PATH,
    default="authz/deploy/kubernetes",
    help="For kubernetes: deploy/kubernetes of this repository, seen from the kustomization.",
)
@options.option(
    "--image",
    variable="MANIFESTS_IMAGE",
    kind=IMAGE,
    help="For kubernetes: the image of authz.",
)
@options.setting("route_metadata", help="For kubernetes, shared: the flag of authz serve.")
@options.option(
    "--connect-to",
    variable="MANIFESTS_CONNECT_TO",
    kind=options.CONNECT_TO,
    multiple=True,
    help="Connect to HOST2:PORT2 for a service at HOST:PORT.  Repeatable.",
)
@options.option(
    "--upstream",
    variable="MANIFESTS_UPSTREAM",
    kind=options.TCP_ADDRESS,
    help="Where requests go that the file has no service for.",
)
@options.option(
    "--trusted-hops",
    variable="MANIFESTS_TRUSTED_HOPS",
    kind=whole("proxies", least=0, most=TRUSTED_HOPS_MAX),
    default="0",
    help="For kubernetes, sidecar: how many proxies stand before Envoy; see authz envoy.",
)
def manifests(*, config: tuple[str, ...], target: str, **given: Any) -> None:  # noqa: ANN401 - click's
    """Print the manifests that belong to the configuration, for kubectl apply.

    What of the file they do not say is named on standard error, with its place.
    """
    gateway, sources = load_with_sources(config)
    try:
        text, notices = _WRITERS[target](gateway, sources, given)
    except ConfigurationError as error:
        echo_problems(error.problems)
        sys.exit(INVALID)
    echo_problems(f"notice: {notice}" for notice in notices)
    click.echo(text, nl=False)


Result = tuple[str, "Iterable[Diagnostic]"]


def _kubernetes(gateway: Gateway, sources: Sources, given: Mapping[str, Any]) -> Result:
    from authz.envoy.bootstrap import BootstrapOptions, notices, render
    from authz.kubernetes import kustomization
    from authz.kubernetes.objects import documents

    options = kustomization.Options(
        variant=given["variant"],
        namespace=given["namespace"],
        deploy=given["deploy"].rstrip("/"),
        resources=given["resources"],
        image=given["image"],
        route_metadata=given["route_metadata"],
        connect_to=_connections(gateway, given),
    )
    envoy = ""
    left_out: list[Diagnostic] = []
    if options.variant == "sidecar":
        bootstrap = BootstrapOptions(
            authz=kustomization.SOCKET,
            listen=kustomization.LISTEN,
            upstream=_pair(given["upstream"]),
            connect_to=options.connect_to,
            trusted_hops=given["trusted_hops"],
        )
        envoy = render(gateway, bootstrap)
        left_out = sorted(notices(gateway, bootstrap))
    written, others = kustomization.write(gateway, sources.files, envoy, options)
    comment = "Save as kustomization.yaml, then: kubectl apply --server-side --kustomize ."
    return documents([written], comment=comment), [*left_out, *others]


def _envoy_gateway(gateway: Gateway, _: Sources, given: Mapping[str, Any]) -> Result:
    from authz.envoy.bootstrap import BootstrapOptions
    from authz.kubernetes import envoy_gateway
    from authz.kubernetes.objects import documents

    upstream = BootstrapOptions(upstream=_pair(given["upstream"])).upstream_service
    options = envoy_gateway.Options(
        namespace=given["namespace"] or "default",
        authz=_authz(given),
        gateway=given["gateway"],
        gateway_class=given["gateway_class"],
        tls_secret=None if given["gateway"] else given["tls_secret"],
        upstream=upstream,
        connect_to=_connections(gateway, given),
    )
    written = envoy_gateway.write(gateway, options)
    comment = (
        "Start authz with --route-metadata envoy-gateway: the routes' names come by their metadata."
    )
    return documents(written.objects, comment=comment), written.notices


def _istio(gateway: Gateway, _: Sources, given: Mapping[str, Any]) -> Result:
    from authz import yaml_writer
    from authz.kubernetes import istio
    from authz.kubernetes.objects import documents, unwritten

    options = istio.Options(authz=_authz(given), gateway=given["gateway"])
    mesh = yaml_writer.write(istio.mesh_config(options))
    comment = f"Into the mesh configuration (meshConfig):\n\n{mesh}"
    return documents(istio.write(gateway, options), comment=comment), unwritten(gateway)


_WRITERS = {"kubernetes": _kubernetes, "envoy-gateway": _envoy_gateway, "istio": _istio}


def _authz(given: Mapping[str, Any]) -> Any:  # noqa: ANN401 - its type is imported here
    from authz.kubernetes.objects import AuthzService, in_cluster

    address: TcpAddress = given["authz"]
    found = in_cluster(address.host)
    if found is None or found[1] is None:
        message = f"{address} is no Service: write NAME.NAMESPACE.svc:PORT"
        raise click.BadParameter(message, param_hint="--authz")
    return AuthzService(found[0], found[1], address.port, tls=not given["authz_plaintext"])


def _connections(
    gateway: Gateway, given: Mapping[str, Any]
) -> dict[tuple[str, int], tuple[str, int]]:
    rules: tuple[ConnectTo, ...] = given["connect_to"]
    return dict(redirected(gateway, rules))


def _pair(address: TcpAddress | None) -> tuple[str, int] | None:
    return None if address is None else (address.host, address.port)
