"""What a new configuration would open, and what says that it is meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from support.configuration import FORMAT, load

from authz.errors import ConfigurationError, RouteOpened
from authz.kong.openings import (
    OPENINGS_TOLD,
    openings,
    refuse_openings,
    require_plugins,
)

if TYPE_CHECKING:
    from authz.model import Gateway

OIDC = "{name: openid-connect, config: {issuer: 'https://idp.example', auth_methods: [bearer]}}"
OFF = OIDC.replace("config", "enabled: false, config")


def file(*sections: str) -> Gateway:
    return load(FORMAT + "\n".join(sections))


def route(name: str, matching: str, plugin: str = "", *, more: str = "") -> str:
    plugins = f", plugins: [{plugin}]" if plugin else ""
    return f"{{name: {name}, {matching}{plugins}{more}}}"


def routes(*written: str) -> str:
    return f"routes: [{', '.join(written)}]"


def service(*written: str, plugin: str = "", name: str = "s") -> str:
    plugins = f", plugins: [{plugin}]" if plugin else ""
    return f"services: [{{name: {name}, host: h, {routes(*written)}{plugins}}}]"


def glob(plugin: str = OIDC) -> str:
    return f"plugins: [{plugin}]"


def opened(before: Gateway, after: Gateway, *may_open: str) -> list[tuple[str | None, str | None]]:
    """Return the names of the routes that would be open, each with the one that was guarded."""
    return [
        (found.answering.name, None if found.guarded is None else found.guarded.name)
        for found in openings(before, after, may_open)
    ]


GUARDED = file(routes(route("r", "paths: [/v1]", OIDC)))
OPEN = file(routes(route("r", "paths: [/v1]")))


# --- What is an opening -------------------------------------------------------------


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (file(routes(route("r", "paths: [/v1]")), glob()), OPEN),
        (
            file(service(route("r", "paths: [/v1]"), plugin=OIDC)),
            file(service(route("r", "paths: [/v1]"))),
        ),
        (GUARDED, OPEN),
    ],
    ids=["of all", "of a service", "of a route"],
)
def test_G_02_a_route_that_loses_the_plugin_of_any_scope_is_opened(
    before: Gateway, after: Gateway
) -> None:
    assert opened(before, after) == [("r", "r")]
    assert opened(after, before) == []
    assert opened(before, before) == []


def test_G_02_a_guarded_route_whose_requests_fall_to_a_wider_open_one_is_opened() -> None:
    wide = route("wide", "paths: [/]")
    before = file(routes(route("r", "paths: [/admin]", OIDC), wide))

    assert opened(before, file(routes(wide))) == [("wide", "r")]


def test_G_02_not_found_is_not_open() -> None:
    other = route("other", "paths: [/other]")
    assert opened(GUARDED, file(routes(other))) == []
    assert opened(GUARDED, file("services: []")) == []
    disabled = file("services: [{name: s, host: h, enabled: false, routes: [{paths: [/v1]}]}]")
    assert opened(GUARDED, disabled) == []


@pytest.mark.parametrize(
    "narrower",
    [
        "paths: [/v1/health]",
        "paths: ['~/v1/health$']",
        "paths: ['~/v1$']",
        "paths: [/v1], methods: [GET]",
        "paths: [/v1], hosts: [status.example]",
        "paths: [/v1], headers: {x-probe: ['1']}",
    ],
)
def test_G_02_a_new_narrower_open_route_is_no_opening(narrower: str) -> None:
    after = file(routes(route("r", "paths: [/v1]", OIDC), route("n", narrower)))
    assert opened(GUARDED, after) == []


def test_G_02_weaker_parameters_are_no_opening() -> None:
    weaker = OIDC.replace("auth_methods", "consumer_optional: true, auth_methods")
    assert opened(GUARDED, file(routes(route("r", "paths: [/v1]", weaker)))) == []


@pytest.mark.parametrize(
    "matching",
    [
        "paths: ['~/v1/(?<id>[^/]+)$']",
        "paths: [/v1], hosts: ['*.example']",
        "paths: [/v1], hosts: ['api.*']",
        "paths: [/v1], hosts: ['a.example:8443']",
        "paths: [/v1], headers: {x-v: ['~*^v[0-9]+$']}",
        "paths: [/v1], methods: [DELETE, PATCH]",
        "paths: [/v1], snis: [a.example], protocols: [https]",
        "protocols: [grpc], paths: [/helloworld.Greeter/]",
        "protocols: [ws, wss], paths: [/v1]",
        "hosts: [a.example]",
    ],
)
def test_G_02_whatever_a_route_asks_for_its_opening_is_seen(matching: str) -> None:
    before = file(routes(route("r", matching, OIDC)))
    assert opened(before, file(routes(route("r", matching)))) == [("r", "r")]
    # and by an unnamed twin, so not for the name's sake
    assert [pair[1] for pair in opened(before, file(routes(f"{{{matching}}}")))] == ["r"]


@pytest.mark.parametrize(
    ("paths", "fewer"), [("/v1", "/v1/"), ("~/(a|b)$", "~/a$"), ("~/x(/[0-9]+)?$", "~/x/[0-9]+$")]
)
def test_G_02_a_part_that_a_route_lets_go_to_a_wider_open_one_is_opened(
    paths: str, fewer: str
) -> None:
    wide = route("wide", "paths: [/]")
    before = file(routes(route("r", f"paths: ['{paths}']", OIDC), wide))
    after = file(routes(route("r", f"paths: ['{fewer}']", OIDC), wide))
    assert opened(before, after) == [("wide", "r")]
    assert opened(after, before) == opened(before, before) == []


def test_G_02_a_websocket_that_falls_to_a_wider_open_route_is_seen() -> None:
    wide = route("wide", "paths: [/]")  # one for http takes WebSockets too
    guarded = route("r", "protocols: [ws], paths: [/v1]", OIDC)
    assert opened(file(routes(guarded, wide)), file(routes(wide))) == [("wide", "r")]


def test_G_02_one_combination_of_many_is_enough() -> None:
    before = file(routes(route("r", "paths: [/a, /b], hosts: [x.example, y.example]", OIDC)))
    kept = route("r", "paths: [/a, /b], hosts: [x.example, y.example]", OIDC)
    above = route("n", "paths: ['~/b'], hosts: [y.example]")
    [found] = openings(before, file(routes(kept, above)))

    assert found.answering.name == "n"
    assert found.witness is not None
    assert (found.witness.host, found.witness.path) == ("y.example", "/b/authz-witness/0")


def test_G_02_what_was_open_before_is_not_opened() -> None:
    both = (route("r", "paths: [/v1]", OIDC), route("n", "paths: [/v1/health]"))
    assert opened(file(routes(*both)), file(routes(*both))) == []
    assert opened(OPEN, OPEN) == []


def test_G_02_a_route_that_others_cover_is_still_seen_where_it_answers_itself() -> None:
    below = route("below", "paths: ['~/v1/.+']")
    before = file(routes(route("r", "paths: [/v1]", OIDC), below))
    assert opened(before, file(routes(route("r", "paths: [/v1]"), below))) == [("r", "r")]
    # and not by its name alone
    [found] = openings(before, file(routes("{paths: [/v1]}", below)))
    assert found.witness is not None
    assert found.witness.path == "/v1"


def test_G_02_a_name_that_envoy_gives_counts_whatever_the_route_has_become() -> None:
    after = file(routes(route("r", "paths: [/elsewhere]")))
    [found] = openings(GUARDED, after)
    assert "what Envoy names route r" in str(found.told())


def test_G_02_a_service_that_envoy_names_must_not_open_with_its_last_guarded_route() -> None:
    public = route("public", "paths: [/public]")
    before = file(service(public, route("r", "paths: [/v1]", OIDC)))
    [found] = openings(before, file(service(public)))
    assert (found.answering.name, found.guarded and found.guarded.name) == ("s", "r")
    assert "give each route of the service s the tag authz-open" in str(found.told())


def test_G_02_a_file_without_routes_guards_everything() -> None:
    assert opened(file(glob()), file(routes(route("all", "paths: [/]")))) == [("all", None)]
    assert opened(file(glob()), file(routes(route("some", "paths: [/some]")))) == []
    assert opened(file(glob()), file("services: []")) == []
    before = file("services: [{name: s, host: h}]", glob())
    assert opened(before, file("services: [{name: s, host: h}]")) == [("s", "s")]


def test_G_02_a_route_without_an_example_is_compared_by_what_it_is() -> None:
    """Nobody can be asked whether it lets them in, so nothing may have changed."""
    odd = route("odd", r"paths: ['~/a\bb']", OIDC)
    public = route("public", "paths: [/public]")
    before = file(routes(odd, public))

    assert opened(before, before) == []
    assert opened(before, file(routes(odd))) == []
    assert opened(before, file(routes(public))) == [("public", "odd")]
    new = route("new", "paths: [/new]")
    assert opened(before, file(routes(odd, public, new))) == [("public", "odd")]
    changed = route("odd", r"paths: ['~/a\bc']", OIDC)
    assert opened(before, file(routes(changed, public))) == [("public", "odd")]
    assert opened(before, file(routes(changed, public)), "public") == []
    assert "no example" in str(openings(before, file(routes(public)))[0].told())


# --- What says that it is meant -------------------------------------------------------


def test_G_02_the_tag_on_the_route_that_answers_allows_it() -> None:
    tagged = route("r", "paths: [/v1]", more=", tags: [team-a, authz-open]")
    assert opened(GUARDED, file(routes(tagged))) == []
    assert opened(GUARDED, file(routes(tagged.replace("authz-open", "authz-opened")))) == [
        ("r", "r")
    ]
    wide = route("wide", "paths: [/]", more=", tags: [authz-open]")
    assert opened(GUARDED, file(routes(wide))) == []
    of_service = file(service(route("r", "paths: [/v1]"), plugin=OIDC))
    assert opened(of_service, file(service(tagged))) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            file(routes(route("r", "paths: [/v1]")), glob()),
            file(routes(route("r", "paths: [/v1]")), glob(OFF)),
        ),
        (
            file(service(route("r", "paths: [/v1]"), plugin=OIDC)),
            file(service(route("r", "paths: [/v1]"), plugin=OFF)),
        ),
        (GUARDED, file(routes(route("r", "paths: [/v1]", OFF)))),
        (
            GUARDED,
            file(routes(route("r", "paths: [/v1]")), glob(OFF.replace("{name", "{route: r, name"))),
        ),
    ],
    ids=["of all", "of a service", "of a route", "of a route, written apart"],
)
def test_G_02_the_plugin_that_guarded_being_there_and_off_allows_it(
    before: Gateway, after: Gateway
) -> None:
    assert opened(before, after) == []


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            file(routes(route("r", "paths: [/v1]", OIDC)), glob(OFF)),
            file(routes(route("r", "paths: [/v1]")), glob(OFF)),
        ),
        (
            file(routes(route("r", "paths: [/v1]", OFF)), glob()),
            file(routes(route("r", "paths: [/v1]", OFF))),
        ),
        (
            file(service(route("r", "paths: [/v1]", OIDC), plugin=OFF)),
            file(service(route("r", "paths: [/v1]"), plugin=OFF)),
        ),
    ],
    ids=["of all", "of a route", "of a service"],
)
def test_G_02_a_plugin_that_was_off_all_the_while_says_nothing_of_the_one_that_is_gone(
    before: Gateway, after: Gateway
) -> None:
    assert opened(before, after) == [("r", "r")]


def test_G_02_a_plugin_of_a_consumer_that_is_off_says_nothing_of_a_route() -> None:
    after = file(
        routes(route("r", "paths: [/v1]")),
        f"consumers: [{{username: c, plugins: [{OFF.replace('{name', '{route: r, name')}]}}]",
    )
    assert opened(GUARDED, after) == [("r", "r")]


def test_G_02_the_operator_allows_it_by_name_or_id() -> None:
    [by_id] = [each.id for each in OPEN.routes]
    assert opened(GUARDED, OPEN, "r") == opened(GUARDED, OPEN, by_id) == []
    assert opened(GUARDED, OPEN, "other") == [("r", "r")]
    before = file("services: [{name: s, host: h}]", glob())
    assert opened(before, file("services: [{name: s, host: h}]"), "s") == []


# --- A guarded route that never answers --------------------------------------------------


@pytest.mark.parametrize(
    ("of_winner", "of_shadowed"), [("http", "https"), ("http", "grpc"), ("https", "http")]
)
def test_G_02_a_route_in_the_shadow_of_one_for_another_protocol_opens_nothing(
    of_winner: str, of_shadowed: str
) -> None:
    """Kong asks the best route only: the requests of the other are 404, before and after."""
    both = (
        route("winner", f"paths: [/v1], protocols: [{of_winner}]", OIDC),
        route("shadowed", f"paths: [/v1], protocols: [{of_shadowed}]", OIDC),
    )
    health = route("health", "paths: [/health]")

    assert opened(file(routes(*both)), file(routes(*both, health))) == []


def test_G_02_a_shadowed_route_is_opened_still_for_an_envoy_that_names_it() -> None:
    winner, shadowed = "paths: [/v1], protocols: [http]", "paths: [/v1], protocols: [https]"
    before = file(routes(route("winner", winner, OIDC), route("shadowed", shadowed, OIDC)))
    after = file(routes(route("winner", winner, OIDC), route("shadowed", shadowed)))

    assert opened(before, after) == [("shadowed", "shadowed")]


# --- How it is said -------------------------------------------------------------------


def test_G_02_one_line_names_route_witness_and_tag() -> None:
    with pytest.raises(RouteOpened) as caught:
        refuse_openings(GUARDED, OPEN)

    assert str(caught.value) == (
        "<stdin>:2:10: routes: r would be opened: AUTHZ-WITNESS "
        "http://authz-witness.invalid/v1/authz-witness/0 would pass without authentication, and "
        "was guarded on r by the plugin at <stdin>:2:44; if that is meant, give the route r the "
        "tag authz-open, or say authz reload --may-open r"
    )


def test_G_02_many_are_counted() -> None:
    many = [f"paths: [/{number}]" for number in range(OPENINGS_TOLD + 5)]
    before = file(routes(*(route(f"r{n}", each, OIDC) for n, each in enumerate(many))))
    after = file(routes(*(route(f"r{n}", each) for n, each in enumerate(many))))
    with pytest.raises(RouteOpened) as caught:
        refuse_openings(before, after)

    assert len(caught.value.problems) == OPENINGS_TOLD + 1
    assert caught.value.problems[-1].message == "and 5 more would be opened"


def test_LG_01_the_line_holds_no_value_of_a_header() -> None:
    matching = "paths: [/v1], headers: {x-key: [hunter2]}"
    before, after = (file(routes(route("r", matching, plugin))) for plugin in (OIDC, ""))
    [found] = openings(before, after)
    line = str(found.told())
    shown = openings(before, file(routes(route("n", matching))))[0].told()

    assert "hunter2" not in line + str(shown)
    assert "with the route's x-key" in str(shown)


def test_G_02_a_name_that_the_file_lacks_is_the_operators_slip() -> None:
    with pytest.raises(ConfigurationError, match=r"'ordrs' is no route or service.*'orders'"):
        refuse_openings(GUARDED, file(routes(route("orders", "paths: [/v1]"))), ["ordrs"])


# --- Every route must have one ----------------------------------------------------------


def test_G_02_require_plugin_names_each_route_without_one() -> None:
    gateway = file(
        routes(
            route("a", "paths: [/a]"),
            route("b", "paths: [/b]", OIDC),
            route("c", "paths: [/c]", more=", tags: [authz-open]"),
            route("d", "paths: [/d]", OFF),
            route("e", "paths: [/e]"),
        ),
        glob(OFF),
    )
    with pytest.raises(ConfigurationError) as caught:
        require_plugins(gateway)

    assert [problem.message.partition(" ")[0] for problem in caught.value.problems] == ["a", "e"]
    assert "authz-open" in caught.value.problems[0].message


def test_G_02_require_plugin_takes_a_services_plugin_that_is_off_for_its_routes() -> None:
    require_plugins(file(service(route("a", "paths: [/a]"), plugin=OFF)))
    require_plugins(file(service(route("a", "paths: [/a]"), plugin=OIDC)))
    require_plugins(file(glob()))
    require_plugins(file("services: [{name: s, host: h, enabled: false, routes: [{paths: [/a]}]}]"))
