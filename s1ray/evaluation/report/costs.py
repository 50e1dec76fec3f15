"""What the answers of each arm cost, in requests and tokens."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from s1ray.evaluation.results import EvalResults


@dataclasses.dataclass(frozen=True)
class ArmCost:
    """Sums over all answers of one arm."""

    benchmark: str
    model: str
    arm: str
    answers: int
    requests: int
    uncounted: int
    """Requests of which nobody has counted the tokens."""
    prompt: int | None
    """None: not known of each row."""
    thinking: int
    answer: int
    reward: int
    """Tokens that a reward model has read."""
    right: int

    @property
    def per_right(self) -> float | None:
        """Tokens of thinking and answer for each right answer; None where none is right."""
        return (self.thinking + self.answer) / self.right if self.right else None


def arm_costs(measured: Sequence[EvalResults]) -> list[ArmCost]:
    """Of every arm on every benchmark."""
    costs = []
    for results in measured:
        for result in results.arms:
            prompts = [row.prompt_tokens for row in result.rows if row.prompt_tokens is not None]
            costs.append(
                ArmCost(
                    benchmark=results.benchmark,
                    model=result.model,
                    arm=result.arm,
                    answers=len(result.rows),
                    requests=sum(row.calls for row in result.rows),
                    uncounted=result.uncounted,
                    prompt=sum(prompts) if len(prompts) == len(result.rows) else None,
                    thinking=sum(row.thinking_tokens for row in result.rows),
                    answer=sum(row.answer_tokens for row in result.rows),
                    reward=sum(row.reward_tokens for row in result.rows),
                    right=sum(row.correct is True for row in result.rows),
                )
            )
    return costs
