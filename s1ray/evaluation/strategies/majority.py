"""Majority voting, or self-consistency (arXiv 2203.11171; s1, section 6.2): parallel test-time scaling."""

from __future__ import annotations

from pydantic import Field

from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.requests import ask_together
from s1ray.evaluation.strategies.sampled import Parallel
from s1ray.evaluation.strategies.voting import elect_response
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question


class Majority(Parallel):
    """Draw several responses at once, and take the first with the most common answer."""

    strategy: str = "majority"
    votes: int = Field(default=8, ge=2)
    """Responses."""

    @property
    def requests(self) -> int:
        """One a vote."""
        return self.votes

    def describe(self) -> str:
        """For example "vote of 8 max=64"."""
        return self.labelled(f"vote of {self.votes}")

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Ask at once, and vote."""
        requests = self.draws(question, sample, self.votes, sampling, seed)
        return await elect_response(question, await ask_together(generator, requests))
