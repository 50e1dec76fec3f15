from __future__ import annotations

from typing import Literal

import pytest

from s1ray.training.config import OptimizerConfig
from s1ray.training.data.schedule import learning_rate, steps_per_epoch, warmup_steps


def test_the_published_recipe_has_315_steps_and_16_of_warm_up() -> None:
    total = steps_per_epoch(1000, 16) * 5
    assert total == 315
    assert warmup_steps(total, OptimizerConfig()) == 16


@pytest.mark.parametrize(("total", "ratio", "steps"), [(100, 0.1, 10), (30, 0.1, 3), (101, 0.1, 11), (100, 0.0, 0)])
def test_warm_up_is_rounded_up_but_not_past_a_whole_number(total: int, ratio: float, steps: int) -> None:
    assert warmup_steps(total, OptimizerConfig(warmup_ratio=ratio)) == steps


@pytest.mark.parametrize("schedule", ["cosine", "linear", "constant"])
@pytest.mark.parametrize("warmup_ratio", [0.0, 0.05])
def test_learning_rates_are_those_of_transformers(
    schedule: Literal["cosine", "linear", "constant"], warmup_ratio: float
) -> None:
    import torch
    from transformers import get_scheduler

    optimizer = OptimizerConfig(schedule=schedule, warmup_ratio=warmup_ratio)
    total = 315
    reference = torch.optim.SGD([torch.zeros(1)], lr=optimizer.learning_rate)
    name = "constant_with_warmup" if schedule == "constant" else schedule
    scheduler = get_scheduler(name, reference, warmup_steps(total, optimizer), total)
    for step in range(total):
        assert learning_rate(step, total, optimizer) == pytest.approx(scheduler.get_last_lr()[0], abs=1e-15)
        reference.step()
        scheduler.step()
