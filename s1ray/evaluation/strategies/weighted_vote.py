"""Votes that weigh as much as the model was sure of the response, by the log-probabilities that a server gives.

DeepConf's offline vote (arXiv 2508.15260, section 3.2), self-certainty (arXiv 2502.18581), inverse entropy (arXiv
2511.02309).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Literal, Self

from pydantic import Field, model_validator

from s1ray.errors import InputError
from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.requests import ask_together
from s1ray.evaluation.strategies.sampled import MOST_DRAWS, Parallel
from s1ray.evaluation.strategies.voting import elect_response
from s1ray.generation import GenerationRequest, Generator
from s1ray.schemas import Completion, Confidence, Question
from s1ray.voting.ballots import kept, ranked_weights
from s1ray.voting.confidence import TOP_LOGPROBS, WINDOW, inverse_entropy

Weights = Literal["confidence", "lowest_group", "lowest_tenth", "tail", "self_certainty", "inverse_entropy"]


class Weighted(Parallel):
    """Base of strategies that look at the model's confidence."""

    weights: Weights = "confidence"
    """What a vote weighs: DeepConf's mean confidence, its lowest group, the lowest tenth of the groups, or its tail;
    self-certainty; or one by the mean entropy."""
    top_logprobs: int = Field(default=TOP_LOGPROBS, ge=2)
    """Likeliest tokens at each place that the figures are taken from. A server that gives fewer is refused."""
    window: int = Field(default=WINDOW, ge=1)
    """Tokens of a group and of the tail. A response shorter than that is one group."""

    @property
    def outside(self) -> bool:
        """It reads log-probabilities."""
        return False

    def labelled(self, what: str, *, maximum: bool = True) -> str:
        """With the weights' settings where they are not the defaults."""
        parts = [super().labelled(what, maximum=maximum)]
        if self.window != WINDOW and self.weights in ("lowest_group", "lowest_tenth", "tail"):
            parts.append(f"window={self.window}")
        if self.top_logprobs != TOP_LOGPROBS:
            parts.append(f"top={self.top_logprobs}")
        return " ".join(parts)

    def weight(self, response: Completion) -> float:
        """What a response's vote weighs.

        Raises:
            InputError: the generator has not measured its confidence.
        """
        if response.confidence is None:
            raise InputError(
                f"response {response.id!r} came without its confidence, so its vote has no weight: the generator does "
                "not know top_logprobs"
            )
        return weight_of(response.confidence, self.weights)


class WeightedVote(Weighted):
    """Draw several responses at once; the answer with the most weight behind it wins, and the surest of its responses
    is taken.
    """

    strategy: str = "weighted_vote"
    votes: int = Field(default=8, ge=2, le=MOST_DRAWS)
    """Responses."""
    keep: float = Field(default=1.0, gt=0, le=1)
    """Only this share of the responses, those with the highest weights, may vote: DeepConf's filter, 0.1 or 0.9
    there."""
    borda: float | None = Field(default=None, gt=0, le=64)
    """Votes weigh by rank instead, (votes - rank + 1) to this power: how self-certainty is used in its paper. None: as
    the figures are."""

    @model_validator(mode="after")
    def _some_vote(self) -> Self:
        if self.keep * self.votes < 1:
            raise ValueError(f"keep: {self.keep:g} of {self.votes} votes is less than one response")
        return self

    @property
    def requests(self) -> int:
        """One a vote."""
        return self.votes

    def describe(self) -> str:
        """For example "confidence vote of 8 keep=0.5 max=64"."""
        parts = [f"{self.weights} vote of {self.votes}"]
        parts += [f"keep={self.keep:g}"] if self.keep < 1 else []
        parts += [f"borda={self.borda:g}"] if self.borda is not None else []
        return self.labelled(" ".join(parts))

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Ask at once, and vote.

        Raises:
            InputError: a response came without its confidence.
        """
        requests = self.draws(question, sample, self.votes, sampling, seed)
        responses = await ask_together(generator, measured(requests, self))
        weights = [self.weight(response) for response in responses]
        places = kept(weights, self.keep)
        if self.borda is not None:
            weights = ranked_weights(weights, self.borda)
        return await elect_response(question, [responses[n] for n in places], [weights[n] for n in places])


def measured(requests: Sequence[GenerationRequest], arm: Weighted) -> list[GenerationRequest]:
    """Requests whose responses' confidence is measured as an arm says."""
    return [
        dataclasses.replace(request, top_logprobs=arm.top_logprobs, confidence_window=arm.window)
        for request in requests
    ]


def weight_of(confidence: Confidence, weights: Weights) -> float:
    """One figure of a response; higher is surer."""
    if weights == "confidence":
        return confidence.mean
    if weights == "inverse_entropy":
        return inverse_entropy(confidence.entropy)
    return float(getattr(confidence, weights))
