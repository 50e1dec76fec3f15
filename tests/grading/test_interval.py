from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from s1ray.grading.interval import clustered_interval, student, wilson_interval


@settings(deadline=None)
@given(st.integers(1, 3000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_interval_holds_the_share_and_stays_a_probability(case: tuple[int, int]) -> None:
    successes, n = case
    low, high = wilson_interval(successes, n)
    assert 0 <= low <= successes / n <= high <= 1
    assert low < high


def test_wilson_interval_of_a_known_case() -> None:
    # 81 of 263 (Newcombe 1998, table I, method 3).
    low, high = wilson_interval(81, 263)
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


@pytest.mark.parametrize(
    ("freedom", "quantile"),
    [(1, 12.7062), (2, 4.3027), (3, 3.1824), (4, 2.7764), (9, 2.2622), (19, 2.0930), (99, 1.9842), (10_000, 1.9602)],
)
def test_students_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student(freedom) == pytest.approx(quantile, abs=5.1e-5)


@pytest.mark.parametrize("freedom", [1.1, 1.5, 2.5, 7.3])
def test_students_quantile_holds_its_share_of_the_density_where_the_degrees_are_no_whole_number(freedom: float) -> None:
    density = math.exp(math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2)) / math.sqrt(freedom * math.pi)
    x = np.linspace(0, student(freedom), 200_001)
    heights = density * (1 + x**2 / freedom) ** (-(freedom + 1) / 2)
    assert 2 * float(np.mean((heights[1:] + heights[:-1]) / 2) * x[-1]) == pytest.approx(0.95, abs=1e-6)


def test_there_is_no_quantile_below_one_degree_of_freedom() -> None:
    with pytest.raises(ValueError, match="needs 1 degree of freedom or more, got 0"):
        student(0)


@pytest.mark.parametrize("samples", [2, 8])
@pytest.mark.parametrize("beta", [(1.8, 0.2), (0.2, 1.8), (0.3, 0.3), (0.8, 0.2), (0.4, 1.6), (5, 45)])
def test_a_clustered_interval_holds_the_true_accuracy_as_often_as_it_says(
    samples: int, beta: tuple[float, float]
) -> None:
    """Thirty questions, as AIME has, whose chances differ between questions by a beta distribution."""
    random, trials = np.random.default_rng(11), 2000
    chances = random.beta(*beta, (trials, 30))
    shares = random.binomial(samples, chances) / samples
    truth = beta[0] / sum(beta)
    held = sum(low <= truth <= high for low, high in (clustered_interval(row, samples) for row in shares.tolist()))
    assert 0.92 <= held / trials <= 0.985


def test_a_clustered_interval_lies_between_those_of_identical_and_of_independent_samples() -> None:
    alike = clustered_interval([1.0] * 15 + [0.0] * 15, 8)
    apart = clustered_interval([0.5] * 30, 8)
    assert alike == pytest.approx(wilson_interval(15, 30), abs=0.02)
    assert apart[1] - apart[0] < 0.6 * (alike[1] - alike[0])
    assert apart[1] - apart[0] > wilson_interval(120, 240)[1] - wilson_interval(120, 240)[0]
    with pytest.raises(ValueError, match="needs a question"):
        clustered_interval([], 8)
