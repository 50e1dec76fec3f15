"""Which of several answers are the same answer, for majority votes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s1ray.grading.normalise import is_words, parse_number, same_text, spelling_free
from s1ray.grading.symbolic import symbolic_equal


def same_answer(a: str, b: str) -> bool | None:
    """Whether two answers are equal; None where that is undecided."""
    if same_text(a, b) or spelling_free(a) == spelling_free(b):
        return True
    numbers = parse_number(a), parse_number(b)
    if (numbers[0] and numbers[1] and numbers[0].decimal == numbers[1].decimal) or is_words(a) or is_words(b):
        return False
    return symbolic_equal(a, b)


def vote_classes(
    answers: Sequence[str | None], same: Callable[[str, str], bool | None] = same_answer
) -> list[int | None]:
    """Number the different answers in the order in which they are seen; equal ones get the same number.

    Equal spellings are found by a key; then each new spelling is compared with the first answer of every number.
    Answers whose comparison is undecided are different.

    Args:
        answers: as they were read off responses. None is no answer, and its number is None.
        same: compares two.
    """
    numbers: dict[str, int] = {}
    firsts: list[str] = []
    classes: list[int | None] = []
    for answer in answers:
        if answer is None:
            classes.append(None)
            continue
        key = spelling_free(answer)
        if key not in numbers:
            numbers[key] = next((n for n, first in enumerate(firsts) if same(first, answer) is True), len(firsts))
            if numbers[key] == len(firsts):
                firsts.append(answer)
        classes.append(numbers[key])
    return classes
