"""Best of n: draw several responses, and take the one with the highest score."""

from __future__ import annotations

import asyncio
import math
from typing import Annotated

from pydantic import AfterValidator, Field

from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.requests import ask_together
from s1ray.evaluation.strategies.sampled import Parallel
from s1ray.evaluation.strategies.scorers import Scorer
from s1ray.generation import GenerationError, Generator
from s1ray.registry import SCORERS
from s1ray.schemas import Completion, Question


def _known_scorer(name: str) -> str:
    SCORERS.get(name)
    return name


class BestOf(Parallel):
    """Draw `n` responses at once, and take the one that a scorer likes best; equal ones go to the first.

    Responses without an answer, or whose answer was cut, are taken only where there is no other.
    """

    strategy: str = "best_of"
    n: int = Field(default=8, ge=2)
    """Responses."""
    score: Annotated[str, AfterValidator(_known_scorer)]
    """What is best: "shortest" or "longest" thinking, another registered scorer, or "module:attribute"."""

    @property
    def requests(self) -> int:
        """One a response."""
        return self.n

    def describe(self) -> str:
        """For example "shortest of 8 max=64"."""
        return self.labelled(f"{self.score.rpartition(':')[2]} of {self.n}")

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Ask at once, and score.

        Raises:
            GenerationError: the scorer fails, or gives no number.
        """
        responses = await ask_together(generator, self.draws(question, sample, self.n, sampling, seed))
        whole = [each for each in responses if each.answer.strip() and each.finish_reason == "stop"]
        scorer: Scorer = SCORERS.get(self.score)
        # A scorer may take its time; other requests must not wait for it.
        scores = [await asyncio.to_thread(self._scored, scorer, question, each) for each in whole or responses]
        return (whole or responses)[scores.index(max(scores))]

    def _scored(self, scorer: Scorer, question: Question, response: Completion) -> float:
        try:
            score = scorer(question.question, response)
        except Exception as error:
            why = f"{type(error).__name__}: {error}"
            raise GenerationError(f"score: {self.score!r} fails at question {question.id}: {why}") from error
        if isinstance(score, bool) or not isinstance(score, int | float) or math.isnan(score):
            raise GenerationError(f"score: {self.score!r} gave {score!r:.80} for question {question.id}, not a number")
        return score
