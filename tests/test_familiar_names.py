"""What the fast path knows of header names."""

from __future__ import annotations

from authz.fast_path import NAME_CHARS_MAX, NAMES_MAX, FamiliarNames


def names(decides: str = "") -> FamiliarNames:
    return FamiliarNames(lambda name: name == decides)


def test_a_name_is_familiar_once_it_was_learned_unless_it_decides_something() -> None:
    familiar = names(decides="connection")

    familiar.learn(["accept", "connection"])
    familiar.learn(["host"])

    assert familiar.hold(["accept", "host"])
    assert not familiar.hold(["accept", "connection"])


def test_beyond_the_bound_only_the_last_request_is_known() -> None:
    familiar = names()
    many = [f"n{number}" for number in range(NAMES_MAX)]
    familiar.learn(many)
    assert familiar.hold(many)

    familiar.learn(["accept", "n1"])

    assert familiar.hold(["accept", "n1"])
    assert not any(familiar.hold([name]) for name in many if name != "n1")


def test_what_is_long_or_too_much_at_once_is_not_learned() -> None:
    familiar = names()

    long, many = "n" * (NAME_CHARS_MAX + 1), [f"n{number}" for number in range(NAMES_MAX + 1)]
    familiar.learn([long])
    familiar.learn(many)

    assert not any(familiar.hold([name]) for name in (long, *many))
