"""Scorers of a stranger's, for best of n."""

from __future__ import annotations

from s1ray.schemas import Completion


def digits(question: str, completion: Completion) -> float:
    return sum(letter.isdigit() for letter in completion.answer)


def nonsense(question: str, completion: Completion) -> float:
    return float("nan")


def broken(question: str, completion: Completion) -> float:
    raise KeyError("judge")
