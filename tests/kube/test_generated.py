"""What `authz manifests` prints: the API server takes it, and Envoy Gateway makes an Envoy of it
that asks authz about every request.
"""

from __future__ import annotations

import subprocess
from base64 import b64encode
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from support.control_plane import rendered
from support.curl import Reply, curl
from support.envoy_gateway import Xds, around, conditions
from support.gateway_routes import Listener, files
from support.idp import RunningIdp
from support.pages import Page
from support.transports import NAMES

from authz.demo.idp import CLIENTS
from authz.demo.parts import CHECKOUT, LOOPBACK, Authz, Envoy, Httpbin, free_port, run_authz
from authz.kubernetes.objects import documents

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.control_plane import ControlPlane
    from support.transports import Name

ISSUER = "http://keycloak.keycloak:8080/realms/kong"
PROVIDER = "keycloak.keycloak:8080"
USER = ("kong_id", CLIENTS["kong_id"])

FILE = """\
_format_version: "3.0"
services:
- name: httpbin-service
  host: httpbin.kong.svc.cluster.local
  port: 8000
  routes:
  - name: oidc-route
    paths: [/oidc-route]
    plugins:
    - name: openid-connect
      config:
        auth_methods: [client_credentials]
        issuer: http://keycloak.keycloak:8080/realms/kong
        consumer_claim: [client_id]
        consumer_by: [username]
  - name: Open_Route
    hosts: [open.test]
    paths: [/open]
  - name: shut
    methods: [DELETE]
    paths: [/oidc]
    strip_path: false
    plugins:
    - name: request-termination
      config: {status_code: 418}
consumers:
- username: kong_id
"""


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("generated") / "kong.yaml"
    path.write_text(FILE)
    return path


def manifests(file: Path, target: str, *arguments: str) -> str:
    return run_authz("manifests", "--for", target, "-c", str(file), *arguments)


@pytest.fixture(scope="module")
def for_envoy_gateway(file: Path) -> str:
    return manifests(file, "envoy-gateway", "--namespace", "edge")


