"""Cached answers, by digest of the credential: what the fast path reads."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True)
class CachedAnswer:
    """An answer that holds for the same credential on the same route.

    ``expires_at`` is wall time: the token's own end.  ``fresh_until`` is
    monotonic time.  ``keys_version`` is the provider's when it was verified.
    """

    wire: bytes = field(repr=False)
    expires_at: float
    fresh_until: float
    keys_version: int
    log_fields: Mapping[str, Any]


class CachedAnswers:
    """A bounded map.  ``get`` is one dict read, safe from any thread; all else is for the loop."""

    def __init__(self, *, entries_max: int, bytes_max: int) -> None:
        self._entries_max = entries_max
        self._bytes_max = bytes_max
        self._bytes = 0
        self._answers: dict[bytes, CachedAnswer] = {}
        self.get = self._answers.get

    def put(self, key: bytes, answer: CachedAnswer) -> None:
        """Remember an answer, unless it could never fit; the oldest ones make room for it.

        Oldest and not least recently used, so that reading changes nothing.  One
        that was pushed out comes back from the token cache at its next use.
        """
        self._drop(key)
        if len(answer.wire) > self._bytes_max:
            return
        self._answers[key] = answer
        self._bytes += len(answer.wire)
        while len(self._answers) > self._entries_max or self._bytes > self._bytes_max:
            self._drop(next(iter(self._answers)))

    def _drop(self, key: bytes) -> None:
        answer = self._answers.pop(key, None)
        if answer is not None:
            self._bytes -= len(answer.wire)

    def __len__(self) -> int:
        return len(self._answers)
