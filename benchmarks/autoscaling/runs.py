"""Many simulations, in parallel."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from benchmarks.autoscaling.policies import Arm, quiet
from benchmarks.autoscaling.report import Compared, Measured, measured
from benchmarks.autoscaling.simulation import simulate
from benchmarks.autoscaling.traffic import FLEET, TRACES

BY_NAME = {trace.name: trace for trace in (*TRACES, FLEET)}


def run(trace: str, arm: Arm, seed: int) -> Measured:
    """Simulate one policy under one drawing of a trace."""
    quiet()
    drawn = BY_NAME[trace]
    return measured(simulate(drawn.draw(seed), arm, drawn.bounds(), seed=seed), drawn.hours)


class Pool:
    """Runs simulations in processes, one per core."""

    def __init__(self) -> None:
        self._pool = ProcessPoolExecutor(os.cpu_count())

    def __enter__(self) -> Pool:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def compare(self, trace: str, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Compared]:
        """Simulate every policy under the same drawings of a trace."""
        begun = [[self._pool.submit(run, trace, arm, seed) for seed in seeds] for arm in arms]
        return [
            Compared(trace, arm, tuple(one.result() for one in runs)) for arm, runs in zip(arms, begun, strict=True)
        ]
