"""How often the intervals of an accuracy hold the true one, with 30 questions."""

from __future__ import annotations

import math

import numpy as np
import pytest

from s1ray.grading.interval import clustered_interval, wilson_interval

QUESTIONS = 30


def coverage(accuracy: float, samples: int, spread: float, trials: int = 3_000) -> float:
    """Of questions whose difficulties are drawn from a Beta distribution: the larger the spread, the less alike."""
    random = np.random.default_rng(5)
    shape = (trials, QUESTIONS)
    hard = np.full(shape, accuracy) if not spread else random.beta(accuracy / spread, (1 - accuracy) / spread, shape)
    shares = random.binomial(samples, hard) / samples
    intervals = (clustered_interval(row, samples) for row in shares.tolist())
    return sum(low <= accuracy <= high for low, high in intervals) / trials


@pytest.mark.parametrize("accuracy", [0.1, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("spread", [0.0, 0.05, 1.0])
def test_with_eight_samples_it_is_093_to_097(accuracy: float, spread: float) -> None:
    # 3,000 trials: a standard error of 0.004.
    assert 0.924 <= coverage(accuracy, 8, spread) <= 0.976


def test_where_nearly_all_is_wrong_it_is_a_little_less() -> None:
    assert 0.91 <= coverage(0.05, 8, 1.0) <= 0.976


def exact(accuracy: float) -> float:
    chances = [math.comb(QUESTIONS, k) * accuracy**k * (1 - accuracy) ** (QUESTIONS - k) for k in range(QUESTIONS + 1)]
    bounds = [wilson_interval(k, QUESTIONS) for k in range(QUESTIONS + 1)]
    return sum(chance for chance, (low, high) in zip(chances, bounds, strict=True) if low <= accuracy <= high)


def test_with_one_sample_there_are_31_outcomes_and_so_jumps() -> None:
    """Exact, by all outcomes. Over any range of easy or hard questions the mean is 0.94 to 0.965; at single accuracies
    it jumps, as every interval's must: 31 outcomes have 31 intervals, and the true accuracy passes their ends.
    """
    found = {accuracy: exact(accuracy) for accuracy in np.arange(0.05, 0.9501, 0.005).tolist()}
    assert 0.92 <= min(found.values()) <= max(found.values()) <= 0.98
    inside = sum(0.93 <= each <= 0.97 for each in found.values()) / len(found)
    assert inside >= 0.9
    for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 0.95)):
        assert 0.94 <= np.mean([each for accuracy, each in found.items() if low <= accuracy <= high]) <= 0.965
