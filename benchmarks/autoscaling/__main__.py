"""Simulate autoscaling: waiting times and replica-hours of s1ray's policy and Ray's default under the same traffic.

    make bench-autoscaling                                   # everything, about five minutes on two cores
    python -m benchmarks.autoscaling --quick --output DIR    # three traces, one seed

Writes results.json and results.png. The options of both policies were tuned in the same way
(`benchmarks.autoscaling.tuning`), on three of the traces and with other seeds than the reported ones.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.autoscaling import decision, report
from benchmarks.autoscaling.policies import Arm, quiet
from benchmarks.autoscaling.report import Compared
from benchmarks.autoscaling.runs import Pool
from benchmarks.autoscaling.simulation import TICK_S
from benchmarks.autoscaling.traffic import FLEET, TRACES
from benchmarks.autoscaling.tuning import TUNED_ON
from s1ray.storage import write_json

HERE = Path(__file__).parent

OURS = Arm("queue_depth", {})
RAY_TUNED = Arm(
    "ray, tuned",
    {"policy": "ray", "target_ongoing_requests": 36, "downscale_delay_s": 300.0, "upscale_delay_s": 0.0},
    {"look_back_period_s": 15.0},
)
ARMS = (
    OURS,
    RAY_TUNED,
    Arm("ray, our target and delays", {"policy": "ray"}),
    Arm("ray, our target, its delays", {"policy": "ray", "upscale_delay_s": 30.0, "downscale_delay_s": 600.0}),
)
"""queue_depth has the defaults of `s1ray.serving.config.Autoscaling`. ray.serve.llm's default target, a billion
requests per replica, never scales, and Serve's, 2, starts all replicas at once: neither is worth a simulation."""

TARGETS = (24, 32, 40, 48, 56)
"""Targets of the sweeps: a lower one means less waiting, a higher one fewer replicas."""

SEEDS = (1, 2, 3, 4, 5)
SWEEP_SEEDS = 1


def sweep(arm: Arm) -> list[Arm]:
    """A policy with each of the targets."""
    return [Arm(arm.name, {**arm.options, "target_ongoing_requests": target}, arm.ray) for target in TARGETS]


def main(
    quick: Annotated[bool, typer.Option(help="Three traces, one seed, small fleets.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for results.json and results.png.")] = HERE,
) -> None:
    """Simulate, print the tables and write the results."""
    console = Console() if sys.stdout.isatty() else Console(width=150)
    if not output.is_dir():
        raise typer.BadParameter(f"no such folder: {output}", param_hint="--output")
    quiet()
    traces, seeds = (TUNED_ON, SEEDS[:1]) if quick else (TRACES, SEEDS)
    compared: list[Compared] = []
    sweeps: list[Compared] = []
    with Pool() as pool:
        for trace in traces:
            console.print(f"{trace.name}: {trace.description}")
            compared += pool.compare(trace.name, ARMS, seeds)
            if not quick:
                for arm in (OURS, RAY_TUNED):
                    sweeps += pool.compare(trace.name, sweep(arm), seeds[:SWEEP_SEEDS])
        if not quick:
            console.print(f"{FLEET.name}: {FLEET.description}")
            compared += pool.compare(FLEET.name, (OURS, RAY_TUNED), seeds[:1])
    fleets = decision.FLEETS[:3] if quick else decision.FLEETS
    decisions = [decision.measure(arm, replicas) for replicas in fleets for arm in (OURS, RAY_TUNED)]
    settings = {
        "quick": quick,
        "seeds": list(seeds),
        "seeds_of_the_sweeps": list(seeds[:SWEEP_SEEDS]),
        "tuned_on": [trace.name for trace in TUNED_ON],
        "tick_s": TICK_S,
    }
    report.print_tables(console, compared, decisions)
    content = report.results(compared, sweeps, decisions, (*TRACES, FLEET), settings)
    write_json(output / "results.json", content)
    report.write_plot(output / "results.png", compared, sweeps)


if __name__ == "__main__":
    typer.run(main)
