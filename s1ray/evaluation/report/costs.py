"""What the answers of each arm cost, in requests and tokens, and what a run cost in money."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from s1ray.evaluation.results import EvalResults
from s1ray.manifests import Manifest


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
    thinking: int | None
    """None: not known of each row; what is not is among `answer`."""
    answer: int
    both: int
    """Thinking and answer together."""
    reward: int
    """Tokens that a reward model has read."""
    right: int

    @property
    def per_right(self) -> float | None:
        """Tokens of thinking and answer for each right answer; None where none is right."""
        return self.both / self.right if self.right else None


def arm_costs(measured: Sequence[EvalResults]) -> list[ArmCost]:
    """Of every arm on every benchmark."""
    costs = []
    for results in measured:
        for result in results.arms:
            thinking = sum(row.thinking_tokens for row in result.rows)
            answer = sum(row.answer_tokens for row in result.rows)
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
                    thinking=None if result.unknown else thinking,
                    answer=answer,
                    both=thinking + answer,
                    reward=sum(row.reward_tokens for row in result.rows),
                    right=sum(row.correct is True for row in result.rows),
                )
            )
    return costs


def money(manifest: Manifest) -> list[str]:
    """What the calls of a run cost by the prices in its config, a sentence for each endpoint that has prices."""
    sentences = []
    for address, told in manifest.get("figures", {}).get("calls", {}).items():
        bill = told.get("money")
        if bill is None:
            continue
        counted = bill["counted"]
        amount = f"{counted:,.2f}" if counted >= 1 else f"{counted:.2g}"
        sentence = f"Calls to {address} cost {amount} {bill['currency']} by the counts of tokens that came"
        missing = told["answers_without_a_count"] + told["calls"]["lost"]
        sentences.append(f"{sentence}; {missing:,} more may have cost something." if missing else f"{sentence}.")
    return sentences
