"""TLS to a service through a real Envoy, as the file says, and a name that DNS does not answer."""

from __future__ import annotations

import socket
import ssl
import textwrap
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from support import tls
from support.upstream import Upstream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.curl import Reply
    from support.deployment import Deployment

HOST = "secure.test"
CA, OWN = "3f5cbd6e-5f2c-4f0c-9d3b-2a0f5a1f6a01", "3f5cbd6e-5f2c-4f0c-9d3b-2a0f5a1f6a02"
FILE = """
_format_version: "3.0"
ca_certificates:
- id: {ca}
  cert: |
{authority}
certificates:
- id: {own}
  cert: |
{chain}
  key: |
{key}
services:
- name: secure
  url: https://secure.test
  {more}
  routes: [{{name: secure, paths: [/]}}]
"""
VERIFIED = f"ca_certificates: [{CA}]"


@pytest.fixture(scope="module")
def secure() -> Iterator[Upstream]:
    """An upstream over TLS, for clients with a certificate only."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.authority("trusted").issue_cert(HOST).configure_cert(context)
    tls.authority("clients").configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    with Upstream(context) as running:
        yield running


Ask = Any


@pytest.fixture
def ask(deploy: Callable[..., Deployment], secure: Upstream, tmp_path: Path) -> Ask:
    """A request through an Envoy whose service says ``more``."""

    def asked(
        more: str, *, trusted: str = "trusted", key_of: str = "clients", **options: Any
    ) -> Reply:
        issued = tls.authority(key_of).issue_cert("envoy.test")
        pems = {
            "authority": tls.authority(trusted).cert_pem.bytes(),
            "chain": issued.cert_chain_pems[0].bytes(),
            "key": issued.private_key_pem.bytes(),
        }
        indented = {name: textwrap.indent(pem.decode(), "    ") for name, pem in pems.items()}
        file = tmp_path / "kong.yaml"
        file.write_text(FILE.format(ca=CA, own=OWN, more=more, **indented))
        flags = ("--connect-to", f"{HOST}:443:127.0.0.1:{secure.port}")
        with deploy(file, envoy_flags=flags, **options) as authz, authz.edge() as envoy:
            return envoy.curl("/")

    return asked


def test_a_service_is_verified_by_its_own_authorities_and_told_who_envoy_is(ask: Ask) -> None:
    assert ask(f"{VERIFIED}\n  client_certificate: {{id: {OWN}}}").status == 200


@pytest.mark.parametrize(
    ("more", "options"),
    [
        pytest.param(VERIFIED, {}, id="no certificate of its own"),
        pytest.param(f"{VERIFIED}\n  client_certificate: {OWN}", {"key_of": "x"}, id="a wrong one"),
        pytest.param(
            f"{VERIFIED}\n  client_certificate: {OWN}", {"trusted": "x"}, id="another authority"
        ),
        pytest.param(f"client_certificate: {OWN}", {}, id="the system's authorities"),
    ],
)
def test_E7_a_service_that_is_another_one_hears_nothing(
    ask: Ask, secure: Upstream, more: str, options: dict[str, str]
) -> None:
    secure.requests.clear()

    assert ask(more, **options).status == 503
    assert secure.requests == []


def test_E7_a_service_that_the_file_does_not_want_to_know_is_not_verified(ask: Ask) -> None:
    assert ask(f"tls_verify: false\n  client_certificate: {OWN}").status == 200


def test_E4_a_name_that_dns_does_not_answer_keeps_nobody_waiting(
    deploy: Callable[..., Deployment], seen: Upstream, tmp_path: Path
) -> None:
    file = tmp_path / "kong.yaml"
    file.write_text("""
_format_version: "3.0"
services:
- {name: silent, url: "http://silent.test", routes: [{name: silent, paths: [/silent]}]}
- name: httpbin
  url: http://httpbin.kong.svc.cluster.local:8000
  routes: [{name: there, paths: [/there]}]
""")
    with closing(socket.socket(socket.AF_INET, socket.SOCK_DGRAM)) as dns:
        dns.bind(("127.0.0.1", 0))
        resolver = {
            "name": "envoy.network.dns_resolver.cares",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3"
                ".CaresDnsResolverConfig",
                "resolvers": [
                    {"socket_address": {"address": "127.0.0.1", "port_value": dns.getsockname()[1]}}
                ],
            },
        }

        def ask_only_there(bootstrap: dict[str, Any]) -> None:
            bootstrap["typed_dns_resolver_config"] = resolver

        with deploy(file) as authz, authz.edge(ask_only_there) as envoy:
            assert envoy.curl("/there").status == 200
            dns.settimeout(10)
            assert b"silent" in dns.recv(512)
            assert envoy.curl("/silent").status == 503
