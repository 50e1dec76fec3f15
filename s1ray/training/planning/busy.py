"""How busy the workers of a run are, and whether sharing rows would make them busier.

A step ends when the worker with the most work has done it, and a row is never cut. So with as many workers as a global
batch has rows, all of them wait for the one that has the longest row. Where workers share rows (`sequence_parallel`),
there are fewer groups, each with more rows to even out.

    workers busy 65 % of the time, else waiting for the longest rows; sequence_parallel: 2 would make it 93 %

The shares count the model's operations (`architecture.row_cost`), not communication, which sharing rows adds to.
"""

from __future__ import annotations

from collections.abc import Callable

from s1ray.training.config import TrainingConfig

GOOD = 0.9
"""No other setting is looked for above this share."""
GAIN = 0.02
"""A setting that brings less than this is not worth a word."""
DEGREES = (2, 4, 8, 16)
"""Workers that may share a row."""


def busy_lines(
    config: TrainingConfig, share: Callable[[TrainingConfig], float], can_share: Callable[[int], bool]
) -> list[str]:
    """What the plan says of the workers' time; nothing where there is one worker.

    Args:
        share: the part of their time that the workers of a config are busy, 0 to 1.
        can_share: whether the model's attention heads can be divided among so many workers.
    """
    if config.num_workers == 1:
        return []
    now = share(config)
    line = f"workers busy {100 * now:.0f} % of the time, else waiting for the longest rows"
    if now < GOOD and config.packing:
        better = [
            (degree, share(config.model_copy(update={"sequence_parallel": degree})))
            for degree in DEGREES
            if degree > config.sequence_parallel and config.num_workers % degree == 0 and can_share(degree)
        ]
        # The fewest that are enough, as sharing costs communication; else those that help most.
        enough = [entry for entry in better if entry[1] >= GOOD]
        best = enough[0] if enough else max(better, key=lambda entry: entry[1], default=None)
        if best is not None and best[1] > now + GAIN:
            line += f"; sequence_parallel: {best[0]} would make it {100 * best[1]:.0f} %"
    return [line, *_idle(config)]


def _idle(config: TrainingConfig) -> list[str]:
    idle = config.data_parallel - config.global_batch
    if idle <= 0:
        return []
    groups = "workers" if config.sequence_parallel == 1 else f"groups of {config.sequence_parallel} workers"
    return [
        f"  WARNING: {config.data_parallel} {groups} for global_batch {config.global_batch}: {idle} of them never get "
        "a row; use fewer workers, a larger global_batch, or a larger sequence_parallel"
    ]
