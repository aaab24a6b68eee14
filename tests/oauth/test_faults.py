"""Why a provider cannot be connected to: in words, with endpoint, host and port."""

from __future__ import annotations

import errno
import os
import socket
import ssl
from typing import TYPE_CHECKING

import pytest
from support.client import door
from support.idp import RunningIdp
from support.scenes import at
from support.tls import authority, ca_file, server_context

from authz.errors import IdpOutage
from authz.oauth import faults
from authz.oauth.http import tls_context

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.running import MakeAuthz


async def fault_at(url: str, *connect_to: str, tls: ssl.SSLContext | None = None) -> str:
    async with door(*connect_to, tls=tls) as idp:
        with pytest.raises(IdpOutage) as caught:
            await idp.post(url)
    return caught.value.detail


async def test_C1_a_name_that_dns_does_not_know() -> None:
    with pytest.raises(socket.gaierror) as caught:  # as this machine's resolver has it
        socket.getaddrinfo("idp.invalid", 81)
    told = await fault_at("http://idp.invalid:81/token")
    assert told == f"token endpoint at idp.invalid:81: {faults.of_connecting(caught.value)}"


async def test_C1_a_port_where_nothing_listens() -> None:
    assert await fault_at("http://127.0.0.1:1/token") == (
        "token endpoint at 127.0.0.1:1: the connection was refused: nothing listens there"
    )


@pytest.mark.parametrize(
    ("context", "words"),
    [
        pytest.param(
            lambda: server_context("127.0.0.1", ca=authority("nobody")),
            "its certificate is not trusted (",
            id="untrusted",
        ),
        pytest.param(
            lambda: server_context("127.0.0.1", expired=True),
            "its certificate has expired (",
            id="expired",
        ),
        pytest.param(
            lambda: server_context("idp.test"), "its certificate is another host's (", id="name"
        ),
    ],
)
async def test_C1_a_certificate_that_is_refused_says_why(
    tmp_path: Path, context: Callable[[], ssl.SSLContext], words: str
) -> None:
    trusted = tls_context(str(ca_file(tmp_path)), verify=True)
    with RunningIdp(tls=context()) as secured:
        told = await fault_at(secured.token_endpoint, tls=trusted)
    assert told.startswith(f"token endpoint at 127.0.0.1:{secured.port}: {words}")


async def test_C1_an_untrusted_certificate_names_the_flag(tmp_path: Path) -> None:
    trusted = tls_context(str(ca_file(tmp_path)), verify=True)
    with RunningIdp(tls=server_context("127.0.0.1", ca=authority("nobody"))) as secured:
        told = await fault_at(secured.token_endpoint, tls=trusted)
    assert told.endswith("name its authority with --idp-ca-file")


async def test_C1_https_to_a_port_without_tls(idp: RunningIdp) -> None:
    told = await fault_at(idp.token_endpoint.replace("http:", "https:"))
    assert "no TLS connection" in told
    assert told.endswith("is that port https?")


async def test_C1_the_operator_reads_it_in_the_log_and_on_the_status_page(
    make_authz: MakeAuthz, caplog: pytest.LogCaptureFixture
) -> None:
    authz = make_authz(at("http://127.0.0.1:1/realms/kong"))
    await authz.basic()

    words = "discovery at 127.0.0.1:1: the connection was refused: nothing listens there"
    assert words in authz.configuration.status()[0].detail
    [told] = [record for record in caplog.records if record.name == "authz.idp"]
    assert told.levelname == "WARNING"
    assert told.fields["detail"] == words  # type: ignore[attr-defined] # our lines have fields


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.EHOSTUNREACH, "x"), "no route to that host"),
        (OSError(errno.ENETUNREACH, "x"), "no route to that network"),
        (TimeoutError(), "the host does not answer"),
        (OSError(errno.EMFILE, "x"), "authz has no file descriptor left"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "no connection (Input/output error)"),
        (socket.gaierror(socket.EAI_NONAME, "unknown"), "the name is not known to DNS"),
        (socket.gaierror(socket.EAI_AGAIN, "later"), "DNS does not answer"),
        (UnicodeError("label too long"), "the host is no name"),
    ],
    ids=str,
)
def test_C1_each_fault_has_its_words(error: OSError | UnicodeError, words: str) -> None:
    assert faults.of_connecting(error).startswith(words)


def test_C1_what_a_newer_python_refuses_in_a_certificate_names_the_flag_too() -> None:
    error = ssl.SSLCertVerificationError(1, "x")
    error.verify_code, error.verify_message = 92, "Missing Authority Key Identifier"
    assert faults.of_connecting(error) == (
        "its certificate is refused (Missing Authority Key Identifier): "
        "see the authority in --idp-ca-file"
    )
