from __future__ import annotations

import time

from hypothesis import given
from hypothesis import strategies as st

from s1ray.grading import same_answer, vote_classes


def test_equal_answers_share_a_number_whatever_their_spelling() -> None:
    answers = ["x = 7", "7", None, r"\frac{\sqrt{8}}{2}", r"\sqrt{2}", "7.0", "8"]
    assert vote_classes(answers) == [0, 0, None, 1, 1, 0, 2]


def test_an_undecided_comparison_does_not_join_answers() -> None:
    assert vote_classes(["a+1", "b+1"], same=lambda a, b: None) == [0, 1]


def test_different_numbers_and_words_need_no_algebra() -> None:
    assert (same_answer("7", "8"), same_answer("yes", "7"), same_answer("50\\%", "51")) == (False, False, False)


@given(st.lists(st.one_of(st.none(), st.integers(-3, 3).map(str))))
def test_numbers_are_given_in_the_order_of_first_sight_and_only_to_answers(answers: list[str | None]) -> None:
    classes = vote_classes(answers)
    assert [number is None for number in classes] == [answer is None for answer in answers]
    seen = [number for number in classes if number is not None]
    assert list(dict.fromkeys(seen)) == list(range(len(set(seen))))
    assert len({(a, n) for a, n in zip(answers, classes, strict=True)}) == len(set(answers))


def test_many_different_numbers_are_told_apart_without_comparing_each_with_each() -> None:
    answers = [str(number) for number in range(10_000)]
    before = time.process_time()
    assert vote_classes([*answers, "50\\%", "7.0"]) == [*range(10_000), 50, 7]
    assert time.process_time() - before < 10
