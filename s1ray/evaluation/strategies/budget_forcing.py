"""Budget forcing (s1, section 3.1): one pass, with the thinking bounded, stretched or both inside the engine."""

from __future__ import annotations

from typing import Self

from pydantic import Field, ValidationError, model_validator

from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.labels import one_line
from s1ray.evaluation.strategies.requests import ask
from s1ray.generation import GenerationRequest, Generator
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget

BUDGET_FORCING = "budget_forcing"
"""Name in the registry."""


class BudgetForcing(Strategy):
    """Ask the question as it is, without instructions, as in s1's evaluation, and force the thinking's budget."""

    strategy: str = BUDGET_FORCING
    max_tokens: int | None = Field(default=None, ge=0)
    """Most thinking tokens. None: what the context allows."""
    min_tokens: int = Field(default=0, ge=0)
    """Fewest thinking tokens: earlier ends are suppressed."""
    waits: int = Field(default=0, ge=0)
    """How often an attempt to stop thinking is replaced by the wait text."""
    wait_text: str | list[str] | None = "Wait"
    """What is written instead of the end; several are cycled. None: the end is only suppressed."""

    @model_validator(mode="after")
    def _is_a_budget(self) -> Self:
        try:
            _ = self.budget
        except ValidationError as error:
            problem = error.errors(include_url=False)[0]
            field = "".join(f"{part}: " for part in problem["loc"][:1])
            raise ValueError(field + problem["msg"].removeprefix("Value error, ")) from None
        return self

    @property
    def budget(self) -> ThinkingBudget:
        """The budget of a request, but for the limit of the answer."""
        return ThinkingBudget(
            max_tokens=self.max_tokens, min_tokens=self.min_tokens, waits=self.waits, wait_text=self.wait_text
        )

    def describe(self) -> str:
        """For example "max=256 waits=2"."""
        parts = ["max=none" if self.max_tokens is None else f"max={self.max_tokens}"]
        if self.min_tokens:
            parts.append(f"min={self.min_tokens}")
        if self.waits:
            parts.append(f"waits={self.waits}")
            if self.wait_text != "Wait":
                texts = self.budget.wait_texts or ("no text",)
                parts.append(f"({', '.join(one_line(text) for text in texts)})")
        return " ".join(parts)

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Answer with one request."""
        return await generator.complete(self.request(question, sample, sampling, seed))

    def request(self, question: Question, sample: int, sampling: Sampling, seed: int) -> GenerationRequest:
        """The request for one sample. Its seed is the same in every arm and for every model, so that they differ by
        their settings and not by luck.
        """
        return ask(question, sampling, seed, key=f"{question.id}-{sample}", budget=self.budget)
