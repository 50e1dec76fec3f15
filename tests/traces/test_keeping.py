"""Which traces of a question stay, and what its attempts agree on."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from s1ray.schemas import Trace
from s1ray.traces.config import PerQuestion
from s1ray.traces.keeping import chosen, majority


def trace(sample: int, tokens: int, correct: bool | None = True) -> Trace:
    return Trace(
        id=f"q-{sample}",
        question_id="q",
        sample=sample,
        question="q?",
        thinking="t",
        attempt="a",
        teacher="t",
        thinking_tokens=tokens - 1,
        attempt_tokens=1,
        finish_reason="stop",
        correct=correct,
    )


FOUR = [trace(0, 30, None), trace(2, 10, False), trace(3, 50), trace(5, 40)]


@pytest.mark.parametrize(
    ("rule", "agrees", "samples"),
    [
        ("all", [], [0, 2, 3, 5]),
        ("first", [], [0]),
        ("shortest", [], [2]),
        ("longest", [], [3]),
        ("best", [False] * 4, [5]),
        ("best", [False, True, True, False], [3]),
    ],
)
def test_of_a_questions_traces_one_stays_or_all(rule: PerQuestion, agrees: list[bool], samples: list[int]) -> None:
    assert [FOUR[place].sample for place in chosen(FOUR, rule, agrees)] == samples


def test_an_undecided_trace_is_better_than_a_wrong_one() -> None:
    assert chosen(FOUR[:2], "best", [False, True]) == [0]


def test_of_equals_the_first_sample_stays() -> None:
    same = [replace(FOUR[2], sample=sample) for sample in (7, 4, 9)]
    rules: tuple[PerQuestion, ...] = ("first", "shortest", "longest", "best")
    assert [chosen(same, rule, [True] * 3) for rule in rules] == [[1]] * 4
    assert chosen([], "best", []) == []


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        (["4", "5", "4"], ("4", 2, 3)),
        ([r"\frac{1}{2}", "0.5", None, "3"], (r"\frac{1}{2}", 2, 4)),
        (["4", "5"], None),
        (["4"], None),
        (["4", "5", "5", "4"], None),
        ([None, None], None),
        ([], None),
    ],
)
def test_the_answer_that_most_attempts_give(answers: list[str | None], expected: tuple[str, int, int] | None) -> None:
    found = majority(answers)
    assert (found and (found.answer, found.votes, found.of)) == expected
    if found is not None:
        assert [place for place, answer in enumerate(answers) if answer in ("4", r"\frac{1}{2}", "0.5")] == sorted(
            found.places
        )


@given(st.lists(st.sampled_from(["1", "2", "3", None]), max_size=9), st.randoms())
def test_a_majority_does_not_depend_on_the_order_of_the_attempts(answers: list[str | None], random: object) -> None:
    shuffled = list(answers)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    first, second = majority(answers), majority(shuffled)
    assert (first and (first.answer, first.votes)) == (second and (second.answer, second.votes))
    if first is not None:
        assert all(answers.count(other) < first.votes for other in {"1", "2", "3"} - {first.answer})


def test_half_of_the_attempts_is_no_reference() -> None:
    half, most = majority(["1", "1", "2", None]), majority(["1", "1", "2"])
    assert half is not None
    assert most is not None
    assert (half.is_absolute, most.is_absolute) == (False, True)
