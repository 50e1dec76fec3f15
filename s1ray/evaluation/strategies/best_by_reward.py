"""Best of n by a process reward model: the response whose steps it likes best (s1, section 6.2; arXiv 2408.03314)."""

from __future__ import annotations

from pydantic import Field

from s1ray.evaluation.strategies.base import Sampling
from s1ray.evaluation.strategies.cost import score_all
from s1ray.evaluation.strategies.requests import ask_together
from s1ray.evaluation.strategies.rewards import Aggregate, RewardEndpoint, aggregated
from s1ray.evaluation.strategies.sampled import MOST_DRAWS, Parallel
from s1ray.evaluation.strategies.voting import elect_response
from s1ray.generation import Generator
from s1ray.schemas import Completion, Question


class BestByReward(Parallel):
    """Draw `n` responses at once, and take the one with the highest reward; equal ones go to the first.

    What the reward model reads is counted in the row's `reward_tokens`.
    """

    strategy: str = "best_by_reward"
    reward: RewardEndpoint
    """Where the process reward model answers."""
    n: int = Field(default=8, ge=2, le=MOST_DRAWS)
    """Responses."""
    aggregate: Aggregate = "last"
    """How the rewards of a response's steps, the answer as the last of them, are taken together."""
    vote: bool = False
    """Equal answers add up their rewards, and the heaviest answer wins (weighted best of n)."""

    @property
    def requests(self) -> int:
        """One a response."""
        return self.n

    def describe(self) -> str:
        """For example "reward last of 8 max=64"."""
        return self.labelled(f"reward {self.aggregate}{' vote' if self.vote else ''} of {self.n}")

    async def __call__(
        self, generator: Generator, question: Question, sample: int, sampling: Sampling, seed: int
    ) -> Completion:
        """Ask at once, score, and take the best."""
        responses = await ask_together(generator, self.draws(question, sample, self.n, sampling, seed))
        steps = [self.reward.steps_of(response) for response in responses]
        scored = await score_all(generator, self.reward, [(question.question, each) for each in steps if each])
        found = iter(scored)
        rewards = [aggregated(next(found).scores, self.aggregate) if each else 0.0 for each in steps]
        if self.vote:
            return await elect_response(question, responses, rewards)
        return responses[rewards.index(max(rewards))]
