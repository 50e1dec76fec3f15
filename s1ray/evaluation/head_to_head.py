"""Which of two arms wins, were each run once more: win rates over repetitions (as in ReasonBENCH, arXiv 2512.07795).

A run's accuracy is a number that varies from repetition to repetition. The win rate of A over B is the share of all
pairs of a repetition of A and one of B in which A is more accurate; equal accuracies count half.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Sequence

import numpy as np

from s1ray.evaluation.arm_result import ArmResult
from s1ray.evaluation.metrics import RESAMPLES, Estimate
from s1ray.grading.interval import LEVEL

FEWEST = 2
"""Repetitions without which there is no win rate."""


@dataclasses.dataclass(frozen=True)
class HeadToHead:
    """Arms against each other."""

    arms: list[ArmResult]
    accuracies: list[list[float]]
    """Of each arm's repetitions."""
    rates: list[list[Estimate | None]]
    """rates[a][b]: how often arm a wins over arm b, n being repetitions of a; None where a is b."""

    @property
    def rows(self) -> list[tuple[ArmResult, float, float, list[Estimate | None]]]:
        """Each arm: mean and standard deviation over its repetitions, and its win rates."""
        return [
            (arm, float(np.mean(values)), float(np.std(values, ddof=1)), rates)
            for arm, values, rates in zip(self.arms, self.accuracies, self.rates, strict=True)
        ]


def win_rate(first: Sequence[float], second: Sequence[float], *, seed: int = 0, resamples: int = RESAMPLES) -> Estimate:
    """How often a repetition of the first is more accurate than one of the second.

    The interval comes from resampling the repetitions of both; it says nothing of other questions.

    Args:
        first: accuracy of each repetition.
        second: likewise.
        seed: of the resampling.
        resamples: how many.

    Raises:
        ValueError: a side has no repetition.
    """
    if not first or not second:
        raise ValueError("a win rate needs a repetition of either side")
    a, b = np.asarray(first), np.asarray(second)
    wins = (a[:, None] > b[None, :]) + 0.5 * (a[:, None] == b[None, :])
    random = np.random.default_rng(seed)
    weights_a = random.multinomial(len(a), np.full(len(a), 1 / len(a)), size=resamples) / len(a)
    weights_b = random.multinomial(len(b), np.full(len(b), 1 / len(b)), size=resamples) / len(b)
    drawn = np.einsum("ri,ij,rj->r", weights_a, wins, weights_b)
    low, high = np.quantile(drawn, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return Estimate(float(wins.mean()), float(low), float(high), len(a))


def head_to_head(results: Sequence[ArmResult]) -> HeadToHead | None:
    """Win rates between all arms that were repeated; None where fewer than two were."""
    accuracies = {id(result): repetitions(result) for result in results}
    repeated = [result for result in results if len(accuracies[id(result)]) >= FEWEST]
    if len(repeated) < 2:
        return None
    values = [accuracies[id(result)] for result in repeated]
    rates = [
        [None if a is b else win_rate(values[i], values[j], seed=a.seed) for j, b in enumerate(repeated)]
        for i, a in enumerate(repeated)
    ]
    return HeadToHead(repeated, values, rates)


def repetitions(result: ArmResult) -> list[float]:
    """Accuracy of each repetition, as a mean over its questions; undecided answers are left out."""
    verdicts: dict[int, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for row in result.rows:
        if row.correct is not None:
            verdicts[row.repeat][row.question_id].append(row.correct)
    return [
        float(np.mean([np.mean(samples) for samples in questions.values()]))
        for _, questions in sorted(verdicts.items())
    ]
