"""``request-termination`` in a file: what it may say, where it may stand, what it keeps shut."""

from __future__ import annotations

import pytest
from support.configuration import FORMAT, complaints, load, notices

from authz.errors import ConfigurationError
from authz.kong.openings import openings, require_plugins
from authz.kong.router import Router
from authz.kong.termination import BODY_CHARS_MAX
from authz.model import Gateway, Request

OIDC = "{name: openid-connect, config: {issuer: 'https://idp.example', auth_methods: [bearer]}}"
SHUT = "{name: request-termination}"


def entry(config: str = "", **fields: str) -> str:
    written = [f"config: {{{config}}}"] if config else []
    written += [f"{name}: {value}" for name, value in fields.items()]
    return "{" + ", ".join(("name: request-termination", *written)) + "}"


def route(*plugins: str, more: str = "") -> str:
    return f"{FORMAT}routes: [{{name: r, paths: [/], plugins: [{', '.join(plugins)}]{more}}}]\n"


def opened(before: str, after: str) -> list[str | None]:
    return [found.answering.name for found in openings(load(before), load(after))]


# --- What it may say ----------------------------------------------------------------


def test_C_08_without_a_word_it_is_kongs_503() -> None:
    [found] = load(route(SHUT)).terminations

    assert (found.status, found.message, found.body, found.content_type) == (503, None, None, None)
    assert found.route is not None
    assert (found.route.name, found.service) == ("r", None)


def test_C_08_it_says_what_the_file_says() -> None:
    own = "status_code: 410, body: '<p>gone</p>', content_type: text/html"
    found = load(route(entry(own))).terminations[0]

    assert (found.status, found.body, found.content_type) == (410, "<p>gone</p>", "text/html")
    assert load(route(entry("message: later"))).terminations[0].message == "later"


@pytest.mark.parametrize(
    ("config", "wrong"),
    [
        ("status_code: 199", "status_code: must be 200 or more"),
        ("status_code: 600", "status_code: must be 599 or less"),
        ("status_code: 503.5", "status_code: must be a whole number"),
        ("status_code: '503'", "status_code: must be a whole number, without quotes or unit"),
        ("message: a, body: b", "body: excludes message: write one of them"),
        ("content_type: a/b", "content_type: is the type of body, which is not set"),
        ("content_type: a/b, message: c", "content_type: is the type of body, which is not set"),
        ('body: b, content_type: "a\\nb"', "content_type: must"),
        ("body: b, content_type: é", "content_type: must be visible ASCII, as every header"),
        ("echo: true", "echo: answers with the caller's request"),
        ("trigger: x-debug", "trigger: lets every request pass that lacks this header"),
        ("mesage: a", "mesage: "),
    ],
)
def test_C_08_what_it_may_not_say_is_refused_by_its_name(config: str, wrong: str) -> None:
    [found] = complaints(route(entry(config)))

    assert found.split(": ", 1)[1].startswith(wrong)


def test_C_08_a_body_is_bounded() -> None:
    longest = "a" * BODY_CHARS_MAX

    assert complaints(route(entry(f"body: {longest}"))) == []
    [found] = complaints(route(entry(f"body: {longest}a")))
    assert f"body: must not be longer than {BODY_CHARS_MAX} characters" in found


def test_C_08_defaults_of_a_dump_are_read() -> None:
    dump = "status_code: 503, message: null, body: null, content_type: null, echo: false"
    assert load(route(entry(f"{dump}, trigger: null"))).terminations[0].status == 503


# --- Where it may stand -----------------------------------------------------------------


@pytest.mark.parametrize("field", ["consumer: ann", "consumer_group: gold"])
def test_C_08_one_for_a_consumer_is_refused(field: str) -> None:
    name, value = field.split(": ")
    text = f"{FORMAT}plugins: [{entry(**{name: value})}]\n"

    [found] = complaints(text)
    assert found == (
        "2:11: consumer: request-termination for a consumer or a group is not done here: "
        "put it on a service, on a route, or on everything"
    )


@pytest.mark.parametrize("field", ["condition", "ordering", "partials", "expressions"])
def test_C_08_what_changes_when_it_applies_is_refused(field: str) -> None:
    [found] = complaints(f"{FORMAT}plugins: [{entry(**{field: '{a: b}'})}]\n")
    assert f": {field}: " in found


def test_C_08_the_most_specific_one_applies_alone_and_beside_openid_connect() -> None:
    text = f"""{FORMAT}
plugins: [{entry("message: all")}, {entry("message: both", route="b", service="s")}, {OIDC}]
services:
- {{name: s, host: h, plugins: [{entry("message: service")}], routes: [
    {{name: a, paths: [/a]}},
    {{name: b, paths: [/b], plugins: [{entry("message: route")}]}}]}}
routes: [{{name: c, paths: [/c]}}]
"""
    router = Router(load(text))

    def met(path: str) -> str | None:
        match = router.match(Request(method="GET", scheme="http", host="h", path=path))
        assert match.plugin is not None
        return None if match.termination is None else match.termination.message

    assert [met(path) for path in ("/a", "/b", "/c")] == ["service", "both", "all"]


def test_C_08_a_service_is_certain_unless_a_route_of_it_has_a_termination_of_its_own() -> None:
    one = "{name: a, paths: [/a]}"
    shut = f"{{name: b, paths: [/b], plugins: [{SHUT}]}}"

    def certain(*routes: str) -> bool:
        service = f"{{name: s, host: h, routes: [{', '.join(routes)}]}}"
        router = Router(load(f"{FORMAT}services: [{service}]\nplugins: [{OIDC}]\n"))
        return router.certain_match(service="s") is not None

    assert certain(one)
    assert not certain(one, shut)


def test_C_08_two_with_one_scope_are_an_error() -> None:
    [found] = complaints(route(SHUT, SHUT))
    assert "another plugin with the same scope" in found


# --- What it keeps shut ---------------------------------------------------------------


def test_C_08_a_route_that_is_shut_is_not_among_those_that_stand_open() -> None:
    assert any("no openid-connect plugin applies: r" in found for found in notices(route()))
    assert notices(route(SHUT)) == []


def test_C_08_require_plugin_takes_a_route_that_is_shut() -> None:
    require_plugins(load(route(SHUT)))
    with pytest.raises(ConfigurationError, match="r has no openid-connect plugin"):
        require_plugins(load(route(entry(enabled="false"))))


def test_C_08_shutting_a_route_opens_nothing_and_a_reload_does_not_open_it_silently() -> None:
    assert opened(route(OIDC), route(SHUT)) == []
    assert opened(route(SHUT), route(OIDC)) == []
    assert opened(route(), route(SHUT)) == []
    assert opened(route(SHUT), route()) == ["r"]


def test_C_08_switching_it_off_says_that_the_route_may_open() -> None:
    off = entry(enabled="false")

    assert opened(route(SHUT), route(off)) == []
    assert opened(route(SHUT), route(more=", tags: [authz-open]")) == []
    # Each plugin says it of itself alone.
    assert opened(route(OIDC), route(off)) == ["r"]
    assert opened(route(OIDC, SHUT), route(off)) == ["r"]
    assert opened(route(OIDC, SHUT), route(OIDC)) == []


def test_C_08_in_a_file_without_routes_one_for_everything_is_for_everything() -> None:
    gateway: Gateway = load(f"{FORMAT}plugins: [{SHUT}]\n")
    match = Router(gateway).match(Request())

    assert match.termination is gateway.terminations[0]
