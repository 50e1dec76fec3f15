"""Tune both policies in the same way: one option after the other, with seeds that no result is reported for.

    python -m benchmarks.autoscaling.tuning queue_depth
    python -m benchmarks.autoscaling.tuning ray

Each option in turn gets the value with the lowest cost (replica-hours, plus waiting at `WAIT_PRICE`), averaged over
three of the traces and relative to the cost at the start; two passes. Ray's target is tuned. queue_depth's stays three
quarters of `max_num_seqs`, because the policy itself finds out what a replica carries.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt
import typer
from rich.console import Console

from benchmarks.autoscaling.policies import Arm, Option, quiet
from benchmarks.autoscaling.runs import Pool
from benchmarks.autoscaling.traffic import TRACES

SEEDS = (101, 102)
"""The reported results have other seeds."""

TUNED_ON = tuple(trace for trace in TRACES if trace.name in ("steady", "bursts", "heavy-tailed"))
"""Neither policy was tuned on the other traces."""

BEGIN: Mapping[str, Option] = {"target_ongoing_requests": 48, "downscale_delay_s": 300.0, "upscale_delay_s": 10.0}

GRIDS: Mapping[str, Mapping[str, Sequence[Option]]] = {
    "queue_depth": {
        "upscale_delay_s": (0.0, 5.0, 10.0, 30.0),
        "downscale_delay_s": (180.0, 300.0, 600.0),
        "downscale_step_delay_s": (15.0, 30.0, 60.0),
        "downscale_fraction": (0.1, 0.2, 0.34),
        "downscale_load": (0.65, 0.75, 0.85, 0.95),
        "target_kv_cache_usage": (0.75, 0.85, 0.95),
    },
    "ray": {
        "target_ongoing_requests": (24, 28, 32, 36, 40, 48),
        "upscale_delay_s": (0.0, 5.0, 10.0, 30.0),
        "downscale_delay_s": (60.0, 180.0, 300.0, 600.0),
        "look_back_period_s": (15.0, 30.0),
    },
}


def arm(policy: str, options: Mapping[str, Option]) -> Arm:
    """A policy with options; those that are not fields of `Autoscaling` go to Serve directly."""
    serves = {name: value for name, value in options.items() if name == "look_back_period_s"}
    return Arm(policy, {"policy": policy} | {name: options[name] for name in options.keys() - serves.keys()}, serves)


def costs(pool: Pool, policy: str, options: Sequence[Mapping[str, Option]]) -> npt.NDArray[np.float64]:
    """The cost with each set of options under each trace, averaged over the tuning seeds: options by traces."""
    arms = [arm(policy, one) for one in options]
    return np.array(
        [[one.mean("cost") for one in pool.compare(trace.name, arms, SEEDS)] for trace in TUNED_ON]
    ).transpose()


def tune(policy: str, begin: Mapping[str, Option], console: Console, pool: Pool) -> dict[str, Option]:
    """The options with the lowest cost."""
    options = dict(begin)
    base, best = costs(pool, policy, [options])[0], 1.0
    for _ in range(2):
        before = dict(options)
        for name, values in GRIDS[policy].items():
            tries = [options | {name: value} for value in values if options.get(name) != value]
            for tried, found in zip(tries, costs(pool, policy, tries), strict=True):
                relative, value = float(np.mean(found / base)), tried[name]
                console.print(f"{policy}: {name} {value}: {relative:.4f}" + (" *" if relative < best else ""))
                if relative < best:
                    options, best = tried, relative
        if options == before:
            break
    return options


def main(policy: str) -> None:
    """Tune one policy and print its options."""
    quiet()
    console = Console(width=130)
    with Pool() as pool:
        console.print(f"{policy}: {tune(policy, BEGIN, console, pool)}")


if __name__ == "__main__":
    typer.run(main)
