"""The numbers of an eval run: accuracy with its interval, paired differences, pass@k, and s1's Control, Scaling and
Performance.

Everything here is a pure function of plain values. Accuracies are fractions in [0, 1] with n counted in questions;
only Scaling is in percentage points, because the paper's numbers are. Intervals are 95 %.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from s1ray.grading.interval import LEVEL, Z, clustered_interval, wilson_interval

RESAMPLES = 10_000
"""Bootstrap resamples of questions, as many as in the paper's data ablation (s1, table 2)."""
ENUMERATED = 13
"""Differences of which every choice of signs is looked at (8,192 of them); of more, so many at random."""
BLOCK = 4_000_000
"""Values that are held at once, so that 10,000 resamples of many thousand questions do not need gigabytes."""
ROUNDING = 1e-9
"""By which sums of differences that are equal may differ."""


@dataclasses.dataclass(frozen=True)
class Estimate:
    """A measured mean, its confidence interval, and the number of questions behind it."""

    value: float
    low: float
    high: float
    n: int


def accuracy(correct: Mapping[str, Sequence[bool]]) -> Estimate:
    """Mean accuracy over questions.

    With one sample per question the interval is Wilson's. With more, samples of one question are not independent, so it
    is that of clusters (`clustered_interval`).

    Args:
        correct: question id -> one verdict per sample (at least one).

    Raises:
        ValueError: no question, or one without samples.
    """
    shares = _question_means(correct)
    value, samples = float(np.mean(shares)), sum(map(len, correct.values()))
    if samples == len(shares):
        low, high = wilson_interval(round(sum(shares)), len(shares))
    else:
        low, high = clustered_interval(shares.tolist(), samples / len(shares))
    return Estimate(value, low, high, len(shares))


def mean_estimate(values: Mapping[str, Sequence[float]]) -> Estimate:
    """Mean over questions of a quantity such as thinking tokens, with a normal interval on the questions' means.

    Raises:
        ValueError: no question, or one without values.
    """
    means = _question_means(values)
    n, value = len(means), float(np.mean(means))
    half = Z * float(np.std(means, ddof=1)) / math.sqrt(n) if n > 1 else 0.0
    return Estimate(value, value - half, value + half, n)


def paired_difference(
    first: Mapping[str, Sequence[bool]],
    second: Mapping[str, Sequence[bool]],
    *,
    seed: int = 0,
    resamples: int = RESAMPLES,
) -> Estimate:
    """Accuracy of `second` minus accuracy of `first` over the questions that both answered, with a paired bootstrap
    interval (s1, table 2).

    Raises:
        ValueError: they share no question.
    """
    difference = question_differences(first, second)
    low, high = _bootstrap(difference, seed, resamples)
    return Estimate(float(np.mean(difference)), low, high, len(difference))


def question_differences(first: Mapping[str, Sequence[bool]], second: Mapping[str, Sequence[bool]]) -> np.ndarray:
    """Share of right answers in `second` minus that in `first`, for each question that both answered, by its id.

    Raises:
        ValueError: they share no question.
    """
    shared = sorted(first.keys() & second.keys())
    if not shared:
        raise ValueError("a paired difference needs questions that both answered; these two share none")
    before, after = (_question_means({key: side[key] for key in shared}) for side in (first, second))
    difference: np.ndarray = after - before
    return difference


