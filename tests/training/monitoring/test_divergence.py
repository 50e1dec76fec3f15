"""Which steps are skipped: by their loss or gradient norm, compared with those before them."""

from __future__ import annotations

import math

import pytest

from s1ray.training.config import DivergenceConfig
from s1ray.training.monitoring.divergence import DivergenceMonitor


def monitor(**settings: object) -> DivergenceMonitor:
    return DivergenceMonitor(DivergenceConfig.model_validate({"window": 4} | settings))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_or_norm_that_is_not_finite_is_always_a_problem(value: float) -> None:
    assert monitor().check_loss(value) == f"the loss is {value}"
    assert monitor().check_norm(value) == f"the gradient norm is {value}"


def test_deepspeeds_value_for_an_invalid_norm_is_a_problem() -> None:
    assert monitor().check_norm(-1.0) == "the gradient norm is nan"


def test_without_factors_no_finite_value_is_a_spike() -> None:
    judge = monitor()
    for _ in range(4):
        judge.accept(1.0, 1.0)
    assert judge.check_loss(1e9) is None
    assert judge.check_norm(1e9) is None


def test_a_spike_is_measured_against_the_median_once_the_window_is_full() -> None:
    judge = monitor(loss_factor=3.0, gradient_factor=10.0)
    for loss in (1.0, 2.0, 3.0):
        judge.accept(loss, 1.0)
    assert judge.check_loss(100.0) is None
    judge.accept(50.0, 1.0)
    # The median of 1, 2, 3, 50 is 2.5, which the outlier does not move as it would a mean.
    assert judge.check_loss(7.5) is None
    assert judge.check_loss(7.6) == "the loss is 7.6, over 3 times the median 2.5 of 4 steps"
    assert judge.check_norm(10.0) is None
    assert judge.check_norm(10.1) is not None


def test_only_the_newest_steps_count_and_the_state_survives_a_restart() -> None:
    judge = monitor(loss_factor=2.0)
    for loss in (100.0, 1.0, 1.0, 1.0, 1.0):
        judge.accept(loss, 0.1)
    again = DivergenceMonitor(
        DivergenceConfig(window=4, loss_factor=2.0), losses=judge.losses, norms=judge.norms, skipped=2
    )
    assert list(again.losses) == [1.0] * 4
    assert again.check_loss(2.1) == judge.check_loss(2.1)
    assert again.check_loss(2.1) is not None
    assert again.skipped == 2


def test_skips_are_exhausted_above_the_limit_only() -> None:
    judge = monitor(action="skip", max_skips=2)
    judge.skipped = 2
    assert not judge.exhausted
    judge.skipped = 3
    assert judge.exhausted