# --- Envoy Gateway's translator ---------------------------------------------------------


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with tls.crt and tls.key, as docs/kubernetes.md has them made."""
    directory = tmp_path_factory.mktemp("tls")
    subprocess.run(  # noqa: S602 - the page's command is for a shell
        next(each for each in Page("kubernetes.md").commands if each.startswith("openssl")),
        shell=True,
        cwd=directory,
        capture_output=True,
        timeout=30,
        check=True,
    )
    return directory


@pytest.fixture(scope="module")
def beside(certificate: Path) -> str:
    """What else is in the cluster."""
    services = ("authz", "authz", 9191), ("kong", "httpbin", 8000)
    return around(*services, ca=(certificate / "tls.crt").read_text())


def replaced(text: str, *pairs: tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new)
    return text


def test_envoy_gateway_accepts_every_route_and_every_policy(
    for_envoy_gateway: str, beside: str, tmp_path: Path
) -> None:
    found = conditions(f"{for_envoy_gateway}{beside}", tmp_path)
    kinds = [each["kind"] for each in yaml.safe_load_all(for_envoy_gateway)]

    for kind in ("HTTPRoute", "SecurityPolicy", "BackendTrafficPolicy", "BackendTLSPolicy"):
        statuses = [status for (of, _), status in found.items() if of == kind]
        assert len(statuses) == kinds.count(kind) > 0
        for status in statuses:
            assert status["Accepted"].startswith("True"), (kind, status)
            assert status.get("ResolvedRefs", "True").startswith("True"), (kind, status)


def test_authz_is_asked_about_every_route_and_fails_closed(
    for_envoy_gateway: str, beside: str, tmp_path: Path
) -> None:
    xds = Xds.of(f"{for_envoy_gateway}{beside}", tmp_path)

    assert xds.routes
    assert xds.guarded == [route["name"] for route in xds.routes]
    for settings in xds.filters:
        assert not settings.get("failureModeAllow")
        assert settings["statusOnError"] == {"code": "ServiceUnavailable"}
        assert settings["grpcService"]["timeout"] == "5s"
        assert settings["routeMetadataContextNamespaces"] == ["envoy-gateway"]
        assert "allowedHeaders" not in settings
    # `direct_response` 500 is what Envoy Gateway makes of a policy that it cannot carry out.
    assert not [route["name"] for route in xds.routes if "directResponse" in route]


def test_a_policy_for_a_route_that_is_not_there_binds_nothing_and_nobody_says_so(
    for_envoy_gateway: str, beside: str, tmp_path: Path
) -> None:
    # The trap for which every test here asks whether authz is asked.
    wrong = replaced(
        for_envoy_gateway,
        ("    kind: HTTPRoute\n    name: oidc-route\n", "    kind: HTTPRoute\n    name: other\n"),
    )
    xds = Xds.of(f"{wrong}{beside}", tmp_path)
    open_ = {route["name"] for route in xds.routes} - set(xds.guarded)

    assert {name.split("/")[2] for name in open_} == {"oidc-route"}
    assert "Accepted" not in conditions(f"{wrong}{beside}", tmp_path).get(
        ("SecurityPolicy", "oidc-route"), {}
    )


def test_envoy_gateway_accepts_everything_that_may_be_written(
    certificate: Path, tmp_path: Path
) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text(WIDE)
    flags = ["--namespace", "edge", "--tls-secret", "cert", "--upstream", "192.0.2.1:8080"]
    text = manifests(file, "envoy-gateway", *flags)
    pems = {name: (certificate / name).read_text() for name in ("tls.crt", "tls.key")}
    services = ("authz", "authz", 9191), ("kong", "grpc", 9000)
    beside = around(*services, ca=pems["tls.crt"]) + secret(pems)

    found = conditions(f"{text}{beside}", tmp_path)
    xds = Xds.of(f"{text}{beside}", tmp_path)

    for (kind, name), status in found.items():
        assert status.get("Accepted", "True").startswith("True"), (kind, name, status)
        assert status.get("ResolvedRefs", "True").startswith("True"), (kind, name, status)
    assert {kind for kind, _ in found} >= {"HTTPRoute", "GRPCRoute", "SecurityPolicy"}
    refused = [r["name"] for r in xds.routes if "directResponse" in r]
    assert {r["directResponse"]["status"] for r in xds.routes if "directResponse" in r} == {
        404,
        426,
    }
    assert xds.guarded == [r["name"] for r in xds.routes if r["name"] not in refused]


@pytest.mark.parametrize("seed", range(3))
def test_envoy_gateway_tries_routes_in_the_order_for_which_they_are_written(
    certificate: Path, tmp_path: Path, seed: int
) -> None:
    # tests/kubernetes/test_order.py holds this order to Kong's, with many files and requests.
    _, written = next(files(Random(seed), "edge"))
    text = documents(written.objects, comment="") + beside_drawn(certificate)

    found = conditions(text, tmp_path)
    hosts = Xds.of(text, tmp_path).virtual_hosts("edge/kong/http")

    for where, status in found.items():
        assert status.get("Accepted", "True").startswith("True"), (where, status)
    listener = Listener(written.objects, "http")
    assert hosts.keys() == listener.hosts.keys()
    for host, routes in hosts.items():
        expressions = [route["match"].get("safeRegex", {}).get("regex", "") for route in routes]
        ours = [condition["regex"] or "" for _, condition, _ in listener.hosts[host]]
        assert sorted(expressions) == sorted(ours)
        # Of equally long ones, which no request can fit both of, any may be the first.
        assert [len(each) for each in expressions] == [len(each) for each in ours]


def beside_drawn(certificate: Path) -> str:
    pems = {name: (certificate / name).read_text() for name in ("tls.crt", "tls.key")}
    return around(("authz", "authz", 9191), ca=pems["tls.crt"]) + secret(pems)


def secret(pems: dict[str, str]) -> str:
    """Return the Secret with the certificate of the Gateway."""
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": "kubernetes.io/tls",
        "metadata": {"name": "cert", "namespace": "edge"},
        "data": {name: b64encode(pem.encode()).decode() for name, pem in pems.items()},
    }
    return f"---\n{yaml.safe_dump(made)}"


def test_without_the_service_of_authz_nothing_passes(
    for_envoy_gateway: str, certificate: Path, tmp_path: Path
) -> None:
    ca = (certificate / "tls.crt").read_text()
    alone = f"{for_envoy_gateway}{around(('kong', 'httpbin', 8000), ca=ca)}"
    xds = Xds.of(alone, tmp_path)
    status = conditions(alone, tmp_path)["SecurityPolicy", "oidc-route"]["Accepted"]

    assert {route["directResponse"]["status"] for route in xds.routes} == {500}
    assert status.startswith("False")


# --- A real Envoy, and authz behind it --------------------------------------------------


class Running:
    """authz and the Envoy that Envoy Gateway's translator has described."""

    def __init__(self, authz: Authz, envoy: Envoy, port: int) -> None:
        self.authz = authz
        self.envoy = envoy
        self.port = port

    def get(self, path: str, host: str = "any.test", **request: Any) -> Reply:
        return curl(self.port, path, headers=[("host", host)], **request)


