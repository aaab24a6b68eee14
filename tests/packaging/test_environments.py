"""Each lock makes an environment that is whole: ``make packaging`` makes them."""

from __future__ import annotations

import pytest
from support import locks

ENVIRONMENTS = {name: locks.ROOT / f".{name}" for name in locks.LOCKS} | {
    "dev": locks.ROOT / ".venv"
}

OURS = {"authz", "authz-native"}
"""Built from this checkout into the workshop's environment."""

VENV = {"pip", "setuptools"}
"""What Python itself puts into an environment."""


@pytest.mark.parametrize("name", locks.LOCKS)
def test_F_an_environment_holds_what_its_lock_lists_and_nothing_else(name: str) -> None:
    found = locks.installed(ENVIRONMENTS[name])
    pinned = {
        pin.name: pin.version for pin in locks.read(locks.lock(name)) if pin.applies(locks.here())
    }

    assert {each: found[each].version for each in found.keys() & pinned.keys()} == pinned
    assert found.keys() - pinned.keys() <= VENV | (OURS if name == "dev" else set())


@pytest.mark.parametrize("name", locks.LOCKS)
def test_F_a_lock_is_closed_in_an_environment_made_from_it_alone(name: str) -> None:
    pins = locks.read(locks.lock(name))
    found = locks.installed(ENVIRONMENTS[name])

    assert locks.faults(pins, locks.asked_for(name), found, locks.here()) == []
