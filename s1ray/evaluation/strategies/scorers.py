"""Scores of single responses, for best of n; a stranger's is found in the registry `SCORERS`, like these."""

from __future__ import annotations

from typing import Protocol

from s1ray.evaluation.strategies.sampled import thought
from s1ray.schemas import Completion


class Scorer(Protocol):
    """Says how good a response is: one function, which `s1ray.registry.SCORERS` lists by name."""

    def __call__(self, question: str, completion: Completion, /) -> float:
        """Score a response.

        Args:
            question: its text.
            completion: the response.

        Returns:
            Higher is better.
        """


def shortest(question: str, completion: Completion) -> float:
    """The less thinking the better: short thoughts are those that were on track from the start (s1, section 5.2)."""
    return -thought(completion)


def longest(question: str, completion: Completion) -> float:
    """The more thinking the better."""
    return thought(completion)