@pytest.fixture(scope="module", params=NAMES)
def transport(request: pytest.FixtureRequest) -> Name:
    name: Name = request.param
    return name


@pytest.fixture(scope="module")
def idp() -> Iterator[RunningIdp]:
    with RunningIdp(issuer=ISSUER) as running:
        yield running


@pytest.fixture(scope="module")
def httpbin() -> Iterator[Httpbin]:
    with Httpbin() as running:
        yield running


def annotated(text: str) -> dict[str, dict[str, str]]:
    """The annotations of each route, without the beginning that Envoy Gateway takes away."""
    return {
        each["metadata"]["name"]: {
            name.removeprefix("gateway.envoyproxy.io/"): value
            for name, value in each["metadata"]["annotations"].items()
        }
        for each in yaml.safe_load_all(text)
        if "annotations" in each["metadata"]
    }


@pytest.fixture(scope="module")
def start(
    file: Path,
    transport: Name,
    certificate: Path,
    idp: RunningIdp,
    httpbin: Httpbin,
    tmp_path_factory: pytest.TempPathFactory,
) -> Any:
    """A maker of what runs, from manifests."""

    def make(text: str) -> Running:
        xds = Xds.of(text, tmp_path_factory.mktemp("xds"))
        port, admin, ours, authz_admin = (free_port() for _ in range(4))
        authz = Authz(
            [
                *("serve", "-c", str(file), "--transport", transport),
                *("--listen", f"{LOOPBACK}:{ours}", "--admin", f"{LOOPBACK}:{authz_admin}"),
                f"--tls-cert={certificate / 'tls.crt'}",
                f"--tls-key={certificate / 'tls.key'}",
                "--route-metadata=envoy-gateway",
                f"--connect-to={PROVIDER}:{LOOPBACK}:{idp.port}",
            ],
            ready_url=f"http://{LOOPBACK}:{authz_admin}/readyz",
        )
        to = {"httproute/": httpbin.port, "securitypolicy/": ours}
        ca = (certificate / "tls.crt").read_text()
        written = text.partition(
            "---\napiVersion: gateway.networking.k8s.io/v1\nkind: GatewayClass"
        )[0]
        bootstrap = xds.bootstrap(port, admin, to, annotated(written), ca)
        return Running(authz, Envoy(bootstrap, admin), port)

    return make


@pytest.fixture(scope="module")
def running(start: Any, for_envoy_gateway: str, beside: str) -> Iterator[Running]:
    made: Running = start(f"{for_envoy_gateway}{beside}")
    with made.authz, made.envoy:
        yield made


def test_a_caller_with_a_credential_reaches_the_upstream_as_a_consumer(running: Running) -> None:
    reply = running.get("/oidc-route/get", user=USER)
    again = running.get("/oidc-route/get", user=USER)

    assert (reply.status, again.status) == (200, 200)
    assert again.upstream["x-consumer-username"] == "kong_id"
    assert again.upstream["authorization"].startswith("Bearer ")
    assert again.upstream["host"] == "httpbin.kong.svc.cluster.local"
    assert again.upstream["x-forwarded-prefix"] == "/oidc-route"


def test_a_caller_without_one_is_refused(running: Running) -> None:
    reply = running.get("/oidc-route/get")

    assert reply.status == 401
    assert reply.header("www-authenticate")


def test_a_caller_cannot_say_who_it_is(running: Running) -> None:
    spoofed = [("x-consumer-username", "admin"), ("x-forwarded-prefix", "/x"), ("x-real-ip", "x")]
    reply = curl(
        running.port,
        "/open/get",
        headers=[("host", "open.test"), *spoofed],
    )

    assert reply.status == 200
    assert "x-consumer-username" not in reply.upstream
    assert reply.upstream["x-forwarded-prefix"] == "/open"
    assert reply.upstream.get("x-real-ip") != "x"


def test_each_route_is_the_one_that_kong_would_choose(running: Running) -> None:
    assert running.get("/open/get", "open.test").status == 200
    assert running.get("/open/get").status == 404  # its host is another
    # Kong asks for two things of `shut`, and for one of `oidc-route`: it goes first.
    assert running.get("/oidc-route/delete", method="DELETE").status == 418
    assert running.get("/oidc-routes").status == 401  # a beginning, as Kong's paths are
    assert running.get("/oidc-route/get", "open.test", user=USER).status == 200


