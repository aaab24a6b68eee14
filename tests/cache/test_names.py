"""What the hot path knows of header names."""

from __future__ import annotations

from authz.cache.names import NAME_CHARS_MAX, NAMES_MAX, FamiliarNames


def names(decides: str = "") -> FamiliarNames:
    return FamiliarNames(lambda name: name == decides)


def test_a_name_is_familiar_once_it_was_learned_unless_it_decides_something() -> None:
    familiar = names(decides="connection")

    familiar.learn(["accept", "connection"])
    familiar.learn(["host"])

    assert familiar.names == {"accept", "host"}


def test_beyond_the_bound_only_the_last_request_is_known() -> None:
    familiar = names()
    familiar.learn(f"n{number}" for number in range(NAMES_MAX))
    assert len(familiar.names) == NAMES_MAX

    familiar.learn(["accept", "n1"])

    assert familiar.names == {"accept"}


def test_what_is_long_or_too_much_at_once_is_not_learned() -> None:
    familiar = names()

    familiar.learn(["n" * (NAME_CHARS_MAX + 1)])
    familiar.learn(f"n{number}" for number in range(NAMES_MAX + 1))

    assert not familiar.names
