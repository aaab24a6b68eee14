"""What a file may ask of requests: whatever it accepts, a request can have.

A condition that no request meets is worse than none: the request falls to a wider
route, which may be open.  So each is refused, with what to write, or met.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.configuration import FORMAT, complaints, load

from authz.errors import ConfigurationError, MalformedRequest, Reason, Refusal, RouteNotFound
from authz.kong import checks
from authz.kong.paths import normalise
from authz.kong.readings import HEADER_LINES_MAX
from authz.kong.regexes import Pattern, unmet
from authz.kong.router import Router
from authz.model import Request

# RFC 3986 section 2.2: quoted, these would be other characters.
RESERVED = "!*'();:@&=+$,/?%#[]"
SUGGESTED = re.compile(": write (.*)$", re.DOTALL)


@dataclass(frozen=True)
class Asked:
    """A condition as a file writes it, and what a request has to hold to meet it."""

    written: str
    sent: str


def pairs(*each: tuple[str, str]) -> st.SearchStrategy[Asked]:
    return st.sampled_from([Asked(*pair) for pair in each])


def joined(parts: st.SearchStrategy[Asked], *, at_least: int = 0) -> st.SearchStrategy[Asked]:
    return st.lists(parts, min_size=at_least, max_size=6).map(
        lambda found: Asked("".join(p.written for p in found), "".join(p.sent for p in found))
    )


# --- The grammar ------------------------------------------------------------------

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=4)
PLAIN_PIECES = st.one_of(
    st.sampled_from(
        ["/", ".", "..", "a", "é", " ", "?", "#", "%", "%25", "%2f", "%2F", "%20", "%41", "%C3%A9",
         "%ff", "%0A", "%5C", "~", ";", "[", "]", "{", "|", "\\", "\\d"]
    ),
    TEXT,
)  # fmt: skip
PLAIN_PATHS = st.lists(PLAIN_PIECES, max_size=6).map(lambda parts: "/" + "".join(parts))

REGEX_PIECES = pairs(
    ("a", "a"), ("/a", "/a"), (r"\.", "."), (r"\d+", "42"), ("[^/]+", "x-y"), ("(?:b|c)", "c"),
    ("([0-9a-f]{2})", "0f"), ("é", "é"), ("%2F", "%2F"), ("%C3%A9", "é"), ("%20", " "),
    ("%41", "A"), ("%2f", "%2F"), ("d?", ""), ("e*", "ee"), ("f{2}", "ff"), ("$", ""), ("/", "/"),
    ("(?i:G)", "g"), (r"\b", ""), (" ", " "), (r"\?", "?"), ("%3F", "%3F"), ("[?]", "?"),
    (r"\\", "\\"), ("//?", "/"), ("%C3%A9+", "é"),
)  # fmt: skip
REGEX_PATHS = joined(REGEX_PIECES).map(lambda p: Asked(f"~/{p.written}", f"/{p.sent}"))

LABELS = st.sampled_from(["a", "A-b", "x_y", "1", "xn--tda", "ü", "test", "a..b", "-a", "", "*"])
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
NAMES |= st.sampled_from(["a.test.", "*.ü.test", "10.0.0.1", "::1", "[::1]", "[::1", "[FE80::A]"])
HOSTS = st.tuples(NAMES, st.sampled_from(["", ":80", ":08443", ":0", ":70000", ":x", ":"])).map(
    "".join
)

VALUES = st.text(st.characters(max_codepoint=0x17F, exclude_categories=["Cs"]), max_size=6)
HEADER_PIECES = pairs(
    ("v", "V"), ("[0-9]+", "12"), ("^", ""), ("$", ""), (r"\.", "."), (".*", ",x"), ("(a|b)", "B")
)
HEADER_REGEXES = joined(HEADER_PIECES).map(lambda p: Asked(f"~*{p.written}", p.sent))
HEADER_VALUES = VALUES.map(lambda text: Asked(text, text)) | HEADER_REGEXES


def table(**fields: Any) -> Router | None:
    """The router of a file with one route of these fields; None: the file is refused."""
    route = {"name": "r", "protocols": ["http", "https"], **fields}
    try:
        return Router(load(json.dumps({"_format_version": "3.0", "routes": [route]})))
    except ConfigurationError:
        return None


def is_met(router: Router | None, **fields: Any) -> bool:
    assert router is not None
    asked = {"method": "GET", "scheme": "https", "host": "a.test", "path": "/", **fields}
    try:
        return router.match(Request(**asked)).route is not None
    except Refusal:
        return False


NEEDS_A_NAME = re.compile(r"%2F|%5C|/\.\.?;")


def is_met_or_told_apart(router: Router, path: str) -> bool:
    """Whether a path is met.

    One with an escaped slash, or with a parameter on a dot segment, is two paths to
    different Envoys: only one that names the route can let it pass.
    """
    try:
        return router.match(Request(method="GET", scheme="http", path=path)).route is not None
    except MalformedRequest as error:
        return error.reason is Reason.ROUTE_AMBIGUOUS and NEEDS_A_NAME.search(path) is not None
    except RouteNotFound:
        return False


# --- Whatever is accepted is met -----------------------------------------------------


@settings(max_examples=400, deadline=None)
@given(PLAIN_PATHS)
def test_D_01_whatever_plain_path_a_file_may_say_a_request_meets(path: str) -> None:
    if router := table(paths=[path]):
        sent = quote(path, safe=RESERVED)
        assert normalise(sent) == path
        assert is_met_or_told_apart(router, sent)


@settings(max_examples=400, deadline=None)
@given(PLAIN_PATHS | REGEX_PATHS.map(lambda asked: asked.written))
def test_D_01_whatever_is_refused_for_its_form_comes_with_one_that_is_accepted(path: str) -> None:
    wrong = checks.route_path(path)
    if wrong is not None and "normal form" in wrong:
        found = SUGGESTED.search(wrong)
        assert found is not None
        assert checks.route_path(found[1]) is None


@settings(max_examples=400, deadline=None)
@given(REGEX_PATHS)
def test_G_04_whatever_regex_path_a_file_may_say_a_request_meets(asked: Asked) -> None:
    sent = quote(asked.sent, safe=RESERVED)
    # Pieces may not fit together: another engine says so, or the path is no normal one.
    fits = re.match(asked.written[1:], asked.sent, re.ASCII) and normalise(sent) == asked.sent
    if fits and (router := table(paths=[asked.written])):
        assert is_met_or_told_apart(router, sent)


@settings(max_examples=400, deadline=None)
@given(HOSTS)
def test_G_04_whatever_host_a_file_may_say_a_request_meets(host: str) -> None:
    if router := table(hosts=[host]):
        assert is_met(router, host=host.replace("*", "x.y").upper())


@settings(max_examples=200, deadline=None)
@given(NAMES)
def test_G_04_whatever_server_name_a_file_may_say_a_request_meets(name: str) -> None:
    told = name.replace("*", "x.y").removesuffix(".")
    if router := table(snis=[name]):
        for spelled in (told, told.upper(), f"{told}."):
            assert is_met(router, server_name=spelled)


@settings(max_examples=300, deadline=None)
@given(st.from_regex(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,8}", fullmatch=True), HEADER_VALUES)
def test_G_04_whatever_header_a_file_may_ask_for_a_request_has(name: str, asked: Asked) -> None:
    router = table(headers={name: [asked.written]})
    regex = asked.written[2:] if asked.written.startswith("~*") else ""
    if router is None or not re.search(regex, asked.sent, re.IGNORECASE):
        return
    if not regex and asked.written != "~*":
        # What Envoy hands on: without the blanks around it, of what a field may hold.
        assert asked.sent == asked.sent.strip(" \t")
        assert re.fullmatch(r"[\x20-\x7e]+", asked.sent)
    assert is_met(router, headers={name.lower(): asked.sent})
    if "," not in asked.sent:  # then it may be one of several lines
        assert is_met(router, headers={name.lower(): f"x,{asked.sent}"})


@given(st.from_regex("[A-Z]{1,8}", fullmatch=True))
def test_G_04_whatever_method_a_file_may_say_a_request_has(method: str) -> None:
    assert is_met(table(methods=[method]), method=method)


GRPC = {"content-type": "application/grpc"}
WEBSOCKET = {"connection": "Upgrade", "upgrade": "WebSocket"}


@pytest.mark.parametrize(
    ("protocol", "scheme", "headers"),
    [
        ("http", "http", {}),
        ("https", "https", {}),
        ("grpc", "http", GRPC),
        ("grpcs", "https", GRPC),
        ("ws", "http", WEBSOCKET),
        ("wss", "https", WEBSOCKET),
    ],
)
def test_G_04_whatever_protocol_a_file_may_say_a_request_speaks(
    protocol: str, scheme: str, headers: dict[str, str]
) -> None:
    router = Router(load(f"{FORMAT}routes: [{{protocols: [{protocol}], paths: [/]}}]"))
    assert is_met(router, scheme=scheme, headers=headers)
    assert not is_met(router, scheme={"http": "https", "https": "http"}[scheme], headers=headers)
    assert is_met(router, scheme=scheme, headers={}) == (headers == {})


def test_G_04_a_route_for_http_takes_websockets_too() -> None:
    router = Router(load(f"{FORMAT}routes: [{{paths: [/]}}]"))
    assert is_met(router, headers=WEBSOCKET)


# --- What is refused, and what to write instead -----------------------------------------


@pytest.mark.parametrize(
    ("path", "written"),
    [
        ("/caf%C3%A9", "/café"),
        ("/a%20b", "/a b"),
        ("/a%2fb", "/a%2Fb"),
        ("/%7e", "/~"),
        ("//", "/"),
        ("/a//b", "/a/b"),
        ("/a/../b", "/b"),
        ("/a/.", "/a/"),
        ("/a?b", "/a%3Fb"),
        ("/a#b", "/a%23b"),
        ("~/caf%C3%A9$", "~/café$"),
        ("~/a%20b|/c%2fd", "~/a b|/c%2Fd"),
        ("~/a%2Eb", r"~/a\.b"),
        ("~/a//b", "~/a/b"),
    ],
)
def test_D_01_a_path_that_no_request_can_have_is_refused_with_its_normal_form(
    path: str, written: str
) -> None:
    [complaint] = complaints(f"{FORMAT}routes: [{{paths: ['{path}']}}]")
    assert f"compared in normal form: write {written}" in complaint
    assert complaints(f"{FORMAT}routes: [{{paths: ['{written}']}}]") == []


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            r"paths: ['/users/\d+']",
            "must not hold a backslash; a regular expression begins with ~: write ~/users/",
        ),
        ("paths: ['/%5C']", "must not hold a backslash"),
        ("paths: ['/%0a']", "must not hold control characters"),
        ("paths: ['/%ff']", "holds percent-encoded bytes that are no UTF-8"),
        ("paths: ['~/%FF']", "holds percent-encoded bytes that are no UTF-8"),
        (r"paths: ['~/a\?b=1']", "asks for a query, which is not looked at"),
        (r"paths: ['~/a\#b']", "asks for a fragment, which nobody sends"),
        ("paths: ['~/a#b']", "asks for a fragment, which nobody sends"),
        ("paths: ['~/a$b']", "something stands after $"),
        ("paths: ['~/a^b']", "something stands before ^"),
        ("hosts: [a.test.]", "must not end with a dot, for callers send none: write a.test"),
        ("hosts: ['ü.test:80']", "write xn--tda.test:80"),
        ("hosts: [straße.test]", "write the xn--… name that is registered"),
        ("snis: [straße.test]", "write the xn--… name that is registered"),
        ("hosts: ['::1']", "must stand in brackets, as callers send it: write [::1]"),
        ("hosts: ['[::1']", "must stand in brackets"),
        ("hosts: ['*.[::1]']", "must be a host name or an IP address"),
        ("hosts: ['a.test:070000']", "must have a port between 1 and 65535"),
        ("snis: [10.0.0.1]", "a server name is never an IP address"),
        ("snis: ['*.ü']", "write *.xn--tda"),
        ("headers: {x: [' a']}", "must be visible ASCII"),
        ("headers: {x: [é]}", "must be visible ASCII"),
        ("headers: {x: []}", "must not be empty"),
        ("headers: {X-A: [a], x-a: [b]}", "x-a and X-A are one header"),
    ],
)
def test_D_01_a_condition_that_no_request_can_meet_is_refused(fields: str, message: str) -> None:
    [complaint] = complaints(f"{FORMAT}routes: [{{{fields}}}]")
    assert message in complaint


@pytest.mark.parametrize(
    "regex",
    [
        "/a?b",
        "/api//?x",
        "/a%2Fb",
        r"/a\??$",
        r"/a(\?.*)?$",
        "/a(#.*)?$",
        "/a$|/b$",
        "/(?i)a%2fb",
        "/[%41]",
        "(?m)/a$^b",
        "/a$(?:b)?",
    ],
)
def test_D_01_a_regex_that_may_be_met_is_accepted(regex: str) -> None:
    assert checks.route_path(f"~/x{regex}") is None


SHOWS = st.sampled_from(
    ["/", "a", "é", "%2F", "%41", "%C3%A9", "%2f", r"\?", "?", "*", "+", "{2}", "$", "^", "(?:a)",
     "(?:b)?", "[?]", "[ab]", r"\b", "(", ")", " ", "%", "\\", r"\Q//\E", r"\%41"]
)  # fmt: skip
SENT = st.lists(st.sampled_from(["/", "a", "b", "A", "é", "%2F", "%", " ", "\\", "4"]), max_size=5)


@settings(max_examples=600, deadline=None)
@given(st.lists(SHOWS, max_size=5).map("".join), st.lists(SENT.map("".join), min_size=20))
def test_D_01_no_regex_that_a_path_meets_is_refused_for_what_shows(
    regex: str, sent: list[str]
) -> None:
    wrong = unmet(f"/{regex}") if checks.pattern(f"/{regex}") is None else None
    if wrong and "write ~" not in wrong:  # what only has to be spelled otherwise
        normal = {normalise(quote(f"/{path}", safe="/%")) for path in sent}
        assert not any(map(Pattern(f"/{regex}").begins, normal))


def test_G_11_a_header_value_that_is_never_read_whole_is_refused() -> None:
    long = "a" * (checks.HEADER_VALUE_BYTES_MAX + 1)
    [complaint] = complaints(f"{FORMAT}routes: [{{headers: {{x: [{long}]}}}}]")
    assert "must not be longer than 8192 bytes" in complaint
    assert HEADER_LINES_MAX > 1