def test_when_authz_is_gone_nobody_passes(start: Any, for_envoy_gateway: str, beside: str) -> None:
    made: Running = start(f"{for_envoy_gateway}{beside}")
    with made.authz, made.envoy:
        assert made.get("/oidc-route/get", user=USER).status == 200
        made.authz.stop()

        assert made.get("/oidc-route/get", user=USER).status == 503
        assert made.get("/open/get", "open.test").status == 503


def test_without_the_metadata_of_its_route_no_request_is_decided(
    start: Any, for_envoy_gateway: str, beside: str
) -> None:
    untold = replaced(
        for_envoy_gateway, ("includeRouteMetadata: true", "includeRouteMetadata: false")
    )
    made: Running = start(f"{untold}{beside}")
    with made.authz, made.envoy:
        assert made.get("/oidc-route/get", user=USER).status == 503
        assert made.get("/open/get", "open.test").status == 503
        told = made.authz.output()

    assert '"reason":"route_metadata_missing"' in told.replace(" ", "")


def test_a_route_that_kongs_file_lacks_is_not_found(
    start: Any, for_envoy_gateway: str, beside: str
) -> None:
    renamed = replaced(for_envoy_gateway, ("kong-route: oidc-route", "kong-route: other"))
    made: Running = start(f"{renamed}{beside}")
    with made.authz, made.envoy:
        assert made.get("/oidc-route/get", user=USER).status == 404


# --- A real API server -------------------------------------------------------------------


@pytest.fixture(scope="module")
def namespaces(defined: ControlPlane) -> ControlPlane:
    """The cluster, with what the manifests are about and the namespaces that they name."""
    for name in ("edge", "authz", "kong", "istio-system", "orders"):
        made = defined.kubectl("create", "namespace", name)
        assert made.code == 0 or "already exists" in made.err, made.err
    return defined


def arguments(target: str) -> list[str]:
    return ["--namespace", "edge"] if target == "envoy-gateway" else []


@pytest.mark.parametrize("target", ["envoy-gateway", "istio"])
def test_the_api_server_takes_them_without_a_warning(
    namespaces: ControlPlane, file: Path, target: str
) -> None:
    said = namespaces.apply(manifests(file, target, *arguments(target)), "--dry-run=server")

    assert (said.code, said.err) == (0, "")
    assert "serverside-applied" in said.out


def test_everything_that_may_be_written_is_taken(namespaces: ControlPlane, tmp_path: Path) -> None:
    wide = tmp_path / "kong.yaml"
    wide.write_text(WIDE)
    flags = ["--namespace", "edge", "--tls-secret", "cert", "--upstream", "192.0.2.1:8080"]
    text = manifests(wide, "envoy-gateway", *flags)

    said = namespaces.apply(text, "--dry-run=server")

    assert (said.code, said.err) == (0, "")
    kinds = {each["kind"] for each in yaml.safe_load_all(text)}
    assert {"GRPCRoute", "HTTPRouteFilter", "Backend", "ClientTrafficPolicy"} <= kinds


WIDE = """\
_format_version: "3.0"
services:
- name: Shop_API
  host: api.example
  protocol: https
  port: 443
  path: /base
  connect_timeout: 1500
  read_timeout: 400000000
  routes:
  - name: Wide_Route
    hosts: [shop.test, '*.shop.test']
    paths: ['~/v[0-9]+/(a|b)', /plain]
    methods: [GET, POST]
    headers: {x-version: [v1, '~*^v2']}
- name: grpc
  host: grpc.kong.svc
  protocol: grpc
  port: 9000
  routes:
  - {name: buy, paths: [/pkg.Shop/Buy], protocols: [grpc], strip_path: false}
  - {name: all, hosts: [grpc.test], protocols: [grpc, grpcs], strip_path: false}
- name: address
  host: 192.0.2.2
  routes:
  - {name: tls, hosts: [tls.test], protocols: [https]}
routes:
- {name: elsewhere, paths: [/elsewhere]}
"""


