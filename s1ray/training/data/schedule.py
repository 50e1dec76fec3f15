"""Optimizer steps, and the learning rate at each of them: pure arithmetic, the same on every worker.

The numbers equal those of transformers' Trainer, which s1 used: 1,000 rows in batches of 16 over 5 epochs are 315
steps, 16 of them warm-up.
"""

from __future__ import annotations

import math

from s1ray.training.config import OptimizerConfig


def steps_per_epoch(num_examples: int, global_batch: int) -> int:
    """Optimizer steps an epoch; the last, smaller batch counts."""
    return -(-num_examples // global_batch)


def warmup_steps(total_steps: int, optimizer: OptimizerConfig) -> int:
    """Steps of linear warm-up."""
    # In floating point the product may lie slightly above a whole number: 30 x 0.1 is 3.0000000000000004.
    return math.ceil(round(total_steps * optimizer.warmup_ratio, 9))


def learning_rate(step: int, total_steps: int, optimizer: OptimizerConfig) -> float:
    """Learning rate of a step, counted from 0.

    As in transformers, the warm-up starts at exactly 0, so the first step moves nothing if there is a warm-up.
    """
    warmup = warmup_steps(total_steps, optimizer)
    if step < warmup:
        return optimizer.learning_rate * step / warmup
    progress = (step - warmup) / max(1, total_steps - warmup)
    match optimizer.schedule:
        case "cosine":
            factor = 0.5 * (1 + math.cos(math.pi * progress))
        case "linear":
            factor = 1 - progress
        case "constant":
            factor = 1.0
    return optimizer.learning_rate * max(0.0, factor)
