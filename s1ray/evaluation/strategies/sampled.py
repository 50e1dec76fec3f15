"""What strategies that draw several responses to one question have in common."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import Field

from s1ray.evaluation.strategies.base import Sampling, Strategy
from s1ray.evaluation.strategies.requests import ask
from s1ray.generation import GenerationRequest
from s1ray.schemas import Completion, Question
from s1ray.thinking.budget import ThinkingBudget

MOST_DRAWS = 4096
"""Responses to one question at once."""


class Sampled(Strategy):
    """Base of those strategies. The draws have seeds of their own, which follow from the run's seed."""

    max_tokens: int | None = Field(default=None, ge=0)
    """Most thinking tokens of each response, by force. None: what the context allows."""
    forced: bool = True
    """False: no budget is sent, as with `plain`, so a server that knows nothing of thinking will do. `max_tokens` is
    then of each whole response."""
    temperature: float = Field(default=1.0, gt=0)
    """Of the draws, in place of `sampling.temperature`: at 0 they would all be the same. s1 draws at 1."""

    @property
    def budget(self) -> ThinkingBudget:
        """Of each response."""
        return ThinkingBudget(max_tokens=self.max_tokens if self.forced else None)

    @property
    def forces(self) -> bool:
        """As the setting says."""
        return self.forced

    def temperature_of(self, sampling: Sampling) -> float:
        """That of the draws."""
        return self.temperature

    def draw(
        self,
        question: Question,
        sample: int,
        number: int,
        sampling: Sampling,
        seed: int,
        budget: ThinkingBudget | None = None,
    ) -> GenerationRequest:
        """One of the requests.

        Args:
            question: the question.
            sample: which of several answers to it.
            number: which of the draws for this answer.
            sampling: how to draw tokens.
            seed: of the run.
            budget: in place of the strategy's.
        """
        return ask(
            question,
            sampling,
            seed,
            key=f"{question.id}-{sample}-{number}",
            budget=(budget or self.budget) if self.forced else None,
            temperature=self.temperature,
            max_tokens=None if self.forced else self.max_tokens,
        )

    def draws(
        self, question: Question, sample: int, count: int, sampling: Sampling, seed: int
    ) -> list[GenerationRequest]:
        """So many requests."""
        return [self.draw(question, sample, number, sampling, seed) for number in range(count)]

    def labelled(self, what: str, *, maximum: bool = True) -> str:
        """A label: what is done, then the maximum and the temperature where they are not the default."""
        parts = [what]
        if maximum and self.max_tokens is not None:
            parts.append(f"max={self.max_tokens}")
        if self.temperature != Sampled.model_fields["temperature"].default:
            parts.append(f"temperature={self.temperature:g}")
        if not self.forced:
            parts.append("unforced")
        return " ".join(parts)


class Parallel(Sampled):
    """Base of those that begin all of their `requests` at once."""

    @property
    def at_once(self) -> int:
        """All of them."""
        return self.requests


def thought(completion: Completion) -> int:
    """How long a response thought, for comparing responses of one model: thinking tokens, or all where the thinking is
    not told apart.
    """
    return completion.answer_tokens if completion.thinking_unknown else completion.thinking_tokens


def shortest_first(completions: Sequence[Completion]) -> list[Completion]:
    """By length of thinking; equally long ones stay in order."""
    return sorted(completions, key=thought)
