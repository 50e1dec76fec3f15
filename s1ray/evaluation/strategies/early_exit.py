"""Early exit: thinking ends as soon as trial answers are confident (DEER) or stay the same (Dynasor).

Our server carries it out (`thinking.strategy.early_exit`); its account says what the probes cost, and that counts.
"""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.requests import ask
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget
from s1ray.thinking.early_exit import EarlyExit


class EarlyExitArm(Strategy):
    """One request, whose thinking the server probes and may end."""

    strategy: str = "early_exit"
    max_tokens: int | None = Field(default=None, ge=0)
    """Most thinking tokens, by force. None: what the context allows."""
    early_exit: EarlyExit = Field(default_factory=EarlyExit)
    """When it ends before that: the fields of the server's option."""

    @property
    def budget(self) -> ThinkingBudget:
        """The maximum."""
        return ThinkingBudget(max_tokens=self.max_tokens)

    @property
    def outside(self) -> bool:
        """The server probes."""
        return False

    def describe(self) -> str:
        """For example "early exit confidence threshold=0.9 max=256"."""
        given = self.early_exit.model_dump(exclude_defaults=True, exclude={"kind"})
        settings = [f"{name}={','.join(v) if isinstance(v, tuple) else v}" for name, v in given.items()]
        most = [] if self.max_tokens is None else [f"max={self.max_tokens}"]
        return " ".join(["early exit", self.early_exit.kind, *settings, *most]).replace("\n", " ")

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Answer with one request."""
        request = ask(question, sampling, seed, key=f"{question.id}-{sample}", budget=self.budget)
        settings = self.early_exit.model_dump(mode="json", exclude_defaults=True)
        return await generator.complete(replace(request, strategy={"early_exit": settings}))
