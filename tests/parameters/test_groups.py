"""The groups of parameters: each declared once, and part of the keys that depend on it."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from authz.kong.slots import LOCATION_PARAMETERS
from authz.methods import METHOD_NAMES
from authz.parameters import CHAPTERS, GROUP_OF, GROUPS, PARAMETERS, OpenIDConnect
from authz.parameters.common import (
    AUTH_METHODS,
    METHODS_BY_DEFAULT,
    METHODS_BY_DEFAULT_WITH_OUR_CLIENT,
)
from authz.parameters.declaration import Status
from authz.parameters.kinds import (
    Array,
    Boolean,
    Kind,
    Number,
    Object,
    SecretText,
    Text,
    Whole,
    declared,
)
from authz.secret import Secret

ISSUER = "https://idp.example/realms/kong"
EXCHANGE = {"provider", "client", "exchange", "token", "memory"}
INTROSPECTION = {"provider", "reach", "client", "introspection", "token", "memory"}
USERINFO = {"provider", "reach", "userinfo", "token", "memory"}


def another(kind: Kind[Any], value: Any) -> Any:
    """Return a value of this kind that is not ``value``."""
    if isinstance(kind, Boolean):
        return not value
    if isinstance(kind, Number | Whole):
        return (value or 0) + 1
    if isinstance(kind, SecretText):
        return Secret("another")
    if isinstance(kind, Text):
        return next(text for text in (*kind.allowed, "another") if text != value)
    if isinstance(kind, Array):
        return (*(value or ()), another(kind.of, None))
    assert isinstance(kind, Object)
    return plainest(kind)


def plainest(kind: Object[Any], **values: Any) -> Any:
    """Return what a mapping makes that says these values, and else what it must say."""
    needed = {f.attribute: another(f.kind, None) for f in declared(kind.of) if f.required}
    return kind.of(**{**needed, **values})


def flipped(name: str) -> tuple[OpenIDConnect, OpenIDConnect]:
    one = OpenIDConnect.of(issuer=ISSUER)
    parameter = PARAMETERS[name]
    return one, one.replace(**{name: another(parameter.kind, one.flat()[name])})


@pytest.mark.parametrize("name", GROUP_OF)
def test_each_parameter_changes_the_keys_of_what_depends_on_its_group_and_no_other(
    name: str,
) -> None:
    before, after = flipped(name)
    group = GROUP_OF[name]

    of_exchange = group in EXCHANGE or name == "audience_claim"
    assert (before.exchange_key != after.exchange_key) is of_exchange
    assert (before.introspection_key != after.introspection_key) is (group in INTROSPECTION)
    assert (before.userinfo_key != after.userinfo_key) is (group in USERINFO)
    assert (before.provider_key != after.provider_key) is (group in {"provider", "reach"})
    assert before != after
    assert len({before, after}) == 2


@pytest.mark.parametrize(
    "name", [name for name in GROUP_OF if isinstance(PARAMETERS[name].kind, Object | Array)]
)
def test_what_stands_inside_of_a_parameter_changes_its_key_too(name: str) -> None:
    kind = PARAMETERS[name].kind
    listed = isinstance(kind, Array)
    inner = kind.of if isinstance(kind, Array) else kind
    if not isinstance(inner, Object):
        return
    plain = OpenIDConnect.of(issuer=ISSUER)
    keys = {plain.exchange_key}
    for field in declared(inner.of):
        value = plainest(inner, **{field.attribute: another(field.kind, field.default)})
        keys.add(plain.replace(**{name: (value,) if listed else value}).exchange_key)
    expected = 1 + len(declared(inner.of)) if GROUP_OF[name] in EXCHANGE else 1
    assert len(keys) == expected


def test_equal_parameters_make_one_plugin_and_one_key() -> None:
    one, other = (
        OpenIDConnect.of(issuer=ISSUER, cache_tokens_salt=Secret("a"), scopes=("x",))
        for _ in range(2)
    )
    assert one == other
    assert hash(one) == hash(other)
    assert one.exchange_key == other.exchange_key


def test_a_key_tells_values_apart_wherever_the_comma_stands() -> None:
    one = OpenIDConnect.of(issuer=ISSUER, scopes=("a", "b"))
    other = OpenIDConnect.of(issuer=ISSUER, scopes=("a,b",))
    assert one.exchange_key != other.exchange_key


def test_no_parameter_stands_in_two_chapters() -> None:
    names = [name for chapter in CHAPTERS.values() for name in chapter]
    assert len(names) == len(set(names)) == len(PARAMETERS)


def test_a_name_that_no_group_has_is_an_error() -> None:
    with pytest.raises(TypeError, match="no group has the parameter 'scope'"):
        OpenIDConnect.of(issuer=ISSUER, scope=("a",))


def test_a_plugin_without_an_issuer_is_an_error() -> None:
    with pytest.raises(TypeError, match="issuer"):
        OpenIDConnect.of()


def test_what_is_not_said_has_the_default_of_the_declaration() -> None:
    plain = OpenIDConnect.of(issuer=ISSUER).flat()
    for name in GROUP_OF.keys() - {"issuer"}:
        parameter = PARAMETERS[name]
        empty = () if isinstance(parameter.kind, Array) else None
        expected = empty if parameter.default is None else parameter.default
        assert plain[name] == (parameter.here or expected), name


def test_what_stands_for_kongs_default_here_is_narrower() -> None:
    for name, parameter in PARAMETERS.items():
        if parameter.here is not None:
            assert set(parameter.here) < set(parameter.default), name


def test_what_is_done_is_in_a_group_that_acts() -> None:
    done = {name for name, parameter in PARAMETERS.items() if parameter.status is Status.DONE}
    assert done <= GROUP_OF.keys()


def test_a_method_is_one_of_kongs_and_a_parameter_says_where_it_looks() -> None:
    assert set(METHOD_NAMES) <= set(AUTH_METHODS)
    assert set(METHOD_NAMES) <= LOCATION_PARAMETERS.keys()


def test_what_acts_unasked_is_done() -> None:
    assert {*METHODS_BY_DEFAULT, *METHODS_BY_DEFAULT_WITH_OUR_CLIENT} <= set(METHOD_NAMES)


def test_no_secret_of_a_plugin_is_printed() -> None:
    plugin = OpenIDConnect.of(
        issuer=ISSUER, cache_tokens_salt=Secret("hunter2"), client_secret=(Secret("hunter2"),)
    )
    assert "hunter2" not in repr(plugin)
    assert "hunter2" in "".join(plugin.exchange_key)


def test_a_group_is_a_frozen_value() -> None:
    plugin = OpenIDConnect.of(issuer=ISSUER)
    for group in GROUPS:
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(getattr(plugin, group), declared(GROUPS[group])[0].attribute, None)
