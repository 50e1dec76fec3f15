"""Which of several answers are the same answer, for majority votes."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from s1ray.grading.comparer import compare
from s1ray.grading.notation import MAX_CHARACTERS, canonical
from s1ray.grading.numbers import ROUNDED_DIGITS, parse_number
from s1ray.grading.splitting import spaces_free


def same_answer(a: str, b: str) -> bool | None:
    """Whether two answers are equal, as in grading; None where that is undecided."""
    if max(len(a), len(b)) > MAX_CHARACTERS:
        return a == b
    return compare(a, b)[0]


def spelling_free(answer: str) -> str:
    """A key that many equal answers share, and no different ones: a number's value, or the canonical notation."""
    if len(answer) > MAX_CHARACTERS:
        return answer
    text = canonical(answer)
    number = parse_number(text)
    return spaces_free(text) if number is None else f"{number.value}{'%' if number.percent else ''}"


def _is_plain(answer: str) -> bool:
    """Whether an answer is a number that no other number equals: no percentage, and no decimal that may be rounded."""
    number = parse_number(canonical(answer)) if len(answer) <= MAX_CHARACTERS else None
    return number is not None and not number.percent and (number.places is None or number.digits < ROUNDED_DIGITS)


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
    comparable: list[int] = []
    """Numbers of the answers that a plain number must be compared with."""
    classes: list[int | None] = []
    for answer in answers:
        if answer is None:
            classes.append(None)
            continue
        key = spelling_free(answer)
        if key not in numbers:
            plain = same is same_answer and _is_plain(answer)
            others = comparable if plain else range(len(firsts))
            numbers[key] = next((n for n in others if same(firsts[n], answer) is True), len(firsts))
            if numbers[key] == len(firsts):
                firsts.append(answer)
                if not plain:
                    comparable.append(numbers[key])
        classes.append(numbers[key])
    return classes