def sign_flip(differences: np.ndarray, *, seed: int = 0, draws: int = RESAMPLES) -> float:
    """The sign-flip test of paired differences (Fisher, The Design of Experiments, 1935, section 21), two-sided.

    An interval from a bootstrap leaves out zero too easily where few questions differ: four that gain and none that
    loses are enough for it, and such a split comes up by chance once in eight times.

    Args:
        differences: of each question.
        seed: of the draws.
        draws: of signs, where more than `ENUMERATED` differences are not zero.

    Returns:
        p: how likely a mean so far from zero is, or one further off, where each difference is as likely to have the
        other sign.
    """
    sizes, counts = np.unique(np.round(np.abs(differences), 12), return_counts=True)
    sizes, counts = sizes[sizes > ROUNDING], counts[sizes > ROUNDING]
    if not len(sizes):
        return 1.0
    measured, changed = abs(float(np.sum(differences))) - ROUNDING, int(counts.sum())
    if changed <= ENUMERATED:
        signs = 1 - 2 * (np.arange(2**changed)[:, None] >> np.arange(changed) & 1)
        return float(np.mean(np.abs(signs @ np.repeat(sizes, counts)) >= measured))
    random, as_far, block = np.random.default_rng(seed), 0, max(1, BLOCK // len(sizes))
    for start in range(0, draws, block):
        kept = random.binomial(counts, 0.5, (min(block, draws - start), len(sizes)))
        as_far += int(np.sum(np.abs((2 * kept - counts) @ sizes) >= measured))
    return (1 + as_far) / (1 + draws)


@dataclasses.dataclass(frozen=True)
class McNemar:
    """McNemar's exact test of two arms with one sample a question."""

    gained: int
    """Questions that only the second arm has right."""
    lost: int
    """Those that only the first has right."""
    p: float
    """Two-sided: how likely so uneven a split is, or a more uneven one, where gains and losses are equally likely."""


def mcnemar(first: Mapping[str, Sequence[bool]], second: Mapping[str, Sequence[bool]]) -> McNemar | None:
    """The test on the questions that both answered (McNemar 1947; the exact, binomial form).

    Args:
        first: question id -> verdicts.
        second: the same.

    Returns:
        None where a question has several samples, or none is shared.
    """
    shared = first.keys() & second.keys()
    if not shared or any(len(side[key]) > 1 for side in (first, second) for key in shared):
        return None
    gained = sum(second[key][0] and not first[key][0] for key in shared)
    lost = sum(first[key][0] and not second[key][0] for key in shared)
    changed = gained + lost
    tail = sum(math.comb(changed, count) for count in range(min(gained, lost) + 1)) / 2**changed
    return McNemar(gained, lost, min(1.0, 2 * tail))


def pass_at_k(samples: int, correct: int, k: int) -> float:
    """Probability that at least one of k samples, drawn without replacement from those taken, is correct (unbiased;
    Chen et al. 2021, section 2.1).

    Raises:
        ValueError: unless 0 <= correct <= samples and 1 <= k <= samples.
    """
    if not (0 <= correct <= samples and 1 <= k <= samples):
        raise ValueError(
            f"pass@{k} of {samples} samples with {correct} correct: need 1 <= k <= samples and correct <= samples"
        )
    return 1.0 - math.comb(samples - correct, k) / math.comb(samples, k)


def within(tokens: float, minimum: float | None, maximum: float | None) -> bool:
    """Whether an amount of thinking obeys its limits (None: no limit on that side)."""
    return (minimum is None or tokens >= minimum) and (maximum is None or tokens <= maximum)


def control(tokens: Sequence[float], limits: Sequence[tuple[float | None, float | None]]) -> float:
    """Share of amounts of thinking that lie within their (minimum, maximum) limits (s1, section 3.2).

    The paper's unit is a run's mean thinking tokens; given single samples, it is the stricter per-sample share.

    Raises:
        ValueError: nothing to measure, or the lengths differ.
    """
    if not tokens or len(tokens) != len(limits):
        raise ValueError(f"control needs one (minimum, maximum) per amount: got {len(tokens)} and {len(limits)}")
    return sum(within(amount, *limit) for amount, limit in zip(tokens, limits, strict=True)) / len(tokens)


def scaling(tokens: Sequence[float], accuracies: Sequence[float], x: Literal["log2", "raw"] = "log2") -> float | None:
    """Mean slope over all pairs of runs, in percentage points per doubling ("log2") or per thinking token ("raw").

    s1, section 3.2 writes the slope over raw tokens, but its published numbers are slopes over log2(tokens), so that is
    the default.

    Args:
        tokens: mean thinking tokens of each run.
        accuracies: accuracy of each run, a fraction.
        x: the horizontal axis. With "log2", runs without any thinking are left out.

    Returns:
        None if fewer than two runs differ in their tokens.
    """
    points = [
        (math.log2(amount) if x == "log2" else amount, 100.0 * share)
        for amount, share in zip(tokens, accuracies, strict=True)
        if x == "raw" or amount > 0
    ]
    slopes = [(fb - fa) / (b - a) for a, fa in points for b, fb in points if b > a]
    return sum(slopes) / len(slopes) if slopes else None


def performance(accuracies: Sequence[float]) -> float:
    """The best accuracy of any run (s1, section 3.2)."""
    return max(accuracies)


def _question_means(values: Mapping[str, Sequence[float]]) -> np.ndarray:
    if not values:
        raise ValueError("no question was answered, so there is nothing to average")
    for key, items in values.items():
        if len(items) == 0:
            raise ValueError(f"question {key!r} has no samples")
    # In the order of the keys, so that the bootstrap does not depend on the order of arrival.
    return np.array([sum(values[key]) / len(values[key]) for key in sorted(values)])


def _bootstrap(values: np.ndarray, seed: int, resamples: int) -> tuple[float, float]:
    random = np.random.default_rng(seed)
    means = np.empty(resamples)
    block = max(1, BLOCK // len(values))
    for start in range(0, resamples, block):
        stop = min(start + block, resamples)
        means[start:stop] = values[random.integers(0, len(values), (stop - start, len(values)))].mean(axis=1)
    low, high = np.quantile(means, [0.5 - LEVEL / 2, 0.5 + LEVEL / 2])
    return float(low), float(high)
