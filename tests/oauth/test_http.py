"""HTTP to a provider: where connections go, whom they trust, and what they carry."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import threading
from typing import TYPE_CHECKING

import pytest
from support.client import client
from support.idp import RunningIdp
from support.running import RunningAuthz, gateway
from support.scenes import at, verdict
from support.scripted import answer as sends
from support.scripted import read_request, send, silence
from support.tls import authority, ca_file, server_context

from authz.errors import ConfigurationError, IdpOutage, Unavailable
from authz.oauth.deadline import Deadline
from authz.oauth.http import Request, tls_context
from authz.settings import parse_connect_to

if TYPE_CHECKING:
    from pathlib import Path

    from support.running import MakeAuthz
    from support.scripted import Script, ScriptedServer, Serve


ISSUER = "http://keycloak.keycloak:8080/realms/kong"


def heads(server: ScriptedServer) -> list[list[str]]:
    """The request heads of each connection, as ``GET /path host``."""
    return [
        [
            f"{head.split(' HTTP')[0]} {head.lower().split('host: ')[1].split()[0]}"
            for head in received.decode().split("\r\n\r\n")
            if " HTTP/" in head
        ]
        for received in server.received
    ]


# --- connect-to ------------------------------------------------------------------------


async def test_connect_to_moves_the_connection_and_nothing_else(
    idp: RunningIdp, make_authz: MakeAuthz
) -> None:
    idp.issuer = ISSUER
    rule = parse_connect_to(f"keycloak.keycloak:8080:127.0.0.1:{idp.port}")
    authz = make_authz(at(ISSUER), settings={"connect_to": (rule,)})

    assert (await authz.basic()).allowed
    assert (await authz.bearer(idp.issue())).allowed  # iss is the name, not the address
    assert {request.header("host") for request in idp.requests} == {"keycloak.keycloak:8080"}


async def test_two_names_sent_to_one_target_never_share_a_connection(scripted: Serve) -> None:
    many = [read_request, sends(b"{}")] * 4
    server = scripted(many, many)
    rules = [f"{name}.test:80:127.0.0.1:{server.port}" for name in ("one", "two")]
    async with client(*rules) as http:
        for path in ("a", "b"):
            await http.get(f"http://one.test/{path}", bytes_max=100)
            await http.get(f"http://two.test/{path}", bytes_max=100)

    assert heads(server) == [
        ["GET /a one.test", "GET /b one.test"],
        ["GET /a two.test", "GET /b two.test"],
    ]


async def test_the_first_rule_that_fits_decides(scripted: Serve) -> None:
    server = scripted([read_request, sends(b"{}")])
    port = server.port
    rules = ("other.test:80:127.0.0.1:1", f"IDP.test::127.0.0.1:{port}", "::127.0.0.1:1")
    async with client(*rules) as http:
        assert (await http.get("http://idp.TEST:8081/", bytes_max=100)).status == 200
        with pytest.raises(IdpOutage):
            await http.get("http://unnamed.test/", bytes_max=100)


async def test_the_name_of_the_url_is_what_tls_asks_for_and_checks(tmp_path: Path) -> None:
    asked: list[str | None] = []
    context = server_context("idp.test")
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with RunningIdp(tls=context) as secured:
        trusted = tls_context(str(ca_file(tmp_path)), verify=True)
        async with client(f"::127.0.0.1:{secured.port}", tls=trusted) as http:
            path = "/realms/kong/.well-known/openid-configuration"
            assert (await http.get(f"https://idp.test{path}", bytes_max=9_999)).status == 200
            with pytest.raises(IdpOutage, match="another host"):
                await http.get(f"https://other.test{path}", bytes_max=9_999)
    assert asked == ["idp.test", "other.test"]


@pytest.mark.parametrize("value", ["a\r\nx-admin: 1", "a\nb", "a\rb", "a\0b"])
async def test_a_header_that_would_end_its_own_line_is_not_sent(
    value: str, idp: RunningIdp
) -> None:
    async with client() as http:
        with pytest.raises(Unavailable, match="no header may have; not sent"):
            await http.post_form(idp.token_endpoint, b"", {"x-tenant": value}, bytes_max=9_999)
    assert not idp.requests


@pytest.mark.parametrize(
    ("path", "asked"), [("/u", "/u?a=b&c="), ("/u?x=1", "/u?x=1&a=b&c=")], ids=["none", "some"]
)
async def test_arguments_are_sent_behind_those_of_the_url_and_not_told(
    scripted: Serve, path: str, asked: str
) -> None:
    server = scripted([read_request, sends(b"{}")])
    request = Request(f"{server.url}{path}", arguments="a=b&c=")
    async with client() as http:
        await http.http.send(request, accept="application/json", bytes_max=100)

    assert heads(server) == [[f"GET {asked} 127.0.0.1:{server.port}"]]
    assert "a=b" not in repr(request)


# --- Trust -----------------------------------------------------------------------------


async def test_a_ca_file_replaces_the_systems_store(
    make_authz: MakeAuthz, tmp_path: Path, idp: RunningIdp
) -> None:
    with RunningIdp(tls=server_context()) as secured:
        trusting = make_authz(at(secured.issuer), settings={"idp_ca_file": str(ca_file(tmp_path))})
        assert (await trusting.basic()).allowed
        assert verdict(await make_authz(at(secured.issuer)).basic()) == "503 idp_unavailable"


async def test_ssl_verify_false_takes_any_certificate_for_this_plugin_alone(
    make_authz: MakeAuthz, idp: RunningIdp
) -> None:
    untrusted = server_context("wrong.test", ca=authority("nobody"), expired=True)
    with RunningIdp(tls=untrusted) as secured:
        assert (await make_authz(at(secured.issuer, ssl_verify=False)).basic()).allowed
        assert verdict(await make_authz(at(secured.issuer)).basic()) == "503 idp_unavailable"
        assert secured.counters["token"] == 1


def test_verification_asks_for_a_current_protocol() -> None:
    context = tls_context(None, verify=True)

    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


# --- Bodies ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "fits"), [pytest.param(100, True, id="cap"), pytest.param(101, False, id="cap + 1")]
)
async def test_a_body_may_have_its_cap_and_not_a_byte_more(
    scripted: Serve, size: int, fits: bool
) -> None:
    server = scripted([read_request, sends(b"x" * size)])
    async with client() as http:
        if fits:
            assert (await http.get(server.url, bytes_max=100)).body == b"x" * 100
        else:
            with pytest.raises(Unavailable, match="over 100 bytes"):
                await http.get(server.url, bytes_max=100)


@pytest.mark.parametrize("encoding", ["", "identity", "Identity", ", identity ,", "identity,,"])
async def test_A10_no_content_coding_is_spelt_in_several_ways(
    scripted: Serve, encoding: str
) -> None:
    server = scripted([read_request, sends(b"{}", "200 OK", f"content-encoding: {encoding}")])
    async with client() as http:
        assert (await http.get(server.url, bytes_max=100)).body == b"{}"


async def test_A10_a_coding_in_a_second_line_of_the_same_name_is_seen(scripted: Serve) -> None:
    lines = ("content-encoding: identity", "content-encoding: gzip")
    server = scripted([read_request, sends(b"{}", "200 OK", *lines)])
    async with client() as http:
        with pytest.raises(Unavailable, match="compressed"):
            await http.get(server.url, bytes_max=100)


@pytest.mark.parametrize("encoding", ["gzip", "deflate", "br", "identity, gzip"])
async def test_a_compressed_answer_is_refused_unread(scripted: Serve, encoding: str) -> None:
    body = gzip.compress(b"{}")
    server = scripted([read_request, sends(body, "200 OK", f"content-encoding: {encoding}")])
    async with client() as http:
        with pytest.raises(Unavailable, match="compressed"):
            await http.get(server.url, bytes_max=100)
    assert b"accept-encoding: identity\r\n" in server.received[0].lower()


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([sends(b"x" * 101, "503 No")], id="too long"),
        pytest.param([sends(b"x", "503 No", "content-encoding: gzip")], id="compressed"),
    ],
)
async def test_an_error_is_told_by_its_status_whatever_its_body(
    scripted: Serve, script: Script
) -> None:
    server = scripted([read_request, *script])
    async with client() as http:
        answer = await http.get(server.url, bytes_max=100)
    assert (answer.status, answer.body) == (503, b"")


async def test_a_redirect_is_an_answer_like_any_other(scripted: Serve) -> None:
    elsewhere = scripted([read_request, sends(b"{}")])
    server = scripted([read_request, sends(b"", "307 Go", f"location: {elsewhere.url}")])
    async with client() as http:
        answer = await http.post_form(server.url, b"secret=1", {}, bytes_max=100)
    assert answer.status == 307
    assert elsewhere.connections == []


async def test_cookies_are_not_kept(scripted: Serve) -> None:
    server = scripted(
        [read_request, sends(b"{}", "200 OK", "set-cookie: a=1; path=/"), read_request, sends(b"")]
    )
    async with client() as http:
        await http.get(server.url, bytes_max=100)
        await http.get(server.url, bytes_max=100)
    assert b"cookie" not in server.received[0].lower()


async def test_CF_11_proxy_variables_and_netrc_are_not_honoured(
    scripted: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    proxy, server = scripted([read_request, silence]), scripted([read_request, sends(b"{}")])
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login a password b\n")
    monkeypatch.setenv("NETRC", str(netrc))
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    async with client() as http:
        assert (await http.get(server.url, bytes_max=100)).status == 200
    assert proxy.connections == []
    assert b"authorization" not in server.received[0].lower()


# --- Failed connections -----------------------------------------------------------------


async def test_a_kept_connection_that_was_closed_costs_nothing(scripted: Serve) -> None:
    server = scripted([read_request, sends(b"1")], [read_request, sends(b"2")])
    async with client() as http:
        assert (await http.get(server.url, bytes_max=100)).body == b"1"
        await asyncio.to_thread(server.wait_until_closed, 0)
        assert (await http.get(server.url, bytes_max=100)).body == b"2"


@pytest.mark.parametrize(
    "script",
    [
        pytest.param([sends(b"{}", "200 OK", "content-length: 3")], id="two lengths"),
        pytest.param([send(b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n")], id="no length"),
        pytest.param([send(b"220 mail.test ESMTP\r\n\r\n")], id="another protocol"),
    ],
)
async def test_an_answer_that_is_no_http_is_not_asked_for_again(
    scripted: Serve, script: Script
) -> None:
    server = scripted([read_request, *script])
    async with client() as http:
        with pytest.raises(IdpOutage, match=r"no HTTP/1\.1"):
            await http.get(server.url, bytes_max=100)
    assert len(server.connections) == 1


@pytest.mark.parametrize("url", ["http://127.0.0.1/\x00", "http://" + "x" * 70_000])
async def test_a_url_that_cannot_be_asked_is_one_of_our_errors(url: str) -> None:
    async with client() as http:
        with pytest.raises(Unavailable, match="no usable URL"):
            await http.get(url, bytes_max=100)


# --- Time and turns ---------------------------------------------------------------------


async def test_within_ends_everything_inside_as_an_outage() -> None:
    with pytest.raises(IdpOutage, match=r"within 0\.01 s"):
        async with Deadline(0.01):
            await asyncio.Event().wait()


async def test_within_leaves_a_cancellation_from_outside_alone() -> None:
    async def wait() -> None:
        async with Deadline(60):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_connections_are_kept_for_as_many_as_come_at_once(scripted: Serve) -> None:
    server = scripted([read_request, sends(b"{}")] * 50)
    async with client(connections_max=40) as http:
        for _ in range(3):
            await asyncio.gather(*(http.get(server.url, bytes_max=100) for _ in range(40)))
    assert [received.count(b"GET /") for received in server.received] == [3] * 40


async def test_the_connection_that_was_used_last_goes_first(scripted: Serve) -> None:
    server = scripted([read_request, sends(b"{}")] * 50)
    async with client() as http:
        await asyncio.gather(*(http.get(server.url, bytes_max=100) for _ in range(3)))
        for _ in range(5):
            await http.get(server.url, bytes_max=100)
    assert sorted(received.count(b"GET /") for received in server.received) == [1, 1, 6]


async def test_an_idle_connection_to_one_name_makes_room_for_another(scripted: Serve) -> None:
    server = scripted([read_request, sends(b"{}")] * 4)
    rules = [f"{name}.test:80:127.0.0.1:{server.port}" for name in ("one", "two")]
    async with client(*rules, connections_max=1) as http:
        for name in ("one", "two", "one"):
            await http.get(f"http://{name}.test/", bytes_max=100)
    assert heads(server) == [["GET / one.test"], ["GET / two.test"], ["GET / one.test"]]


async def test_a_request_under_way_when_all_is_closed_is_not_asked_again(scripted: Serve) -> None:
    asked, closed = threading.Event(), threading.Event()
    server = scripted([read_request, lambda _: asked.set(), lambda _: closed.wait(20)])
    async with client() as http:
        request = asyncio.create_task(http.get(server.url, bytes_max=100))
        await asyncio.to_thread(asked.wait, 20)
    closed.set()
    with pytest.raises(IdpOutage):
        await request
    assert len(server.connections) == 1


async def test_a_request_that_was_connecting_when_all_was_closed_is_not_sent(
    scripted: Serve,
) -> None:
    server = scripted([read_request, sends(b"{}")])
    async with client() as http:
        request = asyncio.create_task(http.get(server.url, bytes_max=100))
        await asyncio.sleep(0)
    with pytest.raises(IdpOutage):
        await request
    assert b"".join(server.received) == b""


@pytest.mark.parametrize("text", ["", "no certificate at all"])
def test_CF_10_a_ca_file_that_is_no_pem_is_an_error_that_names_it(
    idp: RunningIdp, tmp_path: Path, text: str
) -> None:
    ca_file = tmp_path / "ca.pem"
    ca_file.write_text(text)

    with pytest.raises(ConfigurationError, match=r"ca\.pem:1:1: --idp-ca-file: cannot be read"):
        RunningAuthz(gateway(idp), idp_ca_file=str(ca_file))
