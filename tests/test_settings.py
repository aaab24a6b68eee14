"""Text to settings: addresses, curl's --connect-to, secrets."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authz.model import Secret
from authz.settings import (
    DECLARED,
    ConnectTo,
    Settings,
    TcpAddress,
    UnixAddress,
    beyond_loopback,
    parse_address,
    parse_connect_to,
    parse_tcp_address,
    resolve,
    secret,
)
from authz.settings.declared import FILE, seconds, whole
from authz.settings.environment import split_list, unread_proxies

if TYPE_CHECKING:
    from pathlib import Path

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the case is that it is told apart
CANARY = "canary-5f1d"


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:9191", TcpAddress("127.0.0.1", 9191)),
        ("[::1]:9191", TcpAddress("::1", 9191)),
        ("[0:0::1]:0", TcpAddress("::1", 0)),
        ("localhost:65535", TcpAddress("localhost", 65535)),
        ("unix:/run/authz/authz.sock", UnixAddress("/run/authz/authz.sock")),
        ("unix:///run/authz/authz.sock", UnixAddress("/run/authz/authz.sock")),
        ("unix:authz.sock", UnixAddress("authz.sock")),
    ],
)
def test_an_address_is_read_as_envoy_and_grpc_write_it(
    text: str, address: TcpAddress | UnixAddress
) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("9191", "write HOST:PORT, as 127.0.0.1:9191"),
        (":9191", "write 127.0.0.1:9191 or 0.0.0.0:9191"),
        ("::1:9191", "an IPv6 address stands in brackets"),
        ("[::1]", "write HOST:PORT"),
        ("[nonsense]:1", "no IPv6 address"),
        ("127.0.0.1:65536", "not between 0 and 65535"),
        ("127.0.0.1:" + "9" * 5000, "not between"),
        ("127.0.0.1:-1", "write HOST:PORT"),
        ("127.0.0.1:٣", "write HOST:PORT"),
        ("127.1:9191", "no IPv4 address"),
        ("010.0.0.1:9191", "no IPv4 address"),
        ("a b:1", "no host name"),
        ("a/b:1", "no host name"),
        ("http://a:1", "write HOST:PORT"),
        ("unix:", "names no socket"),
        ("unix:/run/authz/", "names no socket"),
        ("unix://run/authz.sock", "write unix:/path or unix:///path"),
        ("unix:/" + "é" * 60, "at most 107 bytes"),
        ("", "write HOST:PORT"),
    ],
)
def test_what_is_no_address_is_refused_with_what_to_write(text: str, hint: str) -> None:
    with pytest.raises(ValueError, match=hint):
        parse_address(text)


@given(st.text())
def test_any_text_is_an_address_or_a_value_error(text: str) -> None:
    for parse in (parse_address, parse_connect_to):
        with suppress(ValueError):
            parse(text)


@given(st.ip_addresses(), st.integers(0, 65535))
def test_an_address_reads_back_as_it_is_written(host: object, port: int) -> None:
    address = TcpAddress(str(host).partition("%")[0], port)

    assert parse_tcp_address(str(address)) == address


@pytest.mark.parametrize(
    ("text", "target"),
    [
        ("keycloak.test:8080:127.0.0.1:3000", ("127.0.0.1", 3000)),
        ("KEYCLOAK.test:8080:127.0.0.1:3000", ("127.0.0.1", 3000)),
        (":8080:127.0.0.1:3000", ("127.0.0.1", 3000)),
        ("keycloak.test::127.0.0.1:3000", ("127.0.0.1", 3000)),
        ("::127.0.0.1:3000", ("127.0.0.1", 3000)),
        ("keycloak.test:8080::3000", ("keycloak.test", 3000)),
        ("keycloak.test:8080:127.0.0.1:", ("127.0.0.1", 8080)),
        ("keycloak.test:8080:[::1]:3000", ("::1", 3000)),
        ("keycloak.test:8081:127.0.0.1:3000", None),
        ("other.test:8080:127.0.0.1:3000", None),
        ("[::1]:8080:127.0.0.1:3000", None),
    ],
)
def test_connect_to_means_what_it_means_to_curl(text: str, target: tuple[str, int] | None) -> None:
    assert parse_connect_to(text).target("keycloak.test", 8080) == target


def test_connect_to_takes_ipv6_in_brackets_on_both_sides() -> None:
    assert parse_connect_to("[::1]:80:[::2]:81") == ConnectTo("::1", 80, "::2", 81)


@pytest.mark.parametrize(
    "text",
    ["", "a:80", "a:80:b", "a:80:b:80:c", "a:x:b:80", "a:80:b:0", "a:80:b:70000", "[a:80:b:80"],
)
def test_connect_to_in_another_form_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write HOST:PORT:HOST2:PORT2|not between 1 and 65535"):
        parse_connect_to(text)


@pytest.mark.parametrize("text", ["a,b", "a b", " a ,\tb\n", "a,,b"])
def test_a_variable_for_a_repeatable_flag_is_split_at_commas_and_space(text: str) -> None:
    assert split_list(text) == ["a", "b"]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_GR_10_loopback_is_not_beyond_loopback(host: str) -> None:
    assert beyond_loopback([TcpAddress(host, 1), UnixAddress("/a")]) == ()


@pytest.mark.parametrize(
    "host", [EVERYWHERE, "::", "10.0.0.1", "::ffff:10.0.0.1", "fe80::1", "pod.test"]
)
def test_GR_10_everything_else_is_names_included(host: str) -> None:
    address = TcpAddress(host, 1)

    assert beyond_loopback([UnixAddress("/a"), address]) == (address,)


@pytest.mark.parametrize(
    "environ", [{}, {"HTTPS_PROXY": ""}, {"NO_PROXY": "*"}, {"AUTHZ_LISTEN": "127.0.0.1:1"}]
)
def test_B4_an_environment_without_a_proxy_is_worth_no_word(environ: dict[str, str]) -> None:
    assert list(unread_proxies(environ)) == []


def test_B4_a_proxy_that_is_not_used_is_one_notice_without_its_address() -> None:
    environ = {"HTTPS_PROXY": "http://user:secret@proxy.test", "all_proxy": "socks5://proxy.test"}

    [notice] = unread_proxies(environ)
    assert notice.startswith("HTTPS_PROXY, all_proxy in the environment: ")
    assert "proxy.test" not in notice


def test_names_are_resolved_to_what_is_judged_and_bound() -> None:
    resolved = resolve(TcpAddress("localhost", 9191))

    assert TcpAddress("127.0.0.1", 9191) in resolved
    assert beyond_loopback(resolved) == ()


def test_an_ip_address_is_not_looked_up() -> None:
    assert resolve(TcpAddress("192.0.2.1", 1)) == (TcpAddress("192.0.2.1", 1),)


def test_a_secret_comes_from_its_variable() -> None:
    assert secret({"AUTHZ_X": CANARY}, "AUTHZ_X") == Secret(CANARY)
    assert secret({}, "AUTHZ_X") is None


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_CF_05_a_secret_comes_from_a_file_without_its_line_end(tmp_path: Path, end: str) -> None:
    (tmp_path / "secret").write_bytes(f"{CANARY} \n{end}".encode())
    environ = {"AUTHZ_X_FILE": str(tmp_path / "secret")}

    expected = f"{CANARY} \n" if end else f"{CANARY} "
    assert secret(environ, "AUTHZ_X") == Secret(expected)


def test_a_secret_given_twice_is_refused_without_being_shown() -> None:
    with pytest.raises(ValueError, match="both set") as caught:
        secret({"AUTHZ_X": CANARY, "AUTHZ_X_FILE": "/x"}, "AUTHZ_X")

    assert CANARY not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "reason"), [(None, "No such file"), (b"\xff" + CANARY.encode(), "not UTF-8")]
)
def test_LG_06_a_secret_file_that_cannot_be_read_names_the_variable_and_not_the_content(
    tmp_path: Path, content: bytes | None, reason: str
) -> None:
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=f"AUTHZ_X_FILE: .*{reason}") as caught:
        secret({"AUTHZ_X_FILE": str(path)}, "AUTHZ_X")

    assert CANARY not in str(caught.value)


def test_GR_10_the_default_is_loopback() -> None:
    settings = Settings()

    assert settings.operation.admin is not None
    assert beyond_loopback([*settings.listener.addresses, settings.operation.admin]) == ()
    assert not settings.listener.allow_plaintext


@pytest.mark.parametrize("text", ["", "0", "257", "1.5", "x", "\u0663", "1e2", "9" * 5000])
def test_a_whole_number_beyond_its_bounds_is_refused_with_the_bounds(text: str) -> None:
    with pytest.raises(ValueError, match=r"^'.{0,40}' is no whole number from 1 to 256$"):
        whole("processes", least=1, most=256).parse(text)


def test_a_whole_number_may_have_no_upper_bound() -> None:
    assert whole("bytes", least=1).parse("9" * 30) == int("9" * 30)
    with pytest.raises(ValueError, match=r"of at least 1$"):
        whole("bytes", least=1).parse("0")


@pytest.mark.parametrize("text", ["", "-1", "3601", "nan", "inf", "x"])
def test_seconds_beyond_their_bounds_are_refused_with_the_bounds(text: str) -> None:
    assert seconds(most=3600).parse("0.5") == 0.5
    with pytest.raises(ValueError, match=r"is no number of seconds from 0 to 3600$"):
        seconds(most=3600).parse(text)


def test_a_file_that_is_not_there_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("")
    assert FILE.parse(str(tmp_path / "ca.pem")) == str(tmp_path / "ca.pem")
    with pytest.raises(ValueError, match="is no file"):
        FILE.parse(str(tmp_path))


def test_settings_are_named_as_their_flags_and_stand_in_groups() -> None:
    settings = Settings.of(idp_ca_file="ca.pem", grace=3, listen=())

    assert (settings.idp.ca_file, settings.operation.grace_seconds) == ("ca.pem", 3)
    assert settings.replace(grace=4).replace(grace=3) == settings
    assert Settings.of(**{name: one.default for name, one in DECLARED.items()}) == Settings()
    with pytest.raises(TypeError, match="no setting 'grase'"):
        Settings.of(grase=3)
