"""The results as JSON, as tables for the terminal, and as a plot."""

from __future__ import annotations

import datetime
import importlib.metadata
import itertools
import os
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.autoscaling.decision import Decision
from benchmarks.autoscaling.engine import Hardware
from benchmarks.autoscaling.policies import Arm
from benchmarks.autoscaling.simulation import Outcome
from benchmarks.autoscaling.traffic import Trace

if TYPE_CHECKING:
    from matplotlib.axes import Axes

WAIT_PRICE = 0.25
"""Replica-hours that one hour of a request's waiting costs, in the cost that tuning minimizes. That a replica-hour is
worth four hours of waiting is a choice; the tables show both."""


@dataclass(frozen=True)
class Measured:
    """One policy under one drawing of a trace."""

    requests: int
    wait_p50_s: float
    """From arrival to the first decode step; refused requests are left out."""
    wait_p95_s: float
    wait_p99_s: float
    wait_mean_s: float
    replica_hours: float
    turns_a_day: float
    """Changes of direction: replicas removed after some were added, or the other way round."""
    refused: int
    lost: int
    preemptions: int
    peak_replicas: int

    @property
    def cost(self) -> float:
        """Replica-hours, plus waiting at `WAIT_PRICE`."""
        return self.replica_hours + WAIT_PRICE * self.wait_mean_s * (self.requests - self.refused) / 3600


def measured(outcome: Outcome, hours: float) -> Measured:
    """Summarize a simulation of `hours`."""
    waits = np.array([one.begun - one.arrived for one in outcome.requests if one.begun == one.begun])
    p50, p95, p99 = np.quantile(waits, (0.5, 0.95, 0.99)) if waits.size else (0.0, 0.0, 0.0)
    return Measured(
        requests=len(outcome.requests),
        wait_p50_s=float(p50),
        wait_p95_s=float(p95),
        wait_p99_s=float(p99),
        wait_mean_s=float(waits.mean()) if waits.size else 0.0,
        replica_hours=outcome.replica_seconds / 3600,
        turns_a_day=outcome.turns * 24 / hours,
        refused=outcome.refused,
        lost=outcome.lost,
        preemptions=outcome.preemptions,
        peak_replicas=outcome.peak,
    )


@dataclass(frozen=True)
class Compared:
    """One policy under one trace, with all seeds."""

    trace: str
    arm: Arm
    runs: tuple[Measured, ...]

    def mean(self, name: str) -> float:
        """The mean of a field over the seeds."""
        return float(np.mean([getattr(run, name) for run in self.runs]))

    def describe(self) -> dict[str, object]:
        """For the results file: mean, minimum and maximum over the seeds."""
        names = (*Measured.__dataclass_fields__, "cost")
        numbers = {name: [getattr(run, name) for run in self.runs] for name in names}
        spread = {
            name: {"mean": round(float(np.mean(values)), 3), "min": round(min(values), 3), "max": round(max(values), 3)}
            for name, values in numbers.items()
        }
        return {"policy": self.arm.name, "options": {**self.arm.options, **self.arm.ray}, **spread}


def results(
    compared: Sequence[Compared],
    sweeps: Sequence[Compared],
    decisions: Sequence[Decision],
    traces: Iterable[Trace],
    settings: Mapping[str, object],
) -> dict[str, object]:
    """The content of the results file."""
    descriptions = {trace.name: trace.description for trace in traces}
    return {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "cpu_cores": os.cpu_count(),
        "python": platform.python_version(),
        "ray": importlib.metadata.version("ray"),
        "settings": dict(settings) | {"wait_price": WAIT_PRICE},
        "replica": asdict(Hardware()),
        "traces": {
            name: {
                "description": descriptions.get(name, ""),
                "policies": [one.describe() for one in compared if one.trace == name],
                "targets": [one.describe() for one in sweeps if one.trace == name],
            }
            for name in dict.fromkeys(one.trace for one in compared)
        },
        "decision": [asdict(decision) for decision in decisions],
    }


COLUMNS = {
    "wait p50 s": ("wait_p50_s", "{:.1f}"),
    "p95 s": ("wait_p95_s", "{:.0f}"),
    "p99 s": ("wait_p99_s", "{:.0f}"),
    "mean s": ("wait_mean_s", "{:.1f}"),
    "replica-hours": ("replica_hours", "{:.1f}"),
    "cost": ("cost", "{:.1f}"),
    "turns a day": ("turns_a_day", "{:.0f}"),
    "refused": ("refused", "{:.0f}"),
    "lost": ("lost", "{:.1f}"),
    "preempted": ("preemptions", "{:.0f}"),
}


