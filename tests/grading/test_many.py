from __future__ import annotations

import itertools
import os
import signal
from collections.abc import Iterator

import psutil
import pytest

from s1ray.errors import InputError
from s1ray.grading import Answer, Grade, grade, grade_many
from s1ray.grading.comparer import GradingError

CASES = [("7", "\\boxed{7}"), ("7", "8"), ("x+1", "\\boxed{1+x}"), ("C", "(C)"), ("2", "")]


def killer(gold: str, text: str, *, kind: str | None = None) -> Grade:
    """Ends its own process where the text says so."""
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    return Grade("correct", text, "killer")


def broken(gold: str, text: str, *, kind: str | None = None) -> Grade:
    raise KeyError(text)


def loud(gold: str, text: str, *, kind: str | None = None) -> Grade:
    print("a grader that prints")
    return Grade("correct", text, "loud")


@pytest.mark.parametrize("workers", [1, 2])
def test_grades_come_in_order_and_are_those_of_one_by_one(workers: int) -> None:
    cases = CASES * 30
    assert list(grade_many(cases, workers)) == [grade(*case) for case in cases]


def test_a_missing_reference_is_no_gold_and_a_wrong_kind_is_named() -> None:
    verdicts = [found.verdict for found in grade_many([Answer(None, "7"), Answer(" ", "7")])]
    assert verdicts == ["no gold", "no gold"]
    for workers in (1, 2):
        with pytest.raises(InputError, match=r"answer 2: .*answer_kind 'essay'"):
            list(grade_many([*CASES[:2], Answer("7", "7", "essay")], workers))


def test_a_worker_that_dies_costs_one_verdict() -> None:
    texts = [*"abcdefgh", "die", *"ijkl"]
    found = list(grade_many([("1", text) for text in texts], 2, grader=f"{__name__}:killer"))
    assert [f.verdict for f in found] == ["undecided" if text == "die" else "correct" for text in texts]


def test_a_grader_that_fails_ends_the_work_in_words() -> None:
    with pytest.raises(GradingError, match=r"broken' failed: KeyError: 'x'"):
        list(grade_many([("1", "x")], 2, grader=f"{__name__}:broken"))


def test_what_a_grader_prints_does_not_get_between_the_grades() -> None:
    assert len(list(grade_many([("1", "x")] * 3, 2, grader=f"{__name__}:loud"))) == 3


def test_answers_are_read_a_little_ahead_and_no_process_is_left_when_the_reader_stops() -> None:
    read = itertools.count()
    last = 0

    def endless() -> Iterator[tuple[str, str]]:
        nonlocal last
        for last in read:
            yield "7", str(last)

    before = set(psutil.Process().children(recursive=True))
    grades = grade_many(endless(), 2)
    assert [next(grades).verdict for _ in range(9)] == ["incorrect"] * 7 + ["correct", "incorrect"]
    assert last < 1000
    grades.close()  # type: ignore[attr-defined]
    assert set(psutil.Process().children(recursive=True)) <= before


def test_no_worker_is_refused() -> None:
    with pytest.raises(InputError, match="workers: 0: give 1 or more"):
        list(grade_many(CASES, 0))
