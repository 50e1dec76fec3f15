"""Rejection sampling (s1, sections 3.1 and 5.2): draw until a thought is short enough by itself."""

from __future__ import annotations

from pydantic import Field, field_validator

from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.sampled import Sampled
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget


class Rejection(Sampled):
    """Draw one response after the other, and take the first whose thinking ended within `max_tokens` by itself.

    s1 draws without end; here the last try is kept as it is, its thinking ended by force at the maximum (the row's
    `end_forced` says so). Every try is in the answer's cost, its answer included: the paper's axis is the mean thinking
    of the kept responses alone (`kept_thinking_tokens`), and its mean number of tries is the mean of `calls`.
    """

    strategy: str = "rejection"
    max_tokens: int = Field(ge=0)
    """Thinking tokens that a response may have to be taken."""
    tries: int = Field(default=8, ge=1)
    """Responses drawn at most."""

    @field_validator("forced")
    @classmethod
    def _is_forced(cls, forced: bool) -> bool:
        if not forced:
            raise ValueError("false: the last try is ended by force, which takes a server that controls thinking")
        return forced

    @property
    def requests(self) -> int:
        """One a try."""
        return self.tries

    @property
    def limits(self) -> tuple[int, int | None]:
        """Of all tries: each but the last may go one token beyond the maximum, which shows that it has not ended."""
        return 0, self.tries * (self.max_tokens + 1) - 1

    @property
    def kept_limits(self) -> tuple[int, int | None]:
        """Of the response that is taken: what was thrown away is no part of the paper's axis (figure 6)."""
        return 0, self.max_tokens

    def describe(self) -> str:
        """For example "reject over 4000, 8 tries"."""
        return self.labelled(f"reject over {self.max_tokens}, {self.tries} tries", maximum=False)

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Draw until one is taken, or none is left."""
        beyond = ThinkingBudget(max_tokens=self.max_tokens + 1)
        for number in range(self.tries - 1):
            drawn = await generator.complete(self.draw(question, sample, number, sampling, seed, beyond))
            if drawn.thinking_tokens <= self.max_tokens and drawn.end_forced is None:
                return drawn
        return await generator.complete(self.draw(question, sample, self.tries - 1, sampling, seed))
