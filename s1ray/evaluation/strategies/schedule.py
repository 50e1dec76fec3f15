"""AlphaOne's schedule of slow and fast thinking (arXiv 2505.24863), which our server carries out."""

from __future__ import annotations

from dataclasses import replace

from pydantic import Field

from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.requests import ask
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget
from s1ray.thinking.schedule import Schedule


class ScheduleArm(Strategy):
    """One request with `thinking.strategy.schedule`."""

    strategy: str = "schedule"
    max_tokens: int | None = Field(default=None, ge=0)
    """Most thinking tokens, by force. None: what the context allows."""
    schedule: Schedule
    """The fields of the server's option; `phase_tokens` is the mean length of the model's thinking on the benchmark."""

    @property
    def budget(self) -> ThinkingBudget:
        """The maximum."""
        return ThinkingBudget(max_tokens=self.max_tokens)

    @property
    def outside(self) -> bool:
        """The server waits."""
        return False

    def describe(self) -> str:
        """For example "alpha1 phase=120 alpha=1.4 max=256"."""
        schedule = self.schedule
        parts = [f"alpha1 phase={schedule.phase_tokens} alpha={schedule.alpha:g}"]
        if (schedule.p_start, schedule.p_end) != (1.0, 0.0):
            parts.append(f"p={schedule.p_start:g}-{schedule.p_end:g}")
        return " ".join([*parts, *([] if self.max_tokens is None else [f"max={self.max_tokens}"])])

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Answer with one request."""
        request = ask(question, sampling, seed, key=f"{question.id}-{sample}", budget=self.budget)
        settings = self.schedule.model_dump(mode="json", exclude_defaults=True)
        return await generator.complete(replace(request, strategy={"schedule": settings}))
