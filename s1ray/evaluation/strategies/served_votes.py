"""Votes in one request: our server draws the responses and elects one (`thinking.strategy.votes`)."""

from __future__ import annotations

from dataclasses import replace

from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.sampled import Parallel
from s1ray.generation import GenerationRequest, Generator
from s1ray.schemas import Completion, Question
from s1ray.serving.protocol.strategies import Votes


class ServedVotes(Parallel):
    """One request for each answer. Its cost is the server's account of every response that was begun."""

    strategy: str = "served_votes"
    votes: Votes = Votes()
    """What is sent: how many responses, their weights, and when the others are stopped. With `first`, `stop_early` or a
    threshold the tokens depend on the server's timing, and with them which response of the winning answer is given."""

    @property
    def requests(self) -> int:
        """One a response, in the engine."""
        return self.votes.n

    @property
    def outside(self) -> bool:
        """The server votes."""
        return False

    def describe(self) -> str:
        """For example "served vote of 8 first=3 max=64"."""
        settings = self.votes.model_dump(exclude_defaults=True, exclude={"n"})
        return self.labelled(
            " ".join([f"served vote of {self.votes.n}", *(f"{name}={value}" for name, value in settings.items())])
        )

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Ask once."""
        return await generator.complete(self.request(question, sample, sampling, seed))

    def request(self, question: Question, sample: int, sampling: Sampling, seed: int) -> GenerationRequest:
        """The request for one sample."""
        asked = self.draw(question, sample, 0, sampling, seed)
        return replace(asked, strategy={"votes": self.votes.model_dump(exclude_unset=True)})