WRONG = {
    "a typo in the policy": (
        "envoy-gateway",
        ("failOpen:", "failOpn:"),
        ".spec.extAuth.failOpn: field not declared in schema",
    ),
    "a status that is none": (
        "envoy-gateway",
        ("statusOnError: 503", "statusOnError: 200"),
        "spec.extAuth.statusOnError: Unsupported value: 200",
    ),
    "a policy for what it cannot be for": (
        "envoy-gateway",
        (
            "    kind: HTTPRoute\n    name: oidc-route\n",
            "    kind: Service\n    name: oidc-route\n",
        ),
        "this policy can only have a targetRefs[*].kind of",
    ),
    "a path that begins with no slash": (
        "envoy-gateway",
        ("        type: RegularExpression\n", "        type: Regex\n"),
        'Unsupported value: "Regex"',
    ),
    "an action that Istio has not": (
        "istio",
        ("action: CUSTOM", "action: CUSTOMS"),
        'spec.action: Unsupported value: "CUSTOMS"',
    ),
    "a mode of TLS that Istio has not": (
        "istio",
        ("mode: SIMPLE", "mode: PLAIN"),
        'Unsupported value: "PLAIN"',
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_refused_is(namespaces: ControlPlane, file: Path, wrong: str) -> None:
    target, change, words = WRONG[wrong]
    text = replaced(manifests(file, target, *arguments(target)), change)

    said = namespaces.apply(text, "--dry-run=server")

    assert said.code == 1
    assert words in said.err


# --- The kustomization -------------------------------------------------------------------


def kustomized(file: Path, directory: Path, *flags: str) -> str:
    """Render what `authz manifests --for kubernetes` prints, beside this repository."""
    (directory / "authz").symlink_to(CHECKOUT)
    (directory / "kustomization.yaml").write_text(manifests(file, "kubernetes", *flags))
    return rendered(directory)


def test_the_sidecar_of_the_file_is_taken(
    namespaces: ControlPlane, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "orders.yaml").write_text(Page("kubernetes.md").files["orders.yaml"])
    host = "httpbin.kong.svc.cluster.local:8000:127.0.0.1:8080"
    flags = ["--namespace=orders", "--resource=orders.yaml", f"--connect-to={host}"]
    text = kustomized(file, tmp_path, *flags, "--image=registry.example/authz:1")

    said = namespaces.apply(text, "--dry-run=server")

    assert (said.code, said.err) == (0, "")
    objects = [*yaml.safe_load_all(text)]
    [config] = [o for o in objects if o["metadata"]["name"].startswith("authz-config")]
    assert config["data"] == {"kong.yaml": FILE}
    [deployment] = [o for o in objects if o["kind"] == "Deployment"]
    spec = deployment["spec"]["template"]["spec"]
    assert [each["name"] for each in spec["initContainers"]] == ["authz", "envoy"]
    assert spec["initContainers"][0]["image"] == "registry.example/authz:1"
    assert config["metadata"]["name"] in str(spec["volumes"])


def test_the_shared_server_of_the_file_is_taken(
    namespaces: ControlPlane, file: Path, tmp_path: Path
) -> None:
    flags = ["--variant=shared", "--route-metadata=envoy-gateway"]
    text = kustomized(file, tmp_path, *flags)

    said = namespaces.apply(text, "--dry-run=server")

    assert (said.code, said.err) == (0, "")
    objects = [*yaml.safe_load_all(text)]
    [config] = [o for o in objects if o["metadata"]["name"].startswith("authz-config")]
    assert config["data"] == {"kong.yaml": FILE}
    [deployment] = [o for o in objects if o["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    assert container["args"][-1] == "--route-metadata=envoy-gateway"


def test_the_sidecars_envoy_reads_a_private_key_from_a_secret(
    namespaces: ControlPlane, certificate: Path, tmp_path: Path
) -> None:
    own = "7fc1a4a5-7b21-4c7f-9d3b-0d6ab9c7e0a1"
    pems = {name: (certificate / name).read_text() for name in ("tls.crt", "tls.key")}
    content = yaml.safe_load(FILE)
    content["certificates"] = [{"id": own, "cert": pems["tls.crt"], "key": pems["tls.key"]}]
    [service] = content["services"]
    service |= {"protocol": "https", "tls_verify": False, "client_certificate": {"id": own}}
    file = tmp_path / "kong.yaml"
    file.write_text(yaml.safe_dump(content, sort_keys=False))
    (tmp_path / "orders.yaml").write_text(Page("kubernetes.md").files["orders.yaml"])
    text = kustomized(file, tmp_path, "--namespace=orders", "--resource=orders.yaml")

    said = namespaces.apply(text, "--dry-run=server")

    assert (said.code, said.err) == (0, "")
    objects = [*yaml.safe_load_all(text)]
    names = {each["metadata"]["name"]: each["kind"] for each in objects}
    [deployment] = [each for each in objects if each["kind"] == "Deployment"]
    [volume] = [
        each
        for each in deployment["spec"]["template"]["spec"]["volumes"]
        if each["name"] == "authz-envoy"
    ]
    assert "configMap" not in volume
    assert names[volume["secret"]["secretName"]] == "Secret"
    maps = [each for each in objects if each["kind"] == "ConfigMap"]
    assert "PRIVATE KEY" not in str(maps)
