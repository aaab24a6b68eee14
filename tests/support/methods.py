"""What the laws of methods need to know of each method."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from support.idp import RunningIdp

Headers = dict[str, str]


@dataclass(frozen=True)
class Subject:
    """One method under the laws; ``tests/methods/test_<name>.py`` has it as ``SUBJECT``.

    ``good`` and ``bad`` make the headers of a caller whom the provider knows, and of one
    whom it does not; ``refused`` is the reason that the latter gets.  ``elsewhere`` makes
    a request that presents the good credential in another slot.  ``endpoint`` is the one
    that vouches for a credential.  ``parameters`` are the plugin's.
    """

    good: Callable[[RunningIdp], Headers]
    bad: Callable[[RunningIdp], Headers]
    refused: str
    elsewhere: Callable[[RunningIdp], dict[str, Any]]
    endpoint: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
