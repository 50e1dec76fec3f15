"""What arms of one request have in common whose `thinking.strategy` our server carries out."""

from __future__ import annotations

from dataclasses import replace

from pydantic import BaseModel, Field

from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.requests import ask
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget


class ServerOption(Strategy):
    """Base of those arms."""

    max_tokens: int | None = Field(default=None, ge=0)
    """Most thinking tokens, by force. None: what the context allows."""

    @property
    def budget(self) -> ThinkingBudget:
        """The maximum."""
        return ThinkingBudget(max_tokens=self.max_tokens)

    @property
    def outside(self) -> bool:
        """The server does it."""
        return False

    @property
    def option(self) -> tuple[str, BaseModel]:
        """The option's name, and its fields."""
        raise NotImplementedError(f"{type(self).__name__} does not say its option")

    def labelled(self, *parts: str) -> str:
        """A label: what is done, then the maximum."""
        return " ".join([*parts, *([] if self.max_tokens is None else [f"max={self.max_tokens}"])])

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Answer with one request."""
        request = ask(question, sampling, seed, key=f"{question.id}-{sample}", budget=self.budget)
        name, fields = self.option
        settings = fields.model_dump(mode="json", exclude_defaults=True)
        return await generator.complete(replace(request, strategy={name: settings}))