def print_tables(console: Console, compared: Sequence[Compared], decisions: Sequence[Decision]) -> None:
    """Print every trace and policy, and the time of a decision."""
    table = Table(title="Means over the seeds")
    table.add_column("trace")
    table.add_column("policy")
    for heading in COLUMNS:
        table.add_column(heading, justify="right")
    for trace, group in itertools.groupby(compared, key=lambda one: one.trace):
        for number, one in enumerate(group):
            cells = [form.format(one.mean(name)) for name, form in COLUMNS.values()]
            table.add_row(trace if number == 0 else "", one.arm.name, *cells)
        table.add_section()
    console.print(table)
    table = Table(title="One decision in Serve's controller, milliseconds (median)")
    for heading in ("replicas", "policy", "deciding", "between two decisions"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for decision in decisions:
        between = "" if decision.milliseconds_between is None else f"{decision.milliseconds_between:.2f}"
        table.add_row(str(decision.replicas), decision.policy, f"{decision.milliseconds:.2f}", between)
    console.print(table)


def write_plot(path: Path, compared: Sequence[Compared], sweeps: Sequence[Compared]) -> None:
    """Plot the mean wait against replica-hours for each trace and policy, with lines for other targets, and the turns.

    Bars span the seeds. Traces without a sweep are left out.
    """
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    traces = [name for name in dict.fromkeys(one.trace for one in sweeps) if name != "rare"]
    rows = -(-len(traces) // 3)
    figure = pyplot.figure(figsize=(13, 3.6 * (rows + 1)), layout="constrained")
    grid = figure.add_gridspec(rows + 1, 3)
    for number, name in enumerate(traces):
        axes = figure.add_subplot(grid[number // 3, number % 3])
        _draw_trace(axes, name, *([one for one in every if one.trace == name] for every in (compared, sweeps)))
    drawn = figure.axes[0].get_legend_handles_labels()
    _draw_turns(figure.add_subplot(grid[rows, :2]), [one for one in compared if one.trace in traces], traces)
    legend = figure.add_subplot(grid[rows, 2])
    legend.set_axis_off()
    legend.legend(*drawn, loc="center")
    figure.savefig(path, dpi=110)
    pyplot.close(figure)


COLOURS = ("tab:blue", "tab:orange", "tab:red", "tab:brown")
"""Of the policies, in order."""


def _draw_trace(axes: Axes, name: str, compared: Sequence[Compared], sweeps: Sequence[Compared]) -> None:
    for policy, colour in zip(("queue_depth", "ray"), COLOURS, strict=False):
        line = [one for one in sweeps if one.arm.options.get("policy", "queue_depth") == policy]
        if not line:
            continue
        hours, waits = ([one.mean(what) for one in line] for what in ("replica_hours", "wait_mean_s"))
        label = f"{policy}, targets {_targets(line)}"
        axes.plot(hours, waits, color=colour, alpha=0.5, linewidth=1, marker=".", label=label)
    for colour, one in zip(COLOURS, compared, strict=False):
        hours, waits = ([getattr(run, what) for run in one.runs] for what in ("replica_hours", "wait_mean_s"))
        middle, height = float(np.mean(hours)), float(np.mean(waits))
        axes.errorbar(
            middle,
            height,
            xerr=[[middle - min(hours)], [max(hours) - middle]],
            yerr=[[height - min(waits)], [max(waits) - height]],
            color=colour,
            marker="o" if colour == COLOURS[0] else "s",
            label=one.arm.name,
            capsize=2,
            linestyle="none",
        )
    axes.set(title=name, xlabel="replica-hours", ylabel="mean wait, s", ylim=(0, None))


def _draw_turns(axes: Axes, compared: Sequence[Compared], traces: Sequence[str]) -> None:
    arms = list(dict.fromkeys(one.arm.name for one in compared))
    for number, (arm, colour) in enumerate(zip(arms, COLOURS, strict=False)):
        places = [index + (number - (len(arms) - 1) / 2) * 0.2 for index in range(len(traces))]
        heights = [one.mean("turns_a_day") for one in compared if one.arm.name == arm]
        axes.bar(places, heights, 0.2, color=colour)
    axes.set_xticks(range(len(traces)), traces)
    axes.set(title="changes of direction per day")


def _targets(line: Sequence[Compared]) -> str:
    targets = [float(one.arm.options["target_ongoing_requests"]) for one in line]
    return f"{min(targets):g} to {max(targets):g}"
