"""What an answer cost: every request that a strategy made for it, also those whose response it threw away.

The runner gives each strategy a `Metered` generator, so a strategy cannot forget a request, and need not add anything
up itself.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from s1ray.evaluation.strategies.rewards import RewardEndpoint, Rewards, all_scored
from s1ray.generation import GenerationRequest, Generator
from s1ray.schemas import Completion


@dataclasses.dataclass
class Cost:
    """Requests and their tokens, added up."""

    calls: int = 0
    """Requests that were made."""
    uncounted_calls: int = 0
    """Those of them whose tokens nobody has counted: cancelled, failed, or answered without a count; and requests to a
    reward model that failed. The tokens below are without theirs."""
    prompt_tokens: int = 0
    thinking_tokens: int = 0
    answer_tokens: int = 0
    reward_tokens: int = 0
    """That a reward model has read."""
    thinking_unknown: bool = False
    """Some response's thinking was not told from its answer: its tokens are all among `answer_tokens`."""

    def add(self, completion: Completion) -> None:
        """Count a response, with all that a strategy of the server's made for it."""
        account: Mapping[str, Any] = completion.strategy or vars(completion)
        self.calls += max(0, account.get("calls", 1) - 1)
        self.prompt_tokens += account["prompt_tokens"]
        self.thinking_tokens += account["thinking_tokens"]
        self.answer_tokens += account["answer_tokens"]
        self.thinking_unknown |= completion.thinking_unknown
        if completion.thinking_unknown and completion.completion_tokens is None:
            self.uncounted_calls += 1


class Metered:
    """A generator that adds up what is asked of it.

    Attributes:
        cost: of all requests so far.
    """

    def __init__(self, generator: Generator) -> None:
        """Wrap `generator`, which stays its owner's to close."""
        self._generator = generator
        self.cost = Cost()

    async def complete(self, request: GenerationRequest) -> Completion:
        """Generate one response, and count it.

        Raises:
            GenerationError: it could not be had; it counts as a call all the same.
        """
        self.cost.calls += 1
        try:
            completion = await self._generator.complete(request)
        except BaseException:
            # Cancelled or failed: the model may have written any number of tokens by then.
            self.cost.uncounted_calls += 1
            raise
        self.cost.add(completion)
        return completion

    async def close(self) -> None:
        """Nothing: the generator belongs to the run."""


async def score_all(
    generator: Generator, reward: RewardEndpoint, responses: Sequence[tuple[str, Sequence[str]]]
) -> list[Rewards]:
    """Rewards of responses, with what the reward model has read in the answer's cost, where that is counted.

    Args:
        generator: the one that the strategy was given.
        reward: the reward model.
        responses: question and steps of each.

    Raises:
        GenerationError: one could not be had; what was read for the others is counted.
    """
    found = await reward.score_each(responses)
    if isinstance(generator, Metered):
        scored = [each for each in found if isinstance(each, Rewards)]
        generator.cost.reward_tokens += sum(each.tokens for each in scored)
        generator.cost.uncounted_calls += len(found) - len(scored)
    return all_scored(found)
