"""Plain: ask the question, force nothing. The baseline, and all that a server without thinking budgets can do."""

from __future__ import annotations

import dataclasses
from typing import Literal

from pydantic import Field

from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.labels import one_line
from s1ray.evaluation.strategies.requests import ask
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget

PLAIN = "plain"
"""Name in the registry."""


class Plain(Strategy):
    """One request as any client would send it, without a budget: the server's own defaults hold.

    A server that knows nothing of thinking is welcome. Its thinking tokens are those that its usage tells; where it
    tells none, they are unknown, the whole response counts as answer, and the row says so.
    """

    strategy: str = PLAIN
    instruction: str | None = Field(default=None, min_length=1)
    """Appended to the question after an empty line. None: the question alone, as in s1's evaluation."""
    max_tokens: int | None = Field(default=None, ge=1)
    """Tokens of the whole response at most, thinking included. None: what the server allows. `sampling.answer_tokens`
    does not hold here: a limit of the answer alone needs a server that tells it from the thinking."""

    effort: str | None = Field(default=None, min_length=1)
    """How long to think, in the words of the API ("low", "high", ...). None: not said."""
    thinking_tokens: int | Literal["auto"] | None = Field(default=None)
    """Thinking tokens that Anthropic's API is asked for (`budget_tokens`: its models keep to about so many; 0 turns
    thinking off, auto leaves it to the model). Nothing is forced, so Control is not measured. None: not said."""

    @property
    def forces(self) -> bool:
        """Nothing is forced."""
        return False

    def describe(self) -> str:
        """For example "plain" or "plain max=4096 (Think step by step.)"."""
        parts = [PLAIN]
        if self.effort is not None:
            parts.append(f"effort={self.effort}")
        if self.thinking_tokens is not None:
            parts.append(f"asks={self.thinking_tokens}")
        if self.max_tokens is not None:
            parts.append(f"max={self.max_tokens}")
        if self.instruction is not None:
            parts.append(f"({one_line(self.instruction)})")
        return " ".join(parts)

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Answer with one request."""
        request = ask(
            question,
            sampling,
            seed,
            key=f"{question.id}-{sample}",
            budget=None,
            instruction=self.instruction,
            max_tokens=self.max_tokens,
        )
        told = None if self.thinking_tokens is None else ThinkingBudget(max_tokens=self.thinking_tokens)
        return await generator.complete(dataclasses.replace(request, budget=told, reasoning_effort=self.effort))
