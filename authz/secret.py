"""A string that does not print itself."""

from __future__ import annotations

from typing import Any


class Secret:
    """A string that does not print itself.

    ``reveal()`` is the only way out, so a reader can search for every use.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the secret itself."""
        return self._value

    def __repr__(self) -> str:
        return "Secret('***')"

    __str__ = __repr__

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._value == other._value

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __reduce__(self) -> Any:  # noqa: ANN401 - the signature is pickle's
        msg = "a Secret is not serialised"
        raise TypeError(msg)
