"""What autoscaling costs and what it spares, simulated: our policy and Ray's own under the same traffic.

    make bench-autoscaling                                   # everything, some minutes on one core
    python -m benchmarks.autoscaling --quick --output DIR    # half of the traces, one seed

Writes results.json and results.png. The options of both policies come from the same tuning
(`benchmarks.autoscaling.tuning`) on other seeds than the reported ones.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.autoscaling import decision, report
from benchmarks.autoscaling.policies import Arm, quiet
from benchmarks.autoscaling.report import Compared, measured
from benchmarks.autoscaling.simulation import TICK_S, simulate
from benchmarks.autoscaling.traffic import FLEET, TRACES, Trace

HERE = Path(__file__).parent

OURS = Arm("queue_depth", {})
RAY_TUNED = Arm("ray, tuned", {"policy": "ray"}, {})
ARMS = (
    OURS,
    RAY_TUNED,
    Arm("ray, our target and delays", {"policy": "ray"}),
    Arm("ray, our target, its delays", {"policy": "ray", "upscale_delay_s": 30.0, "downscale_delay_s": 600.0}),
)
"""ray.serve.llm's own target, a billion requests a replica, never scales, and Serve's, 2, takes all replicas at once:
neither is worth a simulation."""

TARGETS = (24, 32, 40, 48, 56)
"""Of the sweeps: whoever wants less waiting or fewer replicas sets the target."""

SEEDS = (1, 2, 3, 4, 5)


def compare(trace: Trace, arms: Sequence[Arm], seeds: Sequence[int]) -> list[Compared]:
    """Run every policy against the same drawings of a trace."""
    compared = []
    for arm in arms:
        runs = []
        for seed in seeds:
            runs.append(measured(simulate(trace.draw(seed), arm, seed=seed, **trace.bounds()), trace.hours))
        compared.append(Compared(trace.name, arm, tuple(runs)))
    return compared


def sweep(arm: Arm) -> list[Arm]:
    """A policy with other targets."""
    return [Arm(arm.name, {**arm.options, "target_ongoing_requests": target}, arm.ray) for target in TARGETS]


def main(
    quick: Annotated[bool, typer.Option(help="Three traces, one seed, small fleets.")] = False,
    output: Annotated[Path, typer.Option(help="Folder for results.json and results.png.")] = HERE,
) -> None:
    """Simulate, print and write."""
    console = Console() if sys.stdout.isatty() else Console(width=150)
    if not output.is_dir():
        raise typer.BadParameter(f"there is no folder {str(output)!r}", param_hint="--output")
    quiet()
    traces = [trace for trace in TRACES if trace.name in ("steady", "bursts", "heavy-tailed")] if quick else TRACES
    seeds = SEEDS[:1] if quick else SEEDS
    compared, sweeps = [], []
    for trace in traces:
        console.print(f"{trace.name}: {trace.says}")
        compared += compare(trace, ARMS, seeds)
        if not quick:
            for arm in (OURS, RAY_TUNED):
                sweeps += compare(trace, sweep(arm), seeds[:2])
    if not quick:
        console.print(f"{FLEET.name}: {FLEET.says}")
        compared += compare(FLEET, (OURS, RAY_TUNED), seeds[:1])
    fleets = decision.FLEETS[:3] if quick else decision.FLEETS
    decisions = [decision.measure(arm, replicas) for replicas in fleets for arm in (OURS, RAY_TUNED)]
    settings = {"quick": quick, "seeds": list(seeds), "tick_s": TICK_S}
    report.print_tables(console, compared, decisions)
    known = (*TRACES, FLEET)
    report.write_json(output / "results.json", report.results(compared, sweeps, decisions, known, settings))
    report.write_plot(output / "results.png", compared, sweeps)


if __name__ == "__main__":
    typer.run(main)
