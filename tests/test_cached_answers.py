"""Cached answers: a plain dict to read, bounded where it is changed."""

from __future__ import annotations

import math

from authz.fast_path import CachedAnswer, CachedAnswers


class Vouching:
    """An issuer whose keys never go."""

    version = 0


def answer(wire: bytes) -> CachedAnswer:
    return CachedAnswer(wire, math.inf, math.inf, Vouching(), 0, {}, lambda: None)


def held(answers: CachedAnswers, count: int) -> list[int]:
    return [number for number in range(count) if answers.get(b"%d" % number)]


def test_an_answer_is_found_by_its_key_alone() -> None:
    answers = CachedAnswers(entries_max=10, bytes_max=1_000)
    answers.put(b"1", answer(b"wire"))

    found = answers.get(b"1")
    assert found is not None
    assert found.wire == b"wire"
    assert answers.get(b"2") is None


def test_the_oldest_answers_make_room_for_more_than_entries_max() -> None:
    answers = CachedAnswers(entries_max=3, bytes_max=1_000)
    for number in range(5):
        answers.put(b"%d" % number, answer(b"wire"))
        answers.get(b"0")  # reading changes nothing

    assert held(answers, 5) == [2, 3, 4]
    assert len(answers) == 3


def test_the_oldest_answers_make_room_for_more_than_bytes_max() -> None:
    answers = CachedAnswers(entries_max=100, bytes_max=1_000)
    for number in range(10):
        answers.put(b"%d" % number, answer(b"x" * 400))

    assert held(answers, 10) == [8, 9]


def test_an_answer_that_is_renewed_is_counted_once_and_young_again() -> None:
    answers = CachedAnswers(entries_max=2, bytes_max=1_000)
    answers.put(b"0", answer(b"x" * 400))
    answers.put(b"1", answer(b"x" * 400))
    answers.put(b"0", answer(b"y" * 500))
    answers.put(b"2", answer(b"x" * 400))

    assert held(answers, 3) == [0, 2]


def test_an_answer_that_could_never_fit_pushes_nothing_out() -> None:
    answers = CachedAnswers(entries_max=10, bytes_max=1_000)
    answers.put(b"0", answer(b"wire"))
    answers.put(b"1", answer(b"x" * 1_001))

    assert held(answers, 2) == [0]
